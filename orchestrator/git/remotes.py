"""Git's remotes: their branches, fetch and push.

A remote that cannot be reached is a SystemFault. A remote that refuses a push gives the reason.
"""

import os
import re
from collections.abc import Sequence

from orchestrator.git import lfs, settings, start
from orchestrator.git.call import DURABLE, lines, reason, run
from orchestrator.model.errors import Rejected, SystemFault
from orchestrator.model.fields import NamedTuple

#: Time limit of a command that talks to a remote, in seconds; of a command that only asks for the
#: commits of branches; and the shorter limit inside a tick, because other processes wait for it.
TIMEOUT = 180.0
ASK_TIMEOUT = 60.0
TICK_TIMEOUT = 20.0


def url(root: str, remote: str) -> str | None:
    """Return a remote's URL; None when there is no such remote."""
    found = settings.find(root, f"remote.{remote}.url")
    return found.popitem()[1][-1] or None if found else None


def addresses(root: str, remote: str, *, push: bool = False) -> list[str]:
    """Return a remote's address as git uses it, and as it is written; [] for no such remote.

    The two differ where `url.<base>.insteadOf` applies. `push` asks for the address of pushes.
    """
    used = run(root, "remote", "get-url", *(["--push"] if push else []), remote)
    written = url(root, remote)
    found = [used.out.strip() if used.code == 0 else "", written or ""]
    return [address for address in dict.fromkeys(found) if address]


def head(root: str, remote: str) -> str | None:
    """Return the branch the remote's HEAD points to, as last fetched; None when not known."""
    prefix = f"refs/remotes/{remote}/"
    done = run(root, "symbolic-ref", "--quiet", f"{prefix}HEAD")
    return done.out.strip().removeprefix(prefix) if done.code == 0 else None


def tips(
    root: str, remote: str, branches: Sequence[str], timeout: float = ASK_TIMEOUT
) -> dict[str, str]:
    """Ask the remote for the commits of some branches. Raises SystemFault when out of reach."""
    return picked(heads(root, remote, branches, timeout), branches)


def heads(
    root: str, remote: str, branches: Sequence[str] = (), timeout: float = ASK_TIMEOUT
) -> str:
    """Ask the remote for some branches, or for all; return what `git ls-remote` prints.

    The remote sends all branches in either case (git-ls-remote(1) matches the patterns here), but
    no tags, and no refs of pull requests. Raises SystemFault when out of reach.
    """
    patterns = [f"refs/heads/{branch}" for branch in branches]
    return _ask(root, remote, timeout, "--heads", remote, *patterns)


def _ask(root: str, remote: str, timeout: float, *words: str) -> str:
    """Return what `git ls-remote` prints. Raises SystemFault when the remote is out of reach."""
    limit = min(timeout, ASK_TIMEOUT)
    try:
        done = run(root, "ls-remote", "--quiet", *words, timeout=limit)
    except SystemFault as fault:
        if fault.code != "git_hung":
            raise
        raise unreachable(remote, f"no answer within {limit:.0f} s") from None
    if done.code != 0:
        raise unreachable(remote, done.err)
    return done.out


def picked(answer: str, branches: Sequence[str]) -> dict[str, str]:
    """Return the commits of some branches from what `git ls-remote` printed."""
    wanted = {f"refs/heads/{branch}": branch for branch in branches}
    pairs = (line.split("\t", 1) for line in lines(answer))
    return {wanted[ref]: commit for commit, ref in pairs if ref in wanted}


def default_branch(root: str, remote: str, timeout: float = ASK_TIMEOUT) -> tuple[str | None, bool]:
    """Ask the remote for the branch that its HEAD points to, and whether it has any branch.

    The branch is None when HEAD points nowhere. Raises SystemFault when the remote cannot be
    reached.
    """
    said = _ask(root, remote, timeout, "--symref", remote, "HEAD", "refs/heads/*")
    found = re.search(r"^ref: refs/heads/(\S+)\tHEAD$", said, re.MULTILINE)
    return (found[1] if found else None), "\trefs/heads/" in said


