"""`--since` and `--until`: where a period begins and ends, in the words that people use."""

from __future__ import annotations

from orchestrator.cli.parser import Argument, Namespace, argument
from orchestrator.model.errors import UsageError
from orchestrator.model.times import UTC, datetime, timedelta

HINT = "for example: today, yesterday, 7d, 12h, 2026-11-01 or '2026-11-01 22:00'"
_UNITS = {"m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}


def since(default: str | None) -> Argument:
    """Return the option `--since`; `default` is its value when it is not given."""
    text = "where the period begins: today, yesterday, 7d, 12h, or a local date and time"
    text += f" (default: {default})" if default else ""
    return argument("--since", metavar="TIME", default=default, help=text)


def until() -> Argument:
    """Return the option `--until`."""
    text = "where the period ends, in the same format as --since (default: now)"
    return argument("--until", metavar="TIME", help=text)


def end(arguments: Namespace, begin: float, now: float) -> float:
    """Return the time that `--until` means, in seconds since the epoch; now without it.

    Raises UsageError, also for an end that is not after the period's begin.
    """
    found = now if arguments.until is None else start(arguments.until, now, option="--until")
    if found <= begin:
        raise UsageError("the period ends before it begins", "--until is later than --since")
    return found


def start(text: str | None, now: float, option: str = "--since") -> float:
    """Return the time that an option means, in seconds since the epoch; 0.0 for None.

    Days begin at local midnight. A time without a zone is local. Raises UsageError.
    """
    if text is None:
        return 0.0
    word = text.strip().lower()
    number, unit = word[:-1].rstrip(), _UNITS.get(word[-1:])
    if unit and number.isdecimal() and len(number) <= 6:
        return max(now - int(number) * unit, 0.0)
    here = datetime.fromtimestamp(now, UTC).astimezone().replace(tzinfo=None)
    today = here.replace(hour=0, minute=0, second=0, microsecond=0)
    days = {"today": 0, "yesterday": 1}.get(word)
    try:
        moment = datetime.fromisoformat(text.strip()) if days is None else today
        moment -= timedelta(days=days or 0)
        return moment.timestamp()
    except (ValueError, OverflowError, OSError) as error:
        raise UsageError(f"{option}: {text!r} is not a time", HINT) from error
