"""The stashes of a repository, which all its worktrees share (git-stash(1), `refs/stash`).

An agent that stashes adds to the person's list, and one that drops or pops can take from it.
"""

import os
import re
from collections.abc import Iterable

from orchestrator.git import call, checkout, repository
from orchestrator.git.worktree_commands import git_folder
from orchestrator.system import files

#: The list, below the git folder: the log of the ref.
LOG = "logs/refs/stash"
#: Below this name, by run: what the list holds during the run.
HELD = "refs/orchestrator/stashes/"
_ENTRY = re.compile(r"^\w+ (\w{40,64}) [^\t\n]*\t(.*)$", re.MULTILINE)
#: How git names the branch on which an entry was made.
_BRANCH = re.compile(r"(?:WIP on|On) (.+?): ")


def listed(log: str) -> dict[str, str]:
    """Return the entries in a log of `refs/stash`, oldest first: commit and message."""
    return dict(_ENTRY.findall((files.content(log) or b"").decode(errors="replace")))


def current(root: str) -> dict[str, str]:
    """Return the entries that a person's checkout shows now."""
    return listed(os.path.join(git_folder(root), LOG))


def hold(root: str, run: str, entries: Iterable[str]) -> None:
    """Keep git from deleting entries during a run, even if the list loses them (`release`).

    Only the list names the older entries: after `git reflog expire`, a `git gc` deletes them. A
    list with an entry that is missing already is not held.
    """
    if text := "".join(f"update {HELD}{run}/{commit} {commit}\n" for commit in entries):
        call.run(root, "update-ref", "--stdin", stdin=text)


def release(root: str, run: str, entries: Iterable[str]) -> None:
    """End `hold` for the same entries."""
    if text := "".join(f"delete {HELD}{run}/{commit}\n" for commit in entries):
        call.run(root, "update-ref", "--no-deref", "--stdin", stdin=text)


def held(root: str) -> dict[str, list[str]]:
    """Return the entries that are held now, by the run's id. Raises GitError."""
    found: dict[str, list[str]] = {}
    for ref in repository.refs(root, HELD):
        run, _, commit = ref.removeprefix(HELD).rpartition("/")
        found.setdefault(run, []).append(commit)
    return found


def worked_on(commands: Iterable[checkout.Traced]) -> bool:
    """Return whether one of the commands may have changed the list."""
    return any(map(_changes, commands))


def _changes(command: checkout.Traced) -> bool:
    match command.name:
        case "stash":
            return not checkout.reads(command)
        case "reflog":
            return not {"expire", "delete"}.isdisjoint(command.words)
        case "update-ref" | "symbolic-ref":
            return not {"refs/stash", "--stdin"}.isdisjoint(command.words)
    return False


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
