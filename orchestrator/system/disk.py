"""The disk that a project lies on: whether anything can be written there.

Asked before a tick begins, because a tick that cannot write cannot remember what it met either.
"""

# No `from __future__ import annotations`, for the reason that `model` gives.

import errno
import os
from typing import NamedTuple

#: With less than this left, a disk counts as full: bytes, and files (inodes).
LEAST_BYTES = 1 << 20
LEAST_FILES = 64
#: What the system says when a disk takes no more.
ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
#: The same in the words of a program (strerror(3), in the C locale of our git calls).
SAID = ("No space left on device", "Disk quota exceeded", "Read-only file system")


class Shortage(NamedTuple):
    """Why nothing can be written: a stable word, a sentence, and what to do."""

    word: str
    why: str
    hint: str


def shortage(folder: str) -> Shortage | None:
    """Return why nothing can be written below a folder; None when it can, or nobody can tell."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    if found.f_flag & os.ST_RDONLY:
        hint = "mount it writable again (see `mount`, `dmesg`); work then goes on by itself"
        return Shortage("disk_read_only", f"the disk of {folder} is read-only", hint)
    if not os.access(folder, os.W_OK | os.X_OK):
        hint = "give it back to the user who runs the schedule (chown, chmod)"
        return Shortage("disk_read_only", f"this user may not write in {folder}", hint)
    # Root may use the blocks that file systems keep back. File systems that count no blocks, or no
    # files, say that they have none in all.
    mine = os.geteuid() == 0
    blocks = found.f_bfree if mine else found.f_bavail
    files = found.f_ffree if mine else found.f_favail
    if found.f_blocks and blocks * found.f_frsize < LEAST_BYTES:
        hint = "free some space there (see: df, orchestrator clean); work then goes on by itself"
        return Shortage("disk_full", f"no space is left on the disk of {folder}", hint)
    if found.f_files and files < LEAST_FILES:
        hint = "remove files there (see: df -i, orchestrator clean); work then goes on by itself"
        return Shortage("disk_full", f"the disk of {folder} can hold no more files", hint)
    return None
