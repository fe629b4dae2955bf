"""Numbers and spans of time for people."""

from __future__ import annotations

import time
from collections.abc import Sequence


def count(number: int, noun: str) -> str:
    """Return a number with its noun, as in `1 task`, `2 tasks`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def some(names: Sequence[str], most: int) -> str:
    """Return at most `most` names, and how many more there are, as in `a, b and 3 more`."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def span(seconds: float | None) -> str:
    """Return a span of time: `45 s`, `12 min`, `3 h 05 min`, `2 d 4 h`; `?` if it is not known."""
    if seconds is None:
        return "?"
    whole = int(seconds)
    minutes, hours = whole // 60, whole // 3600
    if whole < 120:
        return f"{whole} s"
    if minutes < 120:
        return f"{minutes} min"
    return f"{hours} h {minutes % 60:02} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def day(at: float) -> str:
    """Return the local day of a time (seconds since the epoch), as `2026-01-31`."""
    return time.strftime("%Y-%m-%d", time.localtime(at))


def local(at: float | None) -> str | None:
    """Return a time (seconds since the epoch) as local date and time."""
    return None if at is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(at))
