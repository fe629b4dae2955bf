"""An agent's worktree: created, reused, and never emptied before its content is safe.

Everything that an agent leaves behind is kept on its branch or under `refs/orchestrator/rescue/`
(reference 8.4). Only the holder of the agent's lock calls these functions, so no other process
works in the worktree at the same time.
"""

import contextlib
import os
from collections.abc import Collection, Iterator
from functools import partial

from orchestrator import layout
from orchestrator.git import (
    abandoned_locks,
    aside,
    call,
    index,
    irregular,
    left_behind,
    place,
    project_root,
    repository,
    submodule_rescue,
    submodules,
    task_branch,
    whole_state,
    worktree_commands,
)
from orchestrator.model.errors import GitError, SystemFault
from orchestrator.model.fields import NamedTuple
from orchestrator.system import files


def ensure(root: str, path: str, commit: str) -> bool:
    """Make sure that a worktree is at `path`, set aside what is in the way; return if it is new."""
    clear_shared(root)
    if worktree_commands.is_worktree(path):
        _unlock(path)
        return False
    if os.path.lexists(path):
        aside.move(root, path)
    files.make_folder(os.path.dirname(path))
    worktree_commands.add(root, path, commit)
    return True


def clear_shared(root: str, *, folders: bool = True) -> None:
    """Clear what all worktrees share of pipes, and of locks that killed processes left.

    No git of the product may wait for the writers of the pipes. `folders` as in
    `irregular.clear_shared`.
    """
    common = place.common_folder(root)
    irregular.clear_shared(common, folders=folders)
    abandoned_locks.free(abandoned_locks.shared(common), common)


def leading_files(root: str) -> list[str]:
    """Return the files that lead git from each worktree to its repository and configuration."""
    names = ("commondir", "gitdir", "config.worktree")
    return [os.path.join(each, name) for each in place.of_worktrees(root) for name in names]


@contextlib.contextmanager
def throw_away(root: str, path: str, commit: str, which: str = "same") -> Iterator[str]:
    """Provide a temporary worktree with a detached HEAD; it is removed at the end.

    `which` of its submodules are checked out: a value of `submodules.checkout` (reference 4).
    """
    if os.path.lexists(path):  # of a process that was killed
        remove(root, path)
    worktree_commands.add(root, path, commit)
    try:
        submodules.check_out(root, path, which)
        yield path
    finally:
        remove(root, path)


def remove(root: str, path: str) -> None:
    """Remove a worktree, registered or not, with all that is in it."""
    with contextlib.suppress(GitError):
        worktree_commands.remove(root, path)
    files.remove_tree(path)
    worktree_commands.forget(root, path)


class Preserved(NamedTuple):
    """The result of `preserve`: the new rescue ref, and whether it keeps uncommitted changes."""

    ref: str | None
    dirty: bool
    #: The commit of `branch` if the worktree has it checked out.
    tip: str | None = None
    #: The commit that is checked out without a change.
    at: str | None = None


def preserve(path: str, branch: str | None, name: str, on_refs: Collection[str] = ()) -> Preserved:
    """Put everything that only the worktree holds under a ref.

    `on_refs` are commits that a ref has, as just seen: git is not asked again about one of them.
    Commits on top of `branch` move the branch forward, even if they were made with a detached HEAD
    or on another branch; other commits and uncommitted changes go to `refs/orchestrator/rescue/`.
    Raises GitError if the disk is full.
    """
    _unlock(path, branch)
    for left in _not_ignored(path, irregular.clear(path).left):
        files.remove(left)
    around = layout.worktree_around(path)
    if branch is not None and around is not None:
        repository.make_plain(around[0], f"refs/heads/{branch}", keep=True)
    ref = f"{repository.RESCUE}{name}"
    # Otherwise each file that a killed checkout did not write, or that an agent's sparse checkout
    # leaves out, would look deleted.
    with contextlib.suppress(GitError):
        worktree_commands.finish_checkout(path)
        worktree_commands.make_whole(path)
    inside = unreadable = None
    try:
        inside = call.again(partial(_keep_submodules, path, name))
        call.again(partial(index.reveal, path))
        found = worktree_commands.state(path)
        is_unborn = found.head is None and found.branch == branch
        if branch and is_unborn and left_behind.bring_back(path, branch):
            found = worktree_commands.state(path)
    except GitError as error:
        unreadable, on = error, repository.current_branch(path)
        found = worktree_commands.State(repository.resolve(path, "HEAD"), on, None)
    rescued = _keep_commits(path, found, branch, ref, on_refs) or inside
    rescued = left_behind.keep(path, branch, ref) or rescued
    tip = found.head if branch and found.branch == branch else None
    worktree_commands.quit_operations(path)
    # What git cannot read or commit (a damaged index, a repository inside) is kept as it is.
    if unreadable is not None:
        aside.replace_after(unreadable, path)
    elif found.dirty:
        scratch = os.path.join(os.path.dirname(path), "rescue.index")
        message = f"Uncommitted changes of run {name}"
        try:
            commit = whole_state.commit_all(path, message, scratch)
            if commit is not None:
                return Preserved(repository.keep(path, ref, commit), True, tip)
        except whole_state.RepositoryInside as found_inside:
            # The ref has the files; only the folder has the history of the repository inside.
            rescued = repository.keep(path, ref, found_inside.commit)
            aside.replace(path, found_inside.message)
        except SystemFault as fault:
            # Files so large that git would work for minutes stop no later task.
            if fault.code != "git_hung":
                raise
            aside.replace(path, fault.message)
        except GitError as error:
            aside.replace_after(error, path)
    return Preserved(rescued, False, tip, found.head if found.dirty is False else None)


