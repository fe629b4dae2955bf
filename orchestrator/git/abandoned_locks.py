"""Lock files that a killed git left: git never removes them, and each later git fails on them.

A lock is removed only if no living git can hold it, however old it is. The process that holds a
lock existed when the lock was first seen; so once every git that worked in the repository at that
moment has ended, and the lock is still the same file, its holder is dead. No clock takes part.

A git works in the repository if it was started there or an argument names it. A git of another user
does not say where it was started; it can hold only a lock that this user owns.
"""

import contextlib
import os
import re
import time
from collections.abc import Iterable

from orchestrator.model.fields import NamedTuple
from orchestrator.system import process

#: Seconds after which a lock on refs in a repository in which processes of other machines may work
#: has no living owner there: git holds such a lock for milliseconds.
OLD = 60.0
#: Seconds that a lock is given before anybody looks at the processes of the machine: with many
#: agents at work, most locks belong to a git that releases it at once.
BRIEF = 0.1
#: Seconds for which a lock must be seen unchanged. Programs with a git library of their own, whose
#: processes have other names, hold locks for milliseconds.
SETTLED = 0.5
#: Seconds to wait at most for another git that may hold a lock.
PATIENCE = 3.0
#: The locks in the common git folder that git holds for milliseconds. `index.lock` and `HEAD.lock`
#: there belong to the person's checkout: git holds the former while an editor is open.
_SHARED = ("config.lock", "packed-refs.lock", "shallow.lock")


class _Seen(NamedTuple):
    """A lock when it was first seen."""

    file: tuple[int, int]
    is_old: bool
    #: The id of the user who owns the file: git made it as this user.
    owner: int


def free(paths: Iterable[str], common: str) -> bool:
    """Wait until locks are released, or remove them if no living git can hold them.

    `common` is the common git folder of the locks' repository. Waits only if there is a lock, and
    `PATIENCE` seconds at most. Returns whether all of them are gone. Raises OSError.
    """
    left = {path: seen for path in paths if (seen := _look(path)) is not None}
    began = time.monotonic()
    while left and time.monotonic() - began < BRIEF:
        time.sleep(0.01)
        # As first seen now: its holder is alive now, or dead.
        known = {path: _look(path) for path in left}
        left = {path: now for path, now in known.items() if now and now.file == left[path].file}
    if not left:
        return True
    owners = {seen.owner for seen in left.values()}
    holders = [process.known(pid) for pid in process.at_work("git", _folders(common), owners)]
    began = time.monotonic()
    while True:
        waited = time.monotonic() - began
        is_alone = not any(each.is_alive() for each in holders)
        for path, seen in [*left.items()]:
            now = _look(path)
            if now is None or now.file != seen.file:
                del left[path]
            elif is_alone and (seen.is_old or waited >= SETTLED):
                _remove(path, seen)
                del left[path]
        if not left or waited > PATIENCE:
            return not left
        time.sleep(0.05)


def free_met(path: str) -> bool:
    """Free one lock that a git command of the product met; return as `free`.

    The lock of a person's index stays: git holds it while an editor is open.
    """
    if not is_brief(path):
        return False
    return free([path], _common(path))


def _common(path: str) -> str:
    """Return the common git folder that a lock is in."""
    common = os.path.dirname(path)
    while not os.path.isdir(os.path.join(common, "objects")) and common != os.path.dirname(common):
        common = os.path.dirname(common)
    return common


def is_brief(path: str) -> bool:
    """Return whether git holds a lock for milliseconds only, never while an editor is open."""
    is_of_worktree = "/worktrees/" in path
    return "/refs/" in path or is_of_worktree or os.path.basename(path) in _SHARED


def shared(common: str) -> list[str]:
    """Return the locks on refs and on the settings that all worktrees share."""
    paths = [os.path.join(common, name) for name in _SHARED]
    below = _below(os.path.join(common, "refs"))
    return [*filter(os.path.lexists, paths), *below]


def of_worktree(folder: str) -> list[str]:
    """Return the locks in a linked worktree's own git folder."""
    return [*_directly_in(folder), *_below(os.path.join(folder, "refs"))]


def of_upkeep(common: str) -> list[str]:
    """Return the locks of git's own maintenance; `git maintenance` does nothing while one is there.

    See git-maintenance(1), git-commit-graph(1) and git-multi-pack-index(1).
    """
    objects = os.path.join(common, "objects")
    folders = [os.path.join(objects, name) for name in ("", "info", "info/commit-graphs", "pack")]
    return [path for folder in folders for path in _directly_in(folder)]


def of_checkout(common: str) -> list[str]:
    """Return the locks on the index and on HEAD of the person's own checkout."""
    paths = [os.path.join(common, name) for name in ("index.lock", "HEAD.lock")]
    return [path for path in paths if os.path.lexists(path)]


def step(complaint: str) -> str | None:
    """Return what to do if git complains of the lock of a person's checkout; else None."""
    if re.search(r"/(index|HEAD)\.lock': File exists", complaint) is None:
        return None
    return "let the git that works there end (if there is none, see: orchestrator doctor)"


def users(common: str, paths: Iterable[str]) -> set[int]:
    """Return the ids of the living git processes that may hold one of these locks."""
    owners = {seen.owner for path in paths if (seen := _look(path)) is not None}
    return process.at_work("git", _folders(common), owners)


def remove_old(path: str) -> bool:
    """Remove a lock that is old, and that no git of this machine holds; return whether it is gone.

    For repositories in which processes of other machines may work.
    """
    seen = _look(path)
    if seen is None:
        return True
    is_free = seen.is_old and not users(_common(path), [path])
    if is_free:
        _remove(path, seen)
    return is_free


def _look(path: str) -> _Seen | None:
    try:
        found = os.lstat(path)
    except OSError:
        return None
    is_old = found.st_mtime < max(time.time() - OLD, process.booted())
    return _Seen((found.st_dev, found.st_ino), is_old, found.st_uid)


def _remove(path: str, seen: _Seen) -> None:
    """Remove a lock, if it is still the same file.

    Two processes may do this at once, and the second must not remove the lock that a git created
    after the first: only the holder of a lock on the file itself removes it.
    """
    import fcntl

    with contextlib.suppress(FileNotFoundError, BlockingIOError), open(path, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        now = _look(path)
        if now is not None and now.file == seen.file:
            os.unlink(path)


def _folders(common: str) -> list[str]:
    """Return the folders in which a git that uses this repository works."""
    found = [common]
    if os.path.basename(common) == ".git":
        found.append(os.path.dirname(common))
    trees = os.path.join(common, "worktrees")
    for name in os.listdir(trees) if os.path.isdir(trees) else ():
        with contextlib.suppress(OSError), open(os.path.join(trees, name, "gitdir")) as file:
            found.append(os.path.dirname(file.read(4096).strip()))
    return [os.path.realpath(folder) for folder in found if folder]


def _directly_in(folder: str) -> list[str]:
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return []
    return [os.path.join(folder, name) for name in names if name.endswith(".lock")]


def _below(folder: str) -> list[str]:
    return [
        os.path.join(where, name)
        for where, _, names in os.walk(folder)
        for name in names
        if name.endswith(".lock")
    ]
