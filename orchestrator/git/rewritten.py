"""Which files of a checkout were written again during a time, and the tree that undoing starts at.

A command such as `git checkout` replaces files, and `git commit` leaves them as a person made them.
Undoing the first must write files, undoing the second must not. The time at which a file's inode
changed tells the two apart: no program can set that time (`ctime`, inode(7)).
"""

# No `from __future__ import annotations`, for the reason that `model.config` gives.

import os
from collections.abc import Collection, Iterator

from orchestrator.git import call, checkout, whole_state

_ABSENT, _SUBMODULE = "000000", "160000"


def paths(root: str, before: str, after: str, since: int) -> tuple[str, ...]:
    """Return the paths that differ between two trees and were written after `since`.

    `before`, `after`: the trees of the checkout's index. `since`: a `st_ctime_ns`.
    """
    found = _differences(root, before, after)
    return tuple(path for mode, _, path in found if _is_written(root, mode, path, since))


def _is_written(root: str, mode: str, path: str, since: int) -> bool:
    if mode == _SUBMODULE:
        return False
    try:
        ctime = os.lstat(os.path.join(root, path)).st_ctime_ns
    except OSError:
        return mode == _ABSENT
    return mode != _ABSENT and ctime > since


def start_of_undo(root: str, before: str, after: str, written: Collection[str], index: str) -> str:
    """Return the tree `before` with the given paths as in `after`.

    From it to `before`, `git read-tree -m -u` writes exactly these paths. `index`: the path of a
    throw-away index.
    """
    found = [each for each in _differences(root, before, after) if each[2] in written]
    if not found:
        return before
    with whole_state.throw_away_index(index) as where:
        extra = {**where, **checkout.position(root)}
        call.ask(root, "read-tree", before, extra=extra)
        # A file that goes must go first: a folder may have its name.
        found.sort(key=lambda each: each[0] != _ABSENT)
        lines = "".join(f"{mode} {blob}\t{path}\0" for mode, blob, path in found)
        call.ask(root, "update-index", "-z", "--index-info", stdin=lines, extra=extra)
        return call.ask(root, "write-tree", extra=extra)


def _differences(root: str, before: str, after: str) -> Iterator[tuple[str, str, str]]:
    """Yield the mode, the blob and the path, as in `after`, of what differs."""
    words = ("diff-tree", "-r", "-z", "--no-renames", "--ignore-submodules=none", before, after)
    said = call.ask(root, *words, extra=checkout.position(root)).split("\0")
    for line, path in zip(said[::2], said[1::2], strict=False):
        _, mode, _, blob, _ = line.split(" ")
        yield mode, blob, path
