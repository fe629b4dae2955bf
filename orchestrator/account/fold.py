"""What the whole kept history came to, without reading all of it each time.

`keep` writes it after runs, up to a place in the events; a reader adds the events after the place.
Where `project.event_fold` does not believe what is kept, the reader reads every event: the result
is the same.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping

from orchestrator.account import history, ledger
from orchestrator.account.history import Facts
from orchestrator.account.totals import Totals
from orchestrator.layout import Layout
from orchestrator.model.annotations import IO, Any, TypeVar
from orchestrator.project import event_fold, events
from orchestrator.project.event_fold import Place
from orchestrator.tasks import stores

#: The parts of the file.
_TOTALS, _FACTS = 1, 2
_T = TypeVar("_T")
_Event = Mapping[str, object]


def totals(layout: Layout) -> Totals:
    """Return what all ended runs came to. Raises StoreFault."""
    found = _kept(layout, _TOTALS, Totals.again)
    if found is not None:
        sums, told = found
        runs = ledger.collect(told, 0.0).runs
        if not sums.has_any(runs):
            sums.add(runs)
            return sums
    return Totals(ledger.read(layout))


def facts(layout: Layout) -> Facts:
    """Return what all events say about tasks. Raises StoreFault."""
    found = _kept(layout, _FACTS, Facts.again)
    if found is None:
        every = events.read(layout, events.MOST_READ, of_all_hosts=True, kinds=history.KINDS)
        return Facts(every)
    known, told = found
    for event in told:
        known.note(event)
    return known


def _kept(layout: Layout, part: int, again: Callable[[Any], _T]) -> tuple[_T, list[_Event]] | None:
    """Return a part of what is kept, and the events after it; None if it cannot be believed."""
    if stores.of_project(layout).host is not None:
        return None  # events of other hosts are not in this clone's file
    with events.opened(layout.events) as file:
        found = _believed(layout, file, part, again)
        if found is None:
            return None
        file.seek(found[0].offset)
        return found[1], list(events.parsed(file, kinds=history.KINDS))


def _believed(
    layout: Layout, file: IO[bytes], part: int, again: Callable[[Any], _T]
) -> tuple[Place, _T] | None:
    found = event_fold.read(layout, part)
    if found is None or not event_fold.is_same(layout, found[0], file):
        return None
    try:
        return found[0], again(found[1])
    except (KeyError, TypeError, ValueError):
        return None  # it is damaged


def keep(layout: Layout) -> None:
    """Write what the events came to, up to the last of them. Raises OSError."""
    with event_fold.opened(layout) as (place, file):
        found = _believed(layout, file, _TOTALS, Totals.again)
        more = _believed(layout, file, _FACTS, Facts.again)
        sums, facts, told = Totals(), Facts(), None
        if found and more and found[0] == more[0]:
            sums, facts = found[1], more[1]
            told = events.parsed(_lines(file, found[0].offset, place.offset), kinds=history.KINDS)
        if told is None or not _add(sums, facts, told):
            with events.opened(layout.events_before) as older:
                every = itertools.chain(older, _lines(file, 0, place.offset))
                sums, facts = Totals(), Facts()
                _add(sums, facts, events.parsed(every, kinds=history.KINDS))
        # A rotation meanwhile: the older file that was read may be another.
        if event_fold.is_same(layout, place, file):
            event_fold.write(layout, place, sums.kept(), facts.kept())


def _lines(file: IO[bytes], start: int, end: int) -> Iterator[bytes]:
    file.seek(start)
    while start < end and (line := file.readline()):
        start += len(line)
        yield line


def _add(sums: Totals, facts: Facts, told: Iterable[_Event]) -> bool:
    """Add events; return False if one of them ends a run that ended before."""
    every = list(told)
    runs = ledger.collect(every, 0.0).runs
    if sums.has_any(runs):
        return False
    sums.add(runs)
    for event in every:
        facts.note(event)
    return True
