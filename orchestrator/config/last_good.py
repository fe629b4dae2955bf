"""The last good configuration, with the roles, as bytes: small, quick to read, sealed.

Most ticks and all supervisors read only this copy, and load no YAML library and no strict parser.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any

from orchestrator.model import (
    Agent,
    Budgets,
    Config,
    Hooks,
    Notify,
    QueueLimits,
    Retention,
    Retry,
    Review,
    Role,
)

_FORMAT = "orchestrator-config-2"


def dump(config: Config, roles: Mapping[str, Role]) -> bytes:
    """Return configuration and roles as bytes for `load`.

    Raises ValueError for a number that is not finite (`agents.yaml` allows only finite numbers).
    """
    everything = (config, list(roles.values()))
    body = json.dumps(everything, separators=(",", ":"), allow_nan=False).encode()
    return f"{_head()} {zlib.crc32(body)}\n".encode() + body


def load(data: bytes) -> tuple[Config, dict[str, Role]] | None:
    """Return the arguments of `dump`; None if the bytes are damaged or of another version."""
    head, _, body = data.partition(b"\n")
    if head != f"{_head()} {zlib.crc32(body)}".encode():
        return None
    values, listed = _tuples(json.loads(body))
    config = Config(*values)
    nested = {name: make(*getattr(config, name)) for name, make in _NESTED.items()}
    agents = tuple(Agent(*each) for each in config.agents)
    roles = [Role(*each) for each in listed]
    return config._replace(**nested, agents=agents), {role.name: role for role in roles}


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


_NESTED: dict[str, Any] = {
    "queue_limits": QueueLimits,
    "retry": Retry,
    "budgets": Budgets,
    "review": Review,
    "hooks": Hooks,
    "retention": Retention,
    "notify": Notify,
}


def _head() -> str:
    """Return a line that changes whenever a field is added, removed or moved."""
    classes = (Config, Agent, Role, *_NESTED.values())
    names = ",".join(name for each in classes for name in each._fields)
    return f"{_FORMAT} {zlib.crc32(names.encode())}"
