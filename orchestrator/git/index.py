"""A worktree's index: what it says without a git process, and what it hides from `git status`.

See gitformat-index(5). The flags `--assume-unchanged` and `--skip-worktree` (git-update-index(1))
keep git from looking at a file. What an agent changes in such a file would be lost at the next
checkout, or would stay there for the next task.
"""

import os

from orchestrator.git.call import ask, run
from orchestrator.git.worktree_commands import git_folder
from orchestrator.model.errors import GitError, GitKilled
from orchestrator.system import files


def read(worktree: str) -> bytes | None:
    """Return a worktree's index file; None if it is missing, or is not a file."""
    return files.content(os.path.join(git_folder(worktree), "index"))


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


def reveal(worktree: str) -> None:
    """Clear both flags of all files, so that git sees their changes. Raises GitError.

    Starts no git process if no file has a flag.
    """
    found = read(worktree)
    if found is None or not may_hide(found):
        return  # without an index, every file is new
    rows = [row for row in ask(worktree, "ls-files", "-v", "-z").split("\0") if row]
    assumed = [name for tag, name in _split(rows) if tag.islower()]
    skipped = [name for tag, name in _split(rows) if tag in "Ss"]
    try:
        for how, names in (("--no-assume-unchanged", assumed), ("--no-skip-worktree", skipped)):
            if names:
                ask(worktree, "update-index", how, "-z", "--stdin", stdin=_joined(names))
    except GitKilled:
        raise
    except GitError:
        # A name that is not UTF-8: a new index has no flags. The files stay as they are.
        ask(worktree, "read-tree", "HEAD")
    # A file that was left out, as in a sparse checkout, is not deleted.
    absent = [name for name in skipped if not os.path.lexists(os.path.join(worktree, name))]
    if absent:
        run(worktree, "checkout-index", "--quiet", "-z", "--stdin", stdin=_joined(absent))


def _split(rows: list[str]) -> list[tuple[str, str]]:
    return [(row[0], row[2:]) for row in rows]


def _joined(names: list[str]) -> str:
    return "".join(f"{name}\0" for name in names)
