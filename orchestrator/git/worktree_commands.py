"""Git commands for worktrees: look, create, remove, check out, commit, merge.

These are questions and single steps. `worktree` decides their order, so that nothing is lost.
"""

import os
import re
from collections.abc import Callable, Iterator
from functools import partial

from orchestrator import layout
from orchestrator.errors import GitError, GitKilled
from orchestrator.fields import NamedTuple
from orchestrator.git import place
from orchestrator.git.call import CHECKOUT_TIMEOUT, again, ask, lines, reason, run
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

    Read from git's own files: asked often.
    """
    around = layout.worktree_around(path)
    if around is not None:
        return around[1] == os.path.abspath(path) and place.own_folder(*around) is not None
    folder = own_folder(path)
    back = place.words(os.path.join(folder, "gitdir")) if folder else ""
    return back != "" and os.path.realpath(os.path.dirname(back)) == os.path.realpath(path)


def add(root: str, path: str, commit: str) -> None:
    """Create a worktree with a detached HEAD (`-b` in parallel fails on the config lock)."""
    from orchestrator.git import drivers  # no tick needs it

    whole = ("-c", "core.sparseCheckout=false")
    # Twice: also in the place of a locked worktree whose folder is gone.
    words = ("worktree", "add", "--quiet", "--force", "--force", "--detach", path, commit)
    ask(root, *whole, *words, timeout=CHECKOUT_TIMEOUT, extra=drivers.for_new(root, path))
    make_whole(path)


def make_whole(worktree: str) -> None:
    """End a sparse checkout: agents and checks see every file.

    Git copies the patterns of the person's sparse checkout into each new worktree, and an agent can
    set its own. A worktree without patterns costs no git process.
    """
    folder = own_folder(worktree) or ""
    patterns = os.path.join(folder, "info", "sparse-checkout")
    if not folder or not os.path.lexists(patterns):
        return
    # Git restores the files that it left out only while these patterns name all files.
    files.write_atomic(patterns, b"/*\n", 0o644)
    cone = ("-c", "core.sparseCheckoutCone=false", "-c", "index.sparse=false")
    ask(worktree, "-c", "core.sparseCheckout=true", *cone, "read-tree", "-m", "-u", "HEAD")
    files.remove(patterns)
    if os.path.isfile(os.path.join(folder, "config.worktree")):
        run(worktree, "config", "--worktree", "core.sparseCheckout", "false")
        run(worktree, "config", "--worktree", "index.sparse", "false")


def finish_checkout(worktree: str) -> None:
    """Finish a first checkout that was killed: files that it had not written are not deleted ones.

    Git writes the index last. Files that are there stay as they are.
    """
    index = os.path.join(own_folder(worktree) or os.path.join(worktree, ".git"), "index")
    if os.path.lexists(index) or run(worktree, "rev-parse", "--verify", "--quiet", "HEAD").code:
        return
    ask(worktree, "read-tree", "HEAD", timeout=CHECKOUT_TIMEOUT)
    run(worktree, "checkout-index", "--all", "--quiet", timeout=CHECKOUT_TIMEOUT)


def remove(root: str, path: str) -> None:
    """Remove a worktree with its content: the caller must have rescued the content before."""
    ask(root, "worktree", "remove", "--force", "--force", path)


def prune(root: str) -> None:
    """Forget worktrees whose folders are gone, also those that the product had locked."""
    trees = os.path.join(own_folder(root) or os.path.join(root, ".git"), "worktrees")
    for name in files.folders(trees):
        locked, back = (os.path.join(trees, name, file) for file in ("locked", "gitdir"))
        if place.words(locked).startswith(_OUR_LOCK) and not os.path.lexists(place.words(back)):
            files.remove(locked)
    ask(root, "worktree", "prune")


#: How the reason of a lock begins that the product put on a worktree.
_OUR_LOCK = "orchestrator: "


def lock(path: str, why: str) -> None:
    """Lock a worktree: no `git worktree prune`, `remove` or `move` takes it away from its run.

    Other programs also respect the lock (`gh pr merge --delete-branch`). Written as git writes it
    (gitrepository-layout(5), `worktrees/<id>/locked`). A person's own lock stays.
    """
    folder = own_folder(path)
    if folder is not None and not place.words(os.path.join(folder, "locked")):
        files.write_atomic(os.path.join(folder, "locked"), f"{_OUR_LOCK}{why}\n".encode(), 0o644)


def unlock(path: str) -> None:
    """Take the product's own lock off a worktree."""
    folder = own_folder(path)
    if folder is not None and place.words(os.path.join(folder, "locked")).startswith(_OUR_LOCK):
        files.remove(os.path.join(folder, "locked"))


