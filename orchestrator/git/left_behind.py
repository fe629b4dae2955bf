"""Commits that only the records of a worktree name: HEAD left them, or git put changes away.

Git deletes these records with the worktree, or adds what they name to `refs/stash`, which all
worktrees share: it would be among the person's stashes. They are kept under rescue refs instead.
"""

import os
import re
from collections.abc import Iterator

from orchestrator.git import place, repository, worktree_commands
from orchestrator.git.call import lines, run
from orchestrator.system import files

#: Where git keeps changes until an operation ends (git-rebase(1), git-merge(1): `--autostash`).
_PUT_AWAY = ("rebase-merge/autostash", "rebase-apply/autostash", "MERGE_AUTOSTASH")
#: A checkout in the log of HEAD; the product's own have another message (`call`).
_LEFT = re.compile(r"(\w+) \w+ .*\tcheckout: moving from (\S+) to ")
#: The first commit of a branch that did not exist: it was deleted, or is an orphan.
_BEGUN = re.compile(r"0+ \w+ .*\tcommit \(initial\): ")


def keep(path: str, branch: str | None, ref: str) -> str | None:
    """Keep what only the records of a worktree name; return a rescue ref, if one was made.

    `branch` is the run's branch: what an agent replaced on it is not kept. Of the log of HEAD,
    which stays, only what is new since the last call is read.
    """
    folder = worktree_commands.own_folder(path)
    if folder is None:
        return None
    text, seen = _log(folder), os.path.join(folder, "orchestrator-log-read")
    known = place.words(seen)
    start = int(known) if known.isdigit() and int(known) <= len(text) else 0
    new = text[start:]
    put_away = [os.path.join(folder, name) for name in _PUT_AWAY]
    found = [*_left(new, branch, _last(text[:start])), *filter(None, map(place.words, put_away))]
    kept = [repository.keep(path, f"{ref}-left", each) for each in _unnamed(path, found)]
    for name in put_away:
        files.remove(name)
    if new:
        files.write_atomic(seen, str(len(text)).encode(), flush=False)
    return next(iter(kept), None)


def bring_back(path: str, branch: str) -> bool:
    """Make the branch again that a worktree has checked out, if somebody has deleted it.

    It gets the commit that HEAD was at last. Returns whether there is such a commit.
    """
    folder = worktree_commands.own_folder(path)
    last = _last(_log(folder)) if folder else ""
    if last and repository.resolve(path, last):
        repository.update_ref(path, f"refs/heads/{branch}", last)
    return bool(last)


def _log(folder: str) -> str:
    return (files.content(os.path.join(folder, "logs", "HEAD")) or b"").decode(errors="replace")


def _last(text: str) -> str:
    """Return the commit that HEAD was at after the last line of its log; "" without one."""
    found = re.search(r"(?:^|\n)\w+ (\w+) [^\n]*\n?$", text)
    return found[1] if found else ""


def _left(text: str, branch: str | None, at: str) -> Iterator[str]:
    """Yield the commits from which HEAD went elsewhere, except for those of the run's branch.

    `at` is where HEAD was before. A branch that was deleted or created again is elsewhere, too.
    """
    for line in lines(text):
        found = _LEFT.match(line)
        if found and found[2] != branch:
            yield found[1]
        if at and _BEGUN.match(line):
            yield at
        at = _last(line)


def _unnamed(path: str, found: list[str]) -> list[str]:
    """Return the newest of the commits that neither a ref nor HEAD reaches."""
    asked = {commit for commit in found if re.fullmatch(r"[0-9a-f]{40,64}", commit)}
    if not asked:
        return []
    words = ("rev-list", "--ignore-missing", "--single-worktree", "--stdin", "--not", "--all")
    done = run(path, *words, stdin="".join(f"{commit}\n" for commit in sorted(asked)))
    return repository.tips(path, asked.intersection(lines(done.out)))
