"""Files: written whole or not at all, appended line by line.

The waiting supervisor and every command import this module, so it imports as little as possible.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import stat
from typing import IO, Any

#: The most bytes that are read of a state file, far more than any state file has.
MOST_READ = 64 << 20


def write_atomic(path: str, data: bytes, mode: int = 0o600, *, flush: bool = True) -> None:
    """Write `data` to `path` so that a reader, or a crash, sees the old file or the new file.

    The data goes to a temporary file beside it, is flushed to disk, then renamed. After a power cut
    the old file may be back, unless its folder was flushed afterwards. Without `flush` the content
    after a power cut is undefined. Raises OSError.
    """
    beside = beside_of(path)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        descriptor = os.open(beside, flags, mode)
    except FileExistsError:
        # A killed process left it, or somebody put it there (a pipe, a hard link): never write into
        # an existing file.
        remove(beside)
        descriptor = os.open(beside, flags, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            if flush:
                os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        remove(beside)
        raise


def flush(path: str) -> None:
    """Flush a file's bytes, or a folder's entries (renames), to disk, to survive a power cut.

    Does nothing if the path does not exist. Raises OSError.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def beside_of(path: str) -> str:
    """Return the path of this process's temporary file (`left_beside` knows the form)."""
    return os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.{os.getpid()}.tmp")


def write_json(path: str, value: Any) -> None:
    """Write `value` as JSON, atomically. A lone surrogate becomes a question mark."""
    text = json.dumps(value, ensure_ascii=False, indent=1) + "\n"
    write_atomic(path, text.encode("utf-8", "replace"))


def open_regular(path: str) -> IO[bytes]:
    """Open a regular file to read. Raises OSError, also for a link, a pipe, a device or a folder.

    Never waits for the other end of a pipe.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return open(descriptor, "rb")


def read_regular(path: str, limit: int = MOST_READ) -> bytes:
    """Return a regular file's bytes, `limit` at most. Raises as `open_regular` does."""
    with open_regular(path) as file:
        return file.read(limit)


def read_json(path: str) -> dict[str, Any] | None:
    """Return the JSON object at `path`; None if the file is missing or not a JSON object."""
    try:
        return json_object(read_regular(path))
    except (OSError, ValueError):  # ValueError: a path with a null character
        return None


def json_object(text: str | bytes) -> dict[str, Any] | None:
    """Return the JSON object in a text; None if the text is anything else."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def is_plain_name(name: object) -> bool:
    """Whether this is the name of an entry of a folder, not a path to somewhere else."""
    if not isinstance(name, str) or not 0 < len(name) <= 128 or name[0] in "-.":
        return False
    return name.isascii() and name.isprintable() and "/" not in name


def append_line(path: str, line: str) -> None:
    """Append one whole line, also if other processes append or rotate at the same time.

    Raises OSError.
    """
    descriptor = _open_locked(path)
    try:
        size = os.fstat(descriptor).st_size
        # An incomplete line (a crash, a full disk) must not swallow this line.
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        data = (("\n" if torn else "") + line + "\n").encode()
        if os.write(descriptor, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
    finally:
        os.close(descriptor)


def _open_locked(path: str) -> int:
    """Open a file of lines to append to it, and lock it; return the descriptor.

    Without the lock, the file's size may show only the first half of another writer's line.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_at(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        # Rotated between the two calls: the line belongs into the new file.
        os.close(descriptor)


def _is_at(descriptor: int, path: str) -> bool:
    """Whether a path still names the file that was opened."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def put_aside(path: str, older: str, limit: float) -> bool:
    """Rotate a file of lines with more than `limit` bytes: rename it to `older`, replacing that.

    Takes the lock of `append_line`, so that no process writes to it afterwards. Returns False if
    another process appends: a writer that is stopped must not stop this process. Raises OSError.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        if os.fstat(descriptor).st_size <= limit:
            return False
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _is_at(descriptor, path):
            return False
        os.rename(path, older)
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)


#: The form of `beside_of`'s names.
_BESIDE = re.compile(r"\..+\.[0-9]+\.tmp")


def unwritable(folder: str) -> tuple[str, str] | None:
    """Return why nothing can be written into a folder, and what to do; None if it is writable."""
    if not os.path.isdir(folder):
        return f"{folder} is missing", "run: orchestrator init"
    if not os.access(folder, os.W_OK | os.X_OK):
        import shlex

        own = f"become its owner: chown -R $(id -un) {shlex.quote(folder)}"
        return f"{folder} cannot be written", own
    return None


def left_beside(folder: str, before: float) -> list[str]:
    """Return temporary files of killed writers: unchanged since `before` (epoch seconds)."""
    found = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if _BESIDE.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                    with contextlib.suppress(FileNotFoundError):
                        if entry.stat(follow_symlinks=False).st_mtime < before:
                            found.append(entry.path)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return found


def remove(path: str) -> None:
    """Delete a file that may already be gone."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def remove_tree(path: str) -> None:
    """Delete a file, a link or a whole folder that may already be gone. Raises OSError."""
    if os.path.isdir(path) and not os.path.islink(path):
        from shutil import rmtree

        rmtree(path)
    else:
        remove(path)


def holds(path: str, data: bytes) -> bool:
    """Return whether the file at `path` has exactly this content; False without a file."""
    try:
        with open(path, "rb") as file:
            return file.read() == data
    except FileNotFoundError:
        return False


def make_folder(path: str) -> None:
    """Create a folder and its parents; only the owner can enter them. Raises OSError."""
    try:
        os.mkdir(path, 0o700)
    except FileNotFoundError:
        make_folder(os.path.dirname(path))
        make_folder(path)
    except FileExistsError:
        if not os.path.isdir(path):
            raise
