"""The stashes of a repository, which all its worktrees share (git-stash(1), `refs/stash`).

An agent that stashes adds to the person's list, and one that drops or pops can take from it.
"""

import os
import re
from collections.abc import Iterable

from orchestrator.git import call, checkout, repository

#: The list, below the git folder: the log of the ref.
LOG = "logs/refs/stash"
_ENTRY = re.compile(r"^\w+ (\w{40,64}) [^\t\n]*\t(.*)$", re.MULTILINE)
#: How git names the branch on which an entry was made.
_BRANCH = re.compile(r"(?:WIP on|On) (.+?): ")


def listed(log: str) -> dict[str, str]:
    """Return the entries in a log of `refs/stash`, oldest first: commit and message."""
    try:
        with open(log, encoding="utf-8", errors="replace") as file:
            return dict(_ENTRY.findall(file.read()))
    except OSError:
        return {}


def current(root: str) -> dict[str, str]:
    """Return the entries that a person's checkout shows now."""
    return listed(os.path.join(checkout.git_folder(root), LOG))


def worked_on(commands: Iterable[checkout.Traced]) -> bool:
    """Return whether one of the commands may have changed the list."""
    return any(each.name == "stash" and not checkout.reads(each) for each in commands)


def made_on(entries: dict[str, str], branch: str | None) -> list[str]:
    """Return the entries that were made on a branch, or with a detached HEAD."""
    names = ("(no branch)", branch)
    found = ((commit, _BRANCH.match(message)) for commit, message in entries.items())
    return [commit for commit, on in found if on and on[1] in names]


def take_away(root: str, commits: Iterable[str], ref: str) -> None:
    """Move entries from the person's list to rescue refs."""
    for commit in commits:
        repository.keep(root, ref, commit)
        newest_first = [*reversed(current(root))]
        if commit in newest_first:
            number = newest_first.index(commit)
            words = ("stash", "drop", "--quiet", f"stash@{{{number}}}")
            call.run(root, *words, extra=checkout.position(root))
