"""Files: written whole or not at all, appended line by line.

The waiting supervisor and every command import this module, so it imports as little as possible.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import stat
from collections.abc import Iterable, Iterator

from orchestrator.model.annotations import IO, Any
from orchestrator.system import json_codec, locks

#: The most bytes that are read of a state file, far more than any state file has.
MOST_READ = 64 << 20
#: Bytes that one call reads, more than most state files have; and of a file that has more.
_READ_AT_ONCE, _READ_NEXT = 1 << 14, 1 << 20
#: Seconds that an appended line waits for the lock of its file, which is held for microseconds.
APPEND_WAIT = 0.2


def write_atomic(path: str, data: bytes, mode: int = 0o600, *, flush: bool = True) -> None:
    """Write `data` to `path` so that a reader, or a crash, sees the old file or the new file.

    After a power cut the old file may be back, unless its folder was flushed afterwards. Without
    `flush` the content after a power cut is undefined. Raises OSError.
    """
    with _named(path), replacing(path, mode, flush=flush) as file:
        file.write(data)


@contextlib.contextmanager
def _named(path: str) -> Iterator[None]:
    """Let an error name the file: write(2) knows no path, and the temporary file is gone then."""
    try:
        yield
    except OSError as error:
        if error.filename is None or str(error.filename).endswith(f".{os.getpid()}.tmp"):
            error.filename = os.path.dirname(path) if error.errno == errno.EACCES else path
        raise


@contextlib.contextmanager
def replacing(path: str, mode: int = 0o600, *, flush: bool = True) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path` to write; at the end, flush it to disk and rename it."""
    beside = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.{os.getpid()}.tmp")
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
            yield file
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


def write_json(path: str, value: Any) -> None:
    """Write `value` as JSON, atomically. A lone surrogate becomes a question mark."""
    write_atomic(path, _as_lines(value).encode("utf-8", "replace"))


def _as_lines(value: Any) -> str:
    """Return `value` as JSON; each key of an object is on a line of its own, for people."""
    if not isinstance(value, dict):
        return json_codec.dumps(value) + "\n"
    # The encoder indents in Python, which takes ten times as long as its C code.
    lines = (f" {json_codec.dumps(str(key))}: {json_codec.dumps(x)}" for key, x in value.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


def open_regular(path: str, buffer: int = -1) -> IO[bytes]:
    """Open a regular file to read, without waiting; `buffer` is the size of one read (bytes).

    Raises OSError, also for a link or a pipe.
    """
    return open(_opened_regular(path), "rb", buffer)


def _opened_regular(path: str) -> int:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return descriptor


def read_regular(path: str, limit: int = MOST_READ) -> bytes:
    """Return a regular file's bytes, `limit` at most. Raises as `open_regular` does."""
    descriptor = _opened_regular(path)
    try:
        # No file object, which takes twice as long: a run reads hundreds of small files.
        found = os.read(descriptor, min(limit, _READ_AT_ONCE))
        # A read may be short: files of /proc give a page at once.
        more = os.read(descriptor, min(limit - len(found), _READ_AT_ONCE)) if found else b""
        parts, left = [found], limit - len(found)
        while more:
            parts.append(more)
            left -= len(more)
            more = os.read(descriptor, min(left, _READ_NEXT))
        return b"".join(parts)
    finally:
        os.close(descriptor)


def content(path: str, limit: int = MOST_READ) -> bytes | None:
    """Return a regular file's bytes, `limit` at most; None if it cannot be read."""
    with contextlib.suppress(OSError):
        return read_regular(path, limit)
    return None


def read_inside(path: str, top: str, limit: int = MOST_READ) -> bytes:
    """Return the bytes, `limit` at most, of a file below the folder `top` of a project.

    Git transports symbolic links. A link to a regular file is followed if it stays below `top` and
    leads to nothing of git's own. Raises as `open_regular` does, and for other links.
    """
    if _is_plainly_below(path, top):
        return read_regular(path, limit)
    real, inside = os.path.realpath(path), os.path.realpath(top) + os.sep
    if not real.startswith(inside) or real.startswith(f"{inside}.git{os.sep}"):
        raise OSError(errno.EPERM, "a symbolic link leads out of the project", path)
    return read_regular(real, limit)


def _is_plainly_below(path: str, top: str) -> bool:
    """Return whether a path leads from `top` to a file without a link, by three names at most."""
    names = path.removeprefix(top + os.sep).split(os.sep)
    if len(names) > 3 or not {"", ".", "..", ".git"}.isdisjoint(names):
        return False
    return not any(os.path.islink(os.sep.join([top, *names[:n]])) for n in range(1, len(names) + 1))


def read_json(path: str) -> dict[str, Any] | None:
    """Return the JSON object at `path`; None if the file is missing or not a JSON object."""
    try:
        return json_object(read_regular(path))
    except (OSError, ValueError):  # ValueError: a path with a null character
        return None


def json_object(text: str | bytes) -> dict[str, Any] | None:
    """Return the JSON object in a text; None if the text is anything else."""
    try:
        value = json_codec.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def folders(path: str) -> list[str]:
    """Return the names of the folders in a folder, sorted; links do not count."""
    try:
        with os.scandir(path) as entries:
            return sorted(e.name for e in entries if e.is_dir(follow_symlinks=False))
    except (FileNotFoundError, NotADirectoryError):
        return []


def is_plain_name(name: object) -> bool:
    """Whether this is the name of an entry of a folder, not a path to somewhere else."""
    if not isinstance(name, str) or not 0 < len(name) <= 128 or name[0] in "-.":
        return False
    return name.isascii() and name.isprintable() and "/" not in name


def append_line(path: str, line: str) -> None:
    """Append one whole line, also if other processes append or rotate. Raises OSError.

    The lock keeps the file from being rotated meanwhile. A process that keeps the lock for long
    holds up nobody: the system appends a line as a whole, and a rotated file is kept.
    """
    lock = locks.Lock(path, APPEND_WAIT)
    try:
        with _named(path), lock:
            _append(lock.descriptor, path, line)
    except locks.LockHeld:
        with _named(path), open(locks.opened(path), "rb") as file:
            _append(file.fileno(), path, line)


def _append(descriptor: int, path: str, line: str) -> None:
    fcntl.fcntl(descriptor, fcntl.F_SETFL, os.O_APPEND)
    size = os.fstat(descriptor).st_size
    # An incomplete line (a crash, a full disk) must not swallow this line.
    torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
    data = (("\n" if torn else "") + line + "\n").encode()
    if os.write(descriptor, data) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)


