"""Runs and ticks as spans of traces, from what is recorded of them. Pure.

The runs of a task, and the reviews of what they delivered, are one trace. Ids follow from the names
of things: a span that is sent again is the same span.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from orchestrator import idle
from orchestrator.account.ledger import EndedRun
from orchestrator.account.ticks import MINUTE
from orchestrator.model.fields import NamedTuple
from orchestrator.model.times import parse_time
from orchestrator.project.run_record import RunRecord

Value = str | int | float | bool | list[str]
Attributes = Mapping[str, Value]
#: Verdicts of runs that ended with an error.
ERRORS = ("failed", "system_fault", "interrupted")
#: Attributes with a name in OpenTelemetry's conventions; the others begin with `orchestrator.`.
#: https://opentelemetry.io/docs/specs/semconv/registry/attributes/gen-ai/
_NAMES = {
    "model": "gen_ai.request.model",
    "input_tokens": "gen_ai.usage.input_tokens",
    "output_tokens": "gen_ai.usage.output_tokens",
}
_OF_RUNS = (
    *("run", "agent", "task", "role", "verdict", "reason", "pr", "head", "cost_usd"),
    *("model", "input_tokens", "output_tokens"),
)


class Note(NamedTuple):
    """Something that happened in a span; `at` is epoch seconds."""

    at: float
    name: str
    attributes: Attributes


class Span(NamedTuple):
    """One span; times are epoch seconds."""

    #: What the trace is about, and what the span is about: their ids are made of these words.
    trace: str
    about: str
    parent: str | None
    name: str
    start: float
    end: float
    attributes: Attributes
    #: Why it ended with an error; None if it did not.
    error: str | None = None
    notes: tuple[Note, ...] = ()


def number(words: str, bits: int) -> int:
    """Return an id of a trace (128 bits) or a span (64 bits) for these words; never 0."""
    digest = hashlib.sha256(words.encode("utf-8", "replace")).digest()
    return int.from_bytes(digest[: bits // 8], "big") or 1


class Told:
    """What the events say beside the ends of runs; `watched` fills it."""

    def __init__(self, since: float) -> None:
        self._since = since
        #: Review task -> the task that it reviews.
        self.reviewed: dict[str, str] = {}
        #: What ticks wrote, by the minute in which they began (epoch seconds).
        self.notes: defaultdict[int, list[Note]] = defaultdict(list)

    def watched(self, told: Iterable[Mapping[str, object]]) -> Iterator[Mapping[str, object]]:
        """Yield the events as they come, and remember what they say."""
        for event in told:
            review, task = event.get("review"), event.get("task")
            if isinstance(review, str) and isinstance(task, str):
                self.reviewed[review] = task
            at = parse_time(str(event.get("at")))
            if at is not None and at >= self._since and "by" not in event:
                names = [name for name in event if name not in ("at", "event", "v")]
                note = Note(at, str(event.get("event")), attributes(event, names))
                self.notes[int(at) // MINUTE * MINUTE].append(note)
            yield event


def attributes(event: Mapping[str, object], names: Iterable[str]) -> Attributes:
    """Return fields of an event as attributes; what is not known or has parts is left out."""
    found: dict[str, Value] = {}
    for name in names:
        value = event.get(name)
        if isinstance(value, str | int | float):
            found[_NAMES.get(name, f"orchestrator.{name}")] = value
    return found


def of_run(run: EndedRun, reviewed: Mapping[str, str], record: RunRecord | None) -> list[Span]:
    """Return the span of a run, and those of its parts if its record is still there."""
    told = run.told
    task = reviewed.get(told.task or "", told.task)
    trace = f"task {task}" if task else f"run {told.run}"
    about, start = f"run {told.run}", run.ended if run.started is None else run.started
    error = (told.reason or told.verdict) if told.verdict in ERRORS else None
    facts = attributes(told._asdict(), _OF_RUNS)
    name = f"run {told.role}" if told.role else "run"
    return [
        Span(trace, about, None, name, start, run.ended, facts, error),
        *(_parts(trace, about, record) if record else ()),
    ]


def _parts(trace: str, parent: str, record: RunRecord) -> Iterator[Span]:
    """Yield the parts of a run whose times are known: preparation, the client, the conclusion."""
    began = record.client.started if record.client else None
    ended = record.ended.at if record.ended else None
    for name, start, end in (
        ("prepare", record.created, began),
        ("client", began, ended),
        ("conclude", ended, record.finished),
    ):
        if start is not None and end is not None and start <= end:
            yield Span(trace, f"{parent} {name}", parent, name, start, end, {})


def of_ticks(noted: Mapping[int, bytes], notes: Mapping[int, list[Note]]) -> Iterator[Span]:
    """Yield the complete ticks by the minute in which they began, each with what it did.

    Ticks that found no work, and ticks that met another one, are counted by `report`.
    """
    for minute, tick in sorted(noted.items()):
        if tick != idle.WHOLE:
            continue
        did = tuple(notes.get(minute, ()))
        about = f"tick {minute}"
        end = max((float(note.at) for note in did), default=float(minute))
        yield Span(about, about, None, "tick", minute, end, {}, None, did)
