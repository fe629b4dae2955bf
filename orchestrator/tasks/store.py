"""The queue's files: the only module that touches `.orchestrator/shared/queue/`.

A task is one file, and the folder it lies in is its state, so every move is one rename: a task is
in exactly one state whatever is killed. What is to be remembered is appended to the file before it
moves, as one line; a line that was appended twice, or half, is recognised when it is read.

Several machines will come as a second implementation of this class's public methods; the tests in
`tests/store_contract.py` are what both must pass.
"""

# No `from __future__ import annotations`, for the reason that `model` gives.

import errno
import itertools
import os
import stat
import time
from collections.abc import Container, Iterable, Iterator
from typing import NamedTuple

from orchestrator.errors import NotFound, OrchestratorError, TaskFileError
from orchestrator.layout import Layout
from orchestrator.model import STATES, Entry, Task, task_order
from orchestrator.system import files, locks
from orchestrator.tasks import history, task_file
from orchestrator.tasks.listing_cache import LEAST, Stamp, Summaries, stamp
from orchestrator.tasks.task_file import MAX_BYTES, TaskFile

#: Names by folder.
_Taken = dict[str, Container[str] | None]

#: Seconds that a change of the queue waits for another one to end. Each takes milliseconds.
LOCK_WAIT = 30.0


class Malformed(NamedTuple):
    """A file in the queue that cannot be a task, and why. It counts nowhere and blocks nothing."""

    path: str
    reason: str


class Listing(NamedTuple):
    """The tasks of one state, in queue order, and the files there that are none."""

    tasks: tuple[Task, ...]
    malformed: tuple[Malformed, ...] = ()


