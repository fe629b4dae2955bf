"""The last good configuration as bytes: small, quick to read, and nothing when it is damaged.

Most ticks, and all supervisors, read only this: neither YAML nor what reads it strictly.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from typing import Any

from orchestrator.model import Agent, Budgets, Config, Hooks, QueueLimits, Retention, Retry, Review

_FORMAT = "orchestrator-config-1"


def dump(config: Config) -> bytes:
    """Return the configuration as bytes for `load`, small and quick to read.

    Raises ValueError for a number that is not finite: `agents.yaml` has none.
    """
    body = json.dumps(config, separators=(",", ":"), allow_nan=False).encode()
    return f"{_head()} {zlib.crc32(body)}\n".encode() + body


def load(data: bytes) -> Config | None:
    """Return what `dump` was given, or None: damaged, or of another version's shape."""
    head, _, body = data.partition(b"\n")
    if head != f"{_head()} {zlib.crc32(body)}".encode():
        return None
    values = dict(zip(Config._fields, json.loads(body), strict=True))
    for name, make in _NESTED.items():
        values[name] = make(*values[name])
    review = values["review"]
    values["review"] = Review(tuple(review.after), review.max_rounds, review.auto_merge)
    for name in ("client_command", "checks", "environment_allow"):
        values[name] = tuple(values[name])
    values["agents"] = tuple(Agent(*agent) for agent in values["agents"])
    return Config(**values)


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
    classes = (Config, Agent, QueueLimits, Retry, Budgets, Review, Hooks, Retention)
    names = ",".join(name for each in classes for name in each._fields)
    return f"{_FORMAT} {zlib.crc32(names.encode())}"
