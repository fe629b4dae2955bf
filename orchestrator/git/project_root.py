"""The project that a folder belongs to: the main worktree of its repository."""

import os

from orchestrator import layout
from orchestrator.git import place
from orchestrator.git.call import ask, lines, reason, run
from orchestrator.model.errors import OrchestratorError


def find(cwd: str) -> str:
    """Return the project of a folder: the main worktree of its common git folder.

    Inside a submodule, the project is the superproject. Raises OrchestratorError outside a
    repository and in a bare repository.
    """
    if not os.path.isdir(cwd):
        hint = "name your project's folder: orchestrator --project DIR ..."
        raise OrchestratorError(f"there is no folder {cwd}", hint, code="no_project")
    around = layout.worktree_around(cwd)
    # In an agent's worktree no file is asked, unless a repository of its own is inside it.
    if (
        around
        and place.checkout_around(cwd, around[1]) in (None, around[1])
        and os.path.lexists(os.path.join(around[0], ".git"))
    ):
        return find(around[0])
    questions = ("--is-bare-repository", "--git-common-dir", "--show-superproject-working-tree")
    done = run(cwd, "rev-parse", "--path-format=absolute", *questions)
    if done.code != 0:
        why = reason(done.err)
        if "not a git repository" not in why:
            raise OrchestratorError(f"git cannot read this repository: {why}", code="no_project")
        hint = "go to your project, or name it: orchestrator --project DIR ..."
        raise OrchestratorError(f"{cwd} is not inside a git repository", hint, code="no_project")
    bare, common, *superproject = lines(done.out)
    if superproject:
        return find(superproject[0])
    # A linked worktree of a bare repository answers "false"; the common folder's name tells.
    if bare == "true" or os.path.basename(common) != ".git":
        configured = run(cwd, "--git-dir", common, "config", "core.worktree").out.strip()
        if bare != "true" and configured:
            return os.path.realpath(os.path.join(common, configured))
        if bare != "true" and ask(cwd, "rev-parse", "--absolute-git-dir") == common:
            return toplevel(cwd)
        raise _bare(cwd, common)
    checkout = place.checkout_around(cwd, os.sep) or ""
    # `git init --separate-git-dir`; the checkout of a folder in the git folder has no such file.
    if os.path.realpath(place.linked_folder(checkout) or os.sep) == os.path.realpath(common):
        return os.path.realpath(checkout)
    return os.path.dirname(common)


def _bare(cwd: str, common: str) -> OrchestratorError:
    """Return the error that a project cannot be a bare repository, also if it has worktrees."""
    import shlex

    source = run(cwd, "--git-dir", common, "config", "remote.origin.url").out.strip() or common
    name = os.path.basename(os.path.dirname(common) if common.endswith(".bare") else common)
    target = f"{name.removesuffix('.git')}-agents"
    message = (
        f"{common} is a bare repository: it has no main checkout to work from (its linked "
        "worktrees do not count: each of them can be removed)"
    )
    hint = (
        "make a clone for the agents, in a folder of its own: git clone "
        f"{shlex.quote(source)} {shlex.quote(target)} && cd {shlex.quote(target)} && "
        "orchestrator init"
    )
    return OrchestratorError(message, hint, code="bare_repository")


def submodule_around(cwd: str) -> str | None:
    """Return the top of the submodule that a folder is in; None outside a submodule."""
    done = run(cwd, "rev-parse", "--show-superproject-working-tree", "--show-toplevel")
    found = lines(done.out)
    return found[1] if done.code == 0 and len(found) == 2 else None


def toplevel(cwd: str) -> str:
    """Return the top folder of the worktree that git commands in `cwd` would work on."""
    return ask(cwd, "rev-parse", "--show-toplevel")
