"""The branch of a task in an agent's worktree: checked out, made, or refused with what to do."""

import os
import shlex
from collections.abc import Callable
from functools import partial

from orchestrator.git import (
    aside,
    call,
    irregular,
    left_behind,
    place,
    repository,
    worktree_commands,
    worktree_list,
)
from orchestrator.model.errors import GitError, OrchestratorError
from orchestrator.system import files


class BranchHeld(OrchestratorError):
    """A branch cannot be checked out: it is checked out elsewhere, or another is below its name.

    The message says what a person can do.
    """


def take_up(
    root: str,
    path: str,
    branch: str,
    base: str,
    ours: str | None,
    theirs: str | None,
    rescue: str | None = None,
) -> None:
    """Check out the task's branch: the local one, else the remote's, else cut from `base`.

    `ours` and `theirs` are the branch's commits here and at the remote; None if it does not exist
    there. If the two have diverged, the branch moves to `theirs`, and `rescue` is the ref that
    keeps `ours`; without a `rescue` it stays. The worktree's content was preserved before. Raises
    BranchHeld.
    """
    unlink_log(place.common_folder(root), branch)
    if ours is None:
        start = partial(worktree_commands.start_branch, path, branch, theirs or base)
        try:
            aside.in_order(path, start, partial(_start_again, root, branch, start))
        except GitError as error:
            raise held_below(root, branch) or error from None
        return
    holder = worktree_list.holder_of(root, branch)
    if holder and os.path.realpath(holder) != os.path.realpath(path):
        _release(root, holder, branch)
    if theirs and not repository.is_ancestor(root, theirs, ours):
        behind = repository.is_ancestor(root, ours, theirs)
        if rescue and not behind:
            repository.keep(root, rescue, ours)
        if rescue or behind:
            repository.update_ref(root, f"refs/heads/{branch}", theirs, ours)
    words = ("--quiet", "--force", "--no-guess", branch, "--")
    aside.in_order(path, partial(call.ask, path, "checkout", *words, timeout=call.CHECKOUT_TIMEOUT))


def held_below(root: str, branch: str) -> BranchHeld | None:
    """Return the error that branches in a folder of the branch's name exist; None without any."""
    ref = f"refs/heads/{branch}"
    below = [name.removeprefix("refs/heads/") for name in repository.refs(root, f"{ref}/")]
    if not below:
        return None
    return BranchHeld(
        f"The branch {branch} cannot exist beside {', '.join(below[:3])}. Rename or delete what is "
        f"below it (git branch -m {shlex.quote(below[0])} OTHER), then answer this question, and "
        "the work continues."
    )


def _start_again(root: str, branch: str, start: Callable[[], object]) -> None:
    """Start a branch that git may have made before it met the file that was in its way."""
    ref = f"refs/heads/{branch}"
    if made := repository.resolve(root, ref):
        repository.delete_ref(root, ref, made)
    start()


def _release(root: str, holder: str, branch: str) -> None:
    """Detach another agent's worktree from a branch: its run died before it could do so."""
    if not os.path.isdir(holder):
        worktree_commands.forget(root, holder)
        return
    agents = os.path.join(os.path.realpath(root), ".orchestrator", "agents") + os.sep
    if not os.path.realpath(holder).startswith(agents):
        raise BranchHeld(
            f"The branch {branch} is checked out in {holder}. Switch that checkout to another "
            "branch, then answer this question, and the work continues."
        )
    irregular.clear(holder)
    if (own := worktree_commands.own_folder(holder)) is not None:
        irregular.clear_git_folder(own)
        # A rebase in the middle would hold the branch, too.
        left_behind.keep(holder, branch, f"{repository.RESCUE}{os.path.basename(branch)}")
        worktree_commands.quit_operations(holder)
    call.ask(holder, "checkout", "--quiet", "--detach")


def unlink_log(common: str, branch: str) -> None:
    """Remove a link in the place of a branch's log: git would write to what it leads to."""
    log = os.path.join(common, "logs", "refs", "heads", branch)
    if os.path.islink(log):
        files.remove(log)
