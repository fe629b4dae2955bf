"""The queue as files: the only module that touches `.orchestrator/shared/queue/`.

A task is one file, and its folder is its state. A move is one rename, so a task is in exactly one
state, whichever process is killed. An event is appended to the file before the file moves, as one
line; a line that was appended twice, or in part, is recognised when it is read.
"""

import itertools
import os
import time
from collections.abc import Iterable, Iterator, Sequence

from orchestrator.layout import Layout
from orchestrator.model.annotations import TYPE_CHECKING
from orchestrator.model.errors import NotATask, NotFound, OrchestratorError
from orchestrator.model.snapshot import Problem
from orchestrator.model.work import STATES, Entry, Task, task_order
from orchestrator.system import disk, files, locks
from orchestrator.system.later import Later
from orchestrator.system.remembered import settled
from orchestrator.tasks import id_owners, names, names_cache, rewrite, stored_file, task_file
from orchestrator.tasks.store import LOOKS, Listing, Malformed, Store, Watched
from orchestrator.tasks.task_file import TaskFile

if TYPE_CHECKING:
    from orchestrator.system import left_files
    from orchestrator.tasks import waiting_index, waiting_look
else:
    left_files = Later("system.left_files")
    waiting_index = Later("tasks.waiting_index")
    waiting_look = Later("tasks.waiting_look")

#: Seconds that a change of the queue waits for another change to end. Each takes milliseconds.
LOCK_WAIT = 30.0
#: With more waiting files than this, an idle tick looks only at the folders. A look at 1,000 files
#: takes 2.5 ms, a fifth of the start of Python.
MOST_WATCHED = 1_000
#: Waiting tasks of which an index is kept, so that commands do not read each file.
LONG = 200
#: Seconds by which a file's time may be ahead of the clock.
AHEAD = 60.0
#: The paths of the indexes of queues that were long when this process last listed them.
_LOOKED: set[str] = set()