def put_aside(path: str, older: str, limit: float) -> bool:
    """Rotate a file of lines with more than `limit` bytes: rename it to `older`, replacing that.

    Takes the lock of `append_line`, so that no process writes to it afterwards. Returns False if
    another process appends: a writer that is stopped must not stop this process. Raises OSError.
    """
    with contextlib.suppress(FileNotFoundError, locks.LockHeld):
        # Looked at before as well: the lock creates a missing file.
        if os.lstat(path).st_size > limit:
            with locks.Lock(path):
                if os.lstat(path).st_size > limit:
                    os.rename(path, older)
                    return True
    return False


def remove(path: str) -> None:
    """Delete a file that may already be gone."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def free_name(path: str) -> str:
    """Return the first of `path-1`, `path-2`, ... that does not exist."""
    names = (f"{path}-{number}" for number in itertools.count(1))
    return next(name for name in names if not os.path.lexists(name))


def remove_tree(path: str) -> None:
    """Delete a file, a link or a whole folder that may already be gone. Raises OSError."""
    if os.path.isdir(path) and not os.path.islink(path):
        if _remove_flat(path):
            return
        from shutil import rmtree

        rmtree(path)
    else:
        remove(path)


def _remove_flat(folder: str) -> bool:
    """Delete a folder in which no other folder is; return False if there is one, or an error."""
    try:
        with os.scandir(folder) as entries:
            paths = [each.path for each in entries if not each.is_dir(follow_symlinks=False)]
        for path in paths:
            os.unlink(path)
        os.rmdir(folder)
    except OSError:
        return False
    return True


def holds(path: str, data: bytes) -> bool:
    """Return whether the file at `path` has exactly this content; False without a file."""
    try:
        return read_regular(os.path.realpath(path), len(data) + 1) == data
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


def make_folders(paths: Iterable[str]) -> list[str]:
    """Create folders as `make_folder` does; return those that were missing. Raises OSError."""
    missing = [path for path in paths if not os.path.isdir(path)]
    for path in missing:
        make_folder(path)
    return missing