def persons_lock(path: str) -> str | None:
    """Return the reason for which a person locked a worktree; None without such a lock."""
    folder = own_folder(path)
    if folder is None or not os.path.lexists(os.path.join(folder, "locked")):
        return None
    why = place.words(os.path.join(folder, "locked"))
    return None if why.startswith(_OUR_LOCK) else why or "no reason given"


_NOT_INSIDE = "--ignore-submodules=dirty"


class State(NamedTuple):
    """A worktree's state: its commit, if any, its branch (None: detached), and its changes."""

    head: str | None
    branch: str | None
    #: None: git cannot tell.
    dirty: bool | None


def state(worktree: str) -> State:
    """Look at a worktree, untracked files included (ignored ones are not)."""
    # Whether a submodule has another commit, not what is in it: that is `submodule_rescue`'s work,
    # and git would use the configuration of a repository that an agent made.
    options = ("--porcelain=v2", "--branch", "--untracked-files=normal", _NOT_INSIDE)
    said = lines(ask(worktree, "status", *options))
    found = dict(line[2:].partition(" ")[::2] for line in said if line.startswith("# "))
    head, branch = found["branch.oid"], found["branch.head"]
    return State(
        None if head == "(initial)" else head,
        None if branch == "(detached)" else branch,
        dirty=any(not line.startswith("#") for line in said),
    )


def changed_files(worktree: str, *, without: str | None = None) -> list[str]:
    """Return the tracked files that differ from HEAD, except for one path."""
    paths = (".", f":(top,exclude,literal){without}") if without else ()
    options = ("--porcelain", "-z", "--no-renames", "--untracked-files=no", _NOT_INSIDE)
    return [row[3:] for row in ask(worktree, "status", *options, "--", *paths).split("\0") if row]


def all_changes(worktree: str) -> list[str]:
    """Return the files that differ from HEAD, and the untracked files that are not ignored."""
    options = ("--porcelain", "-z", "--no-renames", "--untracked-files=normal", _NOT_INSIDE)
    return [row[3:] for row in ask(worktree, "status", *options).split("\0") if row]


def head_moves(worktree: str, most: int) -> list[str]:
    """Return the commits that a worktree's HEAD was at, the newest first, as far as git noted."""
    done = run(
        worktree, "log", "--walk-reflogs", f"--max-count={most}", "--format=%H", "HEAD", "--"
    )
    return list(dict.fromkeys(lines(done.out))) if done.code == 0 else []


def own_folder(worktree: str) -> str | None:
    """Return the git folder of a linked worktree or of a submodule; None without one.

    In an agent's worktree, only a folder of that worktree's own counts (`place`).
    """
    around = layout.worktree_around(worktree)
    if around is None:
        return place.linked_folder(worktree)
    own = place.own_folder(*around)
    if own is None or around[1] == os.path.abspath(worktree):
        return own
    return place.submodule_folder(own, worktree)


def ignored_files(root: str, patterns: str) -> list[str]:
    """Return the untracked files below `root` that match the patterns and that git ignores."""
    options = ("--others", "--ignored", f"--exclude-from={patterns}", "-z")
    names = [name for name in ask(root, "ls-files", *options).split("\0") if name]
    if not names:
        return []
    done = run(root, "check-ignore", "-z", "--stdin", stdin="\0".join(names))
    ignored = set(done.out.split("\0"))
    return [name for name in names if name in ignored and not name.startswith(".orchestrator/")]


def not_ignored(worktree: str, paths: list[str]) -> list[str]:
    """Return the paths in a worktree that git does not ignore; none if git cannot tell."""
    names = {os.path.relpath(path, worktree): path for path in paths if _is_text(path)}
    if not names:
        return []
    done = run(worktree, "check-ignore", "-z", "--stdin", stdin="".join(f"{n}\0" for n in names))
    ignored = {*done.out.split("\0"), *(names if done.code not in (0, 1) else ())}
    return [path for name, path in names.items() if name not in ignored]


def _is_text(path: str) -> bool:
    """Return whether a path can be given to git as text: it is valid UTF-8."""
    return not any("\ud800" <= letter <= "\udfff" for letter in path)


def quit_operations(worktree: str) -> None:
    """End an unfinished rebase, bisect or similar operation: it keeps its branch occupied.

    The next task's git would continue it, or take its message for a commit.
    """
    folder = own_folder(worktree) or ""
    if any(os.path.isdir(os.path.join(folder, n)) for n in ("rebase-merge", "rebase-apply")):
        run(worktree, "rebase", "--quit")  # `left_behind` has kept its autostash
    for name in os.listdir(folder):
        if re.fullmatch(_OPERATION, name):
            files.remove_tree(os.path.join(folder, name))


