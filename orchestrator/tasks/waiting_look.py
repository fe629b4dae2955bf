"""A look at the folder of many waiting tasks: only the files that the index lacks are read."""

import os
import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from itertools import compress, count, groupby
from operator import attrgetter, ne

from orchestrator.layout import Layout
from orchestrator.model.annotations import Any
from orchestrator.model.fields import NamedTuple
from orchestrator.model.waiting import Kin, Queue, grouped
from orchestrator.model.work import STATES, Task, task_order
from orchestrator.system import files
from orchestrator.system.remembered import CLEAR
from orchestrator.tasks import id_owners, stored_file, waiting_index
from orchestrator.tasks.store import Listing, Malformed
from orchestrator.tasks.waiting_index import Kept, Mark, Row

#: New and changed files from which it pays to write the index again while agents work.
MANY = 100
#: The state whose tasks are kept.
STATE = "incoming"
_mark = attrgetter("st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")


class _Fresh(NamedTuple):
    """A task that the index lacks, or has as it was before a change."""

    task: Task
    name: str
    mark: Mark


class Look:
    """A look at the folder of waiting tasks, with what the index knows."""

    def __init__(
        self,
        kept: Kept | None,
        folders: Mapping[str, str],
        there: Sequence[str],
        folder_mark: object = None,
    ) -> None:
        """`folder_mark` is that of the folder, if a change after the look gives it another."""
        self.folder_mark = folder_mark
        self.knows_folder = kept is not None and kept.mark == folder_mark
        self._folder, self._folders = folders[STATE], folders
        self._kept = kept
        known = kept.names if kept else []
        marks = _marks(self._folder, known)
        #: The places of tasks that are gone or have changed.
        self._gone = {*compress(count(), map(ne, marks, kept.marks if kept else []))}
        changed = (known[place] for place in self._gone if marks[place])
        self._fresh: list[_Fresh] = []
        self.malformed: list[Malformed] = []
        for name in (*{*there}.difference(known), *changed):
            self._read(name)
        self._fresh.sort(key=lambda each: task_order(each.task))
        self._there = {*there}

    def _read(self, name: str) -> None:
        path, now = f"{self._folder}/{name}", time.time()
        try:
            found = os.lstat(path)
        except FileNotFoundError:
            return
        task = stored_file.summary(path, STATE)
        if isinstance(task, Malformed):
            self.malformed.append(task)
        elif task is not None:
            # A second change of a file that has just changed may not show in its times.
            mark = _mark(found) if now - found.st_ctime > CLEAR else ()
            self._fresh.append(_Fresh(task, name, mark))

    @property
    def changes(self) -> int:
        """How many tasks and other files the index lacks or has otherwise."""
        kept = self._kept
        same = kept is not None and (*sorted(self.malformed),) == kept.malformed
        return len(self._gone) + len(self._fresh) + (not same)

    @cached_property
    def has_rivals(self) -> bool:
        """Whether several files, here or in later states, could be the task of one id."""
        states = STATES[STATES.index(STATE) + 1 :]
        later = {name for state in states for name in _listed(self._folders[state])}
        others = [each.task.id for each in self._fresh if f"{each.task.id}.md" != each.name]
        if self._kept:
            gone = {self._kept.names[place] for place in self._gone}
            others += [i for name, i in self._kept.others.items() if name not in gone]
        named = {f"{task_id}.md" for task_id in others}
        taken = self._there & later or named & later or named & self._there
        return bool(taken) or len(named) < len(others)

    def listing(self) -> Listing:
        """Return the tasks as a queue, and the items that cannot be tasks."""
        queue = self.queue
        if self.has_rivals:
            return id_owners.listing(STATE, self._folders, (*queue, *self.malformed))
        return Listing(queue, tuple(sorted(self.malformed)))

    @cached_property
    def queue(self) -> Queue:
        """The tasks, with those that several files could be."""
        kept, gone = self._kept, self._gone
        if kept is None:
            return grouped([each.task for each in self._fresh])
        if not self.changes:
            return kept.queue()
        fresh = dict(zip(self.fresh_places, self._fresh, strict=True))
        rest = ([p for p in each if p not in gone] for each in kept.kin)
        kin = [Kin(kept.task(each[0]), each) for each in rest if each]
        kin += [Kin(each.task, (place,)) for place, each in fresh.items()]
        ids = {each.task.id: place for place, each in fresh.items()}

        def place_of(task_id: str) -> float | None:
            place = kept.place_of(task_id)
            return ids.get(task_id, None if place in gone else place)

        return Queue(kin, lambda place: kept.task(int(place)), place_of)

    @cached_property
    def fresh_places(self) -> list[float]:
        """The places of the tasks that the index lacks, between those of its tasks."""
        kept = self._kept
        if kept is None:
            return [*map(float, range(len(self._fresh)))]
        number = len(kept.names)
        orders = _Orders(kept)
        where = [bisect_left(orders, task_order(f.task), 0, number) for f in self._fresh]
        found: list[float] = []
        for after, several in groupby(where):
            many = len([*several])
            found += [after - 1 + (n + 1) / (many + 1) for n in range(many)]
        return found

    def rows(self) -> Iterator[tuple[float, Row]]:
        """Yield the row of each task for the index, after its place."""
        kept, gone = self._kept, self._gone
        if kept:
            places = (place for place in range(len(kept.names)) if place not in gone)
            yield from ((place, kept.row(place)) for place in places)
        for place, each in zip(self.fresh_places, self._fresh, strict=True):
            yield place, waiting_index.row(*each)


