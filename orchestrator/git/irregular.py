"""Pipes, sockets, devices, folders in the place of files, closed folders, where git reads.

An agent, its build, or a check can leave them. Git waits without end for the writer of a pipe that
is called `.gitignore` or `HEAD`, cannot write a file where a folder is, and sees no change in a
folder that it cannot read. Pipes, sockets and devices have no content, so they are removed; a
folder in the place of a file is moved.
"""

import contextlib
import os
import re
import stat
from collections.abc import Iterable, Iterator

from orchestrator.model.fields import NamedTuple
from orchestrator.system import files

#: What git and the product read in a worktree, in any folder.
_READ = frozenset(
    [
        ".agent-instructions.md",
        ".git",
        ".gitattributes",
        ".gitignore",
        ".gitmodules",
        ".lfsconfig",
        ".mailmap",
        ".worktreeinclude",
    ]
)
#: Folders of a repository's common git folder that git reads for each command, with all below them
#: or without; `refs` holds few files, because the product packs refs.
_SHARED = ("", "info", "objects/info", "objects/pack")
_SHARED_TREES = ("refs", "logs/refs")
#: Files of a worktree's git folder (gitrepository-layout(5)), and the product's own files there.
_FILES = (
    r"(?!NOTES_MERGE_WORKTREE)[A-Z_0-9]+|index|gitdir|commondir|locked|config\.worktree"
    r"|sharedindex\..*|orchestrator-.*|.*\.lock"
)
#: Folders of a worktree's git folder.
_FOLDERS = ("hooks", "info", "logs", "modules", "refs")
#: The start of the name under which something of the wrong kind is kept in a git folder.
_MISPLACED = "misplaced"


class Cleared(NamedTuple):
    """The pipes, sockets and devices in a worktree."""

    #: Git would have waited for these, or failed on them.
    removed: list[str]
    #: Git passes over these, unless they are in the place of a tracked file. They may belong to a
    #: program that works (a database that `hooks.after_create` started).
    left: list[str]


def clear(top: str) -> Cleared:
    """Remove pipes, sockets and devices under names that git reads, below a folder of files.

    Links stay: git does not follow them where it reads its own files in a worktree. Folders that
    their owner cannot read or write are opened for the owner.
    """
    found = [] if os.path.islink(top) else [*_odd_below(top, is_ours=True)]
    read = [path for path in found if os.path.basename(path) in _READ]
    return Cleared(_removed(read), [path for path in found if path not in read])


def clear_git_folder(folder: str) -> list[str]:
    """Make a worktree's own git folder consist of files and folders, as git makes it.

    Links are removed as well: an agent could have its index, or the log of HEAD, lead to any file
    of the person's. Returns what was removed or moved.
    """
    cleared = _removed(_odd_below(folder, links=True, is_ours=True))
    misplaced = _misplaced_in(_entries(folder))
    for name in ("logs", "info"):
        inside = _entries(os.path.join(folder, name))
        misplaced += [x.path for x in inside if x.is_dir() and x.name != "refs"]
    return [*cleared, *_put_aside(misplaced, folder)]


def clear_shared(common: str, *, folders: bool = True) -> list[str]:
    """Clear the git folder that all worktrees share of pipes, sockets and devices.

    Git looks into the folders of all worktrees, also of those that other agents work in, but not
    into the folders there, which the end of their runs clears. Without `folders`, they are left
    out: only commands that make a worktree, check out or list look there. Nothing else of the
    common folder is touched: it is the person's. Returns what was removed or moved.
    """
    trees = os.path.join(common, "worktrees")
    found = [path for name in _SHARED for path in _odd_in(_entries(os.path.join(common, name)))]
    for name in _SHARED_TREES:
        found += _odd_below(os.path.join(common, name))
    moved = []
    for name in files.folders(trees) if folders else ():
        inside = _entries(os.path.join(trees, name))  # one look per agent, in each run
        odd = [*_odd_in(inside)]
        misplaced = [path for path in _misplaced_in(inside) if path not in odd]
        found += odd
        moved += _put_aside(misplaced, os.path.join(trees, name))
    cleared = [*_removed(found), *moved]
    for path in cleared:
        # What git writes there is always the same; without it, git does not know the worktree.
        if os.path.basename(path) == "commondir":
            files.write_atomic(path, b"../..\n", 0o644)
    return cleared


def _removed(paths: Iterator[str] | list[str]) -> list[str]:
    found = [*paths]
    for path in found:
        files.remove(path)
    return found


def _odd_below(top: str, *, links: bool = False, is_ours: bool = False) -> Iterator[str]:
    """Yield the paths below a folder that are neither file nor folder; `links` also yields links.

    Opens the folders for their owner if all of them are the product's. Asks the system once or
    twice per folder. Loose objects are left out: they have no names of an agent's.
    """
    waiting = [top]
    while waiting:
        folder = waiting.pop()
        if is_ours:
            _open(folder)
        # Tens of thousands of plain files can be in one folder: one look at each.
        for entry in (x for x in _entries(folder) if not x.is_file(follow_symlinks=False)):
            if entry.is_dir(follow_symlinks=False):
                is_of_objects = links and os.path.basename(folder) == "objects"
                if not is_of_objects or entry.name in ("info", "pack"):
                    waiting.append(entry.path)
            elif links or not entry.is_symlink():
                yield entry.path


def _open(folder: str) -> None:
    """Let the owner read, write and enter a folder; folders of other users stay as they are."""
    with contextlib.suppress(OSError):
        mode = stat.S_IMODE(os.stat(folder, follow_symlinks=False).st_mode)
        if mode & 0o700 != 0o700:
            os.chmod(folder, mode | 0o700)


def _odd_in(entries: Iterable[os.DirEntry[str]]) -> Iterator[str]:
    """Yield what is, or leads to, a pipe, a socket or a device."""
    for entry in entries:
        if entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False):
            continue
        try:
            mode = os.stat(entry.path).st_mode
        except OSError:
            continue  # a link that leads nowhere: git finds no file there
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            yield entry.path


def _misplaced_in(entries: Iterable[os.DirEntry[str]]) -> list[str]:
    """Return the folders in the place of git's files, and the files in the place of its folders."""
    return [
        x.path
        for x in entries
        if (re.fullmatch(_FILES, x.name) if x.is_dir() else x.name in _FOLDERS)
    ]


def _put_aside(misplaced: list[str], folder: str) -> list[str]:
    """Move what is misplaced: it stays in its git folder, where nothing reads it."""
    for path in misplaced:
        os.rename(path, files.free_name(os.path.join(folder, _MISPLACED)))
    return misplaced


def _entries(folder: str) -> list[os.DirEntry[str]]:
    """Return what is in a folder; nothing if nobody can read it, as git reads nothing there."""
    try:
        with os.scandir(folder) as entries:
            return [*entries]
    except OSError:
        return []
