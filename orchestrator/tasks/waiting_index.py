"""What is kept of the waiting tasks of a long queue, so that commands read only what has changed.

The file of a task is known by its name, inode, size and times, as in `system.remembered`: what is
kept of another file does not count. A tick writes the index if much has changed, and whenever it
leaves a stamp. As long as that stamp holds, no file is looked at: the next ticks do not look at
them, either (`tick.stamp`). What is damaged is read from the tasks' files.
"""

import os
import time
from binascii import crc32
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain

from orchestrator import __version__, idle
from orchestrator.layout import Layout
from orchestrator.model.fields import NamedTuple
from orchestrator.model.waiting import Kin, Queue, is_untouched
from orchestrator.model.work import Task
from orchestrator.system import files, json_codec, records
from orchestrator.tasks import task_file
from orchestrator.tasks.names_cache import OTHER, UNKNOWN
from orchestrator.tasks.store import Listing, Malformed

#: What wrote the index: the program's version, and the form of the lines.
_WRITER = f"{__version__}, form 4, {crc32(' '.join(Task._fields).encode())}"
#: Lines before those of the tasks: the proof, what concerns all, and lists of what each has: names
#: of files, marks, and what the first lines say.
_HEAD = 5
#: A row of an untouched task has its own fields and the header, other rows have all fields.
_OWN = Task._fields.index("created_by") + 1
_WHERE = Task._fields.index("where")
_REST = tuple(Task._field_defaults[name] for name in Task._fields[_OWN:-1])

Mark = tuple[int, ...]


class Kept:
    """The index as it is on the disk."""

    def __init__(self, data: bytes, folder: str) -> None:
        """Raises ValueError for what this program did not write."""
        first = data.find(b"\n") + 1
        if data[: first - 1] != _checked(memoryview(data)[first:]):
            raise ValueError
        self._lines, start = [], 0
        for _ in range(_HEAD):  # `split` looks at each byte
            end = data.index(b"\n", start)
            self._lines.append(data[start:end])
            start = end + 1
        self._tasks, self._folder = data[start:], folder
        head = json_codec.loads(self._lines[1])
        #: The mark of the folder at the look (`idle.mark`), if a later change gave it another.
        self.mark = None if head["mark"] is None else (*head["mark"],)
        self.malformed = tuple(
            Malformed(os.path.join(folder, name), reason, hint)
            for name, reason, hint in head["malformed"]
        )
        #: The ids of the tasks whose files are not named for them, by the names of the files.
        self.others: dict[str, str] = head["others"]
        self.kin: list[Sequence[int]] = [_places(runs) for runs in head["kin"]]

    @cached_property
    def names(self) -> list[str]:
        """The names of the files, in queue order."""
        found: list[str] = json_codec.loads(self._lines[2])
        return found

    @cached_property
    def marks(self) -> list[Mark]:
        """The marks of the files, in queue order."""
        return [*map(tuple, json_codec.loads(self._lines[3]))]

    @cached_property
    def _task_lines(self) -> list[bytes]:
        return self._tasks.split(b"\n")

    @cached_property
    def _said(self) -> list[str]:
        rows: str = json_codec.loads(self._lines[4])
        return rows.split("\n")

    def said(self) -> Iterator[tuple[str, str, str]]:
        """Yield of each file its name, its inode and what its first line says (`names_cache.Row`).

        The inode, as text, is empty if the file had just changed.
        """
        for name, line in zip(self.names, self._said, strict=True):
            inode, _, row = line.partition("\t")
            yield name, inode, row

    def titled(self, key: str) -> list[str]:
        """Return the names of the files whose task may have a title (`task_file.title_key`)."""
        parts = (f"\t{key}\t", OTHER + "\t")
        # Most titles are new, and no row is looked at for itself.
        if not any(_line(part)[1:-1] in self._lines[4] for part in parts):
            return []
        rows = zip(self.names, self._said, strict=True)
        return [name for name, row in rows if any(part in row for part in parts)]

    @property
    def number(self) -> int:
        """How many files there are, with those that cannot be tasks."""
        return sum(map(len, self.kin)) + len(self.malformed)

    @cached_property
    def places(self) -> dict[str, int]:
        """The places of the tasks, by id."""
        ids = (self.others.get(name, name[:-3]) for name in self.names)
        return {task_id: place for place, task_id in enumerate(ids)}

    def place_of(self, task_id: str) -> int | None:
        """Return the place of the task with an id; None without such a task."""
        return self.places.get(task_id)

    def task(self, place: int) -> Task:
        """Return the task in a place."""
        values = json_codec.loads(self._task_lines[place])
        values[_WHERE] = f"{self._folder}/{values[_WHERE]}"
        if len(values) == _OWN + 1:
            return Task._make((*values[:_OWN], *_REST, values[-1]))
        task = records.build(Task, values)
        assert task is not None
        return task

    def row(self, place: int) -> "Row":
        """Return the row of the task in a place."""
        name, kin = self.names[place], self._kin_of.get(place, ())
        line = self._task_lines[place]
        said = self._said[place].split("\t", 2)[2]
        return Row(name, self.others.get(name, ""), self.marks[place], said, kin, line)

    @cached_property
    def _kin_of(self) -> dict[int, tuple[str, ...]]:
        found = {}
        for places in self.kin:
            found.update(dict.fromkeys(places, _kin_key(self.task(places[0]))))
        return found

    def queue(self) -> Queue:
        """Return the tasks as a queue."""
        kin = (Kin(self.task(each[0]), each) for each in self.kin)
        return Queue(kin, lambda place: self.task(int(place)), self.place_of)