class Store:
    """The queue of one project on this machine's disk."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._lock = locks.Lock(os.path.join(layout.queue, ".lock"), LOCK_WAIT)

    # --- reading ---------------------------------------------------------------------------

    def leftovers(self, before: float) -> tuple[str, ...]:
        """Return what killed writers left beside the queue's files, before a time (epoch seconds).

        Nothing reads these files, so they may be deleted without the lock.
        """
        folders = map(self._layout.state, STATES)
        return tuple(path for folder in folders for path in files.left_beside(folder, before))

    def list(self, state: str, *, remember: bool = False) -> Listing:
        """Return the tasks in a state, first to be claimed first. Changes nothing of the queue.

        With `remember` a long listing is kept in the project's cache, for the next to be quicker.
        """
        by_id: dict[str, Task] = {}
        #: Several files with one id, by that id.
        rivals: dict[str, list[Task]] = {}
        malformed: list[Malformed] = []
        for path, task in self._summaries(state, remember):
            if isinstance(task, str):
                malformed.append(Malformed(path, task))
            elif task.id in by_id:
                rivals.setdefault(task.id, [by_id[task.id]]).append(task)
            else:
                by_id[task.id] = task
        for task_id, several in rivals.items():
            # The one that is named for it keeps it.
            several.sort(key=lambda task: (not task.path.endswith(f"/{task.id}.md"), task.path))
            by_id[task_id] = several[0]
        tasks = []
        taken = self._names_elsewhere(state, len(by_id))
        for task_id, task in by_id.items():
            owner = (taken and self._owner_elsewhere(task_id, taken)) or task.path
            if owner == task.path:
                tasks.append(task)
            for other in rivals.get(task_id, (task,)):
                if other.path != owner:
                    reason = f"its id {task_id} is already that of {owner}"
                    malformed.append(Malformed(other.path, reason))
        return Listing(tuple(sorted(tasks, key=task_order)), tuple(sorted(malformed)))

    def counts(self) -> dict[str, int]:
        """Return how many task files lie in each state, by their names alone."""
        return {state: sum(1 for _ in self._names(state)) for state in STATES}

    def find(self, task_id: str) -> Task:
        """Return a task by its id, in whatever state. Raises NotFound."""
        for state in reversed(STATES):
            path = os.path.join(self._layout.state(state), f"{task_id}.md")
            if task_file.is_id(task_id) and os.path.lexists(path):
                task = self._summary(path, state, None)
                if isinstance(task, Task) and task.id == task_id:
                    return task
        known = []
        for state in STATES:
            for task in self.list(state).tasks:
                if task.id == task_id:
                    return task
                known.append(task.id)
        raise NotFound("task", task_id, known)

    def read(self, task: Task) -> TaskFile:
        """Return a task's whole file. Raises NotFound when it moved away meanwhile."""
        found = _read(task.path)
        if found is None:
            raise NotFound("task", task.id)
        return found.parsed(task.path)

    def has_title(self, title: str, role: str | None, states: Iterable[str]) -> Task | None:
        """Return a task with this title (and role, unless None) in one of the states."""
        wanted = task_file.title_key(title)
        for state in states:
            for task in self.list(state).tasks:
                if task_file.title_key(task.title) == wanted and role in (None, task.role):
                    return task
        return None

    # --- changing --------------------------------------------------------------------------

    def locked(self) -> locks.Lock:
        """Return the lock under which every change happens; entering it nests.

        What is decided from a listing holds for as long as the lock is held.
        """
        if not self._lock.held:
            files.remove(self._layout.idle_stamp)
        return self._lock

    def add(self, file: TaskFile) -> str:
        """Put a new task into `incoming`; return its path. Raises when the id is taken.

        Durable when it returns.
        """
        with self.locked():
            for state in STATES:
                if os.path.lexists(os.path.join(self._layout.state(state), f"{file.id}.md")):
                    raise OrchestratorError(
                        f"there is already a task {file.id}, in {state}", code="duplicate_task"
                    )
            path = os.path.join(self._layout.state("incoming"), f"{file.id}.md")
            files.write_atomic(path, task_file.render(file))
            files.flush(os.path.dirname(path))
            return path

    def new_id(self) -> str:
        """Return an id that no task has.

        Ids made within one second sort in the order of their making: CREATED knows whole seconds,
        and among equals the name decides who is first.
        """
        number = time.time_ns() // 1_000_000
        while True:
            task_id = f"TASK-{number % 2**32:08x}"
            paths = (os.path.join(self._layout.state(s), f"{task_id}.md") for s in STATES)
            if not any(map(os.path.lexists, paths)):
                return task_id
            number += 1

    def claim(self, task: Task, entry: Entry, max_claimed: int) -> Task | None:
        """Move a waiting task to `claimed`, if the limit allows it and nobody was faster.

        The limit is read here, under the lock that every claim takes (failures 15). Returns the
        claimed task, or None.
        """
        with self.locked():
            # By name first: only files that may be no tasks are worth a second look.
            names = sum(1 for _ in self._names("claimed"))
            if names >= max_claimed and len(self.list("claimed").tasks) >= max_claimed:
                return None
            try:
                return self.move(task, "claimed", entry)
            except NotFound:
                return None

    def move(self, task: Task, state: str, entry: Entry) -> Task:
        """Append `entry` to a task's history and move it to another state; return it as it is then.

        Durable when it returns. Doing it again after a crash appends nothing twice. Raises
        NotFound when the task is no longer where `task` says.
        """
        with self.locked():
            target = os.path.join(self._layout.state(state), f"{task.id}.md")
            file, mtime = self._append_and_move(task.path, target, entry)
            return _summarise(file, state, target, mtime)

    def note(self, task: Task, entry: Entry) -> Task:
        """Append to a task's history without moving it."""
        return self.move(task, task.state, entry)

    def _append_and_move(self, path: str, target: str, entry: Entry) -> tuple[TaskFile, float]:
        """Do both, flush them to the disk; return the file as it is then, and its earlier mtime."""
        flags = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(path, flags)
        except FileNotFoundError:
            raise NotFound("task", os.path.basename(target).removesuffix(".md")) from None
        try:
            if target != path and os.path.lexists(target):
                raise OrchestratorError(
                    f"{target} is in the way of task {os.path.basename(target)[:-3]}",
                    "rename or remove that file",
                    code="duplicate_task",
                )
            found = os.fstat(descriptor)
            content = os.read(descriptor, min(found.st_size, MAX_BYTES) + 1)
            file = task_file.parse(content, os.path.basename(path))
            if not _same_event(file, entry):
                line = history.append(content, entry)
                if os.write(descriptor, line) != len(line):
                    # A part of a line is passed over when read; the task must not move without it.
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
                file = file._replace(history=(*file.history, entry))
            if target != path:
                try:
                    os.rename(path, target)
                except FileNotFoundError:
                    # Empty and ignored folders are what `git clean -fdx` takes away.
                    files.make_folder(os.path.dirname(target))
                    os.rename(path, target)
            if file.get("CREATED") is None:
                # The file's time stands in for it, and must not change with what we append.
                os.utime(descriptor, ns=(found.st_atime_ns, found.st_mtime_ns))
            # After the rename, so that one flush makes both durable: a journalling file system
            # commits the rename with, or before, the data of the inode it moved.
            os.fsync(descriptor)
            return file, found.st_mtime
        finally:
            os.close(descriptor)

    # --- files -----------------------------------------------------------------------------

    def _entries(self, state: str) -> Iterator[os.DirEntry[str]]:
        try:
            with os.scandir(self._layout.state(state)) as entries:
                for entry in entries:
                    if entry.name.endswith(".md") and not entry.name.startswith("."):
                        yield entry
        except FileNotFoundError:
            return

    def _names(self, state: str) -> Iterator[str]:
        return (entry.name for entry in self._entries(state))

    def _summary(self, path: str, state: str, kept: Summaries | None) -> Task | str | None:
        """Return a file's task, or why it is none; None when it is gone. Tells `kept` of it."""
        try:
            found = _read(path)
            if found is None:
                return None
        except TaskFileError as error:
            return str(error)
        try:
            task: Task | str = _summarise(found.parsed(path), state, path, found.mtime)
        except TaskFileError as error:
            task = str(error)
        if kept is not None:
            kept.put(os.path.basename(path), found.stamp, found.at, task)
        return task

    def _summaries(self, state: str, remember: bool) -> Iterator[tuple[str, Task | str]]:
        """Yield each file of a state: its path, and its task or why it is none."""
        entries = list(self._entries(state))
        kept = None
        if len(entries) >= LEAST:
            kept = Summaries(os.path.join(self._layout.cache, f"{state}.summaries"))
        for entry in entries:
            task = kept.find(entry) if kept else None
            task = task or self._summary(entry.path, state, kept)
            if task is not None:
                yield entry.path, task
        if kept and remember:
            kept.save()

    def _names_elsewhere(self, state: str, count: int) -> _Taken:
        """Return each later state's folder and its names; None for far more than `count` of them.

        A look at one name in a folder takes as long as reading ten names of it.
        """
        taken: _Taken = {}
        for other in STATES[STATES.index(state) + 1 :]:
            names = set(itertools.islice(self._names(other), 10 * count + 1))
            if names:
                taken[self._layout.state(other)] = names if len(names) <= 10 * count else None
        return taken

    def _owner_elsewhere(self, task_id: str, taken: _Taken) -> str | None:
        """Return the file in a later state that has a task's id already."""
        for folder, names in taken.items():
            name = f"{task_id}.md"
            path = f"{folder}/{name}"
            if os.path.lexists(path) if names is None else name in names:
                return path
        return None


