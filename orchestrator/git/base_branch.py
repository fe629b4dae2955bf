"""The base branch: work starts from it and is merged into it, here and at the project's remote."""

from __future__ import annotations

import os
from collections.abc import Mapping

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
) -> dict[str, str]:
    """Fetch branches of the remote; return the branches that it has, with their commits.

    One fetch at a time: parallel fetches fail on each other's ref locks. `seen` has the local refs
    of the remote's branches as they were a moment ago, if they are known.

    Raises SystemFault when the remote cannot be reached, or another fetch takes too long.
    """
    files.make_folder(layout.cache)
    try:
        with locks.Lock(os.path.join(layout.cache, "fetch.lock"), timeout):
            return remotes.fetch(layout.root, remote, branches, timeout, seen)
    except locks.LockHeld:
        raise SystemFault("another fetch is still running", code="remote_unreachable") from None


def remote_of(layout: Layout, config: Config) -> str | None:
    """Return the configured remote's name, if the repository has it."""
    return config.remote if remotes.url(layout.root, config.remote) else None


def tip(root: str, branch: str | None) -> str | None:
    """Return the commit at the tip of a local branch; None without a branch."""
    return repository.resolve(root, f"refs/heads/{branch}") if branch else None
