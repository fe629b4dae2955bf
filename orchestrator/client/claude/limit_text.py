"""A usage limit that the client reports only in words: the last resort.

Versions that send no `rate_limit_event` for a limit end with a text such as "You've hit your
5-hour limit · resets 9:14pm (UTC)" (2.1.332), or "Claude AI usage limit reached|1795342527" (old).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

#: The whole text is the message: an agent's own words about limits are longer, and cost tokens.
_LIMIT = (
    r"(?i)(you.ve (hit|reached) your [\w -]{0,40}limit"
    r"|(claude (ai )?)?[\w-]{0,20} ?limit reached)\b"
)
_LONGEST = 300
_EPOCH = r"\|(\d{9,11})\b"
_RESETS = (
    r"resets (?:(?P<day>[A-Z][a-z]{2} \d{1,2}),? (?:at )?)?(?P<hour>\d{1,2})(?::(?P<minute>\d\d))?"
    r" ?(?P<half>[ap]m) \((?P<zone>[\w/+-]{1,40})\)"
)


def is_limit(text: object) -> bool:
    """Return whether the text is the client's message that a usage limit is reached."""
    return isinstance(text, str) and len(text) <= _LONGEST and bool(re.match(_LIMIT, text.strip()))


def reset(text: str, said_at: float | None) -> float | None:
    """Return when the limit resets, in seconds since the epoch; None if the text does not say it.

    `said_at` is when the client wrote the text: a time without a day is the next one after it.
    """
    if found := re.search(_EPOCH, text):
        return float(found[1])
    found = re.search(_RESETS, text)
    if found is None or said_at is None:
        return None
    from zoneinfo import ZoneInfo

    try:
        zone = ZoneInfo(found["zone"])
        said = datetime.fromtimestamp(said_at, UTC).astimezone(zone)
        hour = int(found["hour"]) % 12 + (12 if found["half"] == "pm" else 0)
        at = said.replace(hour=hour, minute=int(found["minute"] or 0), second=0, microsecond=0)
        if found["day"]:
            day = datetime.strptime(f"{said.year} {found['day']}", "%Y %b %d")  # noqa: DTZ007
            at = at.replace(month=day.month, day=day.day)
            return (at if at >= said else at.replace(year=at.year + 1)).timestamp()
    except (KeyError, ValueError, OSError, OverflowError):  # no such zone, or no such day
        return None
    # One minute of tolerance: the text has no seconds.
    late = at < said - timedelta(minutes=1)
    return (at + timedelta(days=1) if late else at).timestamp()
