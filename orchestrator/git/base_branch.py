"""Upstream: the branch that work starts from and goes back to, here and at the project's remote."""

from __future__ import annotations

import os
from collections.abc import Mapping

from orchestrator.errors import SystemFault
from orchestrator.git import remotes, repository
from orchestrator.layout import Layout
from orchestrator.model import Config, Task
from orchestrator.system import files, locks


def base_branch(config: Config, task: Task | None) -> str:
    """Return the branch that a task's work starts from and goes back to."""
    if task is not None and task.branch:
        return task.branch
    if config.base_branch is None:
        raise SystemFault("no base branch is known", "set base_branch in agents.yaml")
    return config.base_branch


def branch_commit(root: str, remote: str | None, branch: str) -> str | None:
    """Return a branch's commit, the remote's where there is a remote."""
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
) -> dict[str, str]:
    """Bring branches of the remote up to date; return those that it has, with their commits.

    One fetch at a time: parallel ones trip over each other's ref locks. `seen` are our refs of the
    remote's branches as they were a moment ago, if they are known.

    Raises SystemFault when the remote cannot be reached, or another fetch takes too long.
    """
    files.make_folder(layout.cache)
    lock = locks.Lock(os.path.join(layout.cache, "fetch.lock"), timeout)
    try:
        with lock:
            return remotes.fetch(layout.root, remote, branches, timeout, seen)
    except locks.LockHeld:
        raise SystemFault("another fetch is still under way", code="remote_unreachable") from None
    finally:
        lock.close()


def remote_of(layout: Layout, config: Config) -> str | None:
    """Return the configured remote's name, if the repository has it."""
    return config.remote if remotes.url(layout.root, config.remote) else None


def tip(root: str, branch: str | None) -> str | None:
    """Return the commit at the tip of a local branch; None without a branch."""
    return repository.resolve(root, f"refs/heads/{branch}") if branch else None
