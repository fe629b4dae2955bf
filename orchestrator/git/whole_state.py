"""A commit of the whole state of a worktree, made in a throw-away index: nothing else changes."""

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from functools import partial

from orchestrator.git.call import again, ask, run
from orchestrator.git.worktree_commands import OUR_NAME, git_folder
from orchestrator.model.errors import GitError, GitKilled
from orchestrator.system import files


class RepositoryInside(GitError):
    """A repository is in the worktree: a commit has its files, but not its history."""

    def __init__(self, commit: str) -> None:
        super().__init__("there is a repository inside the worktree")
        #: The commit of the whole state.
        self.commit = commit


def commit_all(worktree: str, message: str, index: str) -> str | None:
    """Return a commit of the whole state on top of HEAD, made in a throw-away index at `index`.

    None if nothing differs from what a checkout of HEAD writes. Begins again after a git that was
    killed. Raises RepositoryInside.
    """
    return again(partial(_commit_all, worktree, message, index))


def _commit_all(worktree: str, message: str, index: str) -> str | None:
    with throw_away_index(index) as where:
        step = partial(ask, worktree, extra={**where, **OUR_NAME})
        parents, head = ["-p", "HEAD"], step("rev-parse", "HEAD^{tree}")
        staged = run(worktree, "write-tree")  # fails on conflicts, whose sides are in the history
        if staged.code is not None and staged.code < 0:
            raise GitKilled("git write-tree was killed")
        if staged.code == 0 and staged.out.strip() != head:
            parents += ["-p", step("commit-tree", staged.out.strip(), "-p", "HEAD", "-m", "Staged")]
        step("read-tree", "HEAD")
        # Before `add`: a file that was staged and then deleted is in the index alone.
        step("add", "--all", "--", ".")
        # A raw row is `:OLDMODE NEWMODE ...`; 160000 is a repository inside, and a commit would
        # keep only its name.
        said = step("diff", "--cached", "--raw", "-z", "--no-abbrev", "--no-renames", "HEAD")
        rows = re.findall(r":(\d+) (\d+) (\w+) \w+ (\w)\0([^\0]+)", said)
        inside = [path for old, new, _, _, path in rows if new == "160000" != old]
        for path in inside:
            _as_files(worktree, index, path)
        _leave_out_phantoms(worktree, index, [(m, c, path) for m, n, c, _, path in rows if m == n])
        tree = step("write-tree")
        if tree == head and len(parents) == 2 and not inside:
            return None
        commit = step("commit-tree", tree, *parents, "-m", message)
        if inside:
            raise RepositoryInside(commit)
        return commit


def _as_files(worktree: str, index: str, path: str) -> None:
    """Replace, in a throw-away index, the entry of a repository inside by that repository's files.

    Git is told where it works, so that it does not read the configuration of that repository.
    """
    folder, files_only = git_folder(worktree), f"{index}.head"
    there, extra = os.path.join(worktree, path), {"GIT_INDEX_FILE": files_only}
    files.remove(files_only)
    told = (f"--git-dir={os.path.abspath(folder)}", f"--work-tree={there}")
    ask(worktree, "-C", there, *told, "add", "--all", "--", ".", extra=extra)
    tree = ask(worktree, "write-tree", extra=extra)
    files.remove(files_only)
    extra = {"GIT_INDEX_FILE": index}
    ask(worktree, "update-index", "--force-remove", "--", path.rstrip("/"), extra=extra)
    ask(worktree, "read-tree", f"--prefix={path.rstrip('/')}/", tree, extra=extra)


@contextlib.contextmanager
def throw_away_index(index: str) -> Iterator[dict[str, str]]:
    """Provide the variables with which git has a throw-away index; it is removed at the end."""
    _remove_index(index)  # of a process that was killed
    try:
        yield {"GIT_INDEX_FILE": index}
    finally:
        _remove_index(index)


def _remove_index(index: str) -> None:
    """Remove a throw-away index, and what is made beside it."""
    for name in ("", ".lock", ".head", ".head.lock", ".written"):
        files.remove_tree(f"{index}{name}")


def _leave_out_phantoms(worktree: str, index: str, changed: list[tuple[str, str, str]]) -> None:
    """Take those files out of a throw-away index that are as a checkout of HEAD writes them.

    Git can call such a file changed: its line endings or its filter do not come back from a
    checkout as they were committed. `changed` has mode, id and path of each file at HEAD.
    """
    import filecmp

    regular = [row for row in changed if row[0].startswith("100")]
    if not regular:
        return
    written, other = f"{index}.written", f"{index}.head"
    step = partial(run, worktree, extra={"GIT_INDEX_FILE": other})
    try:
        ask(worktree, "read-tree", "HEAD", extra={"GIT_INDEX_FILE": other})
        names = "".join(f"{path}\0" for *_, path in regular)
        step("checkout-index", "--quiet", "-z", "--stdin", f"--prefix={written}/", stdin=names)
        same = [row for row in regular if _are_equal(filecmp.cmp, worktree, written, row[2])]
        entries = "".join(f"{mode} {commit}\t{path}\0" for mode, commit, path in same)
        if same:
            words = ("update-index", "-z", "--index-info")
            ask(worktree, *words, stdin=entries, extra={"GIT_INDEX_FILE": index})
    finally:
        files.remove_tree(written)


def _are_equal(compare: Callable[..., bool], one: str, other: str, path: str) -> bool:
    try:
        return compare(os.path.join(one, path), os.path.join(other, path), shallow=False)
    except OSError:
        return False
