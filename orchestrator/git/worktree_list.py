"""All worktrees of a repository, and the branches that they have checked out."""

import os
from collections.abc import Iterator

from orchestrator.git import place
from orchestrator.git.call import ask, lines
from orchestrator.git.worktree_commands import git_folder


def listed(root: str) -> list[str]:
    """Return the path of every worktree of the repository, the main worktree first."""
    return [each["worktree"] for each in _listed(root)]


def _listed(root: str) -> Iterator[dict[str, str]]:
    """Yield what git says of each worktree, by the words of git-worktree(1), "Porcelain Format"."""
    for block in ask(root, "worktree", "list", "--porcelain").split("\n\n"):
        yield dict(line.partition(" ")[::2] for line in lines(block))


def heads(root: str) -> dict[str, str]:
    """Return the commits of the worktrees' HEADs (zeros: none), by the worktrees' paths."""
    return {each["worktree"]: each["HEAD"] for each in _listed(root) if "HEAD" in each}


def holder_of(root: str, branch: str) -> str | None:
    """Return the path of the worktree that has `branch` checked out (`holders`); None without."""
    return holders(root).get(branch)


def holders(root: str) -> dict[str, str]:
    """Return the branches that worktrees have checked out, each with the worktree's path.

    During a rebase or a bisect HEAD is detached, but the operation returns to its branch at the
    end: such a branch counts as checked out, as it does for `git branch -d`.
    """
    found: dict[str, str] = {}
    for each in _listed(root):
        folder = git_folder(each["worktree"])
        branch = each.get("branch", "").removeprefix("refs/heads/")
        amid = (
            place.words(os.path.join(folder, name)).removeprefix("refs/heads/")
            for name in ("rebase-merge/head-name", "rebase-apply/head-name", "BISECT_START")
        )
        found |= dict.fromkeys(filter(None, (branch, *amid)), each["worktree"])
    return found
