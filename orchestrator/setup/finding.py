"""What `doctor` looks at, and what it finds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from orchestrator.config.load import Settings
from orchestrator.layout import Layout


class Subject(NamedTuple):
    """A project that is examined, its configuration, the environment, and the time (epoch)."""

    layout: Layout
    loaded: Settings
    variables: Mapping[str, str]
    now: float


class Finding(NamedTuple):
    """One thing that was looked at. `code` is what could be wrong; `level` is ok, warn or fail."""

    code: str
    level: str
    message: str
    #: What to do; always there unless `level` is ok.
    hint: str | None = None


def ok(code: str, message: str) -> Finding:
    return Finding(code, "ok", message)


def warn(code: str, message: str, hint: str) -> Finding:
    return Finding(code, "warn", message, hint)


def fail(code: str, message: str, hint: str) -> Finding:
    return Finding(code, "fail", message, hint)
