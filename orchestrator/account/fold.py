"""What happened in a period, and what the whole kept history came to, without reading all of it.

`keep` writes it after runs, up to a place in the events; a reader adds the events after the place.
Where `project.event_fold` does not believe what is kept, the reader reads the events themselves:
the result is the same.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Mapping

from orchestrator.account import history, ledger
from orchestrator.account.dated_lines import DatedLines
from orchestrator.account.facts import Facts, TaskFacts
from orchestrator.account.ledger import EndedRun
from orchestrator.account.totals import Totals
from orchestrator.layout import Layout
from orchestrator.model.annotations import IO
from orchestrator.project import event_fold, events
from orchestrator.project.event_fold import Damaged, Part
from orchestrator.system import json_codec
from orchestrator.tasks import stores

_Event = Mapping[str, object]


class _Kept:
    """What is kept, and the events after it. Each method raises Damaged."""

    def __init__(self, parts: list[Part], told: Iterable[_Event]) -> None:
        try:
            first, self._totals, tasks, places, runs = parts
            of_tasks, of_runs, self.ends = json_codec.loads(first.read())
            self.tasks, self.runs = DatedLines(tasks, of_tasks, places), DatedLines(runs, of_runs)
        except (TypeError, ValueError):
            raise Damaged from None
        self.told = list(told)

    def totals(self) -> Totals:
        """Return the totals of the runs that are kept."""
        try:
            return Totals.again(json_codec.loads(self._totals.read()))
        except (TypeError, ValueError):
            raise Damaged from None

    def task(self, name: str) -> TaskFacts | None:
        """Return the facts about a task; None for an unknown task."""
        values = self.tasks.find(name)
        return None if values is None else TaskFacts.again(values)

    def ended(self, since: float) -> list[EndedRun]:
        """Return the runs that ended since then, in the order in which their ends were written."""
        rows = sorted(self.runs.since(since).items(), key=lambda row: int(row[0]))
        runs = [EndedRun.again(values) for _, values in rows]
        return [run for run in runs if run.ended >= since]


class Past:
    """What the events say. Times are seconds since the epoch; each method raises StoreFault."""

    def __init__(self, layout: Layout, kept: _Kept | None) -> None:
        self._layout, self._kept = layout, kept

    def runs(self, since: float) -> list[EndedRun]:
        """Return the runs that ended since then, oldest first."""
        with contextlib.suppress(Damaged):
            if self._kept is not None:
                return ledger.collect(self._kept.told, since, self._kept.ended(since))
        return ledger.read(self._layout, since)

    def totals(self) -> Totals:
        """Return what all ended runs came to."""
        with contextlib.suppress(Damaged):
            if self._kept is not None and (found := _added(self._kept)) is not None:
                return found[0]
        return Totals(ledger.read(self._layout))

    def facts(self, since: float) -> Facts:
        """Return what is known of tasks that changed since then, and perhaps of others."""
        with contextlib.suppress(Damaged):
            if (kept := self._kept) is not None:
                known = {
                    task: TaskFacts.again(values)
                    for task, values in kept.tasks.since(since).items()
                }
                found = Facts(kept.told, known, kept.task)
                return Facts(known=found.tasks)  # without the file, which will be closed
        kinds = history.KINDS
        return Facts(events.read(self._layout, events.MOST_READ, of_all_hosts=True, kinds=kinds))


@contextlib.contextmanager
def opened(layout: Layout) -> Iterator[Past]:
    """Open the past of a project."""
    if stores.of_project(layout).host is not None:
        yield Past(layout, None)  # events of other hosts are not in this clone's file
        return
    with events.opened(layout.events) as file, _believed(layout, file) as kept:
        yield Past(layout, kept)


@contextlib.contextmanager
def _believed(layout: Layout, file: IO[bytes], end: int | None = None) -> Iterator[_Kept | None]:
    """Open what is kept, with the events after it, up to `end`; None if it is not believed."""
    with event_fold.read(layout) as found:
        kept = None
        if found is not None and event_fold.is_same(layout, found[0], file):
            told = events.parsed(_lines(file, found[0].offset, end), kinds=history.KINDS)
            with contextlib.suppress(Damaged):
                kept = _Kept(found[1], told)
        yield kept


def keep(layout: Layout) -> None:
    """Write what the events came to, up to the last of them. Raises OSError."""
    with event_fold.opened(layout) as (place, file):
        parts = _more(layout, file, place.offset)
        if parts is None:
            with events.opened(layout.events_before) as older:
                every = itertools.chain(older, _lines(file, 0, place.offset))
                told = list(events.parsed(every, kinds=history.KINDS))
            sums, known, ends = Totals(), Facts(told), list(ledger.ends(told))
            sums.add(ledger.collect((), 0.0, ends), known)
            parts = _parts(sums, known, ends)
        # A rotation meanwhile: the older file that was read may be another.
        if event_fold.is_same(layout, place, file):
            event_fold.write(layout, place, *parts)


def _more(layout: Layout, file: IO[bytes], end: int) -> tuple[bytes, ...] | None:
    """Return what is kept with the events after it, up to `end`; None if that is not known."""
    with contextlib.suppress(Damaged), _believed(layout, file, end) as kept:
        if kept is not None and (found := _added(kept)) is not None:
            return _parts(*found, ledger.ends(kept.told), kept)
    return None


def _added(kept: _Kept) -> tuple[Totals, Facts] | None:
    """Add the events after what is kept; None if one of them ends a run that ended before.

    Raises Damaged.
    """
    sums, runs = kept.totals(), ledger.collect(kept.told, 0.0)
    if sums.has_any(runs):
        return None
    known = Facts(kept.told, earlier=kept.task)
    sums.add(runs, known)
    return sums, known


def _parts(
    sums: Totals, known: Facts, ended: Iterable[EndedRun], kept: _Kept | None = None
) -> tuple[bytes, ...]:
    """Return what is kept of sums, facts and ends of runs, beside what was kept. Raises Damaged."""
    before = kept.ends if kept else 0
    # Each end of a run has a number: the last that was written counts.
    ends = {str(before + n): run for n, run in enumerate(ended)}
    tasks = (kept.tasks if kept else DatedLines()).replaced(
        {task: (each.last(), each.values()) for task, each in known.tasks.items()}
    )
    runs = (kept.runs if kept else DatedLines()).replaced(
        {number: (run.ended, run.values()) for number, run in ends.items()}
    )
    first = json_codec.compact([tasks.days, runs.days, before + len(ends)]).encode()
    return first, json_codec.compact(sums.kept()).encode(), tasks.text, tasks.places, runs.text


def _lines(file: IO[bytes], start: int, end: int | None) -> Iterator[bytes]:
    """Yield the lines of a file between two places; without `end`, all that follow."""
    file.seek(start)
    while (end is None or start < end) and (line := file.readline()):
        start += len(line)
        yield line
