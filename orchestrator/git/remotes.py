"""Git's remotes: their branches, fetch and push.

A remote that cannot be reached is a SystemFault. A remote that refuses a push gives the reason.
"""

import os
import re
from collections.abc import Sequence

from orchestrator.errors import SystemFault
from orchestrator.git import lfs
from orchestrator.git.call import DURABLE, lines, reason, run

#: Time limit of a command that talks to a remote, in seconds; and the shorter limit inside a tick,
#: because other processes wait for the tick.
TIMEOUT = 180.0
TICK_TIMEOUT = 20.0


def url(root: str, remote: str) -> str | None:
    """Return a remote's URL; None when there is no such remote."""
    done = run(root, "config", "--get", f"remote.{remote}.url")
    return done.out.strip() or None


def addresses(root: str, remote: str, *, push: bool = False) -> list[str]:
    """Return a remote's address as git uses it, and as it is written; [] for no such remote.

    The two differ where `url.<base>.insteadOf` applies. `push` asks for the address of pushes.
    """
    used = run(root, "remote", "get-url", *(["--push"] if push else []), remote)
    written = url(root, remote)
    found = [used.out.strip() if used.code == 0 else "", written or ""]
    return [address for address in dict.fromkeys(found) if address]


def ssh_command(root: str) -> str | None:
    """Return the user's own command for ssh, if git's configuration has one."""
    return run(root, "config", "--get", "core.sshCommand").out.strip() or None


def head(root: str, remote: str) -> str | None:
    """Return the branch the remote's HEAD points to, as last fetched; None when not known."""
    done = run(root, "symbolic-ref", "--quiet", "--short", f"refs/remotes/{remote}/HEAD")
    return done.out.strip().removeprefix(f"{remote}/") if done.code == 0 else None


def tips(
    root: str, remote: str, branches: Sequence[str], timeout: float = TIMEOUT
) -> dict[str, str]:
    """Ask the remote for the commits of some branches. Raises SystemFault when out of reach."""
    patterns = [f"refs/heads/{branch}" for branch in branches]
    done = run(root, "ls-remote", "--quiet", remote, *patterns, timeout=timeout)
    if done.code != 0:
        raise unreachable(remote, done.err)
    pairs = (line.split("\t", 1) for line in lines(done.out))
    return {ref.removeprefix("refs/heads/"): commit for commit, ref in pairs if ref in patterns}


def default_branch(root: str, remote: str, timeout: float = TIMEOUT) -> tuple[str | None, bool]:
    """Ask the remote for the branch that its HEAD points to, and whether it has any branch.

    The branch is None when HEAD points nowhere. Raises SystemFault when the remote cannot be
    reached.
    """
    words = ("--quiet", "--symref", remote, "HEAD", "refs/heads/*")
    done = run(root, "ls-remote", *words, timeout=timeout)
    if done.code != 0:
        raise unreachable(remote, done.err)
    found = re.search(r"^ref: refs/heads/(\S+)\tHEAD$", done.out, re.MULTILINE)
    return (found[1] if found else None), "\trefs/heads/" in done.out


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
#: One such failure is permanent: a branch `a` exists, and `a/b` is pushed.
_IN_THE_WAY = r"'refs/heads/[^']+' exists; cannot create 'refs/heads/"


def push(
    cwd: str, remote: str, commit: str, branch: str, replaces: str | None = None
) -> str | None:
    """Push a commit to a branch of the remote. Return None, or why the remote refused it.

    `replaces` is the commit that the branch has there, "" if it does not exist there: only then the
    push has an effect. Raises SystemFault when the remote cannot be reached, and when it refuses
    the account (`remote_refuses`). Objects in Git LFS are pushed first.
    """
    refused = lfs.push(cwd, remote, commit, branch, replaces or "")
    if refused is not None:
        return refused
    return _push(cwd, remote, f"{commit}:refs/heads/{branch}", branch, replaces)


def delete(cwd: str, remote: str, branch: str, commit: str) -> str | None:
    """Delete a branch of the remote that is at `commit`; return as `push`. A gone one is deleted.

    Raises SystemFault when the remote cannot be reached.
    """
    refused = _push(cwd, remote, f":refs/heads/{branch}", branch, commit)
    return refused if refused and tips(cwd, remote, [branch]) else None


def _push(cwd: str, remote: str, spec: str, branch: str, replaces: str | None) -> str | None:
    lease = () if replaces is None else (f"--force-with-lease=refs/heads/{branch}:{replaces}",)
    options = ("--porcelain", "--no-verify", "--no-recurse-submodules")
    done = run(
        cwd, "push", *options, *_receiver(cwd, remote), *lease, remote, spec, timeout=TIMEOUT
    )
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
    raise unreachable(remote, done.err)


def _receiver(cwd: str, remote: str) -> tuple[str, ...]:
    """Return the option with which a remote on this machine's disk flushes what it receives.

    Another git process receives the push, and the settings of the calling git do not reach it.
    """
    address = run(cwd, "remote", "get-url", "--push", remote).out.strip().removeprefix("file://")
    if not address or not os.path.isdir(os.path.join(cwd, address)):
        return ()
    settings = " ".join(f"-c {key}={value}" for key, value in DURABLE.items())
    return (f"--receive-pack=git {settings} receive-pack",)


def unreachable(remote: str, complaint: str) -> SystemFault:
    """Return the fault that git's complaint about a remote means."""
    return SystemFault(
        f"the remote {remote!r} cannot be reached: {reason(complaint)}",
        f"try: git ls-remote {remote}",
        code="remote_unreachable",
    )
