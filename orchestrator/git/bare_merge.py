"""A merge without a worktree: `git merge-tree` and `git commit-tree` (git 2.38 or newer).

It takes as long in a repository of 50,000 files as in a small one. It gives what a merge in a
worktree gives, or no answer: `git merge-tree` knows no submodule's commits, reads no
`.gitattributes` of a commit, and starts merge drivers in its own folder.
"""

import os
import re
from collections.abc import Collection
from functools import partial
from itertools import islice

from orchestrator.git import place, settings
from orchestrator.git.call import ask, run
from orchestrator.git.whole_state import remove_index
from orchestrator.git.worktree_commands import OUR_NAME
from orchestrator.model.fields import NamedTuple

#: Settings by which a merge in a worktree differs: another strategy, a longer message, contents
#: that are converted first, a driver for all files.
_OTHER = r"pull\.twohead|merge\.(log|renormalize|default)"
#: Conflicts that name the same files in a worktree.
_PLAIN = ("CONFLICT (contents)", "CONFLICT (binary)", "CONFLICT (modify/delete)")
_MERGED = "Auto-merging"
_TREE = re.compile(r"[0-9a-f]{40,64}")
#: The values of the attribute `merge` for files that git merges as text.
_AS_TEXT = ("unspecified", "set", "text")


class _Found(NamedTuple):
    """What `git merge-tree` says."""

    tree: str
    conflicting: list[str]
    #: The files whose contents were merged, line by line.
    merged: set[str]
    #: What kinds of remarks it made.
    kinds: set[str]


def join(
    root: str, scratch: str, base: str, head: str, method: str, message: str
) -> str | list[str] | None:
    """Return the commit that brings `head` onto `base`, or the files in which that conflicts.

    None if only a merge in a worktree can tell (`worktree_merge.join`, which also lists the
    methods). `scratch` is an empty folder; a file beside it is used. Raises GitError.
    """
    if method == "fast-forward":
        return head
    if method == "rebase" or settings.matching(root, _OTHER):
        return None
    found = _merge(root, scratch, base, head)
    if found is None or not found.kinds <= {_MERGED, *_PLAIN}:
        return None
    if found.merged and not _are_text(root, scratch, base, found.merged):
        return None
    if found.conflicting:
        return found.conflicting
    if method == "squash":
        return _squashed(root, found.tree, base, head, message)
    return _commit(root, found.tree, (base, head), message, {})


def _merge(root: str, scratch: str, base: str, head: str) -> _Found | None:
    """Return the answer of `git merge-tree`; None without an answer, as of an older git."""
    words = ("merge-tree", "--write-tree", "-z", "--name-only", "--messages", base, head)
    # In the person's checkout, git would read the `.gitattributes` files there.
    done = run(scratch, *words, extra=_told(root))
    said = iter(done.out.split("\0"))
    tree = next(said)
    if done.code not in (0, 1) or not _TREE.fullmatch(tree) or "\ufffd" in done.out:
        return None
    conflicting = list(iter(partial(next, said, ""), ""))
    merged, kinds = set(), set()
    for number in said:
        if not number.isdigit():
            break  # what is left after the last remark
        paths = [*islice(said, int(number))]
        kinds.add(kind := next(said))
        next(said)  # the remark as a text
        merged |= {*paths} if kind == _MERGED else set()
    return _Found(tree, conflicting, merged, kinds)


def _told(root: str) -> dict[str, str]:
    return {"GIT_DIR": place.common_folder(root)}


def _are_text(root: str, scratch: str, base: str, paths: Collection[str]) -> bool:
    """Whether git merges these files as text, by the attributes that a worktree at `base` has."""
    folders = {""}
    for path in paths:
        while path := os.path.dirname(path):
            folders.add(f"{path}/")
    wanted = (f"{folder}.gitattributes" for folder in sorted(folders))
    entries = ask(root, "ls-tree", "-z", "--full-tree", base, "--", *wanted)
    index = f"{scratch}.index"
    step = partial(ask, scratch, extra={**_told(root), "GIT_INDEX_FILE": index})
    remove_index(index)  # of a process that was killed
    try:
        if entries:
            step("update-index", "-z", "--index-info", stdin=entries)
        asked = "".join(f"{path}\0" for path in paths)
        said = step("check-attr", "--cached", "-z", "--stdin", "merge", stdin=asked)
    finally:
        remove_index(index)
    return all(value in _AS_TEXT for value in said.split("\0")[2::3])


def _squashed(root: str, tree: str, base: str, head: str, message: str) -> str:
    """Return one commit with the author of `head`, or the base if it has the contents already."""
    said = ask(root, "log", "--no-walk=unsorted", "--format=%T%x00%an%x00%ae", base, head)
    rows = [line.split("\0") for line in said.split("\n")]
    if tree == rows[0][0]:
        return base
    _, name, mail = rows[-1]
    author = {"GIT_AUTHOR_NAME": name, "GIT_AUTHOR_EMAIL": mail}
    return _commit(root, tree, (base,), message, author)


def _commit(
    root: str, tree: str, parents: Collection[str], message: str, author: dict[str, str]
) -> str:
    words = [word for parent in parents for word in ("-p", parent)]
    return ask(root, "commit-tree", tree, *words, "-m", message, extra={**OUR_NAME, **author})
