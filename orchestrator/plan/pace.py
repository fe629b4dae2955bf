"""`pace`: whether new runs may start now, by local hours and by shares of usage windows. Pure."""

from collections.abc import Mapping

from orchestrator.model.config import Pace
from orchestrator.model.snapshot import UsageWindow
from orchestrator.model.times import UTC, datetime
from orchestrator.plan.rule import Judged

_DAY = 86_400
#: The longest time for which the hours can stay as they are: two days, because a clock change can
#: skip hours of less than an hour, and the clock change itself.
_MINUTES = 50 * 60


def judge(pace: Pace, usage: Mapping[str, UsageWindow], now: float) -> Judged | None:
    """Return whether a run may start at `now`; None if nothing is configured.

    `usage` has the windows that the client reported last. A window that has reset is not known, and
    a window that is not known refuses nothing.
    """
    if pace == Pace():
        return None
    refused: list[tuple[str, float]] = []
    allowed: list[str] = []
    wake = None
    for name, limit in (("five_hour", pace.five_hour), ("seven_day", pace.seven_day)):
        if limit is None:
            continue
        window = usage.get(name)
        if window is None or window.resets <= now:
            allowed.append(f"{name}: the share is not known")
        elif window.share > limit:
            said = f"{name}: {window.share:.0%} of the window is used, the limit is {limit:.0%}"
            refused.append((said, window.resets))
        else:
            allowed.append(f"{name}: {window.share:.0%} of the window is used, at most {limit:.0%}")
    if pace.hours is not None:
        wake = next_change(pace.hours, now)
        if is_open(pace.hours, now):
            allowed.append(f"within the hours {pace.hours}")
        else:
            refused.append((f"outside the hours {pace.hours}", wake))
    if refused:
        until = max(at for _, at in refused)
        said = "; ".join(said for said, _ in refused)
        return Judged(False, f"{said}; until {shown(until)}", until)
    return Judged(True, "; ".join(allowed), wake)


def is_open(hours: str, now: float) -> bool:
    """Return whether the local time of `now` is within `hours` (such as "22:00-07:00")."""
    first, last = _bounds(hours)
    local = _local(now)
    minute = local.hour * 60 + local.minute
    return first <= minute < last if first < last else minute >= first or minute < last


def next_change(hours: str, now: float) -> float:
    """Return the first time after `now` at which `is_open` changes, in seconds since the epoch."""
    was = is_open(hours, now)
    first, last = _bounds(hours)
    local = _local(now)
    today = local.hour * 3600 + local.minute * 60 + local.second
    at = float(now // 1 + ((last if was else first) * 60 - today) % _DAY)
    if _local(at).utcoffset() == local.utcoffset():
        return at
    # The clock is changed before that: an hour is skipped or repeated, so look at each minute.
    minutes = (now - now % 60 + 60 * count for count in range(1, _MINUTES))
    return next((at for at in minutes if is_open(hours, at) != was), at)


def shown(at: float) -> str:
    """Return a time for people, in local time as the hours are. The client's times can be odd."""
    try:
        return _local(at).isoformat(timespec="minutes")
    except (ValueError, OverflowError, OSError):
        return "an unknown time"


def _local(at: float) -> datetime:
    """Return the local time of a whole second: `fromtimestamp` would round up to the next."""
    return datetime.fromtimestamp(at // 1, UTC).astimezone()


def _bounds(hours: str) -> tuple[int, int]:
    """Return the minutes of the day at which the hours begin and end."""
    first, last = (int(each[:2]) * 60 + int(each[3:]) for each in hours.split("-"))
    return first, last
