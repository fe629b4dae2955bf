"""The verdicts on the waiting tasks, of which most are shared by many tasks."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from orchestrator.model.waiting import Queue
from orchestrator.plan.alike import MARK
from orchestrator.plan.rule import Verdict

Row = tuple[Verdict, ...]


def refusal(row: Iterable[Verdict]) -> Verdict | None:
    """Return the first verdict that is not ok; None if all are."""
    return next((verdict for verdict in row if not verdict.ok), None)


class Rows(Mapping[str, Row]):
    """The verdicts on each waiting task, by its id, in queue order."""

    def __init__(self, queue: Queue, shared: Iterable[tuple[Sequence[float], Row]]) -> None:
        """`shared` has each place of the queue once."""
        self._queue, self._shared = queue, list(shared)
        alone = ((places[0], row) for places, row in self._shared if len(places) == 1)
        self._alone = {queue.at(place).id: row for place, row in alone}

    def distinct(self) -> Iterator[Row]:
        """Yield the verdicts without those of further tasks that share them."""
        return (row for _, row in self._shared)

    def refused(self, wanted: Callable[[Verdict], bool]) -> dict[str, Verdict]:
        """Return the first verdicts that are not ok, if they are wanted, by id, in queue order."""
        found: list[tuple[float, Verdict]] = []
        for places, row in self._shared:
            held = refusal(row)
            if held is not None and wanted(held):
                found += [(place, held) for place in places]
        tasks = ((self._queue.at(place).id, held) for place, held in sorted(found, key=_place))
        return {task_id: _of(held, task_id) for task_id, held in tasks}

    def __getitem__(self, task_id: str) -> Row:
        row = self._alone.get(task_id)
        if row is None and (place := self._queue.place_of(task_id)) is not None:
            row = next((row for places, row in self._shared if place in places), None)
        if row is None:
            raise KeyError(task_id)
        return tuple(_of(verdict, task_id) for verdict in row)

    def __iter__(self) -> Iterator[str]:
        return (task.id for task in self._queue)

    def __len__(self) -> int:
        return len(self._queue)


def _place(found: tuple[float, Verdict]) -> float:
    return found[0]


def _of(verdict: Verdict, task_id: str) -> Verdict:
    """Return a shared verdict with the id of one of its tasks in its texts."""
    if MARK not in verdict.detail + (verdict.hint or ""):
        return verdict
    hint = verdict.hint and verdict.hint.replace(MARK, task_id)
    return verdict._replace(detail=verdict.detail.replace(MARK, task_id), hint=hint)