#: What operations leave in a git folder until they end: git's function `remove_branch_state`, and
#: the folders of rebase, am and cherry-pick if git itself did not remove them.
_OPERATION = (
    r"BISECT_.*|(?!ORIG_).*_HEAD|MERGE_(MSG|MODE|RR|AUTOSTASH)|SQUASH_MSG|AUTO_MERGE"
    r"|sequencer|rebase-(merge|apply)"
)


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
    step = partial(ask, worktree, extra={"GIT_INDEX_FILE": index, **OUR_NAME})
    remove_index(index)  # of a process that was killed
    try:
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
    finally:
        remove_index(index)


def _as_files(worktree: str, index: str, path: str) -> None:
    """Replace, in a throw-away index, the entry of a repository inside by that repository's files.

    Git is told where it works, so that it does not read the configuration of that repository.
    """
    folder, files_only = own_folder(worktree) or os.path.join(worktree, ".git"), f"{index}.head"
    there, extra = os.path.join(worktree, path), {"GIT_INDEX_FILE": files_only}
    files.remove(files_only)
    told = (f"--git-dir={os.path.abspath(folder)}", f"--work-tree={there}")
    ask(worktree, "-C", there, *told, "add", "--all", "--", ".", extra=extra)
    tree = ask(worktree, "write-tree", extra=extra)
    files.remove(files_only)
    extra = {"GIT_INDEX_FILE": index}
    ask(worktree, "update-index", "--force-remove", "--", path.rstrip("/"), extra=extra)
    ask(worktree, "read-tree", f"--prefix={path.rstrip('/')}/", tree, extra=extra)


def remove_index(index: str) -> None:
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


def detach(worktree: str, commit: str) -> None:
    """Check a commit out with a detached HEAD, throwing away changes of tracked files."""
    words = ("--quiet", "--force", "--detach", commit)
    ask(worktree, "checkout", *words, timeout=CHECKOUT_TIMEOUT)


def advance(worktree: str, commit: str) -> None:
    """Move the checked-out branch, and its files, forward to a commit. Raises GitError."""
    ask(worktree, "merge", "--quiet", "--ff-only", commit)


def clean(worktree: str) -> None:
    """Remove untracked files; ignored ones (installed dependencies, caches) stay."""
    ask(worktree, "clean", "-ffdq")


def start_branch(worktree: str, branch: str, commit: str) -> None:
    """Make a branch at a commit and check it out, throwing away changes of tracked files."""
    words = ("--quiet", "--force", "--no-track", "-b", branch, commit)
    ask(worktree, "checkout", *words, timeout=CHECKOUT_TIMEOUT)


def leads_to(root: str, path: str) -> bool:
    """Return whether git would work with this repository in one of its worktrees.

    Another program could have put another repository there, whose configuration git would believe.
    """
    is_main = os.path.realpath(path) == os.path.realpath(root)
    return is_main or place.own_folder(root, path) is not None


def listed(root: str) -> list[str]:
    """Return the path of every worktree of the repository, the main worktree first."""
    return [path for path, _ in _listed(root)]


def _listed(root: str) -> Iterator[tuple[str, str]]:
    """Yield the path of each worktree, with the branch that it has checked out ("": detached)."""
    for block in ask(root, "worktree", "list", "--porcelain").split("\n\n"):
        found = dict(line.partition(" ")[::2] for line in lines(block))
        yield found["worktree"], found.get("branch", "").removeprefix("refs/heads/")


def heads(root: str) -> Iterator[tuple[str, str]]:
    """Yield the path of each worktree, with the commit of its HEAD (zeros: none)."""
    for block in ask(root, "worktree", "list", "--porcelain").split("\n\n"):
        found = dict(line.partition(" ")[::2] for line in lines(block))
        if "HEAD" in found:
            yield found["worktree"], found["HEAD"]


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
            place.words(os.path.join(folder, name)).removeprefix("refs/heads/")
            for name in ("rebase-merge/head-name", "rebase-apply/head-name", "BISECT_START")
        )
        found |= dict.fromkeys(filter(None, (branch, *amid)), path)
    return found


def join(worktree: str, base: str, head: str, method: str, message: str) -> str | list[str]:
    """Bring `head` onto `base` in a detached worktree that is at `base`; return the new commit.

    `method` is merge (a merge commit), squash (one commit), rebase (a copy of each commit) or
    fast-forward (`head` itself, which contains the base).
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
