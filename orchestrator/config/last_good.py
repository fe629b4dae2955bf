"""The last good configuration, with the roles, as bytes: small, quick to read, sealed.

Most ticks, and all supervisors, read only this: neither YAML nor what reads it strictly.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.model import (
    Agent,
    Budgets,
    Config,
    Hooks,
    QueueLimits,
    Retention,
    Retry,
    Review,
    Role,
)

_FORMAT = "orchestrator-config-2"


def dump(config: Config, roles: Mapping[str, Role]) -> bytes:
    """Return configuration and roles as bytes for `load`.

    Raises ValueError for a number that is not finite: `agents.yaml` has none.
    """
    everything = (config, list(roles.values()))
    body = json.dumps(everything, separators=(",", ":"), allow_nan=False).encode()
    return f"{_head()} {zlib.crc32(body)}\n".encode() + body


def load(data: bytes) -> tuple[Config, dict[str, Role]] | None:
    """Return what `dump` was given, or None: damaged, or of another version's shape."""
    head, _, body = data.partition(b"\n")
    if head != f"{_head()} {zlib.crc32(body)}".encode():
        return None
    config, listed = json.loads(body)
    values = dict(zip(Config._fields, config, strict=True))
    for name, make in _NESTED.items():
        values[name] = make(*values[name])
    review = values["review"]
    values["review"] = Review(tuple(review.after), review.max_rounds, review.auto_merge)
    for name in ("claude_command", "checks", "environment_allow"):
        values[name] = tuple(values[name])
    values["agents"] = tuple(Agent(*agent) for agent in values["agents"])
    roles = {role.name: role for role in (Role(*each) for each in listed)}
    for name, role in roles.items():
        tools, allow, deny = tuple(role.tools), tuple(role.allow), tuple(role.deny)
        roles[name] = role._replace(tools=tools, allow=allow, deny=deny)
    return Config(**values), roles


_NESTED: dict[str, Callable[..., Any]] = {
    "queue_limits": QueueLimits,
    "retry": Retry,
    "budgets": Budgets,
    "review": Review,
    "hooks": Hooks,
    "retention": Retention,
}


def _head() -> str:
    """Return a line that changes whenever a field is added, removed or moved."""
    classes = (Config, Agent, Role, QueueLimits, Retry, Budgets, Review, Hooks, Retention)
    names = ",".join(name for each in classes for name in each._fields)
    return f"{_FORMAT} {zlib.crc32(names.encode())}"
