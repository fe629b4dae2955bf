"""Sets worktrees aside: what git cannot keep or remove stays on the disk, and stops no later run.

What is set aside is beside the worktree, as `worktree.set-aside-1`; `orchestrator clean` lists it,
and only a person deletes it.
"""

import os
import re
from collections.abc import Callable

from orchestrator.git import place, repository, worktree_commands
from orchestrator.model.errors import GitError
from orchestrator.system import disk, files

#: The file in a git folder that went along which says why its worktree was set aside.
_WHY = os.path.join(".git-folder", "orchestrator-why")


def reason(aside: str) -> str | None:
    """Return what git said before this worktree was set aside; None if it is not known."""
    try:
        return (
            files.read_inside(os.path.join(aside, _WHY), aside).decode("utf-8", "replace").strip()
        )
    except OSError:
        return None


def move(root: str, path: str, why: str = "") -> None:
    """Set a worktree, or what is in its place, aside; `why` is for the person who looks at it.

    Its git folder goes along: git deletes the folder of a worktree that is gone, with those of its
    submodules, and until then every git looks into it.
    """
    aside = files.free_name(f"{path}.set-aside")
    # Whatever an agent made of the `.git` file: git itself knows what the worktree's folder was.
    folder = place.registered(root, path)
    head = folder and repository.resolve(root, place.words(os.path.join(folder, "HEAD")))
    if head and not repository.is_on_a_ref(root, head):
        repository.keep(root, f"{repository.RESCUE}{os.path.basename(aside)}", head)
    os.rename(path, aside)
    if folder:
        inside = os.path.join(aside, ".git-folder")
        if os.path.islink(aside) or not os.path.isdir(aside) or os.path.lexists(inside):
            inside = files.free_name(f"{path}.set-aside")
        os.rename(folder, inside)
        if why and inside == os.path.join(aside, ".git-folder"):
            files.write_atomic(os.path.join(aside, _WHY), why.encode(), 0o644)
    _follow(root, path, aside)


def _follow(root: str, path: str, aside: str) -> None:
    """Tell git where the worktrees are now that an agent made inside the one that was moved.

    Git would take them for gone, and delete their indexes and what names their commits. The file is
    written as git writes it (gitrepository-layout(5), `worktrees/<id>/gitdir`).
    """
    parent = os.path.realpath(os.path.dirname(path))
    before, after = (os.path.join(parent, os.path.basename(name)) for name in (path, aside))
    for folder in place.of_worktrees(root):
        at = place.words(os.path.join(folder, "gitdir"))
        now = after + at.removeprefix(before)
        is_inside = at.startswith(f"{before}{os.sep}") and os.path.isfile(now)
        if is_inside and not os.path.islink(folder):
            files.write_atomic(os.path.join(folder, "gitdir"), f"{now}\n".encode(), 0o644)


def replace_after(error: GitError, path: str) -> None:
    """Set the whole worktree aside after an error of git. Raises the error if the disk is full.

    Then the disk is the reason, not the content of the worktree: with space, git can keep it.
    """
    if disk.shortage(os.path.dirname(path)) is not None:
        raise error
    replace(path, error.message)


def replace(path: str, why: str = "") -> None:
    """Set the whole worktree aside, and create a new worktree in its place. Raises GitError."""
    # Git finds no repository in a worktree with a damaged HEAD.
    own = worktree_commands.own_folder(path) or ""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(own))))
    commit = repository.resolve(path, "HEAD") or repository.resolve(root, "HEAD")
    if commit is None:
        raise GitError(f"{path} has content that git cannot keep")
    locked = place.words(os.path.join(own, "locked"))
    move(root, path, why)
    worktree_commands.forget(root, path)
    worktree_commands.add(root, path, commit)
    if locked:
        of_git = worktree_commands.own_folder(path) or ""
        files.write_atomic(os.path.join(of_git, "locked"), f"{locked}\n".encode(), 0o644)


#: How git says that it cannot write or remove a file of a worktree.
_IN_THE_WAY = "Permission denied|File name too long|Not a directory|Is a directory|unable to unlink"


def in_order(
    path: str, checkout: Callable[[], object], again: Callable[[], object] | None = None
) -> None:
    """Check something out, in a new worktree if files are in git's way (of another user's)."""
    try:
        checkout()
    except GitError as error:
        if not re.search(_IN_THE_WAY, error.message):
            raise
        replace(path, error.message)
        (again or checkout)()


def make_way(path: str, name: str) -> None:
    """Set aside a folder that is in the place of a file of the product's in a worktree."""
    here = os.path.join(path, name)
    if os.path.isdir(here) and not os.path.islink(here):
        os.rename(here, files.free_name(f"{path}.set-aside"))
