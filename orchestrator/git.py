"""Git: one function a question, with a clean environment.

Our calls never prompt, sign, run the user's hooks, read the caller's GIT_* variables or start
background work (CONTRACT 8.5). The human's checkout, branch and index are never touched: everything
happens in worktrees of our own, by commit ids and full ref names. Here is what all calls share, and
what is asked of a repository; `gitremote` and `gitworktree` have the rest.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence

from orchestrator import process
from orchestrator.errors import GitError, OrchestratorError, SystemFault

#: Seconds for a command that only reads or writes this disk.
LOCAL_TIMEOUT = 120.0

#: Seconds after which a lock on refs cannot be a living git's: it holds one for milliseconds.
OLD_LOCK = 60.0

RESCUE = "refs/orchestrator/rescue/"

#: Git leaves it to chance by default whether what it made outlasts a power cut (git-config(1),
#: core.fsync): an empty object or a ref of zeros would stop its task for ever.
DURABLE = {"core.fsync": "all"}

_SETTINGS = (
    *(f"{key}={value}" for key, value in DURABLE.items()),
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
    return begin(cwd, *arguments, timeout=timeout, stdin=stdin, extra=extra)()


def begin(
    cwd: str,
    *arguments: str,
    timeout: float = LOCAL_TIMEOUT,
    stdin: str | None = None,
    extra: Mapping[str, str] | None = None,
) -> Callable[[], process.Finished]:
    """Start git in `cwd`; what is returned waits for its end and says what happened.

    Call that, or git is never looked after. Both raise SystemFault, as `run` does.
    """
    begun = _begin_once(cwd, arguments, stdin, extra)

    def finish() -> process.Finished:
        nonlocal begun
        pause = 0.02
        while True:
            done = begun.finish(timeout)
            if done.code is None:
                message = f"git {arguments[0]} did not end within {timeout:.0f} s"
                raise SystemFault(message, code="git_hung")
            if done.code == 0:
                return done
            lock = re.search(_LOCKED, done.err)
            freed = lock and _is_of_refs(lock[1]) and remove_abandoned(lock[1])
            if pause > 1 or not (freed or re.search(_HALF_MADE, done.err)):
                return done
            time.sleep(pause)
            pause *= 2
            begun = _begin_once(cwd, arguments, stdin, extra)

    return finish


#: `git worktree add` makes a worktree's files one by one, and commands that look at all worktrees
#: die, before doing anything, on one that is half made by another process.
_HALF_MADE = r"worktrees/[^/]+/(commondir|gitdir|HEAD)"

#: What a git says that met another's lock, be it in a remote that lies on this machine.
_LOCKED = r"Unable to create '(.+\.lock)': File exists"


def _is_of_refs(lock: str) -> bool:
    """Whether git holds a lock of this kind for milliseconds, never while an editor is open."""
    return "/refs/" in lock or os.path.basename(lock) in ("packed-refs.lock", "config.lock")


def remove_abandoned(lock: str) -> bool:
    """Remove a lock of git's that no living git holds; return whether none is there now.

    A git that is killed leaves its locks, and so does one that a power cut ends.
    """
    try:
        made = os.stat(lock).st_mtime
        if made < max(time.time() - OLD_LOCK, process.booted()):
            os.unlink(lock)
            return True
    except FileNotFoundError:
        return True
    return False


def _begin_once(
    cwd: str, arguments: Sequence[str], stdin: str | None, extra: Mapping[str, str] | None
) -> process.Begun:
    try:
        return process.begin(
            ("git", *_OPTIONS, *arguments),
            cwd=cwd,
            environment=environment(os.environ, **(extra or {})),
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


def ask(cwd: str, *arguments: str, timeout: float = LOCAL_TIMEOUT, stdin: str | None = None) -> str:
    """Run git and return its output without the last newline. Raises GitError when it fails."""
    return _good(run(cwd, *arguments, timeout=timeout, stdin=stdin), arguments[0])


def _good(done: process.Finished, word: str) -> str:
    """Return what a git command said, without the last newline. Raises GitError if it failed."""
    if done.code != 0:
        raise GitError(f"git {word} failed: {reason(done.err)}")
    return done.out.rstrip("\n")


#: How the lines begin that say why; "remote:", what the remote's own git and hooks have to say.
_TELLING = ("fatal:", "error:", "!", "remote: ")


def reason(text: str) -> str:
    """The lines of git's complaint that say why, on one line, without the passwords of URLs."""
    text = re.sub(r"(?<=://)[^/\s@]*@", "", text)
    said = [line.strip() for line in lines(text) if line.strip()]
    telling = [x for x in said if x.startswith(_TELLING)] or said[-3:]
    return "; ".join(telling)[:500] or "no reason given"


def lines(text: str) -> list[str]:
    """Split at line feeds only: names may hold what str.splitlines() takes for a line's end."""
    return [line for line in text.split("\n") if line]


# --- the repository ----------------------------------------------------------------------------


