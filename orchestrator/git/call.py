"""How git is called: in a clean environment, with a time limit, again when another git has a lock.

The product's calls never prompt, sign, run the user's hooks, read the caller's GIT_* variables or
start background work (reference 8.5).
"""

import contextlib
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence

from orchestrator import layout
from orchestrator.git import abandoned_locks, irregular, place, start
from orchestrator.guard import client_environment
from orchestrator.model.annotations import TypeVar
from orchestrator.model.errors import GitError, GitKilled, SystemFault
from orchestrator.system import commands, disk, files

#: Seconds for a command that only reads or writes this disk.
LOCAL_TIMEOUT = 120.0

#: Seconds for a checkout: a filter such as Git LFS may have to load large files.
CHECKOUT_TIMEOUT = 1800.0

#: By default, a power cut can destroy what git has just written (git-config(1), core.fsync). An
#: empty object or a ref full of zeros would block its task for ever.
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
    "log.showSignature=false",
    # What a merge makes is decided by the call; `updateRefs` would move branches of the person.
    "merge.ff=true",
    "rebase.autoSquash=false",
    "rebase.rebaseMerges=false",
    "rebase.updateRefs=false",
    "i18n.commitEncoding=UTF-8",
    "i18n.logOutputEncoding=UTF-8",
    "color.ui=false",
    "color.diff=false",
    "diff.ignoreSubmodules=dirty",
    "diff.noprefix=false",
    "diff.mnemonicPrefix=false",
    "diff.srcPrefix=a/",
    "diff.dstPrefix=b/",
    "advice.detachedHead=false",
)
_OPTIONS = tuple(word for setting in _SETTINGS for word in ("-c", setting))


def run(
    cwd: str,
    *arguments: str,
    timeout: float = LOCAL_TIMEOUT,
    stdin: str | None = None,
    extra: Mapping[str, str] | None = None,
) -> commands.Finished:
    """Run git in `cwd` and return what happened.

    Waits for another git's lock, if git holds such a lock for milliseconds only. Raises SystemFault
    when git cannot be started, or does not end within `timeout` seconds; GitKilled when a git that
    was only asked something is killed again and again (no answer is not the answer no); GitError in
    a worktree that does not belong to its project any more.
    """
    environment = _environment(cwd, extra or {}, _subcommand(arguments))
    words = (*_OPTIONS, *_names(cwd), *arguments)
    pause = 0.02
    while True:
        done = start.run(words, cwd, environment, timeout, stdin)
        if done.code is None:
            if _cleared(cwd):
                continue
            message = f"git {_subcommand(arguments)} did not end within {timeout:.0f} s"
            raise SystemFault(message, code="git_hung")
        if done.code == 0:
            return done
        if (killer := _killer(done)) and (question := _subcommand(arguments)) in _QUESTIONS:
            if pause > 0.1:
                raise GitKilled(f"git {question} was killed by signal {killer}")
            pause *= 2
            continue
        half_made = re.search(_HALF_MADE, done.err)
        if pause > 1 or not (_is_free(done.err, cwd) or half_made):
            return done
        if half_made and pause > 0.5:
            _complete(os.path.join(cwd, half_made[0]))
        time.sleep(pause)
        pause *= 2


def _names(cwd: str) -> tuple[str, ...]:
    """Return the option with which git tells names by case in a worktree, where the disk does.

    A repository from another machine can say `core.ignoreCase`. Git then takes a `readme.md` that
    an agent left for the tracked `README.md`: it would reach the next task.
    """
    around = layout.worktree_around(cwd)
    if around is None or os.path.lexists(os.path.join(around[0], ".ORCHESTRATOR")):
        return ()
    return ("-c", "core.ignoreCase=false")


def _cleared(cwd: str) -> bool:
    """Whether a pipe was removed for whose writer a git may have waited: it is started again.

    Before git starts in a worktree, `worktree` clears the worktree. A process of an agent that is
    still alive can put a pipe there after that.
    """
    around = layout.worktree_around(cwd)
    checkout = around[0] if around else place.checkout_around(cwd, os.sep)
    found = irregular.clear_shared(place.common_folder(checkout)) if checkout else []
    if around:
        found += irregular.clear(around[1]).removed
        own = place.registered(*around)
        found += irregular.clear_git_folder(own) if own else []
    return bool(found)


def _subcommand(arguments: Sequence[str]) -> str:
    """Return the git command among the arguments: what comes after git's own options."""
    words = iter(arguments)
    for word in words:
        if word in ("-c", "-C", "--git-dir", "--work-tree"):
            next(words, None)
        elif not word.startswith("-"):
            return word
    return " ".join(arguments)


#: Commands that the product uses to ask, or that do the same when they are repeated.
_QUESTIONS = {
    "cat-file",
    "config",
    "diff",
    "diff-tree",
    "for-each-ref",
    "log",
    "ls-files",
    "ls-remote",
    "ls-tree",
    "merge-base",
    "merge-tree",
    "remote",
    "rev-list",
    "rev-parse",
    "show-ref",
    "status",
    "symbolic-ref",
}

#: `git worktree add` creates a worktree's files one by one. A command that looks at all worktrees
#: fails, before it does anything, on a worktree that another process has half created.
_HALF_MADE = r"[^\s']*worktrees/[^/]+/(commondir|gitdir|HEAD)"


