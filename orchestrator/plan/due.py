"""When an agent is due: an interval after its last start, or the next match of its schedule."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from orchestrator.model import Agent

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo


def next_due(agent: Agent, last_started: float | None, now: float, tz: str | None) -> float:
    """Return when the agent is due, in seconds since the epoch; not after `now` means it is.

    An agent that never ran is due now; a start ahead of the clock counts as now (reference 8.7).
    A schedule is in the zone named `tz` (`Europe/Berlin`), None being the machine's own; the first
    match after the last start counts, so missed ones are caught up by one run. With hours named,
    each wall-clock time is met once: a time that the clocks skip is due when they have, one that
    they repeat only the first time. A schedule for all hours goes on through both. Infinity: never.
    Raises `zoneinfo.ZoneInfoNotFoundError` (a KeyError) for a zone that this machine has not.
    """
    if last_started is None:
        return now
    last = min(last_started, now)
    if agent.schedule is None:
        return last + (agent.interval_seconds or 0)
    zone = None
    if tz is not None:
        from zoneinfo import ZoneInfo

        zone = ZoneInfo(tz)
    return _next_match(agent.schedule, max(last, 0), zone)


def next_midnight(now: float) -> float:
    """Return when the next day begins by this machine's clock, in seconds since the epoch."""
    midnight = _wall(now, None).replace(hour=0, minute=0, second=0, microsecond=0)
    return (midnight + timedelta(days=1)).timestamp()


def _next_match(expression: str, last: float, zone: ZoneInfo | None) -> float:
    from cronsim import CronSim

    wall = _wall(last, zone)
    matches = CronSim(expression, wall)
    if len(matches.hours) == 24:
        return _next_in_real_time(expression, last, zone)
    for moment in matches:
        due = moment
        # Wall-clock times that the clocks skip: the first one that exists stands for them.
        while _wall(due.replace(tzinfo=zone).timestamp(), zone) != due:
            due += timedelta(minutes=1)
        at = due.replace(tzinfo=zone).timestamp()
        if at > last:
            return at
    return math.inf


def _next_in_real_time(expression: str, last: float, zone: ZoneInfo | None) -> float:
    from cronsim import CronSim

    offset = _offset(last, zone)
    for change in range(2):
        for moment in CronSim(expression, _wall(last, UTC) + offset):
            at = (moment - offset).replace(tzinfo=UTC).timestamp()
            found = _offset(at, zone)
            if found == offset:
                return at
            if change == 0:
                # The clocks change before this match: look again by the new offset, which no
                # moment before the change has.
                offset = found
                break
    return math.inf


def _wall(at: float, zone: ZoneInfo | Any) -> datetime:
    return datetime.fromtimestamp(at, zone).replace(tzinfo=None)


def _offset(at: float, zone: ZoneInfo | None) -> timedelta:
    return _wall(at, zone) - _wall(at, UTC)
