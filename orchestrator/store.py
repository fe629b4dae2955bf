"""The queue's files: the only module that touches `.orchestrator/shared/queue/`.

A task is one file, and the folder it lies in is its state, so every move is one rename: a task is
in exactly one state whatever is killed. What is to be remembered is appended to the file before it
moves, as one line; a line that was appended twice, or half, is recognised when it is read.

Several machines will come as a second implementation of this class's public methods; the tests in
`tests/store_contract.py` are what both must pass.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from orchestrator import files, history, taskfile
from orchestrator.errors import NotFound, OrchestratorError, TaskFileError
from orchestrator.layout import Layout
from orchestrator.model import STATES, Entry, Task, task_order
from orchestrator.taskfile import MAX_BYTES, TaskFile

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
        self._lock = files.Lock(os.path.join(layout.queue, ".lock"), LOCK_WAIT)

    # --- reading ---------------------------------------------------------------------------

    def list(self, state: str) -> Listing:
        """Return the tasks in a state, first to be claimed first. Changes nothing."""
        by_id: dict[str, list[Task]] = {}
        malformed: list[Malformed] = []
        for name in sorted(self._names(state)):
            path = os.path.join(self._layout.state(state), name)
            try:
                task = self._summary(path, state)
                if task is not None:
                    by_id.setdefault(task.id, []).append(task)
            except TaskFileError as error:
                malformed.append(Malformed(path, str(error)))
        tasks = []
        for task_id, rivals in by_id.items():
            # Of several files with one id, the one that is named for it keeps it.
            rivals.sort(key=lambda task: not task.path.endswith(f"/{task_id}.md"))
            owner = self._owner_elsewhere(rivals[0]) or rivals[0].path
            if owner == rivals[0].path:
                tasks.append(rivals[0])
            for task in rivals:
                if task.path != owner:
                    reason = f"its id {task_id} is already that of {owner}"
                    malformed.append(Malformed(task.path, reason))
        return Listing(tuple(sorted(tasks, key=task_order)), tuple(malformed))

    def counts(self) -> dict[str, int]:
        """Return how many task files lie in each state, by their names alone."""
        return {state: sum(1 for _ in self._names(state)) for state in STATES}

    def find(self, task_id: str) -> Task:
        """Return a task by its id, in whatever state. Raises NotFound."""
        for state in reversed(STATES):
            path = os.path.join(self._layout.state(state), f"{task_id}.md")
            if taskfile.is_id(task_id) and os.path.lexists(path):
                try:
                    task = self._summary(path, state)
                except TaskFileError:
                    continue
                if task is not None and task.id == task_id:
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
        content = _read(task.path)
        if content is None:
            raise NotFound("task", task.id)
        return taskfile.parse(content, os.path.basename(task.path))

    def has_title(self, title: str, role: str | None, states: Iterable[str]) -> Task | None:
        """Return a task with this title (and role, unless None) in one of the states."""
        wanted = taskfile.title_key(title)
        for state in states:
            for task in self.list(state).tasks:
                if taskfile.title_key(task.title) == wanted and role in (None, task.role):
                    return task
        return None

    # --- changing --------------------------------------------------------------------------

    def locked(self) -> files.Lock:
        """Return the lock under which every change happens; entering it nests.

        What is decided from a listing holds for as long as the lock is held.
        """
        if not self._lock.held:
            files.remove(self._layout.idle_stamp)
        return self._lock

    def add(self, file: TaskFile) -> str:
        """Put a new task into `incoming`; return its path. Raises when the id is taken."""
        with self.locked():
            for state in STATES:
                if os.path.lexists(os.path.join(self._layout.state(state), f"{file.id}.md")):
                    raise OrchestratorError(
                        f"there is already a task {file.id}, in {state}", code="duplicate_task"
                    )
            path = os.path.join(self._layout.state("incoming"), f"{file.id}.md")
            files.write_atomic(path, taskfile.render(file))
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

        The limit is read here, under the lock that every claim takes (FAILURES 15). Returns the
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
            if not os.path.lexists(task.path):
                raise NotFound("task", task.id)
            if target != task.path and os.path.lexists(target):
                raise OrchestratorError(
                    f"{target} is in the way of task {task.id}",
                    "rename or remove that file",
                    code="duplicate_task",
                )
            file = self._append_and_move(task.path, target, entry)
            return _summarise(file, state, target)

    def note(self, task: Task, entry: Entry) -> Task:
        """Append to a task's history without moving it."""
        return self.move(task, task.state, entry)

    def _append_and_move(self, path: str, target: str, entry: Entry) -> TaskFile:
        """Do both, flush them to the disk, and return the file as it is then."""
        flags = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(path, flags)
        try:
            content = os.read(descriptor, min(os.fstat(descriptor).st_size, MAX_BYTES) + 1)
            file = taskfile.parse(content, os.path.basename(path))
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
            # After the rename, so that one flush makes both durable: a journalling file system
            # commits the rename with, or before, the data of the inode it moved.
            os.fsync(descriptor)
            return file
        finally:
            os.close(descriptor)

    def discard_leftovers(self) -> None:
        """Delete the beside-files of writers that were killed."""
        with self.locked():
            for state in STATES:
                stale: list[str] = []
                with (
                    contextlib.suppress(FileNotFoundError),
                    os.scandir(self._layout.state(state)) as entries,
                ):
                    stale = [e.path for e in entries if e.name[0] == "." and e.name[-4:] == ".tmp"]
                for path in stale:
                    files.remove(path)

    # --- files -----------------------------------------------------------------------------

    def _names(self, state: str) -> Iterator[str]:
        try:
            with os.scandir(self._layout.state(state)) as entries:
                for entry in entries:
                    if entry.name.endswith(".md") and not entry.name.startswith("."):
                        yield entry.name
        except FileNotFoundError:
            return

    def _summary(self, path: str, state: str) -> Task | None:
        content = _read(path)
        if content is None:
            return None
        return _summarise(taskfile.parse(content, os.path.basename(path)), state, path)

    def _owner_elsewhere(self, task: Task) -> str | None:
        """Return the file in a later state that has a task's id already."""
        for state in STATES[STATES.index(task.state) + 1 :]:
            path = f"{self._layout.queue}/{state}/{task.id}.md"
            if os.path.lexists(path):
                return path
        return None


def _summarise(file: TaskFile, state: str, path: str) -> Task:
    dropped_by_hand = 0.0 if file.get("CREATED") else _mtime(path)
    task = taskfile.summarise(file, state, path, dropped_by_hand)
    # The folder is the truth: an append that a crash kept from moving claims nothing.
    return task if state == "claimed" or not task.claimed_by else task._replace(claimed_by=None)


def _same_event(file: TaskFile, entry: Entry) -> bool:
    """Whether the history ends with this very event: the append that a crash came after."""
    if not file.history or "run" not in entry.fields:
        return False
    last = file.history[-1]
    return last.event == entry.event and last.fields.get("run") == entry.fields["run"]


def _mtime(path: str) -> float:
    try:
        return os.lstat(path).st_mtime
    except FileNotFoundError:
        return 0.0


def _read(path: str) -> bytes | None:
    """Return a task file's bytes; None when it is gone. Raises TaskFileError on what is no file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        link = os.path.islink(path)
        raise TaskFileError("it is a symbolic link" if link else f"{error.strerror}") from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise TaskFileError("it is not a regular file")
        return os.read(descriptor, min(found.st_size, MAX_BYTES) + 1)
    finally:
        os.close(descriptor)
