"""The file of a task on this disk: how it is read, and how an event is added and the file moved.

A process reads the same files again and again, and the processes that it forks do. So it remembers
the content of an unchanged file, and what each content says.
"""

import errno
import os
import stat
from functools import lru_cache

from orchestrator.model.errors import NotFound, OrchestratorError, TaskFileError
from orchestrator.model.work import Entry, Task
from orchestrator.system import files
from orchestrator.system.remembered import Remembered
from orchestrator.tasks import task_file
from orchestrator.tasks.store import Malformed
from orchestrator.tasks.task_file import MAX_BYTES, TaskFile

#: Contents of which one process remembers what they say, and the most bytes of such a content.
_KEPT, _KEPT_BYTES = 2_000, 1 << 14


def summary(path: str, state: str) -> Task | Malformed | None:
    """Return a file's task, or why it cannot be a task; None if the file is gone."""
    try:
        found = content(path)
        return None if found is None else _task(found[0], path, state, found[1])
    except TaskFileError as error:
        if error.hint is None:
            return Malformed(path, error.message)
        return Malformed(path, error.message, f"{error.hint}; or move that file")


def parsed(data: bytes, name: str) -> TaskFile:
    """Return a task's file from its bytes and its name. Raises as `task_file.parse`."""
    return (_parsed if len(data) <= _KEPT_BYTES else task_file.parse)(data, name)


def _task(data: bytes, path: str, state: str, mtime: float) -> Task:
    known = _summarised if len(data) <= _KEPT_BYTES else _summarised.__wrapped__
    return known(data, path, state, mtime)


@lru_cache(_KEPT)
def _summarised(data: bytes, path: str, state: str, mtime: float) -> Task:
    return task_file.summarise(parsed(data, os.path.basename(path)), state, path, mtime)


_parsed = lru_cache(_KEPT)(task_file.parse)


def content(path: str) -> tuple[bytes, float] | None:
    """Return a file's bytes and its time of change (epoch seconds); None if the file is gone.

    Raises TaskFileError if it is not a regular file, or cannot be read.
    """
    try:
        return _known(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        link, hint = os.path.islink(path), None
        if error.errno == errno.EACCES:  # a command under `sudo` wrote it
            from orchestrator.system import disk

            hint = disk.opening(path)
        said = "it is a symbolic link" if link else f"{error.strerror}"
        raise TaskFileError(said, hint) from None


def _read(path: str) -> tuple[bytes, float]:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise TaskFileError("it is not a regular file")
        return os.read(descriptor, min(found.st_size, MAX_BYTES) + 1), found.st_mtime
    finally:
        os.close(descriptor)


_known = Remembered(_read)


def _unshare(path: str) -> None:
    """Replace a file with several hard links by a copy, so that the other names stay unchanged.

    Also a file that this user may not write (a command under `sudo` wrote it): only the folder says
    who may move its tasks.
    """
    found = os.lstat(path)
    is_shared = found.st_nlink > 1 or not os.access(path, os.W_OK)
    if stat.S_ISREG(found.st_mode) and is_shared:
        files.write_atomic(path, files.read_regular(path, MAX_BYTES + 1))
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))  # it can replace CREATED


def append_and_move(path: str, target: str, entry: Entry) -> tuple[TaskFile, float]:
    """Append, move, and flush both to the disk; return the new file, and its earlier mtime."""
    try:
        _unshare(path)
        descriptor = os.open(
            path, os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        )
    except FileNotFoundError:
        raise NotFound("task", os.path.basename(target).removesuffix(".md")) from None
    try:
        if target != path and os.path.lexists(target):
            message = f"cannot move task {os.path.basename(target)[:-3]}: {target} exists"
            hint = "rename or remove that file"
            raise OrchestratorError(message, hint, code="duplicate_task")
        found = os.fstat(descriptor)
        content = os.read(descriptor, min(found.st_size, MAX_BYTES) + 1)
        file, line = task_file.with_entry(content, os.path.basename(path), entry)
        if line and os.write(descriptor, line) != len(line):
            # A reader ignores a part of a line; the task must not move without the whole line.
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        if target != path:
            try:
                # Git removes empty and ignored folders (`git clean -fdx`).
                files.make_folder(os.path.dirname(target))
                os.rename(path, target)
            except OSError:
                if os.fstat(descriptor).st_size == len(content) + len(line):
                    os.ftruncate(descriptor, len(content))  # the event did not happen
                raise
        if file.get("CREATED") is None:
            # The file's time replaces CREATED, and must not change when a line is appended.
            os.utime(descriptor, ns=(found.st_atime_ns, found.st_mtime_ns))
        # After the rename, so that one flush makes both durable: a journalling file system
        # commits the rename with, or before, the data of the inode that it moved.
        os.fsync(descriptor)
        return file, found.st_mtime
    finally:
        os.close(descriptor)
