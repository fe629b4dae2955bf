"""The base branch: work starts from it and is merged into it, here and at the project's remote."""

import contextlib
import os
import re
import time
from collections.abc import Mapping, Sequence

from orchestrator.git import call, damage, remotes, repository
from orchestrator.layout import Layout
from orchestrator.model.config import Config
from orchestrator.model.errors import GitError, SystemFault
from orchestrator.model.work import Task
from orchestrator.system import files, locks


def base_branch(config: Config, task: Task | None) -> str:
    """Return the branch that a task's work starts from and is merged into."""
    if task is not None and task.branch:
        return task.branch
    if config.base_branch is None:
        raise SystemFault("no base branch is known", "set base_branch in .orchestrator/agents.yaml")
    return config.base_branch


def branch_commit(root: str, remote: str | None, branch: str) -> str | None:
    """Return a branch's commit: the remote's commit if there is a remote."""
    found = repository.resolve(root, f"refs/remotes/{remote}/{branch}") if remote else None
    return found or tip(root, branch)


def meant(root: str, remote: str | None, name: str) -> str | None:
    """Return the branch that a name such as `origin/main` means, if there is such a branch."""
    short = name
    for start in ("refs/", "heads/", "remotes/", f"{remote}/"):
        short = short.removeprefix(start)
    return short if short != name and branch_commit(root, remote, short) else None


def branch_commits(root: str, *branches: tuple[str | None, str]) -> list[str | None]:
    """Return what `branch_commit` returns for each remote and branch, by one question to git."""
    names = [
        [*([f"refs/remotes/{remote}/{branch}"] if remote else []), f"refs/heads/{branch}"]
        for remote, branch in branches
    ]
    known = repository.refs(root, *(name for each in names for name in each))
    return [next((known[name] for name in each if name in known), None) for each in names]


#: A fetch that changes nothing but what it names.
QUIETLY = (
    "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--no-auto-gc",
)  # fmt: skip
#: Seconds for a fetch of the whole history.
_UNSHALLOW = 1800.0


def fetch(
    layout: Layout,
    remote: str,
    branches: list[str],
    timeout: float = remotes.TIMEOUT,
    *,
    address: str | None = None,
    watched: Sequence[str] = (),
    known: Mapping[str, str] | None = None,
    wait: float = locks.LONGEST_WAIT,
    since: float | None = None,
) -> dict[str, str]:
    """Fetch branches into `refs/remotes/`; return those that the remote has, with their commits.

    One fetch at a time: parallel fetches fail on each other's ref locks. `address` is where the
    remote's branches are, if that is not its own URL. `watched` are branches that are not fetched,
    but returned if they exist. `wait` is the most seconds to wait for another fetch. `known` are
    the refs of all these branches as just seen, each with its commit: a hint, which saves a
    question to git. With `since` (epoch seconds), what another run was told after that time is
    enough, if these refs agree with it.

    Raises SystemFault when the remote cannot be reached, or another fetch takes too long; GitError
    when the refs cannot be written here.
    """
    files.make_folder(layout.cache)
    try:
        path = os.path.join(layout.cache, "fetch.lock")
        with locks.Lock(path, min(wait, timeout)):
            at = address or remote
            theirs = _fetch(layout, remote, at, branches, watched, timeout, known, since)
            _complete(layout, remote, at, [b for b in branches if b in theirs])
            return theirs
    except locks.LockHeld as error:
        raise SystemFault(error.message, error.hint, code=error.code) from None


def _complete(layout: Layout, remote: str, address: str, branches: Sequence[str]) -> None:
    """Fetch the history that an agent's `git fetch --depth` has cut off for all worktrees.

    Without it, git finds nothing in common between the base and the work that began before. A
    repository that was shallow when the product first fetched in it stays shallow. If the remote
    cannot be reached, the next fetch tries again.
    """
    was_shallow = os.path.join(layout.cache, "shallow")
    is_shallow = repository.is_shallow(layout.root)
    if not os.path.exists(was_shallow):
        files.write_atomic(was_shallow, b"yes" if is_shallow else b"no", flush=False)
    if not branches or not is_shallow or not files.holds(was_shallow, b"no"):
        return
    specs = [f"+refs/heads/{branch}:refs/remotes/{remote}/{branch}" for branch in branches]
    call.run(layout.root, "fetch", "--unshallow", *QUIETLY, address, *specs, timeout=_UNSHALLOW)


def _fetch(
    layout: Layout,
    remote: str,
    address: str,
    branches: Sequence[str],
    watched: Sequence[str],
    timeout: float,
    known: Mapping[str, str] | None,
    since: float | None,
) -> dict[str, str]:
    root = layout.root
    names = {branch: f"refs/remotes/{remote}/{branch}" for branch in (*branches, *watched)}
    if since is None or known is None:
        theirs = remotes.tips(root, address, [*names], timeout)
    else:
        theirs = _kept(layout, address, since, [*names])
        if theirs and all(_agrees(root, r, known.get(r), theirs.get(b)) for b, r in names.items()):
            return theirs
        theirs = _asked(layout, address, [*names], timeout)
    ours = known
    if ours is None or any(ref in ours and branch not in theirs for branch, ref in names.items()):
        # What is deleted below must not have moved since it was seen.
        ours = repository.refs(root, *names.values())
    for branch, ref in names.items():
        if branch not in theirs and ref in ours:
            repository.delete_ref(root, ref, ours[ref])
    specs = [
        f"+refs/heads/{branch}:{names[branch]}"
        for branch, commit in theirs.items()
        if branch in branches
        and ours.get(names[branch]) != commit
        # A landing may have pushed it from here since the refs were seen.
        and not repository.is_at(root, names[branch], commit)
    ]
    if not specs:
        return theirs
    for spec in specs:
        repository.make_plain(root, spec.partition(":")[2], keep=False)
    words = [*QUIETLY, address, *specs]
    done = call.run(root, "fetch", *words, timeout=timeout)
    tries = 1
    while re.search(_MOVED, done.err) and tries < _TRIES:
        done = call.run(root, "fetch", *words, timeout=timeout)
        tries += 1
    if done.code and re.search(f"{_UNUSABLE}|{damage.SAID}", done.err):
        damage.drop_copies(root, [spec.partition(":")[2] for spec in specs])
        done = call.run(root, "fetch", *words, timeout=timeout)
    if done.code == 0:
        return theirs
    if re.search(damage.SAID, done.err):
        # Something damaged in this repository stops git, or the remote is damaged: the narrower
        # cause is tried first.
        with contextlib.suppress(GitError):
            damage.fetch_around(root, os.path.join(layout.cache, "fetch.git"), words, timeout)
            return theirs
    # It could not write the refs here: another process has, or left, a lock.
    if re.search(r"cannot lock ref|Unable to create '.*\.lock'", done.err):
        raise GitError(f"git fetch failed: {call.reason(done.err)}")
    raise remotes.unreachable(remote, done.err)


