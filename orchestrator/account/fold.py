"""What the whole kept history came to, without reading all of it each time.

`keep` writes it after runs, up to a place in the events; a reader adds the events after the place.
Where `project.event_fold` does not believe what is kept, the reader reads every event: the result
is the same.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping

from orchestrator.account import history, ledger
from orchestrator.account.facts import Facts
from orchestrator.account.task_lines import TaskLines
from orchestrator.account.totals import Totals
from orchestrator.layout import Layout
from orchestrator.model.annotations import IO
from orchestrator.project import event_fold, events
from orchestrator.project.event_fold import Damaged, Part
from orchestrator.tasks import stores

_Event = Mapping[str, object]


class _Kept:
    """What is kept, and the events after it."""

    def __init__(self, parts: list[Part], told: Iterable[_Event]) -> None:
        """Raises Damaged."""
        try:
            first, lines = parts
            self._totals, days = json.loads(first.read())
            self.lines = TaskLines(lines, days)
        except (TypeError, ValueError):
            raise Damaged from None
        self.told = told

    def totals(self) -> Totals:
        """Return the totals of the runs that are kept. Raises Damaged."""
        try:
            return Totals.again(self._totals)
        except (TypeError, ValueError):
            raise Damaged from None


def totals(layout: Layout) -> Totals:
    """Return what all ended runs came to. Raises StoreFault."""
    with contextlib.suppress(Damaged), _of_this_host(layout) as kept:
        if kept is not None and (found := _added(kept)) is not None:
            return found[0]
    return Totals(ledger.read(layout))


def facts(layout: Layout, since: float) -> Facts:
    """Return what all events say about tasks that changed since then (seconds since the epoch).

    It can say something about other tasks, too. Raises StoreFault.
    """
    with contextlib.suppress(Damaged), _of_this_host(layout) as kept:
        if kept is not None:
            found = Facts(kept.told, kept.lines.since(since), kept.lines.find)
            return Facts(known=found.tasks)  # without the file, which is closed
    return Facts(events.read(layout, events.MOST_READ, of_all_hosts=True, kinds=history.KINDS))


@contextlib.contextmanager
def _of_this_host(layout: Layout) -> Iterator[_Kept | None]:
    """Open what is kept; yield None if it cannot be believed. Raises Damaged."""
    if stores.of_project(layout).host is not None:
        yield None  # events of other hosts are not in this clone's file
        return
    with events.opened(layout.events) as file, _believed(layout, file) as kept:
        yield kept


@contextlib.contextmanager
def _believed(layout: Layout, file: IO[bytes], end: int | None = None) -> Iterator[_Kept | None]:
    """Open what is kept; the events after it, up to `end`, are read from `file`."""
    with event_fold.read(layout) as found:
        if found is None or not event_fold.is_same(layout, found[0], file):
            yield None
        else:
            told = _lines(file, found[0].offset, end)
            yield _Kept(found[1], events.parsed(told, kinds=history.KINDS))


def keep(layout: Layout) -> None:
    """Write what the events came to, up to the last of them. Raises OSError."""
    with event_fold.opened(layout) as (place, file):
        found = _more(layout, file, place.offset)
        if found is None:
            with events.opened(layout.events_before) as older:
                every = itertools.chain(older, _lines(file, 0, place.offset))
                told = list(events.parsed(every, kinds=history.KINDS))
            sums, known = Totals(), Facts(told)
            sums.add(ledger.collect(told, 0.0).runs, known)
            found = sums, TaskLines().replaced(known.tasks)
        sums, (lines, days) = found
        # A rotation meanwhile: the older file that was read may be another.
        if event_fold.is_same(layout, place, file):
            event_fold.write(layout, place, json.dumps([sums.kept(), days]).encode(), lines)


def _more(
    layout: Layout, file: IO[bytes], end: int
) -> tuple[Totals, tuple[bytes, dict[str, int]]] | None:
    """Return what is kept with the events after it, up to `end`; None if that is not known."""
    with contextlib.suppress(Damaged), _believed(layout, file, end) as kept:
        if kept is not None and (found := _added(kept)) is not None:
            return found[0], kept.lines.replaced(found[1].tasks)
    return None


def _added(kept: _Kept) -> tuple[Totals, Facts] | None:
    """Add the events after what is kept; None if one of them ends a run that ended before.

    Raises Damaged.
    """
    told, sums = list(kept.told), kept.totals()
    runs = ledger.collect(told, 0.0).runs
    if sums.has_any(runs):
        return None
    known = Facts(told, earlier=kept.lines.find)
    sums.add(runs, known)
    return sums, known


def _lines(file: IO[bytes], start: int, end: int | None) -> Iterator[bytes]:
    """Yield the lines of a file between two places; without `end`, all that follow."""
    file.seek(start)
    while (end is None or start < end) and (line := file.readline()):
        start += len(line)
        yield line
