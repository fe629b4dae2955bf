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


def keep(path: str, branch: str | None, ref: str) -> str | None:
    """Keep what only the records of a worktree name; return a rescue ref, if one was made.

    `branch` is the run's branch: what an agent replaced on it is not kept. Of the log of HEAD,
    which stays, only what is new since the last call is read.
    """
    folder = worktree_commands.own_folder(path)
    if folder is None:
        return None
    log, seen = os.path.join(folder, "logs", "HEAD"), os.path.join(folder, "orchestrator-log-read")
    text = (files.content(log) or b"").decode(errors="replace")
    known = place.words(seen)
    new = text[int(known) :] if known.isdigit() and int(known) <= len(text) else text
    put_away = [os.path.join(folder, name) for name in _PUT_AWAY]
    found = [*_left(new, branch), *filter(None, map(place.words, put_away))]
    kept = [repository.keep(path, f"{ref}-left", each) for each in _unnamed(path, found)]
    for name in put_away:
        files.remove(name)
    if new:
        files.write_atomic(seen, str(len(text)).encode(), flush=False)
    return next(iter(kept), None)


def _left(text: str, branch: str | None) -> Iterator[str]:
    """Yield the commits from which HEAD went elsewhere, except for those of the run's branch."""
    for line in lines(text):
        found = _LEFT.match(line)
        if found and found[2] != branch:
            yield found[1]


def _unnamed(path: str, found: list[str]) -> list[str]:
    """Return the newest of the commits that neither a ref nor HEAD reaches."""
    asked = {commit for commit in found if re.fullmatch(r"[0-9a-f]{40,64}", commit)}
    if not asked:
        return []
    words = ("rev-list", "--ignore-missing", "--single-worktree", "--stdin", "--not", "--all")
    done = run(path, *words, stdin="".join(f"{commit}\n" for commit in sorted(asked)))
    return repository.tips(path, asked.intersection(lines(done.out)))
