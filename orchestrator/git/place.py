"""Where the product's git works, in a worktree that an agent could write: git is told.

By itself, git follows the `.git` file of a worktree, and reads the configuration to which it leads.
An agent can replace that file, so the product names the git folder, the common folder and the work
tree in variables (git(1), "The Git Repository"). They follow from the project and from the place of
the worktree, which no agent chooses.
"""

import os

from orchestrator import layout
from orchestrator.model.errors import GitError
from orchestrator.system import files
from orchestrator.system.remembered import Remembered

_small = Remembered(lambda path: files.read_regular(path, 4096))


def words(path: str) -> str:
    """Return the content of a small file of git; empty if it is missing or damaged."""
    try:
        text = _small(path).decode(errors="replace").strip()
    except OSError:
        return ""
    return "" if "\0" in text else text


def linked_folder(checkout: str) -> str | None:
    """Return the git folder that a checkout's `.git` file names; None without such a file."""
    word, _, path = words(os.path.join(checkout, ".git")).partition(": ")
    return os.path.join(checkout, path) if word == "gitdir" else None


def common_folder(root: str) -> str:
    """Return the git folder of a person's checkout."""
    folder = os.path.join(root, ".git")
    return folder if os.path.isdir(folder) else linked_folder(root) or folder


def may_set(root: str, text: str) -> bool:
    """Return whether a repository's own configuration may have a text: asked often, without git."""
    try:
        return text.encode() in files.read_regular(os.path.join(common_folder(root), "config"))
    except OSError:
        return True  # git says what is wrong with it


def may_lack(root: str, remote: str) -> bool:
    """Return whether a repository may have remotes, but not this one: asked often, without git."""
    return may_set(root, '[remote "') and not may_set(root, f'[remote "{remote}"]')


def shared(folder: str) -> str:
    """Return the common git folder of a git folder (gitrepository-layout(5), `commondir`)."""
    return os.path.join(folder, words(os.path.join(folder, "commondir")))


def own_folder(root: str, top: str) -> str | None:
    """Return the git folder of a worktree; None if it is not a whole worktree of this project.

    The folder is one of the project's own, and names the worktree in turn (gitrepository-layout(5),
    `worktrees/<id>/gitdir`). Git does not flush these files: a power cut can leave them empty.
    """
    folder = linked_folder(top)
    if folder is None:
        return None
    if os.path.islink(folder):
        return None
    # Nor may one of these be a link: `words` reads no link.
    back, common, head = (words(os.path.join(folder, x)) for x in ("gitdir", "commondir", "HEAD"))
    if not (back and common and head):
        return None
    ours = common_folder(root)
    # Git looks for refs where `commondir` says, whatever GIT_COMMON_DIR is.
    expected = (
        (os.path.dirname(folder), os.path.join(ours, "worktrees")),
        (os.path.join(folder, common), ours),
        (os.path.dirname(back), top),
    )
    return folder if all(_is_same(one, other) for one, other in expected) else None


def _is_same(one: str, other: str) -> bool:
    if one == other:  # both are there: files in them were read
        return True
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def of_worktrees(root: str) -> list[str]:
    """Return the git folders that the project has for worktrees, also for those that are gone."""
    ours = os.path.join(common_folder(root), "worktrees")
    names = sorted(os.listdir(ours)) if os.path.isdir(ours) else []
    return [os.path.join(ours, name) for name in names]


def registered(root: str, top: str) -> str | None:
    """Return the git folder that the project has for a worktree, whatever its `.git` file is.

    If no git folder names the worktree any more, it is the folder that the `.git` file names.
    """
    for folder in of_worktrees(root):
        back = words(os.path.join(folder, "gitdir"))
        if back and os.path.realpath(os.path.dirname(back)) == os.path.realpath(top):
            return folder
    ours = os.path.join(common_folder(root), "worktrees")
    named = linked_folder(top) or ""
    inside = os.path.realpath(os.path.dirname(named)) == os.path.realpath(ours)
    lost = inside and os.path.isdir(named) and not os.path.islink(named)
    return named if lost and not words(os.path.join(named, "gitdir")) else None


def checkout_around(path: str, top: str) -> str | None:
    """Return the innermost folder from `path` up to `top` that has a `.git`; else None."""
    here = os.path.abspath(path)
    while not os.path.lexists(os.path.join(here, ".git")):
        if here == top:
            return None
        here = os.path.dirname(here)
    return here


def variables(cwd: str) -> dict[str, str]:
    """Return the variables that tell git where it works; {} outside the product's worktrees.

    Also {} in a repository inside an agent's worktree that is not one of its submodules: another
    project may work there. The product enters only submodules (`submodules.is_own`). Raises
    GitError if the worktree's own `.git` leads elsewhere: git must not start there.
    """
    around = layout.worktree_around(cwd)
    if around is None:
        return {}
    root, top = around
    checkout = checkout_around(cwd, top)
    if checkout is None:
        # Further up, git would find the person's checkout. A temporary bare repository has no .git.
        return {"GIT_CEILING_DIRECTORIES": os.path.dirname(top)}
    own = own_folder(root, top)
    if own is None and checkout != top:
        return {}
    if own is None:
        raise GitError(f"{top} is not a worktree of {root}: its .git leads elsewhere")
    if checkout == top:
        common = common_folder(root)
        return {"GIT_DIR": own, "GIT_COMMON_DIR": common, "GIT_WORK_TREE": top}
    folder = submodule_folder(own, checkout)
    return {"GIT_DIR": folder, "GIT_WORK_TREE": checkout} if folder else {}


def submodule_folder(own: str, checkout: str) -> str | None:
    """Return the git folder of a submodule in a worktree, if it is one of the worktree's own."""
    folder, modules = linked_folder(checkout), os.path.realpath(os.path.join(own, "modules"))
    inside = folder and os.path.realpath(folder).startswith(modules + os.sep)
    return folder if inside else None
