"""Git: one function a question, with a clean environment.

Our calls never prompt, sign, run the user's hooks, read the caller's GIT_* variables or start
background work (CONTRACT 8.5). The human's checkout, branch and index are never touched: everything
happens in worktrees of our own, by commit ids and full ref names.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from orchestrator import process
from orchestrator.errors import GitError, OrchestratorError, SystemFault

#: Seconds for a command that only reads or writes this disk, and for one that talks to a remote.
LOCAL_TIMEOUT = 120.0
REMOTE_TIMEOUT = 180.0
#: The same inside a tick, which others wait for.
TICK_TIMEOUT = 20.0

RESCUE = "refs/orchestrator/rescue/"

_SETTINGS = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.quotePath=false",
    "commit.gpgSign=false",
    "push.gpgSign=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "submodule.recurse=false",
    "core.safecrlf=false",
    "push.followTags=false",
    "merge.verifySignatures=false",
    "advice.detachedHead=false",
)
_OPTIONS = tuple(word for setting in _SETTINGS for word in ("-c", setting))

#: GIT_* variables that say how to reach a remote or where the configuration is; all others go.
_KEPT = (
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_SYSTEM",
    "GIT_CONFIG_NOSYSTEM",
    "GIT_EXEC_PATH",
    "GIT_SSL_CAINFO",
    "GIT_SSL_NO_VERIFY",
)


def environment(base: Mapping[str, str], **extra: str) -> dict[str, str]:
    """Return the environment for our git calls, made from `base`."""
    clean = {k: v for k, v in base.items() if not k.startswith("GIT_") or k in _KEPT}
    clean.update(
        GIT_TERMINAL_PROMPT="0",
        GIT_ASKPASS="true",
        SSH_ASKPASS="true",
        GIT_OPTIONAL_LOCKS="0",
        GIT_EDITOR="true",
        GIT_MERGE_AUTOEDIT="no",
        LC_ALL="C",
    )
    clean.setdefault("GIT_SSH_COMMAND", "ssh -oBatchMode=yes")
    clean.update(extra)
    return clean


def run(
    cwd: str,
    *arguments: str,
    timeout: float = LOCAL_TIMEOUT,
    stdin: str | None = None,
    extra: Mapping[str, str] | None = None,
) -> process.Finished:
    """Run git in `cwd` and return what happened. Raises SystemFault when git cannot be started."""
    pause = 0.02
    while True:
        done = _run_once(cwd, arguments, timeout, stdin, extra)
        if done.code in (0, None) or pause > 1 or not _HALF_MADE.search(done.err):
            return done
        time.sleep(pause)
        pause *= 2


#: `git worktree add` makes a worktree's files one by one, and commands that look at all worktrees
#: die, before doing anything, on one that is half made by another process.
_HALF_MADE = re.compile(r"worktrees/[^/]+/(commondir|gitdir|HEAD)")


def _run_once(
    cwd: str,
    arguments: Sequence[str],
    timeout: float,
    stdin: str | None,
    extra: Mapping[str, str] | None,
) -> process.Finished:
    try:
        done = process.run(
            ("git", *_OPTIONS, *arguments),
            cwd=cwd,
            environment=environment(os.environ, **(extra or {})),
            timeout=timeout,
            stdin=stdin,
        )
    except FileNotFoundError as error:
        if not os.path.isdir(cwd):
            raise GitError(f"the folder {cwd} is gone") from error
        raise SystemFault(
            "git is not installed, or not on this process's PATH",
            "install git, then run: orchestrator doctor",
            code="git_missing",
        ) from error
    except OSError as error:
        raise SystemFault(f"git could not be started: {error.strerror}") from error
    if done.code is None:
        raise SystemFault(f"git {arguments[0]} did not end within {timeout:.0f} s", code="git_hung")
    return done


def ask(cwd: str, *arguments: str, timeout: float = LOCAL_TIMEOUT, stdin: str | None = None) -> str:
    """Run git and return its output without the last newline. Raises GitError when it fails."""
    done = run(cwd, *arguments, timeout=timeout, stdin=stdin)
    if done.code != 0:
        raise GitError(f"git {arguments[0]} failed: {_reason(done.err)}")
    return done.out.rstrip("\n")


def _reason(text: str) -> str:
    """The lines of git's complaint that say why, on one line."""
    lines = [line.strip() for line in _lines(text) if line.strip()]
    telling = [x for x in lines if x.startswith(("fatal:", "error:", "!"))] or lines[-3:]
    return "; ".join(telling)[:500] or "no reason given"


