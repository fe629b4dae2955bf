"""Git commands for worktrees: look, create, remove, check out, commit, merge.

These are questions and single steps. `worktree` decides their order, so that nothing is lost.
"""

import os
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from orchestrator.errors import GitError
from orchestrator.git.call import ask, lines, reason, run
from orchestrator.system import files

#: The author of the commits that the product itself makes.
OUR_NAME = {
    "GIT_AUTHOR_NAME": "orchestrator",
    "GIT_AUTHOR_EMAIL": "orchestrator@localhost",
    "GIT_COMMITTER_NAME": "orchestrator",
    "GIT_COMMITTER_EMAIL": "orchestrator@localhost",
}


def is_worktree(path: str) -> bool:
    """Return whether `path` is the top of a linked worktree that its repository knows.

    Read from git's own files (gitrepository-layout(5), `worktrees/<id>/gitdir`): asked often.
    """
    folder = own_folder(path)
    if folder is None:
        return False
    back, common, head = (_words(os.path.join(folder, n)) for n in ("gitdir", "commondir", "HEAD"))
    # Git does not flush these files: after a power cut they can be empty, or full of zeros.
    if not (back and common and head):
        return False
    return os.path.realpath(os.path.dirname(back)) == os.path.realpath(path)


def _words(path: str) -> str:
    """Return the content of a small file of git; empty if it is missing or damaged."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read(4096).strip()
    except OSError:
        return ""
    return "" if "\0" in text else text


def add(root: str, path: str, commit: str) -> None:
    """Create a worktree with a detached HEAD (`-b` in parallel fails on the config lock)."""
    ask(root, "worktree", "add", "--quiet", "--force", "--detach", path, commit)


def remove(root: str, path: str) -> None:
    """Remove a worktree with its content: the caller must have rescued the content before."""
    ask(root, "worktree", "remove", "--force", "--force", path)


def prune(root: str) -> None:
    """Forget worktrees whose folders are gone."""
    ask(root, "worktree", "prune")


class State(NamedTuple):
    """A worktree's state: its commit, if any, its branch (None: detached), and its changes."""

    head: str | None
    branch: str | None
    #: None: git cannot tell.
    dirty: bool | None


def state(worktree: str) -> State:
    """Look at a worktree, untracked files included (ignored ones are not)."""
    options = ("--porcelain=v2", "--branch", "--untracked-files=normal")
    said = lines(ask(worktree, "status", *options))
    found = dict(line[2:].partition(" ")[::2] for line in said if line.startswith("# "))
    head, branch = found["branch.oid"], found["branch.head"]
    return State(
        None if head == "(initial)" else head,
        None if branch == "(detached)" else branch,
        dirty=any(not line.startswith("#") for line in said),
    )


def has_changes(worktree: str) -> bool:
    """Return whether tracked files differ from HEAD. Git never overwrites untracked files."""
    return bool(ask(worktree, "status", "--porcelain", "--untracked-files=no"))


def own_folder(worktree: str) -> str | None:
    """Return a linked worktree's own git folder, from its `.git` file; None without one."""
    word, _, path = _words(os.path.join(worktree, ".git")).partition(": ")
    return os.path.join(worktree, path) if word == "gitdir" else None


def ignored_files(root: str, patterns: str) -> list[str]:
    """Return the untracked files below `root` that match the patterns and that git ignores."""
    options = ("--others", "--ignored", f"--exclude-from={patterns}", "-z")
    names = [name for name in ask(root, "ls-files", *options).split("\0") if name]
    if not names:
        return []
    done = run(root, "check-ignore", "-z", "--stdin", stdin="\0".join(names))
    ignored = set(done.out.split("\0"))
    return [name for name in names if name in ignored and not name.startswith(".orchestrator/")]


def quit_operations(worktree: str) -> None:
    """End an unfinished rebase, bisect or similar operation: it keeps its branch occupied."""
    folder = own_folder(worktree) or ""
    if any(os.path.isdir(os.path.join(folder, n)) for n in ("rebase-merge", "rebase-apply")):
        run(worktree, "rebase", "--quit")  # its autostash goes to refs/stash
    for name in os.listdir(folder):
        if name.startswith("BISECT_") or (name.endswith("_HEAD") and name != "ORIG_HEAD"):
            os.unlink(os.path.join(folder, name))