def _agrees(root: str, ref: str, ours: str | None, theirs: str | None) -> bool:
    """Whether a ref is where the remote's branch is; another run may have fetched it meanwhile."""
    return ours == theirs or (theirs is not None and repository.is_at(root, ref, theirs))


#: What git says of a ref that another process moved while this fetch was under way: the push of a
#: landing moves the base without the lock of fetches. The next try begins with the moved ref.
_MOVED = r"cannot lock ref '[^']+': (is at [0-9a-f]+ but expected|reference already exists)"
_TRIES = 5
#: What git says of a ref's file that is not a ref, or of another ref in its place.
_UNUSABLE = r"refs/remotes/.*(reference broken|exists; cannot create|non-empty directory)"


def gone(root: str, remote: str, branch: str, timeout: float = remotes.ASK_TIMEOUT) -> SystemFault:
    """Return the fault that the remote does not have the base branch, which was looked for there.

    Raises SystemFault when the remote cannot be reached.
    """
    now, has_branches = remotes.default_branch(root, remote, timeout)
    if not has_branches:
        hint = f"git push -u {remote} {branch}"
        if tip(root, branch) is None:
            hint = (
                f"set base_branch in .orchestrator/agents.yaml to a branch that exists; then {hint}"
            )
        message = f"the remote {remote!r} is empty: nothing was pushed there, not even {branch!r}"
        return SystemFault(message, hint, code="base_gone")
    hint = f"orchestrator init --base BRANCH; or: git push {remote} {branch}"
    if now is not None:
        import shlex

        hint = (
            f"the remote's default branch is {now!r}; to change tasks and pull requests to it: "
            f"orchestrator init --base {shlex.quote(now)}; "
            f"to restore {branch!r}: git push {remote} {branch}"
        )
    message = f"the remote {remote!r} has no branch {branch!r}, which is the base branch"
    return SystemFault(message, hint, code="base_gone")


def gone_here(root: str, branch: str) -> SystemFault:
    """Return the fault that a repository without a remote does not have the base branch."""
    import shlex

    now = repository.current_branch(root)
    other = shlex.quote(now) if now and now != branch else "BRANCH"
    hint = f"to work from another branch: orchestrator init --base {other}; or: git branch {branch}"
    message = f"this repository has no branch {branch!r}, which is the base branch"
    return SystemFault(message, hint, code="base_gone")


def remote_of(layout: Layout, config: Config) -> str | None:
    """Return the configured remote's name, if the repository has it."""
    return config.remote if remotes.url(layout.root, config.remote) else None


def tip(root: str, branch: str | None) -> str | None:
    """Return the commit at the tip of a local branch; None without a branch."""
    return repository.resolve(root, f"refs/heads/{branch}") if branch else None


# Runs that start together ask a remote once: each question takes a connection, and one run at a
# time asks (`fetch`). Behind fifty others, a run would wait for fifty answers.

#: Seconds for which an answer may serve other runs, and the bytes of the largest such answer.
KEPT = 10.0
MOST_BYTES = 1 << 20
#: Seconds by which the time of a file may be behind the clock (it is that of the kernel's last
#: tick).
_BEHIND = 0.01


def _kept(layout: Layout, address: str, since: float, branches: Sequence[str]) -> dict[str, str]:
    """Return what a remote said of some branches, if it was asked after `since` (epoch seconds).

    {} without such an answer.
    """
    try:
        said = files.read_regular(_path(layout), MOST_BYTES).decode()
        first, _, answer = said.partition("\n")
        asked, _, of = first.partition(" ")
        is_new = since + _BEHIND < float(asked) <= time.time() < float(asked) + KEPT
    except (OSError, ValueError):  # no answer, a larger one, or a file that another program wrote
        return {}
    return remotes.picked(answer, branches) if is_new and of == address else {}


def _asked(layout: Layout, address: str, branches: Sequence[str], timeout: float) -> dict[str, str]:
    """Ask a remote for the commits of some branches, and keep what it says of all branches.

    Raises SystemFault when it is out of reach.
    """
    asked = time.time()
    answer = remotes.heads(layout.root, address, timeout=timeout)
    content = f"{asked!r} {address}\n{answer}".encode()
    if len(content) <= MOST_BYTES:
        files.write_atomic(_path(layout), content, flush=False)
    return remotes.picked(answer, branches)


def _path(layout: Layout) -> str:
    return os.path.join(layout.cache, "remote-heads")