def _lines(text: str) -> list[str]:
    """Split at line feeds only: names may hold what str.splitlines() takes for a line's end."""
    return [line for line in text.split("\n") if line]


# --- the repository ----------------------------------------------------------------------------


def project_root(cwd: str) -> str:
    """Return the project a folder belongs to: the main worktree of its common git folder.

    Inside a submodule that is the superproject's. Raises OrchestratorError outside a repository
    and in a bare one.
    """
    if not os.path.isdir(cwd):
        raise OrchestratorError(f"there is no folder {cwd}", code="no_project")
    done = run(
        cwd,
        "rev-parse",
        "--path-format=absolute",
        "--is-bare-repository",
        "--git-common-dir",
        "--show-superproject-working-tree",
    )
    if done.code != 0:
        reason = _reason(done.err)
        if "not a git repository" in reason:
            raise OrchestratorError(
                f"{cwd} is not inside a git repository",
                "go to your project, or name it: orchestrator --project DIR ...",
                code="no_project",
            )
        raise OrchestratorError(f"git cannot read this repository: {reason}", code="no_project")
    bare, common, *superproject = _lines(done.out)
    if superproject:
        return project_root(superproject[0])
    # A linked worktree of a bare repository answers "false": the common folder's name tells.
    if bare == "true" or os.path.basename(common) != ".git":
        configured = run(cwd, "--git-dir", common, "config", "core.worktree").out.strip()
        if bare != "true" and configured:
            return os.path.realpath(os.path.join(common, configured))
        if bare != "true" and ask(cwd, "rev-parse", "--absolute-git-dir") == common:
            return toplevel(cwd)
        raise OrchestratorError(
            f"{common} is a bare repository: there is no checkout to work from",
            "clone it, and run orchestrator in the clone",
            code="bare_repository",
        )
    return os.path.dirname(common)


def git_folder(root: str) -> str:
    """Return the project's common git folder."""
    return ask(root, "rev-parse", "--path-format=absolute", "--git-common-dir")