class Beside(NamedTuple):
    """A second branch of the remote in a push: nothing is pushed unless it is at this commit."""

    branch: str
    commit: str
    #: Whether the push also deletes it.
    is_dropped: bool

    def words(self) -> tuple[str, ...]:
        return ("--atomic", f"--force-with-lease=refs/heads/{self.branch}:{self.commit}")

    def spec(self) -> str:
        return f"{'' if self.is_dropped else self.commit}:refs/heads/{self.branch}"


#: The remote's message about a ref after a failure in the remote or on the way: not a refusal.
_BROKEN = r"unpacker error|remote failure|failed to update ref|cannot lock ref"
#: The same, in what a hook of the remote said: a lack of memory or space, or a killed hook.
_LACKING = (
    r"(?i)died of signal|no space left on device|disk quota exceeded|out of memory"
    r"|cannot allocate memory|remote: (\S+: line \d+: +\d+ )?killed\b"
)
#: The same without a word about it: a hook of the remote refused, or a program in it was killed.
HOOK_DECLINED = r"hook declined"
#: A remote that refuses the account, before it looks at any ref.
_NO_ACCESS = (
    r"(?i)returned error: 403|permission denied|permission to \S+ denied"
    r"|access to \S+ not granted|access denied|marked as read only"
)
#: A log that is there gets its lines as before (git-config(1), `core.logAllRefUpdates`).
_NO_NEW_LOG = ("-c", "core.logAllRefUpdates=false")
#: Hooks of a remote that can change a ref after the remote has reported it as pushed.
_AFTER = ("post-receive", "post-update", "proc-receive")
#: One such failure is permanent: a branch `a` exists, and `a/b` is pushed.
_IN_THE_WAY = r"'refs/heads/[^']+' exists; cannot create 'refs/heads/"


def push(
    cwd: str,
    remote: str,
    commit: str,
    branch: str,
    replaces: str | None = None,
    beside: Beside | None = None,
) -> str | None:
    """Push a commit to a branch of the remote. Return None, or why the remote refused it.

    `replaces` is the commit that the branch has there, "" if it does not exist there: only then the
    push has an effect. Raises SystemFault when the remote cannot be reached, and when it refuses
    the account (`remote_refuses`); Rejected when a hook of the remote has removed the branch again.
    Objects in Git LFS are pushed first.
    """
    refused = lfs.push(cwd, remote, commit, branch, replaces or "")
    if refused is not None:
        return refused
    folder = _folder(cwd, remote)
    spec = f"{commit}:refs/heads/{branch}"
    refused = _push(cwd, remote, folder, spec, branch, replaces, beside)
    if refused is None and folder and _may_undo(folder) and not tips(cwd, remote, [branch]):
        raise Rejected(f"the remote took the push but does not show {branch}")
    return refused


def delete(cwd: str, remote: str, branch: str, commit: str) -> str | None:
    """Delete a branch of the remote that is at `commit`; return as `push`. A gone one is deleted.

    Raises SystemFault when the remote cannot be reached.
    """
    refused = _push(cwd, remote, _folder(cwd, remote), f":refs/heads/{branch}", branch, commit)
    return refused if refused and tips(cwd, remote, [branch]) else None


