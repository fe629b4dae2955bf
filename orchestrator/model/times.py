"""Times: inside the program seconds since the epoch (float, UTC); outside, ISO 8601 with `Z`."""

from orchestrator.model.annotations import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import UTC as UTC
    from datetime import datetime as datetime
    from datetime import timedelta as timedelta
    from datetime import tzinfo as tzinfo
else:
    # The module `datetime` of Python 3.11 makes each class in Python before it takes it from here.
    from _datetime import UTC, datetime, timedelta, tzinfo  # noqa: F401

#: An example for people of a time that `parse_time` reads.
A_TIME = "2026-01-31T08:00Z"


def iso(seconds: float | None, precision: str = "seconds") -> str | None:
    """Return a time as `2024-01-15T10:30:00Z`; None for None and for a time outside the calendar.

    `precision` is a `timespec` of datetime.isoformat; finer parts are cut off.
    """
    if seconds is None:
        return None
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return moment.isoformat(timespec=precision).replace("+00:00", "Z")


def parse_time(text: str) -> float | None:
    """Read an ISO 8601 time (no zone means UTC) as seconds since the epoch; None if unreadable."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    try:
        return moment.timestamp()
    except (OverflowError, OSError):
        return None
