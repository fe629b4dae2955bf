"""The waiting tasks of a long queue, of which most are alike: nothing has happened to them.

Thousands of tasks can wait. Code that needs each task iterates over the queue, as over a tuple.
Code that needs only their number, the next task or the tasks to which something has happened reads
no other task.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain, islice

from orchestrator.model.annotations import Any
from orchestrator.model.fields import NamedTuple
from orchestrator.model.work import Task

#: The fields after `_LAST` say what has happened to a task and what it waits for; the last field is
#: the header. The fields before them are a task's own, but for these two.
_LAST, COMMON = Task._fields.index("created_by"), ("role", "state")
_UNTOUCHED = tuple(Task._field_defaults[name] for name in Task._fields[_LAST + 1 : -1])
#: Tasks from which it pays to look for those that are alike.
SEVERAL = 10


def is_untouched(task: Task) -> bool:
    """Return whether nothing has happened to a task, and it waits for no other task."""
    return task[_LAST + 1 : -1] == _UNTOUCHED


class Kin(NamedTuple):
    """Untouched tasks with one role and with the same keys in their headers; or one other task."""

    #: One of them.
    one: Task
    #: Their places in the queue, ascending: numbers that order the tasks.
    places: Sequence[float]


class Queue(Sequence[Task]):
    """Waiting tasks in queue order; a task is read when it is asked for."""

    def __init__(
        self,
        kin: Iterable[Kin],
        read: Callable[[float], Task],
        place_of: Callable[[str], float | None],
    ) -> None:
        """`read` returns the task in a place of kin of several; `place_of` a place by a task's id.

        Each place is in one kin.
        """
        self.kin = sorted(kin, key=lambda each: each.places[0])
        self.place_of = place_of
        self._read = read
        self._alone = {each.places[0]: each.one for each in self.kin if len(each.places) == 1}

    def at(self, place: float) -> Task:
        """Return the task in a place."""
        return self._alone.get(place) or self._read(place)

    @cached_property
    def _order(self) -> Sequence[float]:
        if len(self.kin) == 1:
            return self.kin[0].places
        return sorted(chain.from_iterable(each.places for each in self.kin))

    def after(self, task_id: str) -> Iterator[Task]:
        """Yield the tasks that follow a task; all tasks if there is no such task."""
        place = self.place_of(task_id)
        start = 0 if place is None else bisect_right(self._order, place)
        return map(self.at, islice(self._order, start, None))

    def __len__(self) -> int:
        return sum(len(each.places) for each in self.kin)

    def __iter__(self) -> Iterator[Task]:
        return map(self.at, self._order)

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return tuple(map(self.at, self._order[number]))
        return self.at(self._order[number])


def grouped(tasks: Sequence[Task]) -> Queue:
    """Return tasks, which are in queue order, as a queue with their kin."""
    kin: dict[object, list[int]] = {}
    for place, task in enumerate(tasks):
        key = (task.role, task.state, frozenset(task.header)) if is_untouched(task) else place
        kin.setdefault(key, []).append(place)
    places: dict[str, float] = {task.id: place for place, task in enumerate(tasks)}
    found = (Kin(tasks[each[0]], each) for each in kin.values())
    return Queue(found, lambda place: tasks[int(place)], places.get)


def queue_of(tasks: Sequence[Task]) -> Queue:
    """Return tasks as a queue. Where only a few tasks wait, nobody looks for kin."""
    if isinstance(tasks, Queue):
        return tasks
    if len(tasks) >= SEVERAL:
        return grouped(tasks)
    alone = [Kin(task, (place,)) for place, task in enumerate(tasks)]
    # Nobody asks for a place by an id where no kin has several tasks.
    return Queue(alone, lambda place: tasks[int(place)], lambda _: None)


def touched(tasks: Sequence[Task]) -> Iterable[Task]:
    """Return the tasks to which something has happened, or which wait for other tasks.

    In a short queue, all tasks are among them.
    """
    if not isinstance(tasks, Queue):
        return tasks
    return chain.from_iterable(
        map(tasks.at, each.places) for each in tasks.kin if not is_untouched(each.one)
    )


def with_ids(tasks: Sequence[Task], ids: Iterable[str | None]) -> dict[str, Task]:
    """Return the tasks with these ids, by id; ids that no task has are left out."""
    if not isinstance(tasks, Queue):
        wanted = {*ids}
        return {task.id: task for task in tasks if task.id in wanted}
    places = ((name, tasks.place_of(name)) for name in ids if name)
    return {name: tasks.at(place) for name, place in places if place is not None}


def roles(tasks: Sequence[Task]) -> Iterator[tuple[str, int]]:
    """Yield the roles of tasks, each with a number of tasks; a role can come several times."""
    for each in queue_of(tasks).kin:
        yield each.one.role, len(each.places)