def _summarise(file: TaskFile, state: str, path: str, mtime: float) -> Task:
    task = task_file.summarise(file, state, path, mtime)
    # The folder is the truth: an append that a crash kept from moving claims nothing.
    return task if state == "claimed" or not task.claimed_by else task._replace(claimed_by=None)


def _same_event(file: TaskFile, entry: Entry) -> bool:
    """Whether the history ends with this very event: the append that a crash came after."""
    if not file.history or "run" not in entry.fields:
        return False
    last = file.history[-1]
    return last.event == entry.event and last.fields.get("run") == entry.fields["run"]


class _Found(NamedTuple):
    """A task file's bytes, and what it was when they were read."""

    content: bytes
    stamp: Stamp
    #: Seconds since the epoch.
    mtime: float
    #: When `stamp` was taken, just before reading; nanoseconds since the epoch.
    at: int

    def parsed(self, path: str) -> TaskFile:
        return task_file.parse(self.content, os.path.basename(path))


def _read(path: str) -> _Found | None:
    """Return a task file's bytes; None when it is gone. Raises TaskFileError on what is no file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        link = os.path.islink(path)
        raise TaskFileError("it is a symbolic link" if link else f"{error.strerror}") from None
    try:
        at = time.time_ns()
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise TaskFileError("it is not a regular file")
        content = os.read(descriptor, min(found.st_size, MAX_BYTES) + 1)
        return _Found(content, stamp(found), found.st_mtime, at)
    finally:
        os.close(descriptor)