class _Orders(Sequence[Any]):
    """The order of each task of an index; a task is read when it is asked for."""

    def __init__(self, kept: Kept) -> None:
        self._kept = kept

    def __len__(self) -> int:
        return len(self._kept.names)

    def __getitem__(self, place: Any) -> Any:
        return task_order(self._kept.task(place))


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def _marks(folder: str, known: Iterable[str]) -> list[Mark]:
    """Return the marks of files in a folder; an empty one for a file that is gone."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    look = partial(os.stat, dir_fd=descriptor, follow_symlinks=False)

    def mark(name: str) -> Mark:
        try:
            return _mark(look(name))
        except FileNotFoundError:
            return ()

    try:
        return [*map(_mark, map(look, known))]
    except FileNotFoundError:
        return [*map(mark, known)]
    finally:
        os.close(descriptor)


#: The last look at a folder, if the index may differ from it, by the path of the index.
_LOOKS: dict[str, Look] = {}


def listing(
    layout: Layout, folders: Mapping[str, str], there: Sequence[str], mark: object
) -> Listing:
    """Return the waiting tasks, from a look at each of the files that are there.

    `mark` is that of the folder (`idle.mark`) from before it was seen what is there.
    """
    look = Look(waiting_index.kept(layout, folders[STATE]), folders, there, mark)
    _LOOKS[layout.waiting_index] = look
    return look.listing()


def first_lines(layout: Layout, folder: str) -> dict[str, str]:
    """Return what is kept of the first lines of files, as rows of `names` by name.

    A file that was replaced is left out; an edit in place does not show before the next tick.
    """
    found = waiting_index.kept(layout, folder)
    if found is None:
        return {}
    with os.scandir(folder) as entries:
        there = {entry.name: str(entry.inode()) for entry in entries}
    return {name: row for name, inode, row in found.said() if there.get(name) == inode}


def keep(layout: Layout, most: int) -> None:
    """Write the index, if it differs from the last look by more than `most` changes.

    What this process has not looked at stays as it is kept. Raises OSError.
    """
    look = _LOOKS.get(layout.waiting_index)
    if look is None:
        return
    if look.has_rivals:
        files.remove(layout.waiting_index)
    elif look.changes + (not look.knows_folder) > most:
        malformed = sorted(look.malformed)
        waiting_index.write(layout.waiting_index, look.folder_mark, look.rows(), malformed)
        del _LOOKS[layout.waiting_index]