def _push(
    cwd: str,
    remote: str,
    folder: str | None,
    spec: str,
    branch: str,
    replaces: str | None,
    beside: Beside | None = None,
) -> str | None:
    lease = () if replaces is None else (f"--force-with-lease=refs/heads/{branch}:{replaces}",)
    options = ["--porcelain", "--no-verify", "--no-recurse-submodules"]
    if folder:
        import shlex

        # Another git process receives the push, and the settings of this one do not reach it.
        named = [branch, *([beside.branch] if beside else [])]
        told = [
            *(f"{key}={value}" for key, value in DURABLE.items()),
            *_hidden_siblings(folder, named),
        ]
        # A look whether it is to pack starts a process there, and a push has few objects. So one
        # push in 16 has it: the last digit of the commit decides.
        if not spec.partition(":")[0].endswith("0"):
            told.append("receive.autogc=false")
        settings = " ".join(f"-c {shlex.quote(setting)}" for setting in told)
        options.append(f"--receive-pack=git {settings} receive-pack")
    specs = [spec]
    if beside is not None:
        options += beside.words()
        specs.append(beside.spec())
    # A log of the branch as it is at the remote would have one line.
    done = run(cwd, *_NO_NEW_LOG, "push", *options, *lease, remote, *specs, timeout=TIMEOUT)
    if done.code == 0:
        return None
    # --porcelain: a line that begins with "!" is the remote's (or the lease's) refusal of a ref.
    refused = [line for line in lines(done.out) if line.startswith("!")]
    broken = re.search(_LACKING, done.err) or (refused and re.search(_BROKEN, refused[0]))
    if refused and (not broken or re.search(_IN_THE_WAY, done.err)):
        return reason("\n".join([refused[0].replace("\t", " "), done.err]))
    denied = [line for line in lines(done.err) if re.search(_NO_ACCESS, line)]
    if denied and not refused:
        raise SystemFault(
            f"the remote {remote!r} refuses pushes of this account: {reason(denied[0])}",
            f"give this account the right to push, then try: git push --dry-run {remote} HEAD",
            code="remote_refuses",
        )
    if broken:
        raise SystemFault(
            f"the remote {remote!r} answers, but could not store the push: {reason(done.err)}",
            "the cause is at the remote: its disk, its memory, a hook that was killed, or a lock "
            "that a killed git left there; work resumes automatically when it accepts a push",
            code="remote_failed",
        )
    raise unreachable(remote, done.err)


def _hidden_siblings(folder: str, branches: Sequence[str]) -> list[str]:
    """Return the settings with which a receiving git reads, of the folders of some branches, these.

    It needs no other agent's branch, and would read the commits of all of them: once as its own,
    and once as those of the repository with whose objects it compares what it receives, which is
    itself unless it shares the objects of others.
    """
    folders = dict.fromkeys(branch.rpartition("/")[0] for branch in branches)
    hidden = [f"refs/heads/{name}/" for name in folders if name]
    if not hidden:
        return []
    shown = [f"!refs/heads/{branch}" for branch in branches]
    settings = [f"receive.hideRefs={name}" for name in (*hidden, *shown)]
    if not any(os.path.exists(f"{x}/objects/info/alternates") for x in _git_folders(folder)):
        settings.append("core.alternateRefsCommand=true")  # true(1) names none
    return settings


def _folder(cwd: str, remote: str) -> str | None:
    """Return where a remote on this machine's disk is; None for another remote."""
    address = _push_address(cwd, remote).removeprefix("file://")
    path = os.path.join(cwd, address)
    return path if address and os.path.isdir(path) else None


def _push_address(cwd: str, remote: str) -> str:
    """Return the address to which git pushes; empty for no such remote."""
    if settings.matching(cwd, r"url\..*\.(insteadof|pushinsteadof)"):
        return run(cwd, "remote", "get-url", "--push", remote).out.strip()
    names = (f"remote.{remote}.pushurl", f"remote.{remote}.url")
    found = settings.find(cwd, *names)
    return next((found[name][0] for name in names if name in found), "")


def _may_undo(folder: str) -> bool:
    """Return whether a hook of a remote on this disk runs after it has reported that it is done."""
    places = _git_folders(folder)
    return any(os.path.exists(os.path.join(x, "hooks", hook)) for x in places for hook in _AFTER)


def _git_folders(folder: str) -> tuple[str, str]:
    """Return where the git folder of a remote on this disk may be."""
    return folder, os.path.join(folder, ".git")


def unreachable(remote: str, complaint: str) -> SystemFault:
    """Return the fault that git's complaint about a remote means.

    Git reads this repository first: if it cannot do that, the remote is not the cause.
    """
    if "--mirror can't be combined" in complaint:
        return is_mirror(remote)
    if hint := start.repair(complaint):
        return SystemFault(f"git failed: {reason(complaint)}", hint, code="git_failed")
    return SystemFault(
        f"the remote {remote!r} cannot be reached: {reason(complaint)}",
        f"try: git ls-remote {remote}",
        code="remote_unreachable",
    )


def is_mirror(remote: str) -> SystemFault:
    """Return the fault that a remote is set up as a mirror of the whole repository."""
    return SystemFault(
        f"the remote {remote!r} is a mirror (remote.{remote}.mirror), so git pushes no single "
        "branch to it",
        f"git config --unset remote.{remote}.mirror; or name another remote in push_remote",
        code="remote_is_mirror",
    )
