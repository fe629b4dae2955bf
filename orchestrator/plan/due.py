"""When an agent is due, and how long a task still waits for its next attempt."""

import math

from orchestrator.model.config import Agent
from orchestrator.model.times import UTC, datetime, timedelta, tzinfo
from orchestrator.model.work import Task

#: By how much of its interval, and by how many seconds at most, an agent may start too early.
#: The ticks of a schedule are not exactly a minute apart (systemd.timer(5): `AccuracySec`, 5 s
#: here; cron starts as fast as the machine allows). Without a tolerance, an agent of 180 s whose
#: first tick was slow is not due three ticks later, and runs every 240 s.
EARLY_SHARE, EARLY_SECONDS = 0.1, 10.0


def next_due(agent: Agent, last_started: float | None, now: float) -> float:
    """Return the time at which the agent is due, in epoch seconds. It is due if this is <= `now`.

    An agent that never ran is due now; a start ahead of the clock counts as now (reference 8.7).
    An interval ends `tolerance` seconds early, so that a tick that comes early does not miss it; a
    schedule does not, or one match would start two runs.
    The first match after the last start counts, so one run makes up for all missed matches. A
    schedule with fixed hours matches each wall-clock time once: a skipped time is due right after
    the clock change, a repeated time only the first time. A schedule for all hours runs through
    both. Infinity means never.
    """
    if last_started is None:
        return now
    last = min(last_started, now)
    if agent.schedule is None:
        interval = agent.interval_seconds or 0
        return last + interval - tolerance(interval)
    return _next_match(agent.schedule, max(last, 0))


def tolerance(interval: float) -> float:
    """Return how many seconds before the end of an interval (in seconds) an agent is due."""
    return min(interval * EARLY_SHARE, EARLY_SECONDS)


def next_midnight(now: float) -> float:
    """Return the time at which the next local day begins, in seconds since the epoch."""
    midnight = datetime.fromtimestamp(now, _ZONE).replace(hour=0, minute=0, second=0, microsecond=0)
    return (midnight + timedelta(days=1)).timestamp()


def _next_match(expression: str, last: float) -> float:
    from cronsim import CronSim

    after = datetime.fromtimestamp(last, _ZONE)
    minute, hour, *days = expression.split()
    # CronSim lets a schedule run through clock changes if a star begins its minutes or hours.
    if len(CronSim(expression, after).hours) == 24:
        hour = "*"
    else:
        minute, hour = minute.replace("*", "0-59"), hour.replace("*", "0-23")
    matches = CronSim(" ".join((minute, hour, *days)), after)
    return next((at for match in matches if (at := match.timestamp()) > last), math.inf)


class _MachineZone(tzinfo):
    """The machine's zone, with its clock changes; a `timezone` would have one fixed offset."""

    def utcoffset(self, moment: datetime | None) -> timedelta | None:
        return moment.replace(tzinfo=None).astimezone().utcoffset() if moment else None

    def fromutc(self, moment: datetime) -> datetime:
        at = moment.replace(tzinfo=UTC).timestamp()
        return datetime.fromtimestamp(at).replace(tzinfo=self)

    def dst(self, _: datetime | None) -> None:
        return None

    def tzname(self, _: datetime | None) -> None:
        return None


_ZONE = _MachineZone()


def seconds_left(task: Task, now: float) -> float:
    """Return the seconds that a task still waits for its next attempt, at most its delay.

    If `not_before` is farther away than the whole delay, the clock was set back to before the time
    of the record, and the delay counts as finished. A clock that was set back by less than the time
    waited so far cannot be detected; the task then waits for that time again.
    """
    if task.not_before is None:
        return 0.0
    left = task.not_before - now
    if task.backoff is not None:
        # One second is tolerated, because clocks are often corrected by less than that.
        left = min(left, task.backoff) if left <= task.backoff + 1 else 0.0
    return max(left, 0.0)
