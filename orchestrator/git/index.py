"""What a worktree's index file says without a git process (gitformat-index(5))."""

import os

from orchestrator.git.worktree_commands import git_folder
from orchestrator.system import files


def read(worktree: str) -> bytes | None:
    """Return a worktree's index file; None if it is missing, or is not a file."""
    folder = git_folder(worktree)
    try:
        return files.read_regular(os.path.join(folder, "index"))
    except OSError:
        return None


def may_track(worktree: str, name: str) -> bool:
    """Return whether an index may have a file, or a folder, of this name; False is certain.

    Version 4 leaves out what a name has in common with the name before it.
    """
    found = read(worktree)
    return found is not None and (found[4:8] == b"\0\0\0\4" or name.encode() in found)


def may_hide(index: bytes) -> bool:
    """Return whether an index has a file with a flag, or is one that only git can read.

    Only version 2 has no `skip-worktree`. There, the first bit of an entry's flags, which come
    after 60 bytes, is `assume-valid`. With SHA-256 the entries are longer.
    """
    if index[:8] != b"DIRC\0\0\0\2":
        return True
    at = 12
    try:
        for _ in range(int.from_bytes(index[8:12])):
            if index[at + 60] & 0x80:
                return True
            length = (index[at + 60] & 0xF) << 8 | index[at + 61]
            if length == 0xFFF:  # or longer
                length = index.index(0, at + 62) - at - 62
            at += (length + 70) & ~7
            if index[at - 1]:
                return True
    except (IndexError, ValueError):
        return True
    extension = index[at : at + 4]
    return extension == b"link" or not (at == len(index) - 20 or extension.isalpha())