def _complete(path: str) -> None:
    """Write what git itself writes into the `commondir` file of a worktree, if that file is empty.

    A power cut can leave it empty, and then no command works that looks at all worktrees.
    """
    if os.path.basename(path) == "commondir" and os.path.isfile(path) and not os.path.getsize(path):
        files.write_atomic(path, b"../..\n", 0o644)


#: The message of a git that met another git's lock, also in a remote on this machine.
_LOCKED = r"(?m)^(remote: )?.*(?:Unable to create '(.+\.lock)'|lock config file (.+)): File exists"


def _is_free(complaint: str, cwd: str) -> bool:
    """Return whether the lock that git complains of is gone now; False for another complaint."""
    found = re.search(_LOCKED, complaint)
    if found is None:
        return False
    lock = os.path.join(cwd, found[2] or f"{found[3]}.lock")
    # Processes of other machines may work in a remote.
    return abandoned_locks.remove_old(lock) if found[1] else abandoned_locks.free_met(lock)


def head(cwd: str, *arguments: str, most: int, timeout: float) -> bytes | None:
    """Return the first `most` bytes that a git command prints; None if it fails or takes too long.

    The command only reads: it takes no lock, not even to refresh the index.
    """
    try:
        environment = _environment(cwd, {"GIT_OPTIONAL_LOCKS": "0"}, _subcommand(arguments))
        return commands.head(
            ("git", *_OPTIONS, *arguments),
            cwd=cwd,
            environment=environment,
            timeout=timeout,
            most=most,
        )
    except (OSError, GitError):
        return None


#: Commands that may reach a remote.
_REACHING = {"clone", "fetch", "lfs", "ls-remote", "push", "submodule"}


def _environment(cwd: str, extra: Mapping[str, str], subcommand: str) -> dict[str, str]:
    """Return git's environment, which tells it where it works, and what it may run there."""
    told = place.variables(cwd)
    around = layout.worktree_around(cwd)
    if around and "GIT_DIR" in told:
        from orchestrator.git import drivers  # no tick without work in a worktree needs it

        told |= drivers.variables(around[0], told)
        # The log of HEAD tells the product's own checkouts from an agent's (`left_behind`).
        told["GIT_REFLOG_ACTION"] = "orchestrator"
    if subcommand in _REACHING:
        told |= _ssh(around[0] if around else cwd)
    return client_environment.for_git(os.environ, **told, **extra)


def _ssh(root: str) -> dict[str, str]:
    """Return how git starts ssh: as the person configured it, else without questions."""
    from orchestrator.git import settings

    own = None
    with contextlib.suppress(GitError, SystemFault):  # git itself says what is wrong
        own = settings.ssh_command(root)
    if own is None and "GIT_SSH" in os.environ:
        return {}
    return {"GIT_SSH_COMMAND": own or "ssh -oBatchMode=yes"}


def ask(
    cwd: str,
    *arguments: str,
    stdin: str | None = None,
    extra: Mapping[str, str] | None = None,
    timeout: float = LOCAL_TIMEOUT,
) -> str:
    """Run git and return its output without the last newline. Raises GitError when it fails."""
    done = run(cwd, *arguments, stdin=stdin, extra=extra, timeout=timeout)
    if killer := _killer(done):
        raise GitKilled(f"git {_subcommand(arguments)} was killed by signal {killer}")
    if done.code != 0:
        said = f"git {_subcommand(arguments)} failed: {reason(done.err)}"
        raise GitError(said, start.repair(done.err) or disk.hint(done.err))
    return done.out.rstrip("\n")


#: How a git that failed says that a git process of its own was killed (a submodule's, a filter's).
_CHILD_DIED = re.compile(r"\bdied of signal (9|15)\b")


def _killer(done: commands.Finished) -> int:
    """Return the signal that killed a git, or a process that it started; 0 if it was not killed."""
    if not done.code:
        return 0
    child = _CHILD_DIED.search(done.err)
    return -done.code if done.code < 0 else int(child[1]) if child else 0


Result = TypeVar("Result")


def again(steps: Callable[[], Result]) -> Result:
    """Return what steps return; begin again after a git that was killed, twice at most."""
    for _ in range(2):
        with contextlib.suppress(GitKilled):
            return steps()
    return steps()


#: How the lines begin that give a reason; "remote:" lines come from the remote's git and hooks.
_TELLING = ("fatal:", "error:", "!", "remote: ")

#: How git's line about a damaged ref ends that it passed over: no reason for anything.
_PASSED_OVER = "does not point to a valid object!"


def reason(text: str) -> str:
    """Return the lines of git's message that give a reason, joined, without passwords of URLs."""
    text = re.sub(r"(?<=://)[^/\s@]*@", "", text)
    said = [line.strip() for line in lines(text) if line.strip()]
    telling = [x for x in said if x.startswith(_TELLING) and not x.endswith(_PASSED_OVER)]
    telling = telling or said[-3:]
    return "; ".join(telling)[:500] or "no reason given"


def lines(text: str) -> list[str]:
    """Split at line feeds only: names can contain others of the line ends of str.splitlines()."""
    return [line for line in text.split("\n") if line]