def project_root(cwd: str) -> str:
    """Return the project a folder belongs to: the main worktree of its common git folder.

    Inside a submodule that is the superproject's. Raises OrchestratorError outside a repository
    and in a bare one.
    """
    if not os.path.isdir(cwd):
        raise OrchestratorError(
            f"there is no folder {cwd}",
            "name your project's folder: orchestrator --project DIR ...",
            code="no_project",
        )
    done = run(
        cwd,
        "rev-parse",
        "--path-format=absolute",
        "--is-bare-repository",
        "--git-common-dir",
        "--show-superproject-working-tree",
    )
    if done.code != 0:
        raise _no_project(cwd, reason(done.err))
    bare, common, *superproject = lines(done.out)
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


def _no_project(cwd: str, why: str) -> OrchestratorError:
    if "not a git repository" in why:
        hint = "go to your project, or name it: orchestrator --project DIR ..."
        message = f"{cwd} is not inside a git repository"
        return OrchestratorError(message, hint, code="no_project")
    return OrchestratorError(f"git cannot read this repository: {why}", code="no_project")


def git_folder(root: str) -> str:
    """Return the project's common git folder."""
    return ask(root, "rev-parse", "--path-format=absolute", "--git-common-dir")


def toplevel(cwd: str) -> str:
    """Return the top folder of the worktree that git commands in `cwd` would work on."""
    return begin_toplevel(cwd)()


def begin_toplevel(cwd: str) -> Callable[[], str]:
    """Ask for `toplevel`; what is returned waits for the answer."""
    finish = begin(cwd, "rev-parse", "--show-toplevel")
    return lambda: _good(finish(), "rev-parse")


def resolve(cwd: str, name: str) -> str | None:
    """Return the commit that `name` stands for; None when there is none."""
    done = run(cwd, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    return done.out.strip() if done.code == 0 else None


def current_branch(cwd: str) -> str | None:
    """Return the branch that is checked out in `cwd`; None when HEAD is detached."""
    done = run(cwd, "symbolic-ref", "--quiet", "--short", "HEAD")
    return done.out.strip() if done.code == 0 else None


def settings(cwd: str, *names: str) -> dict[str, list[str]]:
    """Return all values of git settings, by lower-case name, leaving out what is not set."""
    return begin_settings(cwd, *names)()


def begin_settings(cwd: str, *names: str) -> Callable[[], dict[str, list[str]]]:
    """Ask for `settings`; what is returned waits for the answer."""
    pattern = "^(" + "|".join(re.escape(name.lower()) for name in names) + ")$"
    finish = begin(cwd, "config", "--null", "--get-regexp", pattern)

    def answer() -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for entry in filter(None, finish().out.split("\0")):
            name, _, value = entry.partition("\n")
            found.setdefault(name, []).append(value)
        return found

    return answer


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


def tracked(root: str, folder: str) -> list[str]:
    """Return the files below a folder of the checkout that the index holds, by their paths."""
    return [name for name in ask(root, "ls-files", "-z", "--", folder).split("\0") if name]


def update_ref(cwd: str, ref: str, commit: str, old: str | None = None) -> None:
    """Point a full ref name at a commit; with `old`, only if it still points there."""
    ask(cwd, "update-ref", ref, commit, *([old] if old is not None else []))


def refs(root: str, *patterns: str) -> dict[str, str]:
    """Return the refs with these full names, or below them, each with its commit."""
    return begin_refs(root, *patterns)()


def begin_refs(root: str, *patterns: str) -> Callable[[], dict[str, str]]:
    """Ask for `refs`; what is returned waits for the answer."""
    finish = begin(root, "for-each-ref", "--format=%(objectname) %(refname)", *patterns)

    def answer() -> dict[str, str]:
        text = _good(finish(), "for-each-ref")
        return {name: commit for commit, _, name in (x.partition(" ") for x in lines(text))}

    return answer


def merged_refs(root: str, commit: str, *patterns: str) -> set[str]:
    """Return the full names of those refs whose commits are reachable from `commit`."""
    text = ask(root, "for-each-ref", f"--merged={commit}", "--format=%(refname)", *patterns)
    return set(lines(text))


def outside(root: str, commits: Collection[str], of: Collection[str]) -> set[str]:
    """Return those of `commits` that are reachable from none of the commits `of`."""
    asked = "".join(f"{commit}\n" for commit in commits) + "".join(f"^{each}\n" for each in of)
    return set(commits) & set(lines(ask(root, "rev-list", "--stdin", stdin=asked)))


def delete_ref(root: str, ref: str, commit: str) -> None:
    """Delete a ref, if it still points at `commit`."""
    ask(root, "update-ref", "-d", ref, commit)


def is_on_a_ref(cwd: str, commit: str) -> bool:
    """Return whether some ref already keeps a commit."""
    return bool(ask(cwd, "for-each-ref", "--count=1", "--format=x", "--contains", commit))