class Row(NamedTuple):
    """What the index has of one task."""

    name: str
    #: The task's id, if its file is not named for it; else an empty text.
    other: str
    mark: Mark
    #: What its first line says, without the time (`names_cache.Row`).
    said: str
    #: What tasks of one kin share; empty for a task that has no kin.
    kin: tuple[str, ...]
    line: bytes


def row(task: Task, name: str, mark: Mark) -> Row:
    """Return the row of a task."""
    values, kin = [*task], _kin_key(task)
    values[_WHERE] = name
    if kin:
        values = [*values[:_OWN], values[-1]]
    line = _line(values)
    is_named = name == f"{task.id}.md"
    said = f"{task_file.title_key(task.title)}{UNKNOWN}" if is_named else OTHER
    return Row(name, "" if is_named else task.id, mark, said, kin, line)


def _kin_key(task: Task) -> tuple[str, ...]:
    return (task.role, *sorted(task.header)) if is_untouched(task) else ()


def write(
    path: str,
    mark: object,
    rows: Iterable[tuple[float, Row]],
    malformed: Iterable[Malformed],
) -> None:
    """Write the index. `rows` are those of all tasks, each after its place. Raises OSError.

    `mark` is that of the folder before the look; None if a later change might not show in it.
    """
    ordered = [each for _, each in sorted(rows, key=lambda pair: pair[0])]
    kin: dict[object, list[int]] = {}
    for place, each in enumerate(ordered):
        kin.setdefault(each.kin or place, []).append(place)
    head = {
        "mark": mark,
        "kin": [_runs(places) for places in kin.values()],
        "malformed": [(os.path.basename(where), *rest) for where, *rest in malformed],
        "others": {each.name: each.other for each in ordered if each.other},
    }
    times = ((each.mark[0], each.mark[2]) if each.mark else ("", 0) for each in ordered)
    said = "\n".join(f"{i}\t{t}\t{each.said}" for (i, t), each in zip(times, ordered, strict=True))
    parts = (head, [each.name for each in ordered], [each.mark for each in ordered], said)
    data = b"\n".join((*map(_line, parts), b"\n".join(each.line for each in ordered)))
    files.make_folder(os.path.dirname(path))
    files.write_atomic(path, _checked(data) + b"\n" + data, flush=False)
    # A stamp refuses files that have just changed; that this one did shows in its other marks.
    os.utime(path, (time.time() - 1,) * 2)


def _line(value: object) -> bytes:
    return json_codec.compact(value).encode()


def _checked(rest: bytes | memoryview) -> bytes:
    """Return the first line of an index with these lines: its form, and a sum of its bytes."""
    return f"{_WRITER} {crc32(rest)}".encode()


def _places(runs: Iterable[Sequence[int]]) -> Sequence[int]:
    """Return the places that runs of places contain: each its first one, and the one after it."""
    found = [range(first, after) for first, after in runs]
    return found[0] if len(found) == 1 else [*chain.from_iterable(found)]


def _runs(places: Iterable[int]) -> list[list[int]]:
    """Return ascending places as runs.

    >>> _runs([0, 1, 2, 5, 7, 8]), _places([[0, 3], [5, 6]])
    ([[0, 3], [5, 6], [7, 9]], [0, 1, 2, 5])
    """
    found: list[list[int]] = []
    for place in places:
        if found and found[-1][1] == place:
            found[-1][1] += 1
        else:
            found.append([place, place + 1])
    return found


#: The indexes that this process has read, by path: their marks, and what they say.
_KEPT: dict[str, tuple[object, Kept]] = {}


def kept(layout: Layout, folder: str) -> Kept | None:
    """Return the index of a project; None without an index that this program wrote."""
    path = layout.waiting_index
    mark = idle.mark(path)
    if mark is None:
        return None
    known = _KEPT.get(path)
    if known is not None and known[0] == mark:
        return known[1]
    try:
        found = Kept(files.read_regular(path), folder)
    except (OSError, ValueError):
        return None
    _KEPT[path] = (mark, found)
    return found


def believed(layout: Layout, folder: str) -> Listing | None:
    """Return the waiting tasks as the last tick saw them, if its stamp holds; else None."""
    found = kept(layout, folder) if idle.is_unchanged(layout.idle_stamp) else None
    return None if found is None else Listing(found.queue(), found.malformed)


def of_unchanged(layout: Layout, folder: str) -> Kept | None:
    """Return the index of a project, if no file came to the folder or left it since the look.

    An edit in place does not show before the next tick.
    """
    found = kept(layout, folder)
    is_same = found is not None and found.mark is not None and found.mark == idle.mark(folder)
    return found if is_same else None
