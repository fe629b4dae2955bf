"""The base branch: work starts from it and is merged into it, here and at the project's remote."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from orchestrator.errors import SystemFault
from orchestrator.git import remotes, repository
from orchestrator.layout import Layout
from orchestrator.model import Config, Task
from orchestrator.system import files, locks


def base_branch(config: Config, task: Task | None) -> str:
    """Return the branch that a task's work starts from and is merged into."""
    if task is not None and task.branch:
        return task.branch
    if config.base_branch is None:
        raise SystemFault("no base branch is known", "set base_branch in agents.yaml")
    return config.base_branch


def branch_commit(root: str, remote: str | None, branch: str) -> str | None:
    """Return a branch's commit: the remote's commit if there is a remote."""
    if remote:
        found = repository.resolve(root, f"refs/remotes/{remote}/{branch}")
        if found:
            return found
    return repository.resolve(root, f"refs/heads/{branch}")


def fetch(
    layout: Layout,
    remote: str,
    branches: list[str],
    timeout: float = remotes.TIMEOUT,
    seen: Mapping[str, str] | None = None,
    *,
    address: str | None = None,
    watched: Sequence[str] = (),
) -> dict[str, str]:
    """Fetch branches of the remote; return the branches that it has, with their commits.

    One fetch at a time: parallel fetches fail on each other's ref locks. The arguments are those of
    `remotes.fetch`.

    Raises SystemFault when the remote cannot be reached, or another fetch takes too long.
    """
    files.make_folder(layout.cache)
    lock = locks.Lock(os.path.join(layout.cache, "fetch.lock"), timeout)
    try:
        with lock:
            return remotes.fetch(
                layout.root, remote, branches, timeout, seen, address=address, watched=watched
            )
    except locks.LockHeld:
        raise SystemFault("another fetch is still running", code="remote_unreachable") from None
    finally:
        lock.close()


def gone(
    root: str, remote: str, branch: str, timeout: float = remotes.TIMEOUT
) -> SystemFault | None:
    """Return the fault that the remote does not have the base branch, which was looked for there.

    None for a remote without any branch: nothing was ever pushed there. Raises SystemFault when the
    remote cannot be reached.
    """
    now, has_branches = remotes.default_branch(root, remote, timeout)
    if not has_branches:
        return None
    hint = f"set base_branch in .orchestrator/agents.yaml; or: git push {remote} {branch}"
    if now is not None:
        hint = (
            f"the remote's default branch is {now!r}: to follow it, set base_branch: {now} in "
            f".orchestrator/agents.yaml; otherwise: git push {remote} {branch}"
        )
    message = f"the remote {remote!r} has no branch {branch!r}, which is the base branch"
    return SystemFault(message, hint, code="base_gone")


def remote_of(layout: Layout, config: Config) -> str | None:
    """Return the configured remote's name, if the repository has it."""
    return config.remote if remotes.url(layout.root, config.remote) else None


def tip(root: str, branch: str | None) -> str | None:
    """Return the commit at the tip of a local branch; None without a branch."""
    return repository.resolve(root, f"refs/heads/{branch}") if branch else None