class FileStore(Store):
    """The queue of one project on this machine's disk."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._folders = {state: layout.state(state) for state in STATES}
        self._lock = locks.Lock(os.path.join(layout.queue, ".lock"), LOCK_WAIT)
        self._index = names.Index(self._folders, layout.queue_names, _said, self._first_lines)

    def list(self, state: str) -> Listing:
        if state == "incoming":
            mark, there = settled(self._folders[state]), names.listed(self._folders[state])
            _LOOKED.discard(self._layout.waiting_index)
            if len(there) >= LONG:
                _LOOKED.add(self._layout.waiting_index)
                return waiting_look.listing(self._layout, self._folders, there, mark)
        found = (self._summary(state, name) for name in names.listed(self._folders[state]))
        return id_owners.listing(state, self._folders, found)

    def _first_lines(self) -> dict[str, str]:
        if not self._has_index():
            return {}
        return waiting_look.first_lines(self._layout, self._folders["incoming"])

    def _has_index(self) -> bool:
        return os.path.lexists(self._layout.waiting_index)

    def waiting(self) -> Listing:
        found = None
        if self._has_index():
            found = waiting_index.believed(self._layout, self._folders["incoming"])
        return self.list("incoming") if found is None else found

    def keep_waiting(self, *, surely: bool = False) -> None:
        if self._layout.waiting_index not in _LOOKED:
            files.remove(self._layout.waiting_index)
            return
        waiting_look.keep(self._layout, 0 if surely else waiting_look.MANY)

    def counts(self, states: Iterable[str] = STATES) -> dict[str, int]:
        kept = ((state, self._kept(state)) for state in states)
        return {state: known.number if known else self._index.count(state) for state, known in kept}

    def _kept(self, state: str) -> "waiting_index.Kept | None":
        """Return what is kept of a state, if no file came to its folder or left it since then."""
        if state != "incoming" or not self._has_index():
            return None
        return waiting_index.of_unchanged(self._layout, self._folders[state])

    def newest(self, most: int) -> dict[str, Listing]:
        rows = [(state, self._summary(state, name)) for state, name in self._index.newest(most)]
        found = {}
        for wanted in names.REMEMBERED:
            of_state = [task for state, task in rows if state == wanted]
            tasks = sorted((t for t in of_state if isinstance(t, Task)), key=task_order)
            malformed = sorted(t for t in of_state if isinstance(t, Malformed))
            found[wanted] = Listing(tuple(tasks), tuple(malformed))
        return found

    def _summary(self, state: str, name: str) -> Task | Malformed | None:
        return stored_file.summary(os.path.join(self._folders[state], name), state)

    def browse(self, state: str, search: str = "", after: Task | None = None) -> Iterator[Task]:
        if state not in names.REMEMBERED:
            yield from super().browse(state, search, after)
            return
        found = iter(
            self._index.found(state, search) if search else self._index.newest_first(state)
        )
        if after is not None and after.state == state:
            last = os.path.basename(after.where)
            found = itertools.islice(itertools.dropwhile(lambda name: name != last, found), 1, None)
        for name in found:
            task = self._summary(state, name)
            if isinstance(task, Task) and task_file.fits(search, task.title, task.id):
                yield task

    def finished_parts(self, task_id: str) -> Sequence[Task]:
        found = (
            self._summary(state, name)
            for state in names.REMEMBERED
            for name in self._index.with_parent(state, task_id)
        )
        tasks = (task for task in found if isinstance(task, Task))
        return [task for task in tasks if task.header.get(task_file.PARENT) == task_id]

    def get(self, task_id: str) -> Task | None:
        return self._get(task_id, confirm=False)

    def find(self, task_id: str) -> Task:
        if task := self._get(task_id, confirm=False):
            return task
        # The cache may miss a task; an error for a person may not. Nor may a task that moves to
        # another state behind the look.
        for _ in range(LOOKS):
            before = self._changed()
            if task := self._get(task_id, confirm=True):
                return task
            if self._changed() == before:
                break
        for state in self._states_with(task_id) if task_file.is_id(task_id) else ():
            bad = stored_file.summary(self._path(state, task_id), state)
            if isinstance(bad, Malformed):
                raise NotATask(*bad)
        raise NotFound("task", task_id, self._ids())

    def _get(self, task_id: str, *, confirm: bool) -> Task | None:
        if not task_file.is_id(task_id):
            return None
        for state, name in self._may_be(task_id, confirm):
            task = self._summary(state, name)
            if isinstance(task, Task) and task.id == task_id:
                return task
        return None

    def _may_be(self, task_id: str, confirm: bool) -> Iterator[tuple[str, str]]:
        """Yield state and name of each file that may be a task."""
        yield from ((state, f"{task_id}.md") for state in self._states_with(task_id))
        for state in reversed(STATES):
            yield from ((state, name) for name in self._index.of(state, confirm=confirm).others)

    def _changed(self) -> tuple[int, ...]:
        """Return when each state's folder last changed, in nanoseconds."""
        return tuple(names.mtime(folder) for folder in self._folders.values())

    def _ids(self) -> Iterator[str]:
        for state in STATES:
            for name, row in self._index.of(state).rows.items():
                task = self._summary(state, name) if names_cache.is_other(row) else None
                if not isinstance(task, Malformed):
                    yield task.id if task else name[:-3]

    def has_title(self, title: str, role: str | None, states: Iterable[str]) -> Task | None:
        wanted = task_file.title_key(title)
        for state in states:
            for name in self._may_have_title(state, wanted):
                task = self._summary(state, name)
                if (
                    isinstance(task, Task)
                    and role in (None, task.role)
                    and task_file.title_key(task.title) == wanted
                ):
                    return task
        return None

    def _may_have_title(self, state: str, key: str) -> Iterable[str]:
        """Return the names of the files of a state whose task may have a title."""
        if (kept := self._kept(state)) is not None:
            return kept.titled(key)
        part, rows = f"\t{key}\t", self._index.of(state).rows.items()
        return (name for name, row in rows if part in row or names_cache.is_other(row))

    def tidy(self) -> bool:
        return self._index.keep()

    def read(self, task: Task) -> TaskFile:
        found = stored_file.content(task.where)
        if found is None:
            raise NotFound("task", task.id)
        return stored_file.parsed(found[0], os.path.basename(task.where))

    def change(self) -> locks.Lock:
        if not self._lock.held:
            files.remove(self._layout.idle_stamp)
        return self._lock

    def add(self, file: TaskFile) -> str:
        # Git removes empty and ignored folders (`git clean -fdx`).
        files.make_folder(self._folders["incoming"])
        with self.change():
            for state in self._states_with(file.id):
                message = f"there is already a task {file.id}, in {state}"
                raise OrchestratorError(message, code="duplicate_task")
            path = self._path("incoming", file.id)
            files.write_atomic(path, file.raw)
            files.flush(os.path.dirname(path))
            return path

    def put(self, file: TaskFile, state: str, added: float) -> None:
        with self.change():
            path = self._path(state, file.id)
            files.make_folder(self._folders[state])
            files.write_atomic(path, file.raw)
            os.utime(path, (added, added))
            for other in self._states_with(file.id):
                if other != state:
                    files.remove(self._path(other, file.id))

    def new_id(self) -> str:
        # CREATED has whole seconds; among tasks of one second the id decides which is first.
        number = time.time_ns() // 1_000_000
        while any(self._states_with(task_id := f"TASK-{number % 2**32:08x}")):
            number += 1
        return task_id

    def claim(self, task: Task, entry: Entry, max_claimed: int) -> Task | None:
        with self.change():
            # Not every file is a claimed task: only if they are too many, they are read.
            is_many = len(names.listed(self._folders["claimed"])) >= max_claimed
            if is_many and len(self.list("claimed").tasks) >= max_claimed:
                return None
            try:
                return self.move(task, "claimed", entry)
            except NotFound:
                return None

    def move(self, task: Task, state: str, entry: Entry) -> Task:
        with self.change():
            target = self._path(state, task.id)
            file, mtime = stored_file.append_and_move(task.where, target, entry)
            if state != task.state:
                self._index.note_left(task.state, os.path.basename(task.where))
            return task_file.summarise(file, state, target, mtime)

    def rewrite(self, task: Task, text: str) -> Task:
        with self.change():
            found = stored_file.content(task.where)
            if found is None:
                raise NotFound("task", task.id)
            content, mtime = found
            file = rewrite.with_text(content, os.path.basename(task.where), text)
            files.write_atomic(task.where, file.raw)
            if file.get("CREATED") is None:
                os.utime(task.where, (mtime, mtime))  # the file's time replaces CREATED
            files.flush(os.path.dirname(task.where))
            return task_file.summarise(file, task.state, task.where, mtime)

    def prepare(self) -> Sequence[str]:
        return files.make_folders(self._folders.values())

    def put_aside(self, folder: str) -> None:
        """Move the whole queue below another folder, where no file in it counts any more."""
        os.rename(self._layout.queue, os.path.join(folder, "queue"))

    def is_there(self) -> bool:
        """Return whether the queue has its folder."""
        return os.path.isdir(self._layout.queue)

    def take_away(self) -> None:
        files.remove(self._lock.path)

    def places(self) -> tuple[str, ...]:
        return (self._layout.queue, *self._folders.values(), self._lock.path)

    def watched(self) -> Watched:
        paths = (*self._folders.values(), self._layout.waiting_index)
        waiting = names.listed(self._folders["incoming"])
        if len(waiting) > MOST_WATCHED:
            return Watched(paths, sees_edits=False)
        return Watched((*paths, *(f"{self._folders['incoming']}/{name}" for name in waiting)))

    def findings(self, now: float) -> Iterator[Problem]:
        if problem := disk.unwritable(self._layout.queue):
            yield Problem("permissions", *problem)
        for state, folder in self._folders.items():
            if problem := disk.unwritable(folder):
                yield Problem("permissions", *problem)
                continue
            yield from (bad.problem() for bad in self._malformed(state))
            for name in names.listed(folder) if state in ("incoming", "claimed") else ():
                path = os.path.join(folder, name)
                if names.mtime(path) / 1e9 > now + AHEAD:
                    message = f"the time of {path} is ahead of this machine's clock"
                    yield Problem("clock", message, "check the clock: date -u")

    def _malformed(self, state: str) -> tuple[Malformed, ...]:
        """Return the files of a state that cannot be tasks.

        A finished task whose file did not change since it was last looked at is not read again.
        """
        if state not in names.REMEMBERED:
            return self.list(state).malformed
        return id_owners.finished_malformed(state, self._folders, self._index.checked(state))

    def leftovers(self, before: float) -> tuple[str, ...]:
        folders = self._folders.values()
        return tuple(path for folder in folders for path in left_files.in_folder(folder, before))

    def _path(self, state: str, task_id: str) -> str:
        return os.path.join(self._folders[state], f"{task_id}.md")

    def _states_with(self, task_id: str) -> Iterator[str]:
        """Yield the states, the last one first, that have a file named for an id."""
        return (s for s in reversed(STATES) if os.path.lexists(self._path(s, task_id)))


def _said(path: str, name: str) -> str:
    """Return what a whole file says (`names_cache.Row`) of a task that it is named for."""
    task = stored_file.summary(path, "done")
    if not isinstance(task, Task) or task.id != name[:-3]:
        return names_cache.OTHER
    return names_cache.said(task.title, task.header.get(task_file.PARENT) or "")
