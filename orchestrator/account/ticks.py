"""Whether the scheduler ran: each minute of a period, from the diary of ticks (see `idle`)."""

from __future__ import annotations

import contextlib
import os
import time
from itertools import pairwise

from orchestrator import idle
from orchestrator.layout import Layout
from orchestrator.model.fields import NamedTuple
from orchestrator.project import mark
from orchestrator.system import files, process

#: The longest period that is looked at, in minutes: what `retention` keeps.
MOST_MINUTES = 62 * 1440
MINUTE = 60


class Gap(NamedTuple):
    """Minutes in a row without a tick, in epoch seconds; `end` is the first minute with one."""

    start: int
    end: int
    why: str


class Ticks(NamedTuple):
    """The minutes of a period in which a tick was expected, and what happened in them."""

    #: None: no schedule is installed, so no tick is expected.
    expected: int | None
    executed: int
    #: Minutes in which a tick met another one that was at work.
    held: int
    #: None without a schedule.
    missed: int | None
    gaps: tuple[Gap, ...] = ()
    #: When the diary begins in this period (epoch seconds); None if it is empty.
    begins: int | None = None


def read(layout: Layout, start: float, end: float) -> dict[int, bytes]:
    """Return the ticks between two times (epoch seconds) by the start of their minute."""
    first = int(max(start, end - MOST_MINUTES * MINUTE)) // MINUTE * MINUTE
    days = {moment // 86_400 for moment in (*range(first, int(end), 86_400), int(end))}
    found = {}
    for day in sorted(days):
        name = time.strftime("%Y-%m-%d", time.gmtime(day * 86_400))
        try:
            noted = files.read_regular(os.path.join(layout.ticks, name))
        except OSError:
            continue
        for minute, tick in enumerate(noted[:1440]):
            at = day * 86_400 + minute * MINUTE
            if tick and first <= at < end:
                found[at] = bytes([tick])
    return found


def look(layout: Layout, start: float, end: float) -> Ticks:
    """Return what happened in the minutes between two times (epoch seconds)."""
    start = max(start, end - MOST_MINUTES * MINUTE)
    noted, scheduled = read(layout, start, end), mark.is_scheduled(layout)
    since = None
    if scheduled and min(noted, default=end) > start + MINUTE and _ran_before(layout, start):
        # The machine slept when the period began; a schedule that was installed later had no tick.
        since = max(start, min(mark.set_up(layout) or start, end))
    found = judge(noted, start, end, scheduled=scheduled, booted=0.0, since=since)
    # Only gaps need the time of the machine's start, which needs a library.
    if not found.gaps:
        return found
    booted = process.booted()
    return judge(noted, start, end, scheduled=scheduled, booted=booted, since=since)


def _ran_before(layout: Layout, start: float) -> bool:
    """Return whether the diary has a tick before a time (epoch seconds)."""
    day, minute = time.strftime("%Y-%m-%d", time.gmtime(start)), int(start) % 86_400 // MINUTE
    try:
        names = [name for name in os.listdir(layout.ticks) if name <= day]
    except OSError:
        return False
    for name in sorted(names, reverse=True):
        with contextlib.suppress(OSError):
            noted = files.read_regular(os.path.join(layout.ticks, name))
            if any(noted[: minute if name == day else None]):
                return True
    return False


def judge(
    noted: dict[int, bytes],
    start: float,
    end: float,
    *,
    scheduled: bool,
    booted: float,
    since: float | None = None,
) -> Ticks:
    """Compare the ticks of a period with those that a schedule starts: one per minute. Pure.

    What was before the diary's first tick is not judged, and neither is the minute of `end`. All
    times are epoch seconds; `booted` is when the machine was started. `since`: ticks were expected
    from the minute after that, because the diary begins earlier.
    """
    inside = sorted(at for at in noted if start - MINUTE < at < end)
    held = sum(noted[at] == idle.HELD for at in inside)
    executed = len(inside) - held
    if not scheduled:
        return Ticks(None, executed, held, None, begins=inside[0] if inside else None)
    edges, last = list(inside), int(end) // MINUTE * MINUTE
    begins = inside[0] if inside else None
    if since is not None and (begins is None or since < begins):
        edges.insert(0, int(since) // MINUTE * MINUTE)
        begins = edges[0] + MINUTE
    if not edges:
        return Ticks(0, 0, 0, 0)
    if edges[-1] < last:
        edges.append(last)
    gaps = tuple(
        Gap(one + MINUTE, other, _why(one, other, booted))
        for one, other in pairwise(edges)
        if other - one > MINUTE
    )
    missed = sum((gap.end - gap.start) // MINUTE for gap in gaps)
    return Ticks(len(inside) + missed, executed, held, missed, gaps, begins)


def _why(one: int, other: int, booted: float) -> str:
    if one < booted <= other + MINUTE:
        return "the machine was off"
    return "the machine slept, or the schedule started no tick"
