"""Merges of two commits: without a worktree, or in one where that could give something else.

A merge without a worktree is `git merge-tree` and `git commit-tree` (git 2.38 or newer). It takes
as long in a repository of 50,000 files as in a small one. It gives what a merge in a worktree
gives, or no answer: `git merge-tree` knows no submodule's commits, reads no `.gitattributes` of a
commit, and starts merge drivers in its own folder.
"""

import os
import re
from collections.abc import Collection
from functools import partial
from itertools import islice

from orchestrator.git import place, settings
from orchestrator.git.call import ask, lines, reason, run
from orchestrator.git.whole_state import throw_away_index
from orchestrator.git.worktree_commands import OUR_NAME, commit_tree, detach, quit_operations
from orchestrator.model.errors import GitError
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

    None if only a merge in a worktree can tell (`join_in_worktree`, which also lists the methods).
    `scratch` is an empty folder; a file beside it is used. Raises GitError.
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
    return commit_tree(root, found.tree, (base, head), message)


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
    with throw_away_index(f"{scratch}.index") as where:
        step = partial(ask, scratch, extra={**_told(root), **where})
        if entries:
            step("update-index", "-z", "--index-info", stdin=entries)
        asked = "".join(f"{path}\0" for path in paths)
        said = step("check-attr", "--cached", "-z", "--stdin", "merge", stdin=asked)
    return all(value in _AS_TEXT for value in said.split("\0")[2::3])


def _squashed(root: str, tree: str, base: str, head: str, message: str) -> str:
    """Return one commit with the author of `head`, or the base if it has the contents already."""
    said = ask(root, "log", "--no-walk=unsorted", "--format=%T%x00%an%x00%ae", base, head)
    rows = [line.split("\0") for line in said.split("\n")]
    if tree == rows[0][0]:
        return base
    _, name, mail = rows[-1]
    author = {"GIT_AUTHOR_NAME": name, "GIT_AUTHOR_EMAIL": mail}
    return commit_tree(root, tree, (base,), message, **author)


def join_in_worktree(
    worktree: str, base: str, head: str, method: str, message: str
) -> str | list[str]:
    """Bring `head` onto `base` in a detached worktree that is at `base`; return the new commit.

    `method` is merge (a merge commit), squash (one commit), rebase (a copy of each commit) or
    fast-forward (`head` itself, which contains the base). A squash or a rebase that changes no file
    is `base` itself: git makes no such commit.
    Returns the files in conflict instead; then everything is undone. Raises GitError.
    """
    if method == "fast-forward":
        return head
    if method == "rebase":
        detach(worktree, head)
        done = run(worktree, "rebase", "--quiet", base, extra=OUR_NAME)
    elif method == "squash":
        author = ask(worktree, "log", "-1", "--format=%an <%ae>", head)
        done = run(worktree, "merge", "--squash", "--quiet", head, extra=OUR_NAME)
        if done.code == 0 and run(worktree, "diff", "--cached", "--quiet").code == 0:
            return base
        if done.code == 0:
            named = ("--author", author, "-m", message)
            done = run(worktree, "commit", "--quiet", "--no-verify", *named, extra=OUR_NAME)
    else:
        words = ("--no-ff", "--quiet", "-m", message)
        done = run(worktree, "merge", *words, head, extra=OUR_NAME)
    if done.code == 0:
        return ask(worktree, "rev-parse", "HEAD")
    names = lines(ask(worktree, "diff", "--name-only", "--diff-filter=U"))
    quit_operations(worktree)
    detach(worktree, base)
    if not names:
        raise GitError(f"git {method} failed: {reason(done.err or done.out)}")
    return names
