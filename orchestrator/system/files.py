"""Files: written whole or not at all, appended by the line, locked by the kernel.

Imported by the waiting supervisor and by every command, so it imports next to nothing itself.
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

#: Bytes of a state file that are read; none of ours comes near it.
MOST_READ = 64 << 20


def write_atomic(path: str, data: bytes, mode: int = 0o600, *, flush: bool = True) -> None:
    """Put `data` at `path` so that a reader, or a crash, sees the old file or the new one.

    Written beside, flushed to disk, then renamed; after a power cut it may be the old file still,
    unless its folder was flushed after. Without `flush` it may be anything then. Raises OSError.
    """
    beside = beside_of(path)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        descriptor = os.open(beside, flags, mode)
    except FileExistsError:
        # Left by a process that was killed, or put there (a pipe, a second name of another file):
        # nothing that is there already is written into.
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
    """Have a file's bytes outlast a power cut, or a folder's entries: what was renamed into it.

    Nothing happens where there is none. Raises OSError.
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
    """Return where this process writes a file until it is whole (`left_beside` knows the form)."""
    return os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.{os.getpid()}.tmp")


def write_json(path: str, value: Any) -> None:
    """Write `value` as JSON, atomically."""
    write_atomic(path, (json.dumps(value, ensure_ascii=False, indent=1) + "\n").encode())


def open_regular(path: str) -> IO[bytes]:
    """Open a regular file to read. Raises OSError, also for a link, a pipe, a device or a folder.

    Never waits for the other end of a pipe.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file", path)
    return open(descriptor, "rb")


def read_regular(path: str, limit: int = MOST_READ) -> bytes:
    """Return a regular file's bytes, `limit` at most. Raises as `open_regular` does."""
    with open_regular(path) as file:
        return file.read(limit)


def read_json(path: str) -> dict[str, Any] | None:
    """Return the JSON object at `path`; None when the file is missing or is no JSON object."""
    try:
        value = json.loads(read_regular(path))
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def fits(value: object, kinds: tuple[type, ...]) -> bool:
    """Whether a value read from a file is of one of the kinds.

    True and False are no numbers; nor are NaN, infinity and what is too large for a float.
    """
    if isinstance(value, int | float) and not abs(value) < 1e300:
        return False
    return isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))


def is_plain_name(name: object) -> bool:
    """Whether this names an entry of a folder, and nothing above it or elsewhere."""
    if not isinstance(name, str) or not 0 < len(name) <= 128 or name[0] in "-.":
        return False
    return name.isascii() and name.isprintable() and "/" not in name


def append_line(path: str, line: str) -> None:
    """Append one line, whole, whoever else appends or calls `put_aside` at the same time.

    Raises OSError.
    """
    descriptor = _open_locked(path)
    try:
        size = os.fstat(descriptor).st_size
        # A line that a crash or a full disk cut short must not swallow this one.
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        data = (("\n" if torn else "") + line + "\n").encode()
        if os.write(descriptor, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
    finally:
        os.close(descriptor)


def _open_locked(path: str) -> int:
    """Open a file of lines to append to it, and lock it; return the descriptor.

    Another writer's line may cross a page, and the file's size shows its first half then.
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
        # Put aside between the two calls: the line belongs into the file that is there now.
        os.close(descriptor)


def _is_at(descriptor: int, path: str) -> bool:
    """Whether a path still means the very file that was opened there."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def put_aside(path: str, older: str, limit: float) -> bool:
    """Rename a file of lines that has over `limit` bytes to `older`, replacing that one.

    Under the lock of `append_line`, so nobody writes to it afterwards. Returns False, for the next
    time, while somebody appends: a writer that is stopped must not stop us. Raises OSError.
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
    """Return the files that writers were killed at: unchanged since `before` (epoch seconds)."""
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
    """Return whether the file at `path` holds exactly this data; False when there is no file."""
    try:
        with open(path, "rb") as file:
            return file.read() == data
    except FileNotFoundError:
        return False


def make_folder(path: str) -> None:
    """Make a folder, with its parents, that only its owner can enter. Raises OSError."""
    try:
        os.mkdir(path, 0o700)
    except FileNotFoundError:
        make_folder(os.path.dirname(path))
        make_folder(path)
    except FileExistsError:
        if not os.path.isdir(path):
            raise
