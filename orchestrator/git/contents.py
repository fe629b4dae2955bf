"""What a merge would contain, without a worktree: questions about trees and patches.

`git merge-tree --write-tree` exits with 1 for a conflict and for an unknown commit alike (git
2.39): only a tree on standard output is an answer. Patch ids depend on the user's `diff.*`
settings, so the patches are made with settings of their own.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from orchestrator.git import repository
from orchestrator.git.call import ask, lines, run
from orchestrator.git.worktree_commands import commit_tree
from orchestrator.system import files

_TREE = r"[0-9a-f]{40,64}"
#: The same patch text whatever the user's settings are.
PATCH_SETTINGS = (
    "-c",
    "diff.context=3",
    "-c",
    "diff.algorithm=myers",
    "-c",
    "diff.external=",
)
#: Commits of a base that are compared with a branch's patch.
COMPARED = 500
#: Answers that are remembered.
REMEMBERED = 500


def merged_tree(root: str, one: str, other: str) -> str | None:
    """Return the tree of a merge of two commits; None for a conflict or an unknown commit."""
    done = run(root, "merge-tree", "--write-tree", one, other)
    tree = lines(done.out)[0] if done.out.strip() else ""
    return tree if done.code == 0 and re.fullmatch(_TREE, tree) else None


def conflicting(root: str, one: str, other: str) -> list[str]:
    """Return the files in which a merge of two commits conflicts."""
    done = run(root, "merge-tree", "--write-tree", "--name-only", "-z", "--no-messages", one, other)
    tree, *names = [word for word in done.out.split("\0") if word] or [""]
    return names if done.code == 1 and re.fullmatch(_TREE, tree) else []


def stacked(
    root: str, commits: Iterable[str], base: str | None = None, landed: Iterable[str] = ()
) -> str | list[str]:
    """Return the first commit with the others merged in, or the files in which that conflicts.

    If one of them is the tip of the base branch, `base` names it, and `landed` are the last heads
    of what was merged into it, maybe as other commits (`restacked`). The same commits give the same
    result: the merge commits have the time of what they bring in.
    """
    top, *others = commits
    for other in others:
        if repository.is_ancestor(root, other, top):
            continue
        if repository.is_ancestor(root, top, other):
            top = other
            continue
        side = (_stand_in(root, top, other, landed) if other == base else None) or other
        tree = merged_tree(root, top, side)
        if tree is None:
            return conflicting(root, top, side)
        said = f"Merge {other[:12]}, which this work depends on"
        top = _commit(root, tree, (top, other), said, at=other)
    return top


def _commit(root: str, tree: str, parents: Iterable[str], said: str, *, at: str) -> str:
    """Make a commit that has the time of the commit `at`: made again, it is the same commit."""
    time = ask(root, "log", "-1", "--format=%cI", at)
    when = {"GIT_AUTHOR_DATE": time, "GIT_COMMITTER_DATE": time}
    return commit_tree(root, tree, parents, said, **when)


def restacked(
    root: str, head: str, base: str, cut: str, landed: Iterable[str], said: str
) -> str | None:
    """Return the merge of `base` into `head`, whose dependencies landed as other commits.

    `head` was cut from `cut`, which has commits of the dependencies; `landed` are their last heads.
    After a squash or a rebase the base has their changes, but not their commits: a plain merge
    would conflict with them, or bring back what a rework removed. Therefore the base is merged as
    if it had the commits: a commit that no ref keeps has the tree of the base, and also the commits
    in common as its parents. (`git merge-tree --merge-base` needs git 2.40.)

    None if that conflicts, and if there is nothing to do: the base has the commits, the branch has
    no commit of its own, or somebody has merged the base into it since it was cut.
    """
    fork = repository.merge_base(root, head, base)
    if fork is None or not repository.is_ancestor(root, fork, cut) or head == cut:
        return None
    side = _stand_in(root, head, base, landed)
    merged = merged_tree(root, head, side) if side else None
    return merged and _commit(root, merged, (head, base), said, at=base)


def _stand_in(root: str, head: str, base: str, landed: Iterable[str]) -> str | None:
    """Return a commit with the tree of `base` that also has the commits of `head` and `landed`.

    None if the base has all commits that these two have in common.
    """
    common = (repository.merge_base(root, head, each) for each in landed)
    lost = [each for each in common if each and not repository.is_ancestor(root, each, base)]
    tree = tree_of(root, base) if lost else None
    return tree and _commit(root, tree, (base, *dict.fromkeys(lost)), "Stand-in", at=base)


def tree_of(root: str, commit: str) -> str | None:
    """Return the tree of a commit; None if this repository lacks the commit."""
    return next(iter(_trees(root, commit)), None)


def _trees(root: str, *commits: str) -> list[str]:
    """Return the trees of some commits; [] if this repository lacks one of them."""
    done = run(root, "rev-parse", *(f"{commit}^{{tree}}" for commit in commits))
    return done.out.split() if done.code == 0 else []


def missing(root: str, commits: Iterable[str]) -> set[str]:
    """Return the commits that this repository does not have."""
    asked = "".join(f"{commit}\n" for commit in commits)
    done = run(root, "cat-file", "--batch-check=%(objectname)", stdin=asked)
    return {line.split()[0] for line in lines(done.out) if line.endswith(" missing")}


class Contents:
    """Answers about pairs of commits, each found out once and then remembered in a file.

    To find out, git writes objects. A command that only reads therefore gives `ask=False`; what is
    not remembered then counts as not true.
    """

    def __init__(self, root: str, memory: str, *, ask: bool) -> None:
        self._root, self._memory, self._ask = root, memory, ask
        self._known = files.read_json(memory) or {}

    def is_update(self, reviewed: str, head: str, base: str) -> bool:
        """Return whether `head` is the reviewed commit, only brought up to date with its base."""
        return self._find(f"update {reviewed} {head} {base}", _is_update, reviewed, head, base)

    def has_landed(self, head: str, base: str) -> bool:
        """Return whether the base has the changes of `head` already, in other commits."""
        return self._find(_landed(head, base), _has_landed, head, base)

    def look_ahead(self, base: str, refs: Mapping[str, str]) -> None:
        """Find out with one question which of many commits have not landed in `base`.

        A commit that has the base among its commits has not. `refs` are full names of refs with
        their commits.
        """
        new = [ref for ref, head in refs.items() if _landed(head, base) not in self._known]
        if self._ask and len(new) > 1:
            ahead = repository.refs(self._root, f"--contains={base}", *new)
            self._known |= {_landed(head, base): False for head in ahead.values()}
            self._keep()

    def conflicts(self, head: str, base: str) -> list[str]:
        """Return the files in which a merge of `head` into `base` conflicts; [] for no conflict."""
        merges = self._find(
            f"merges {head} {base}", lambda *both: not conflicting(*both), base, head
        )
        return conflicting(self._root, base, head) if self._ask and not merges else []

    def stacked(
        self, commits: Sequence[str], base: str | None, landed: Iterable[str]
    ) -> str | list[str] | None:
        """Return what the function `stacked` does; None if nobody has found that out."""
        key = " ".join(("stacked", *commits, *landed))
        known = self._known.get(key)
        lost = isinstance(known, str) and repository.resolve(self._root, known) is None
        if self._ask and (not known or lost):
            known = self._known[key] = stacked(self._root, commits, base, landed)
            self._keep()
        return known if isinstance(known, str | list) else None

    def _find(self, key: str, find: Callable[..., bool], *commits: str) -> bool:
        if key not in self._known and self._ask:
            self._known[key] = find(self._root, *commits)
            self._keep()
        return self._known.get(key) is True

    def _keep(self) -> None:
        files.make_folder(os.path.dirname(self._memory))
        newest = dict([*self._known.items()][-REMEMBERED:])
        # Not flushed: git is asked again after a power cut. A moved base asks for each request.
        files.write_atomic(self._memory, json.dumps(newest).encode(), flush=False)


def _landed(head: str, base: str) -> str:
    """Return the key of the answer whether a commit has landed."""
    return f"landed {head} {base}"


def _is_update(root: str, reviewed: str, head: str, base: str) -> bool:
    """Every commit that `head` adds, and that the base does not have, must be a merge, and merging
    either of the two into the base must give the same tree: a conflict that was resolved by hand,
    or a change that a merge hides, gives another tree.
    """
    if run(root, "merge-base", "--is-ancestor", reviewed, head).code != 0:
        return False
    added = run(root, "rev-list", "--count", "--no-merges", head, f"^{reviewed}", f"^{base}")
    if added.code != 0 or added.out.strip() != "0":
        return False
    tree = merged_tree(root, base, head)
    return tree is not None and tree == merged_tree(root, base, reviewed)


def _has_landed(root: str, head: str, base: str) -> bool:
    """After a squash or a rebase, merging `head` changes no file, or the base has its patches.

    Commits that together change no file are in no base: nothing shows that they were merged.
    """
    start = repository.merge_base(root, head, base)
    trees = _trees(root, start, head, base) if start and start != base else []
    if not start or not trees or trees[0] == trees[1]:
        return False
    if merged_tree(root, base, head) == trees[2]:
        return True
    whole = _patch_ids(root, "diff", start, head)
    in_base = _log_ids(root, start, base)
    if whole and whole & in_base:
        return True
    each = _log_ids(root, start, head)
    return bool(each) and each <= in_base


def _log_ids(root: str, since: str, until: str) -> set[str]:
    count = f"--max-count={COMPARED}"
    return _patch_ids(root, "log", "--no-merges", "--patch", count, f"{since}..{until}")


def _patch_ids(root: str, *words: str) -> set[str]:
    """Return the ids of the patches that a git command prints."""
    command, *rest = words
    options = ("--no-ext-diff", "--no-textconv", "--full-index")
    patch = run(root, *PATCH_SETTINGS, command, *options, *rest)
    if patch.code != 0 or not patch.out.strip():
        return set()
    ids = run(root, "patch-id", "--stable", stdin=patch.out)
    return {line.split()[0] for line in lines(ids.out) if line.strip()}
