"""When an agent is due: an interval after its last start, or the next match of its schedule."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from orchestrator.model import Agent

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo


def next_due(agent: Agent, last_started: float | None, now: float, tz: str | None) -> float:
    """Return the time at which the agent is due, in epoch seconds. It is due if this is <= `now`.

    An agent that never ran is due now; a start ahead of the clock counts as now (reference 8.7).
    A schedule is in the zone named `tz` (`Europe/Berlin`); None is the machine's zone. The first
    match after the last start counts, so one run makes up for all missed matches. A schedule with
    fixed hours matches each wall-clock time once: a skipped time is due right after the clock
    change, a repeated time only the first time. A schedule for all hours runs through both.
    Infinity means never. Raises `zoneinfo.ZoneInfoNotFoundError` (a KeyError) for an unknown zone.
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
    """Return the time at which the next local day begins, in seconds since the epoch."""
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
        # The first existing time replaces the wall-clock times that a clock change skips.
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
                # The clocks change before this match: compute it again with the new offset, which
                # is valid only after the change.
                offset = found
                break
    return math.inf


def _wall(at: float, zone: ZoneInfo | Any) -> datetime:
    return datetime.fromtimestamp(at, zone).replace(tzinfo=None)


def _offset(at: float, zone: ZoneInfo | None) -> timedelta:
    return _wall(at, zone) - _wall(at, UTC)