def clean(path: str) -> None:
    """Remove the untracked files that `preserve` kept; ignored files stay.

    If git cannot remove them (a path that is too long, a folder that nobody can write), the
    worktree is set aside, and a new worktree is in its place. Raises GitError if the disk is full.
    """
    try:
        worktree_commands.clean(path)
    except GitError as error:
        aside.replace_after(error, path)


def detach(path: str, commit: str, at: str | None = None) -> None:
    """Check a commit out with a detached HEAD; the content of the worktree was preserved before.

    `at` is the commit that is checked out without a change, if it is known.
    """
    if commit == at and worktree_commands.let_go(path, commit):
        return
    aside.in_order(path, partial(worktree_commands.detach, path, commit))


def _keep_submodules(path: str, name: str) -> str | None:
    """Keep what the worktree's submodules hold; return a rescue ref of the project, if any."""
    if not submodules.are_used(path):
        return None
    kept = submodule_rescue.preserve_all(project_root.find(path), path, name, f"{path}.set-aside")
    return next(iter(kept), None)


def _keep_commits(
    path: str,
    found: worktree_commands.State,
    branch: str | None,
    ref: str,
    on_refs: Collection[str],
) -> str | None:
    """Bring the worktree's commits onto `branch`, or under a rescue ref if only HEAD has them."""
    head, on, _ = found
    if head is None or (on is not None and on == branch) or _moved_forward(path, branch, head):
        return None
    if on or head in on_refs or repository.is_on_a_ref(path, head):
        return None
    return repository.keep(path, ref, head)


def _moved_forward(path: str, branch: str | None, head: str) -> bool:
    """Move `branch` up to `head`, if that only adds commits to it."""
    if branch is None:
        return False
    ref = f"refs/heads/{branch}"
    tip = repository.resolve(path, ref)
    # Without a tip the agent has renamed or deleted its branch.
    if tip is not None and not repository.is_ancestor(path, tip, head):
        return False
    if tip != head:
        try:
            repository.update_ref(path, ref, head, tip)
        except GitError:
            if task_branch.held_below(path, branch) is None:
                raise
            return False
    return True


def bring_included(root: str, path: str) -> list[str]:
    """Copy the ignored files that `.worktreeinclude` names into the worktree; return their names.

    The patterns are those of .gitignore. Only files that git ignores and that are missing in the
    worktree are copied.
    """
    patterns = os.path.join(root, ".worktreeinclude")
    if not os.path.isfile(patterns) or os.path.islink(patterns):
        return []
    from shutil import copy2

    brought = []
    for name in _ignored(root, patterns):
        source, target = os.path.join(root, name), os.path.join(path, name)
        inside = os.path.realpath(source).startswith(os.path.realpath(root) + os.sep)
        inside = inside and os.path.realpath(target).startswith(os.path.realpath(path) + os.sep)
        if os.path.lexists(target) or not os.path.isfile(source) or not inside:
            continue
        try:
            os.makedirs(os.path.dirname(target), exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            continue  # a file is in the place of a folder
        copy2(source, target)
        brought.append(name)
    return brought


def _unlock(path: str, branch: str | None = None) -> None:
    """Remove the locks that killed processes left here: they would stop the run, or its git.

    They have no living holder: the agent's lock proves that no process works here.
    """
    folder = worktree_commands.own_folder(path)
    if folder is None:
        return
    irregular.clear_git_folder(folder)
    for lock in abandoned_locks.of_worktree(folder):
        files.remove(lock)
    # The worktree is the product's, so a configuration of its own is an agent's.
    files.remove(os.path.join(folder, "config.worktree"))
    if branch is not None:
        common = os.path.dirname(os.path.dirname(os.path.realpath(folder)))
        task_branch.unlink_log(common, branch)


def _ignored(root: str, patterns: str) -> list[str]:
    """Return the untracked files below `root` that match the patterns and that git ignores."""
    options = ("--others", "--ignored", f"--exclude-from={patterns}", "-z")
    names = [name for name in call.ask(root, "ls-files", *options).split("\0") if name]
    ignored = _of_ignored(root, names) or ()
    return [name for name in names if name in ignored and not name.startswith(".orchestrator/")]


def _not_ignored(worktree: str, paths: list[str]) -> list[str]:
    """Return the paths in a worktree that git does not ignore; [] if git cannot tell."""
    names = {os.path.relpath(path, worktree): path for path in paths if _is_text(path)}
    ignored = _of_ignored(worktree, names)
    if ignored is None:
        return []
    return [path for name, path in names.items() if name not in ignored]


def _of_ignored(checkout: str, names: Collection[str]) -> set[str] | None:
    """Return the names that git ignores in a checkout; None if git cannot tell."""
    if not names:
        return set()
    asked = "".join(f"{name}\0" for name in names)
    done = call.run(checkout, "check-ignore", "-z", "--stdin", stdin=asked)
    return {*done.out.split("\0")} if done.code in (0, 1) else None


def _is_text(path: str) -> bool:
    """Return whether a path can be given to git as text: it is valid UTF-8."""
    return not any("\ud800" <= letter <= "\udfff" for letter in path)
