"""Changes that an index hides from `git status`: files with the flags of git-update-index(1).

`--assume-unchanged` and `--skip-worktree` keep git from looking at a file. What an agent changes in
such a file would be lost at the next checkout, or would stay there for the next task.
"""

import os

from orchestrator.git import index
from orchestrator.git.call import ask, run
from orchestrator.model.errors import GitError, GitKilled


def reveal(worktree: str) -> None:
    """Clear both flags of all files, so that git sees their changes. Raises GitError.

    Starts no git process if no file has a flag.
    """
    found = index.read(worktree)
    if found is None or not index.may_hide(found):
        return  # without an index, every file is new
    rows = [row for row in ask(worktree, "ls-files", "-v", "-z").split("\0") if row]
    assumed = [name for tag, name in _split(rows) if tag.islower()]
    skipped = [name for tag, name in _split(rows) if tag in "Ss"]
    try:
        for how, names in (("--no-assume-unchanged", assumed), ("--no-skip-worktree", skipped)):
            if names:
                ask(worktree, "update-index", how, "-z", "--stdin", stdin=_joined(names))
    except GitKilled:
        raise
    except GitError:
        # A name that is not UTF-8: a new index has no flags. The files stay as they are.
        ask(worktree, "read-tree", "HEAD")
    # A file that was left out, as in a sparse checkout, is not deleted.
    absent = [name for name in skipped if not os.path.lexists(os.path.join(worktree, name))]
    if absent:
        run(worktree, "checkout-index", "--quiet", "-z", "--stdin", stdin=_joined(absent))


def _split(rows: list[str]) -> list[tuple[str, str]]:
    return [(row[0], row[2:]) for row in rows]


def _joined(names: list[str]) -> str:
    return "".join(f"{name}\0" for name in names)
