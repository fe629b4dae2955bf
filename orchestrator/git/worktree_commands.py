"""Git commands for worktrees: look, create, remove, check out.

These are questions and single steps. `worktree` decides their order, so that nothing is lost.
"""

import contextlib
import os
import re
from collections.abc import Iterable

from orchestrator import layout
from orchestrator.git import place, run_locks
from orchestrator.git.call import CHECKOUT_TIMEOUT, ask, lines, run
from orchestrator.model.fields import NamedTuple
from orchestrator.system import files

#: The author of the commits that the product itself makes.
OUR_NAME = {
    "GIT_AUTHOR_NAME": "orchestrator",
    "GIT_AUTHOR_EMAIL": "orchestrator@localhost",
    "GIT_COMMITTER_NAME": "orchestrator",
    "GIT_COMMITTER_EMAIL": "orchestrator@localhost",
}


def commit_tree(cwd: str, tree: str, parents: Iterable[str], said: str, **extra: str) -> str:
    """Return a new commit of the product with a tree; `extra` are variables. Raises GitError."""
    words = [word for parent in parents for word in ("-p", parent)]
    return ask(cwd, "commit-tree", tree, *words, "-m", said, extra={**OUR_NAME, **extra})


def is_worktree(path: str) -> bool:
    """Return whether `path` is the top of a worktree of the product that its repository knows.

    Read from git's own files: asked often.
    """
    around = layout.worktree_around(path)
    if around is None or around[1] != os.path.abspath(path):
        return False
    return place.own_folder(*around) is not None


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
    index = os.path.join(git_folder(worktree), "index")
    if os.path.lexists(index) or run(worktree, "rev-parse", "--verify", "--quiet", "HEAD").code:
        return
    ask(worktree, "read-tree", "HEAD", timeout=CHECKOUT_TIMEOUT)
    run(worktree, "checkout-index", "--all", "--quiet", timeout=CHECKOUT_TIMEOUT)


def remove(root: str, path: str) -> None:
    """Remove a worktree with its content: the caller must have rescued the content before."""
    ask(root, "worktree", "remove", "--force", "--force", path)


def forget(root: str, path: str) -> None:
    """Forget the worktree at `path` if its folder is gone, also if the product had locked it.

    Not with `git worktree prune`: that forgets each worktree of the person's whose disk is not
    mounted just now, with its index, and with commits that only its HEAD names.
    """
    folder = place.registered(root, path)
    if folder is None or os.path.lexists(os.path.join(path, ".git")):
        return
    if persons_lock_in(folder) is not None:
        return
    files.remove_tree(folder)
    with contextlib.suppress(OSError):  # git, too, removes the folder of all worktrees with them
        os.rmdir(os.path.dirname(folder))


def lock(path: str, run_id: str, agent: str) -> None:
    """Lock a worktree: no `git worktree prune`, `remove` or `move` takes it away from its run.

    Other programs also respect the lock (`gh pr merge --delete-branch`). A person's own lock stays.
    """
    folder = own_folder(path)
    if folder is not None and not place.words(os.path.join(folder, "locked")):
        why = f"{run_locks.reason(run_id, agent)}\n".encode()
        files.write_atomic(os.path.join(folder, "locked"), why, 0o644)


def unlock(path: str) -> None:
    """Take the product's own lock off a worktree, also if the worktree itself is gone."""
    around = layout.worktree_around(path)
    folder = own_folder(path) or (place.registered(*around) if around else None)
    if folder is not None and place.words(os.path.join(folder, "locked")).startswith(
        run_locks.OURS
    ):
        files.remove(os.path.join(folder, "locked"))


def persons_lock(path: str) -> str | None:
    """Return the reason for which a person locked a worktree; None without such a lock."""
    folder = own_folder(path)
    return persons_lock_in(folder) if folder else None


def persons_lock_in(folder: str) -> str | None:
    """Return the reason for which a person locked the worktree of a git folder; None without."""
    if not os.path.lexists(os.path.join(folder, "locked")):
        return None
    why = place.words(os.path.join(folder, "locked"))
    return None if why.startswith(run_locks.OURS) else why or "no reason given"


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


def changed_files(worktree: str, *paths: str, untracked: str = "no") -> list[str]:
    """Return the tracked files that differ from HEAD, below some pathspecs of git.

    With `untracked` "normal", the untracked files that are not ignored are among them.
    """
    options = ("--porcelain", "-z", "--no-renames", f"--untracked-files={untracked}", _NOT_INSIDE)
    return [row[3:] for row in ask(worktree, "status", *options, "--", *paths).split("\0") if row]


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


def git_folder(checkout: str) -> str:
    """Return the git folder of a checkout, of a linked worktree or of a submodule."""
    return own_folder(checkout) or os.path.join(checkout, ".git")


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


def detach(worktree: str, commit: str) -> None:
    """Check a commit out with a detached HEAD, throwing away changes of tracked files."""
    words = ("--quiet", "--force", "--detach", commit)
    ask(worktree, "checkout", *words, timeout=CHECKOUT_TIMEOUT)


def let_go(worktree: str, commit: str) -> bool:
    """Detach HEAD from its branch, which is at `commit`; return False if git has to do that.

    As git does it, with the lock that git takes, but without a look at each file. Where HEAD is no
    file of its own (git's reftables), git has to do it; also where a killed git has left its lock,
    so that the lock is met, and removed (`call`).
    """
    folder = own_folder(worktree)
    if folder and os.path.lexists(os.path.join(folder, "index.lock")):
        return False
    said = place.words(os.path.join(folder, "HEAD")) if folder else ""
    if said == commit:
        return True
    common = place.words(os.path.join(folder or "", "commondir"))
    branch = os.path.join(folder or "", common, said.removeprefix("ref: "))
    if not (folder and said.startswith("ref: refs/heads/") and place.words(branch) == commit):
        return False
    lock = os.path.join(folder, "HEAD.lock")
    try:
        descriptor = os.open(lock, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError:
        return False
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{commit}\n")
            file.flush()
            os.fsync(file.fileno())
        os.rename(lock, os.path.join(folder, "HEAD"))
    except BaseException:
        files.remove(lock)
        raise
    return True


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
