"""The last good configuration, with the roles, as bytes: small, quick to read, sealed.

Most ticks and all supervisors read only this copy, and load no YAML library and no strict parser.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from functools import lru_cache

from orchestrator.model.annotations import Any
from orchestrator.model.config import Agent, Config, Role
from orchestrator.system import json_codec

_FORMAT = "orchestrator-config-2"
#: The fields of the configuration that are named tuples, and their classes.
_NESTED = {name: kind for name, kind in Config.__annotations__.items() if hasattr(kind, "_fields")}


def dump(config: Config, roles: Mapping[str, Role]) -> bytes:
    """Return configuration and roles as bytes for `load`.

    Raises ValueError for a number that is not finite (`agents.yaml` allows only finite numbers).
    """
    import json

    everything = (config, list(roles.values()))
    body = json.dumps(everything, separators=(",", ":"), allow_nan=False).encode()
    return f"{_head()} {zlib.crc32(body)}\n".encode() + body


@lru_cache(4)  # by the content: a run reads the same again and again
def load(data: bytes) -> tuple[Config, Mapping[str, Role]] | None:
    """Return the arguments of `dump`; None if the bytes are damaged or of another version."""
    head, _, body = data.partition(b"\n")
    if head != f"{_head()} {zlib.crc32(body)}".encode():
        return None
    values, listed = _tuples(json_codec.loads(body))
    config = Config(*values)
    nested = {name: kind(*getattr(config, name)) for name, kind in _NESTED.items()}
    agents = tuple(Agent(*each) for each in config.agents)
    roles = [Role(*each) for each in listed]
    return config._replace(**nested, agents=agents), {role.name: role for role in roles}


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _head() -> str:
    """Return a line that changes whenever a field is added, removed or moved."""
    names = ",".join(
        name for kind in (Config, Agent, Role, *_NESTED.values()) for name in kind._fields
    )
    return f"{_FORMAT} {zlib.crc32(names.encode())}"
