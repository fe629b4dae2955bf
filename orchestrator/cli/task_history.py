"""A task's history for people: one line an event. Scripts have its JSON (`shapes`)."""

from __future__ import annotations

import json
from typing import Any

from orchestrator.model import Entry, iso, parse_time
from orchestrator.tasks import history

#: What happened, where the event's own word does not say it.
_SAID = {
    "requeued": "put back",
    "blocked": "asks a person",
    "answered": "answered by a person",
    "retried": "put back by a person, attempts counted from 0 again",
    "cancelled": "cancelled by a person",
    "moved": "moved by a person",
    "dismissed": "taken out of the inbox by a person",
    "reopened": "put back for changes",
}
#: Fields that are part of what happened, each after its word.
_JOINED = {
    "claimed": {"by": "agent"},
    "review": {"by": "reviewer"},
    "moved": {"from": "from", "to": "to"},
}
#: The longer texts of an event: they end its line.
_TEXTS = ("question", "text", "feedback", "summary")
#: The same said for programs: when the delay is over, what the conversation has cost so far.
_SAID_OTHERWISE = ("not_before", "session_cost_usd")
_NAMES = {"pr": "pull request", "session": "conversation"}


def line(entry: Entry) -> str:
    """Return an event as one line: when (UTC), what happened, the facts, the texts in full."""
    fields = {name: value for name, value in entry.fields.items() if value not in (None, "")}
    said = _SAID.get(entry.event, entry.event.replace("_", " "))
    for word, name in _JOINED.get(entry.event, {}).items():
        if name in fields:
            said += f" {word} {_plain(fields.pop(name))}"
    reason, error = (_plain(fields.pop(name, "")) for name in ("reason", "error"))
    texts = (history.why(reason, error), *(_plain(fields.pop(name, "")) for name in _TEXTS))
    facts = (_fact(name, value, entry.event) for name, value in fields.items())
    told = "; ".join(filter(None, texts))
    return f"{_time(entry.at)}  {', '.join(filter(None, (said, *facts)))}{f': {told}' * bool(told)}"


def _fact(name: str, value: Any, event: str) -> str:
    """Return one field in words; nothing for what says nothing more."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    match name:
        case "charged":
            return "an attempt is charged" if value is True else "no attempt is charged"
        case "interrupted":
            return "interrupted" if value is True else ""
        case "undelivered":
            return "its work is still to be delivered"
        case "delay" if number:
            return f"again after {value:g} s" if value else ""
        case "cost_usd" if number:
            return f"{value:.4f} USD"
        case "head":
            return f"commit {_plain(value)[:12]}"
        case "verdict":
            return _plain(value) if value != event else ""
        case _ if name in _SAID_OTHERWISE:
            return ""
    return f"{_NAMES.get(name, _plain(name))} {_plain(value)}"


def _plain(value: object) -> str:
    """Return a value on one line; what is no text as JSON."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return " ".join(text.split())


def _time(at: str) -> str:
    """Return a recorded time to the minute; as it is where it is none."""
    written = iso(parse_time(at))
    return written[:16].replace("T", " ") if written else at
