"""The runs that have ended, as the project's events tell them. Each run counts once."""

# No `from __future__ import annotations`: `records.build` reads the types of the fields.

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping

from orchestrator.layout import Layout
from orchestrator.model.annotations import Any
from orchestrator.model.fields import NamedTuple
from orchestrator.model.snapshot import ModelUse
from orchestrator.model.times import iso, parse_time
from orchestrator.project import events
from orchestrator.project.event_fold import Damaged
from orchestrator.system import records

#: The period (seconds) that is looked at first if only the newest runs are wanted.
RECENT = 86_400.0
#: The events that end a run.
ENDS = ("finish", "requeue", "block", "fail")


class Told(NamedTuple):
    """The fields that an event which ends a run may have; older versions wrote fewer."""

    at: str
    event: str
    run: str
    agent: str
    task: str | None = None
    role: str | None = None
    verdict: str | None = None
    reason: str | None = None
    pr: str | None = None
    started: str | None = None
    #: Of the run alone; None: not known.
    seconds: float | None = None
    cost_usd: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    model: str | None = None
    #: The base commit and the delivered commit, and the checks that passed on it.
    base: str | None = None
    head: str | None = None
    checks: tuple[str, ...] = ()
    #: The host that had the run; None without a shared queue.
    host: str | None = None
    #: What each model cost, if it was more than one.
    models: Mapping[str, ModelUse] = {}


_CHECKS = Told._fields.index("checks")


class EndedRun(NamedTuple):
    """A run that has ended. Times are seconds since the epoch, money is in US dollars."""

    told: Told
    ended: float
    started: float | None

    def values(self) -> list[Any]:
        """Return values for JSON, from which `again` makes the same run."""
        told = self.told
        return [self.ended, self.started, *told[:-1], {n: list(u) for n, u in told.models.items()}]

    @classmethod
    def again(cls, values: list[Any]) -> "EndedRun":
        """Return the run that has these values. Raises Damaged."""
        try:
            ended, started, *told = values
            told[_CHECKS] = tuple(told[_CHECKS])
            if told[-1]:
                told[-1] = {name: ModelUse(*use) for name, use in told[-1].items()}
            return cls(Told._make(told), ended, started)
        except (TypeError, ValueError, IndexError, AttributeError):
            raise Damaged from None

    def row(self) -> dict[str, object]:
        """Return the run as `runs --json` shows it."""
        told = self.told
        return {
            "run": told.run,
            "agent": told.agent,
            "task": told.task,
            "started": iso(self.started),
            "ended": iso(self.ended),
            "seconds": told.seconds,
            "outcome": told.verdict,
            "cost_usd": told.cost_usd,
            "input_tokens": told.input_tokens,
            "output_tokens": told.output_tokens,
            "model": told.model,
            **({"host": told.host} if told.host else {}),
        }


def read(layout: Layout, since: float = 0.0) -> list[EndedRun]:
    """Return the runs that ended at or after `since` (seconds since the epoch), oldest first."""
    told = events.read(layout, events.MOST_READ, of_all_hosts=True, kinds=ENDS, since=since)
    return collect(told, since)


def newest(
    read: Callable[[float], list[EndedRun]],
    since: float,
    events_of: tuple[float, float],
    number: int,
    fits: Callable[[EndedRun], bool],
) -> tuple[list[EndedRun], bool]:
    """Return the newest runs that ended since then and fit, oldest first, and if there are more.

    `read` returns the runs that ended since a time. It is asked for longer and longer periods;
    `events_of` is the time from the oldest event to the newest. All times are epoch seconds.
    """
    (begins, until), age = events_of, RECENT
    while until - age > max(since, begins):
        found = list(filter(fits, read(until - age)))
        if len(found) > number:
            return found[-number:], True
        age *= 8
    found = list(filter(fits, read(since)))
    return found[-number:], len(found) > number


def begins(layout: Layout) -> float | None:
    """Return the time of the oldest event that is kept (epoch seconds); None without events."""
    told = events.read(layout, events.MOST_READ, of_all_hosts=True)
    return next(
        (at for event in told if (at := parse_time(str(event.get("at")))) is not None), None
    )


def collect(
    told: Iterable[Mapping[str, object]], since: float, before: Iterable[EndedRun] = ()
) -> list[EndedRun]:
    """Return the runs that ended at or after `since`, oldest first.

    `told` are events in the order of their writing; `before` has the runs whose ends were written
    before them. A tick that was killed writes the end of a run again: the last end of a run counts.
    """
    found = {run.told.run: run for run in itertools.chain(before, ends(told, since))}
    return sorted(found.values(), key=lambda run: (run.ended, run.told.run))


def ends(told: Iterable[Mapping[str, object]], since: float = 0.0) -> Iterator[EndedRun]:
    """Yield the run of each event that ends one at or after `since`."""
    for event in told:
        if event.get("event") not in ENDS:
            continue
        # Most ends of a long history are before the period: they are not built.
        at = parse_time(str(event.get("at")))
        if at is not None and at >= since and (run := _run(event, at)) is not None:
            yield run


def _run(event: Mapping[str, object], ended: float) -> EndedRun | None:
    """Read the end of a run; None for the end of a task that no run worked on."""
    told = records.build(Told, event)
    if told is None:
        return None
    started = parse_time(told.started) if told.started else None
    if started is None and told.seconds is not None:
        started = ended - told.seconds
    return EndedRun(told, ended, started)
