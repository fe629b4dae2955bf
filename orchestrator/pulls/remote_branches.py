"""The remote's branches of merged pull requests: deleted by git, as `retention` says.

Never by `gh pr merge --delete-branch`: started in the main worktree, gh 2.103 removes the linked
worktree that has the branch checked out, with its unpushed commits.
"""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.git import remote_pair, remotes, repository
from orchestrator.layout import Layout
from orchestrator.model.config import Config
from orchestrator.model.errors import OrchestratorError
from orchestrator.model.work import PullRequest
from orchestrator.pulls import forges, states


def drop_merged(
    layout: Layout, config: Config, known: list[PullRequest] | None = None, *, every: bool = False
) -> list[str]:
    """Delete what is left at the remote of merged pull requests; return one line per branch.

    `known` are the pull requests as just seen; `every`: also of those whose records were put away.
    A branch goes only while it is at the commit that was merged. Raises OrchestratorError when the
    remote cannot be reached.
    """
    remote = remote_pair.find(layout.root, config).push
    if config.retention.remote_branches != "delete" or remote is None:
        return []
    place = f"refs/remotes/{remote}/"
    there = {
        ref.removeprefix(place): head for ref, head in repository.refs(layout.root, place).items()
    }
    prs = list((states.known(layout, config) if known is None else known) or ())
    if every:
        # From the branches to the records, because tens of thousands of records can be put away.
        others = there.keys() - {pr.branch for pr in prs}
        prs += filter(None, (forges.of_branch(layout, config, name) for name in sorted(others)))
    return _drop(layout.root, remote, prs, there)


def _drop(root: str, remote: str, prs: list[PullRequest], there: Mapping[str, str]) -> list[str]:
    in_use = {pr.branch for pr in prs if pr.state == "open"}
    said: list[str] = []
    for pr in prs:
        is_there = there.get(pr.branch) == pr.head
        if pr.state != "merged" or pr.said or pr.branch in in_use or not is_there:
            continue
        try:
            refused = remotes.delete(root, remote, pr.branch, pr.head)
        except OrchestratorError as error:
            return [*said, f"could not delete {pr.branch} at {remote}: {error.message}"]
        if refused is None:
            ref = f"refs/remotes/{remote}/{pr.branch}"
            if repository.resolve(root, ref) is not None:  # gone at the remote before
                repository.delete_ref(root, ref, pr.head)
            said.append(f"deleted {pr.branch} at {remote}: pull request {pr.id} is merged")
        else:
            said.append(f"could not delete {pr.branch} at {remote}: {refused}")
    return said
