"""The remote's branches of merged pull requests: deleted by git, as `retention` says.

Never by `gh pr merge --delete-branch`: started in the main worktree, gh 2.103 removes the linked
worktree that has the branch checked out, with its unpushed commits.
"""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.errors import OrchestratorError
from orchestrator.git import remote_pair, remotes, repository
from orchestrator.layout import Layout
from orchestrator.model import Config, PullRequest
from orchestrator.pulls import states


def drop_merged(layout: Layout, config: Config, *, every: bool = False) -> list[str]:
    """Delete what is left at the remote of merged pull requests; return one line per branch.

    `every` as `states.known`: otherwise of the newest ones. A branch goes only while it is at the
    commit that was merged. Raises OrchestratorError when the remote cannot be reached.
    """
    remote = remote_pair.find(layout.root, config).push
    if config.retention.remote_branches != "delete" or remote is None:
        return []
    return _drop(layout.root, remote, states.known(layout, config, every=every) or ())


def _drop(root: str, remote: str, prs: Iterable[PullRequest]) -> list[str]:
    listed = list(prs)
    there = repository.refs(root, f"refs/remotes/{remote}/")
    in_use = {pr.branch for pr in listed if pr.state == "open"}
    said: list[str] = []
    for pr in listed:
        ref = f"refs/remotes/{remote}/{pr.branch}"
        if pr.state != "merged" or pr.said or pr.branch in in_use or there.get(ref) != pr.head:
            continue
        try:
            refused = remotes.delete(root, remote, pr.branch, pr.head)
        except OrchestratorError as error:
            return [*said, f"could not delete {pr.branch} at {remote}: {error.message}"]
        if refused is None:
            if repository.resolve(root, ref) is not None:  # gone at the remote before
                repository.delete_ref(root, ref, pr.head)
            said.append(f"deleted {pr.branch} at {remote}: pull request {pr.id} is merged")
        else:
            said.append(f"could not delete {pr.branch} at {remote}: {refused}")
    return said