def commit_all(worktree: str, message: str, index: str) -> str:
    """Return a commit of the whole state on top of HEAD, made in a throw-away index at `index`."""
    step = partial(ask, worktree, extra={"GIT_INDEX_FILE": index, **OUR_NAME})
    try:
        parents = ["-p", "HEAD"]
        staged = run(worktree, "write-tree")  # fails on conflicts, whose sides are in the history
        if staged.code == 0 and staged.out.strip() != step("rev-parse", "HEAD^{tree}"):
            parents += ["-p", step("commit-tree", staged.out.strip(), "-p", "HEAD", "-m", "Staged")]
        step("read-tree", "HEAD")
        # Before `add`: a file that was staged and then deleted is in the index alone.
        step("add", "--all", "--", ".")
        # A raw line is `:OLDMODE NEWMODE ...`; 160000 is a repository inside, and a commit would
        # keep only its name.
        added = lines(step("diff", "--cached", "--raw", "HEAD"))
        if any(line[8:14] == "160000" and line[1:7] != "160000" for line in added):
            raise GitError("there is a repository inside the worktree")
        tree = step("write-tree")
        return step("commit-tree", tree, *parents, "-m", message)
    finally:
        for leftover in (index, f"{index}.lock"):
            files.remove(leftover)


def detach(worktree: str, commit: str) -> None:
    """Check a commit out with a detached HEAD, throwing away changes of tracked files."""
    ask(worktree, "checkout", "--quiet", "--force", "--detach", commit)


def advance(worktree: str, commit: str) -> None:
    """Move the checked-out branch, and its files, forward to a commit. Raises GitError."""
    ask(worktree, "merge", "--quiet", "--ff-only", commit)


def clean(worktree: str) -> None:
    """Remove untracked files; ignored ones (installed dependencies, caches) stay."""
    ask(worktree, "clean", "-ffdq")


def start_branch(worktree: str, branch: str, commit: str) -> None:
    """Make a branch at a commit and check it out, throwing away changes of tracked files."""
    ask(worktree, "checkout", "--quiet", "--force", "--no-track", "-b", branch, commit)


def _listed(root: str) -> Iterator[tuple[str, str]]:
    """Yield the path of each worktree, with the branch that it has checked out ("": detached)."""
    for block in ask(root, "worktree", "list", "--porcelain").split("\n\n"):
        found = dict(line.partition(" ")[::2] for line in lines(block))
        yield found["worktree"], found.get("branch", "").removeprefix("refs/heads/")


def holder_of(root: str, branch: str) -> str | None:
    """Return the path of the worktree that has `branch` checked out; None without one."""
    return next((path for path, checked_out in _listed(root) if checked_out == branch), None)


def holders(root: str) -> dict[str, str]:
    """Return the branches that worktrees have checked out, each with the worktree's path.

    During a rebase or a bisect HEAD is detached, but the operation returns to its branch at the
    end: such a branch counts as checked out, as it does for `git branch -d`.
    """
    found: dict[str, str] = {}
    for path, branch in _listed(root):
        folder = own_folder(path) or os.path.join(path, ".git")
        amid = (
            _words(os.path.join(folder, name)).removeprefix("refs/heads/")
            for name in ("rebase-merge/head-name", "rebase-apply/head-name", "BISECT_START")
        )
        found |= dict.fromkeys(filter(None, (branch, *amid)), path)
    return found


def join(worktree: str, base: str, head: str, method: str, message: str) -> str | list[str]:
    """Bring `head` onto `base` in a detached worktree; return the new commit.

    `method` is merge (a merge commit), squash (one commit), rebase (a copy of each commit) or
    fast-forward (`head` itself, which contains the base).
    Returns the files in conflict instead; then everything is undone. Raises GitError.
    """
    author = ask(worktree, "log", "-1", "--format=%an <%ae>", head)
    if method == "fast-forward":
        return head
    if method == "rebase":
        detach(worktree, head)
        done = run(worktree, "rebase", "--quiet", base, extra=OUR_NAME)
    elif method == "squash":
        detach(worktree, base)
        done = run(worktree, "merge", "--squash", "--quiet", head, extra=OUR_NAME)
        if done.code == 0:
            named = ("--author", author, "-m", message)
            done = run(worktree, "commit", "--quiet", "--no-verify", *named, extra=OUR_NAME)
    else:
        detach(worktree, base)
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
