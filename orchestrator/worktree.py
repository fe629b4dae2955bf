"""An agent's worktree: made, reused, and never emptied before what is in it is safe.

Whatever an agent leaves behind ends up on its branch or under `refs/orchestrator/rescue/`
(CONTRACT 8.4). Only the holder of the agent's lock calls anything here, so nobody works in the
worktree meanwhile.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import NamedTuple

from orchestrator import files, git
from orchestrator.errors import GitError


def ensure(root: str, path: str, commit: str) -> bool:
    """Make sure that a worktree of ours is at `path`; return whether it was made just now.

    A folder that is in the way is set aside, never deleted.
    """
    if git.is_worktree(path):
        _unlock(path)
        return False
    if os.path.lexists(path):
        os.rename(path, _free_name(f"{path}.set-aside"))
    files.make_folder(os.path.dirname(path))
    git.add_worktree(root, path, commit)
    return True


@contextlib.contextmanager
def throw_away(root: str, path: str, commit: str) -> Iterator[str]:
    """Give a worktree for a moment: detached, holding nothing of anybody's, removed at the end."""
    if os.path.lexists(path):  # of a process that was killed
        remove(root, path)
    git.add_worktree(root, path, commit)
    try:
        yield path
    finally:
        remove(root, path)


def remove(root: str, path: str) -> None:
    """Remove a worktree, registered or not, with all that is in it."""
    with contextlib.suppress(GitError):
        git.remove_worktree(root, path)
    if os.path.lexists(path):
        import shutil

        shutil.rmtree(path)
    git.prune_worktrees(root)


class Preserved(NamedTuple):
    """What `preserve` found: the rescue ref it made, if any, and whether there is a mess left."""

    ref: str | None
    dirty: bool


def preserve(path: str, branch: str | None, name: str) -> Preserved:
    """Put everything that only the worktree holds under a ref.

    Commits on top of `branch` move the branch forward, even if they were made with a detached HEAD
    or on another branch; other commits and uncommitted changes go to `refs/orchestrator/rescue/`.
    """
    _unlock(path)
    state = git.worktree_state(path)
    ref = f"{git.RESCUE}{name}"
    rescued = None
    elsewhere = state.branch != branch and not _moved_forward(path, branch, state.head)
    if elsewhere and state.branch is None and not git.is_on_a_ref(path, state.head):
        rescued = _keep(path, ref, state.head)
    if state.dirty:
        index = os.path.join(os.path.dirname(path), "rescue.index")
        message = f"Uncommitted changes of run {name}"
        rescued = _keep(path, ref, git.commit_all(path, message, index))
    return Preserved(rescued, state.dirty)


def _moved_forward(path: str, branch: str | None, head: str) -> bool:
    """Move `branch` up to `head`, if that only adds commits to it."""
    if branch is None:
        return False
    ref = f"refs/heads/{branch}"
    tip = git.resolve(path, ref)
    if tip is None or not git.is_ancestor(path, tip, head):
        return False
    if tip != head:
        git.update_ref(path, ref, head, tip)
    return True


def _keep(path: str, ref: str, commit: str) -> str:
    """Point a rescue ref at a commit, beside others if the name is taken by another one."""
    candidate, number = ref, 1
    while (taken := git.resolve(path, candidate)) and taken != commit:
        number += 1
        candidate = f"{ref}-{number}"
    git.update_ref(path, candidate, commit)
    return candidate


def take_up_branch(
    root: str, path: str, branch: str, base: str, ours: str | None, theirs: str | None
) -> None:
    """Check out the task's branch: the local one, else the remote's, else cut from `base`.

    `ours` and `theirs` are the branch's commits here and at the remote, None where it is not.
    Whatever the worktree held was preserved before.
    """
    if ours is None:
        git.start_branch(path, branch, theirs or base)
        return
    holder = git.branch_worktree(root, branch)
    if holder and os.path.realpath(holder) != os.path.realpath(path):
        _release(root, holder, branch)
    if theirs and theirs != ours and git.is_ancestor(root, ours, theirs):
        git.update_ref(root, f"refs/heads/{branch}", theirs, ours)
    git.checkout_branch(path, branch)


def _release(root: str, holder: str, branch: str) -> None:
    """Make another worktree of ours let go of a branch (its run died before it could)."""
    agents = os.path.join(os.path.realpath(root), ".orchestrator", "agents") + os.sep
    if not os.path.realpath(holder).startswith(agents):
        raise GitError(f"branch {branch} is checked out in {holder}: switch that to another branch")
    if os.path.isdir(holder):
        git.ask(holder, "checkout", "--quiet", "--detach")
    else:
        git.prune_worktrees(root)


def bring_included(root: str, path: str) -> list[str]:
    """Copy the ignored files that `.worktreeinclude` names into the worktree; return their names.

    The patterns are .gitignore's; only files that git ignores are copied, and only missing ones.
    """
    patterns = os.path.join(root, ".worktreeinclude")
    if not os.path.isfile(patterns) or os.path.islink(patterns):
        return []
    from shutil import copy2

    brought = []
    for name in git.ignored_files(root, patterns):
        source, target = os.path.join(root, name), os.path.join(path, name)
        inside = os.path.realpath(source).startswith(os.path.realpath(root) + os.sep)
        if os.path.lexists(target) or not os.path.isfile(source) or not inside:
            continue
        os.makedirs(os.path.dirname(target), exist_ok=True)
        copy2(source, target)
        brought.append(name)
    return brought


def _unlock(path: str) -> None:
    """Remove the index lock of a killed git: the agent's lock says that nobody is at work."""
    folder = git.worktree_git_folder(path)
    if folder:
        files.remove(os.path.join(folder, "index.lock"))


def _free_name(path: str) -> str:
    number = 1
    while os.path.lexists(f"{path}-{number}"):
        number += 1
    return f"{path}-{number}"