def resolve(cwd: str, name: str) -> str | None:
    """Return the commit that `name` stands for; None when there is none."""
    done = run(cwd, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    return done.out.strip() if done.code == 0 else None


def current_branch(cwd: str) -> str | None:
    """Return the branch that is checked out in `cwd`; None when HEAD is detached."""
    done = run(cwd, "symbolic-ref", "--quiet", "--short", "HEAD")
    return done.out.strip() if done.code == 0 else None


def remote_url(root: str, remote: str) -> str | None:
    """Return a remote's URL; None when there is no such remote."""
    done = run(root, "config", "--get", f"remote.{remote}.url")
    return done.out.strip() or None


def push_addresses(root: str, remote: str) -> list[str]:
    """Return the addresses that a remote has for pushes alone."""
    return _lines(run(root, "config", "--get-all", f"remote.{remote}.pushurl").out)


def remote_head(root: str, remote: str) -> str | None:
    """Return the branch the remote's HEAD points to, as last fetched; None when not known."""
    done = run(root, "symbolic-ref", "--quiet", "--short", f"refs/remotes/{remote}/HEAD")
    return done.out.strip().removeprefix(f"{remote}/") if done.code == 0 else None


def settings(cwd: str, *names: str) -> dict[str, str]:
    """Return the values of git settings, by lower-case name, leaving out what is not set."""
    pattern = "^(" + "|".join(re.escape(name.lower()) for name in names) + ")$"
    done = run(cwd, "config", "--null", "--get-regexp", pattern)
    pairs = (entry.partition("\n") for entry in done.out.split("\0") if entry)
    return {name: value for name, _, value in pairs}


def is_ancestor(cwd: str, commit: str, of: str) -> bool:
    """Return whether `commit` is reachable from `of` (False too when either is unknown)."""
    return run(cwd, "merge-base", "--is-ancestor", commit, of).code == 0


def merge_base(cwd: str, one: str, other: str) -> str | None:
    """Return the best common ancestor; None without one."""
    done = run(cwd, "merge-base", one, other)
    return done.out.split("\n")[0] if done.code == 0 else None


def count_commits(cwd: str, since: str, until: str) -> int:
    """Return how many commits `until` has that `since` has not."""
    return int(ask(cwd, "rev-list", "--count", f"{since}..{until}"))


def update_ref(cwd: str, ref: str, commit: str, old: str | None = None) -> None:
    """Point a full ref name at a commit; with `old`, only if it still points there."""
    ask(cwd, "update-ref", ref, commit, *([old] if old is not None else []))


def refs(root: str, *patterns: str) -> dict[str, str]:
    """Return the refs with these full names, or below them, each with its commit."""
    text = ask(root, "for-each-ref", "--format=%(objectname) %(refname)", *patterns)
    return {name: commit for commit, _, name in (x.partition(" ") for x in _lines(text))}


def merged_refs(root: str, commit: str, *patterns: str) -> set[str]:
    """Return the full names of those refs whose commits are reachable from `commit`."""
    text = ask(root, "for-each-ref", f"--merged={commit}", "--format=%(refname)", *patterns)
    return set(_lines(text))


def delete_ref(root: str, ref: str, commit: str) -> None:
    """Delete a ref, if it still points at `commit`."""
    ask(root, "update-ref", "-d", ref, commit)


# --- remotes -----------------------------------------------------------------------------------


def fetch(
    root: str, remote: str, branches: Sequence[str], timeout: float = REMOTE_TIMEOUT
) -> dict[str, str]:
    """Bring branches of the remote to `refs/remotes/`; return those that it has, with commits.

    Not safe against another fetch of the same refs at the same time: hold a lock. Raises
    SystemFault when the remote cannot be reached.
    """
    theirs = remote_branches(root, remote, branches, timeout)
    names = {branch: f"refs/remotes/{remote}/{branch}" for branch in branches}
    ours = refs(root, *names.values())
    for branch, ref in names.items():
        if branch not in theirs and ref in ours:
            delete_ref(root, ref, ours[ref])
    specs = [
        f"+refs/heads/{branch}:{names[branch]}"
        for branch, commit in theirs.items()
        if ours.get(names[branch]) != commit
    ]
    if not specs:
        return theirs
    options = ("--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--no-auto-gc")
    done = run(root, "fetch", "--quiet", *options, remote, *specs, timeout=timeout)
    if done.code != 0:
        raise _unreachable(remote, done.err)
    return theirs


def remote_branches(
    root: str, remote: str, branches: Sequence[str], timeout: float = REMOTE_TIMEOUT
) -> dict[str, str]:
    """Ask the remote for the commits of some branches. Raises SystemFault when out of reach."""
    patterns = [f"refs/heads/{branch}" for branch in branches]
    done = run(root, "ls-remote", "--quiet", remote, *patterns, timeout=timeout)
    if done.code != 0:
        raise _unreachable(remote, done.err)
    pairs = (line.split("\t", 1) for line in _lines(done.out))
    return {ref.removeprefix("refs/heads/"): commit for commit, ref in pairs if ref in patterns}


def push(
    cwd: str, remote: str, commit: str, branch: str, replaces: str | None = None
) -> str | None:
    """Push a commit to a branch of the remote. Return None, or why the remote refused it.

    `replaces` is the commit we pushed there before: only exactly that may be overwritten. Raises
    SystemFault when the remote cannot be reached.
    """
    lease = (f"--force-with-lease=refs/heads/{branch}:{replaces}",) if replaces else ()
    spec = f"{commit}:refs/heads/{branch}"
    options = ("--porcelain", "--no-verify", "--no-recurse-submodules")
    done = run(cwd, "push", *options, *lease, remote, spec, timeout=REMOTE_TIMEOUT)
    if done.code == 0:
        return None
    # --porcelain: a line that begins with "!" is the remote's (or the lease's) refusal of a ref.
    refused = [line for line in _lines(done.out) if line.startswith("!")]
    if refused:
        return _reason("\n".join([refused[0].replace("\t", " "), done.err]))
    raise _unreachable(remote, done.err)


def _unreachable(remote: str, complaint: str) -> SystemFault:
    return SystemFault(
        f"the remote {remote!r} cannot be reached: {_reason(complaint)}",
        f"try it by hand: git ls-remote {remote}",
        code="remote_unreachable",
    )


# --- worktrees ---------------------------------------------------------------------------------


def is_worktree(path: str) -> bool:
    """Return whether `path` is the top of a linked worktree that its repository knows.

    Read from git's own files (gitrepository-layout(5), `worktrees/<id>/gitdir`): asked often.
    """
    folder = worktree_git_folder(path)
    try:
        with open(os.path.join(folder or "", "gitdir"), encoding="utf-8") as file:
            back = os.path.dirname(file.read(4096).rstrip("\n"))
    except OSError:
        return False
    known = os.path.isfile(os.path.join(folder or "", "HEAD"))
    return known and os.path.realpath(back) == os.path.realpath(path)


def toplevel(cwd: str) -> str:
    """Return the top folder of the worktree that git commands in `cwd` would work on."""
    return ask(cwd, "rev-parse", "--show-toplevel")


def add_worktree(root: str, path: str, commit: str) -> None:
    """Make a worktree with a detached HEAD (never `-b`: parallel ones fail on the config lock)."""
    ask(root, "worktree", "add", "--quiet", "--force", "--detach", path, commit)


def remove_worktree(root: str, path: str) -> None:
    """Remove a worktree with all that is in it: whoever calls this has rescued it before."""
    ask(root, "worktree", "remove", "--force", "--force", path)


def prune_worktrees(root: str) -> None:
    """Forget worktrees whose folders are gone."""
    ask(root, "worktree", "prune")


#: Who makes the commits that no agent and no person makes.
_OUR_NAME = {
    "GIT_AUTHOR_NAME": "orchestrator",
    "GIT_AUTHOR_EMAIL": "orchestrator@localhost",
    "GIT_COMMITTER_NAME": "orchestrator",
    "GIT_COMMITTER_EMAIL": "orchestrator@localhost",
}


class WorktreeState(NamedTuple):
    """What a worktree holds: its commit, its branch (None: detached), uncommitted changes."""

    head: str
    branch: str | None
    dirty: bool


def worktree_state(worktree: str) -> WorktreeState:
    """Look at a worktree, untracked files included (ignored ones are not)."""
    options = ("--porcelain=v2", "--branch", "--untracked-files=normal")
    head, branch, dirty = "", None, False
    for line in _lines(ask(worktree, "status", *options)):
        if line.startswith("# branch.oid "):
            head = line.removeprefix("# branch.oid ")
        elif line.startswith("# branch.head "):
            name = line.removeprefix("# branch.head ")
            branch = None if name == "(detached)" else name
        elif not line.startswith("#"):
            dirty = True
    return WorktreeState(head, branch, dirty)


def has_changes(worktree: str) -> bool:
    """Return whether tracked files differ from HEAD. Untracked ones git itself never overwrites."""
    return bool(ask(worktree, "status", "--porcelain", "--untracked-files=no"))


def is_on_a_ref(cwd: str, commit: str) -> bool:
    """Return whether some ref already keeps a commit."""
    return bool(ask(cwd, "for-each-ref", "--count=1", "--format=x", "--contains", commit))


def worktree_git_folder(worktree: str) -> str | None:
    """Return a linked worktree's own git folder, from its `.git` file; None without one."""
    try:
        with open(os.path.join(worktree, ".git"), encoding="utf-8") as file:
            word, _, path = file.read(4096).strip().partition(": ")
    except OSError:
        return None
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
    """End a rebase, bisect or the like that was left half done: they hold their branch."""
    folder = worktree_git_folder(worktree) or ""
    if any(os.path.isdir(os.path.join(folder, n)) for n in ("rebase-merge", "rebase-apply")):
        run(worktree, "rebase", "--quit")  # what it put away goes to refs/stash
    for name in os.listdir(folder):
        if name.startswith("BISECT_") or (name.endswith("_HEAD") and name != "ORIG_HEAD"):
            os.unlink(os.path.join(folder, name))


def commit_all(worktree: str, message: str, index: str) -> str:
    """Return a commit of the worktree's whole state on top of HEAD; HEAD and index stay.

    `index` is the path of a throw-away index file.
    """
    extra = {"GIT_INDEX_FILE": index, **_OUR_NAME}

    def step(*arguments: str) -> str:
        done = run(worktree, *arguments, extra=extra)
        if done.code != 0:
            raise GitError(f"git {arguments[0]} failed: {_reason(done.err)}")
        return done.out.strip()

    try:
        parents = ["-p", "HEAD"]
        staged = run(worktree, "write-tree")  # fails on conflicts, whose sides are in the history
        if staged.code == 0 and staged.out.strip() != step("rev-parse", "HEAD^{tree}"):
            parents += ["-p", step("commit-tree", staged.out.strip(), "-p", "HEAD", "-m", "Staged")]
        step("read-tree", "HEAD")
        # Before `add`: a file that was staged and then deleted is in the index alone.
        step("add", "--all", "--", ".")
        # A raw line is `:OLDMODE NEWMODE ...`; 160000 is a repository inside, of which a commit
        # would keep the name only.
        added = _lines(step("diff", "--cached", "--raw", "HEAD"))
        if any(line[8:14] == "160000" and line[1:7] != "160000" for line in added):
            raise GitError("there is a repository inside the worktree")
        tree = step("write-tree")
        return step("commit-tree", tree, *parents, "-m", message)
    finally:
        for leftover in (index, index + ".lock"):
            if os.path.exists(leftover):
                os.unlink(leftover)


def detach(worktree: str, commit: str) -> None:
    """Check a commit out with a detached HEAD, throwing away changes of tracked files."""
    ask(worktree, "checkout", "--quiet", "--force", "--detach", commit)


def clean(worktree: str) -> None:
    """Remove untracked files; ignored ones (installed dependencies, caches) stay."""
    ask(worktree, "clean", "-ffdq")


def checkout_branch(worktree: str, branch: str) -> None:
    """Check out an existing branch of ours, throwing away changes of tracked files."""
    ask(worktree, "checkout", "--quiet", "--force", "--no-guess", branch, "--")


def start_branch(worktree: str, branch: str, commit: str) -> None:
    """Make a branch at a commit and check it out, throwing away changes of tracked files."""
    ask(worktree, "checkout", "--quiet", "--force", "--no-track", "-b", branch, commit)


def branch_worktree(root: str, branch: str) -> str | None:
    """Return the path of the worktree that has `branch` checked out; None if none has."""
    path = None
    for line in _lines(ask(root, "worktree", "list", "--porcelain")):
        if line.startswith("worktree "):
            path = line.removeprefix("worktree ")
        elif line == f"branch refs/heads/{branch}":
            return path
    return None


def merge(worktree: str, commit: str, message: str) -> str | None:
    """Merge a commit into a detached worktree; return None, or what conflicts (then undone)."""
    done = run(worktree, "merge", "--no-ff", "--quiet", "-m", message, commit, extra=_OUR_NAME)
    if done.code == 0:
        return None
    names = _lines(ask(worktree, "diff", "--name-only", "--diff-filter=U"))
    run(worktree, "merge", "--abort")
    if not names:
        raise GitError(f"git merge failed: {_reason(done.err)}")
    return "In conflict: " + ", ".join(names[:20])
