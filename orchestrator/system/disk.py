"""The disk of a project: whether it can be written to.

A tick asks this first: a tick that cannot write cannot record what it does.
"""

# No `from __future__ import annotations`, for the reason that `model.config` gives.

import errno
import os
import stat

from orchestrator.model.fields import NamedTuple
from orchestrator.system import files

#: With less than this left, a disk counts as full: bytes, and files (inodes).
LEAST_BYTES = 1 << 20
LEAST_FILES = 64
#: Error numbers of the system for a disk that cannot be written to.
ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
#: The same as words in a program's output: strerror(3) in the C locale, and the words of Node.js.
SAID = (
    r"(?i:no space left on device|disk quota exceeded|read-only file system)"
    r"|\b(ENOSPC|EDQUOT|EROFS)\b"
)
#: What to do about a disk that is read-only.
WRITABLE_AGAIN = "mount its disk writable again (see `mount`, `dmesg`)"
#: Error numbers with which a read fails although the file may be there.
_WITHHELD = (
    errno.EIO,
    errno.ESTALE,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.EACCES,  # a command under `sudo` wrote the file
)


def hint(complaint: str) -> str | None:
    """Return the next step if a program's output says that a disk took nothing; None otherwise."""
    import re

    return "make room on the disk (see: df, df -i, mount)" if re.search(SAID, complaint) else None


class Shortage(NamedTuple):
    """Why nothing can be written: a stable word, a sentence, and what to do."""

    word: str
    why: str
    hint: str


def shortage(folder: str) -> Shortage | None:
    """Return why nothing can be written below a folder; None if it can, or if it is not known."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    if found.f_flag & os.ST_RDONLY:
        hint = f"{WRITABLE_AGAIN}; work then continues"
        return Shortage("disk_read_only", f"the disk of {folder} is read-only", hint)
    if closed := unwritable(folder):
        return Shortage("disk_read_only", *closed)
    # Root may use reserved blocks. A file system that does not count blocks or files has a total
    # of 0.
    mine = os.geteuid() == 0
    blocks = found.f_bfree if mine else found.f_bavail
    inodes = found.f_ffree if mine else found.f_favail
    if found.f_blocks and blocks * found.f_frsize < LEAST_BYTES:
        hint = "free some space (see: df, orchestrator clean); work then continues"
        return Shortage("disk_full", f"no space is left on the disk of {folder}", hint)
    if found.f_files and inodes < LEAST_FILES:
        hint = "remove files (see: df -i, orchestrator clean); work then continues"
        return Shortage("disk_full", f"the disk of {folder} can hold no more files", hint)
    return None


def is_withheld(error: OSError) -> bool:
    """Return whether a read failed by the machine's fault: the file may be there all the same."""
    return error.errno in _WITHHELD


def withheld(path: str) -> OSError | None:
    """Return the error for which a file cannot be read that may be there; None for other errors."""
    try:
        files.read_regular(path)
    except OSError as error:
        error.filename = error.filename or path
        return error if is_withheld(error) else None
    return None


def failed(error: OSError) -> Shortage:
    """Return the lack that an error of the disk itself is (EIO)."""
    why = f"{error.filename}: {error.strerror}"
    return Shortage("disk_failed", why, "check that disk (dmesg); work then continues")


def unwritable(folder: str) -> tuple[str, str] | None:
    """Return why nothing can be written into a folder, and what to do; None if it is writable."""
    if not os.path.isdir(folder):
        if os.path.lexists(folder):
            return f"{folder} is not a folder", move_aside(folder)
        return f"{folder} is missing", "run: orchestrator init"
    if not os.access(folder, os.W_OK | os.X_OK):
        if os.statvfs(folder).f_flag & os.ST_RDONLY:
            return f"{folder} cannot be written: its disk is read-only", WRITABLE_AGAIN
        return f"{folder} cannot be written", _open_it(folder)
    return None


def explained(error: OSError) -> tuple[str, str]:
    """Return what an error of a file says, and what a person can do about it.

    Both name the path that is at fault, which can be a folder above the file that was used. An
    error that names no file is one of the system.
    """
    path, said = str(error.filename), error.strerror or str(error)
    hint = "check its owner, its permissions and the free space of its disk"
    match error.errno:
        case errno.EACCES | errno.EPERM:
            named = (path, str(error.filename2 or path))
            if closed := next(filter(None, map(_closed, named)), None):
                path, hint = closed, _open_it(closed)
        case errno.ENOTDIR | errno.EEXIST:
            while not os.path.lexists(path):
                path = os.path.dirname(path)
            said, hint = "a folder must be there", move_aside(path)
        case errno.EISDIR | errno.EINVAL | errno.ELOOP:
            said, hint = "a regular file must be there", move_aside(path)
        case errno.EFBIG:
            hint = "raise the limit of the size of a file (ulimit -f), or use another disk"
        case errno.ENOSPC | errno.EDQUOT:
            hint = "free space on its disk (see: df, df -i), then repeat the command"
        case errno.EROFS:
            hint = f"{WRITABLE_AGAIN}, then repeat the command"
    return f"{path}: {said}" if error.filename is not None else said, hint


def _closed(path: str) -> str | None:
    """Return the path, or the folder above it, that this user may not use; None if all are open."""
    names = os.path.abspath(path).split(os.sep)
    for folder in (os.sep.join(names[:n]) or os.sep for n in range(1, len(names))):
        if not os.access(folder, os.X_OK):
            return folder if os.path.lexists(folder) else None
    wanted = os.R_OK | os.W_OK | (os.X_OK if os.path.isdir(path) else 0)
    if os.path.exists(path) and not os.access(path, wanted):
        return path
    above = os.path.dirname(os.path.abspath(path))
    return None if os.access(above, os.W_OK) else above


def opening(path: str) -> str:
    """Return how this user can get to use a file that is there; a folder above it may be closed."""
    return _open_it(_closed(path) or path)


def _open_it(path: str) -> str:
    import shlex

    found, quoted = os.lstat(path), shlex.quote(path)
    if found.st_uid != os.geteuid():
        return (
            f"become its owner: sudo chown -R $(id -un) {quoted}; or, in a project of another "
            "user, use a clone of your own"
        )
    bits, mode = ("rwx", 0o700) if stat.S_ISDIR(found.st_mode) else ("rw", 0o600)
    if found.st_mode & mode != mode:
        return f"open it to its owner, you: chmod u+{bits} {quoted}"
    return f"it is yours, so another rule protects it (see: lsattr -d {quoted}; getfacl {quoted})"


def move_aside(path: str) -> str:
    """Return how to move away what is in the place of a file or a folder."""
    import shlex

    words = map(shlex.quote, (path, files.free_name(path)))
    return f"move it aside: mv {' '.join(words)}"
