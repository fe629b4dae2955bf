"""Landing: pull requests are merged into their base, one at a time, and the merge is checked.

Two branches that pass alone may fail together (failures 11). So the merge itself is made in a
temporary worktree, checked and pushed. A conflict, or a merge that fails its checks, goes back to
its author with the branch intact.
"""

from __future__ import annotations

import contextlib
import os

from orchestrator.errors import NotFound, OrchestratorError, SystemFault
from orchestrator.git import base_branch, call, remotes, repository, worktree, worktree_commands
from orchestrator.guard import user_commands
from orchestrator.guard.user_commands import Checker
from orchestrator.layout import Layout
from orchestrator.model import Config, PullRequest
from orchestrator.project import faults as system_faults
from orchestrator.pulls import forges, review
from orchestrator.pulls.forge import Forge
from orchestrator.system import files, locks
from orchestrator.tasks import stores

#: How often a merge is repeated because the base moved meanwhile.
TRIES = 3


class CannotLand(OrchestratorError):
    """The merge conflicts, or its result fails the checks: the author has to fix it."""

    code = "cannot_land"


def lock_path(layout: Layout) -> str:
    return os.path.join(layout.cache, "landing.lock")


def lock(layout: Layout, wait: float) -> locks.Lock:
    """Return the lock that allows one landing at a time."""
    files.make_folder(layout.cache)
    return locks.Lock(lock_path(layout), wait)


def land_approved(layout: Layout, config: Config, now: float) -> list[str]:
    """Merge approved pull requests if `review.auto_merge` is set; return one line per result.

    Only the reviewed commit is merged. Without a remote, nothing is merged: the base branch exists
    only in a person's checkout. Does nothing during another landing.
    """
    said: list[str] = []
    faults: list[OrchestratorError] = []
    if not config.review.auto_merge or base_branch.remote_of(layout, config) is None:
        return said
    with contextlib.suppress(locks.LockHeld), lock(layout, 0.0):
        where = forges.of_project(layout, config)
        for pr in where.list():
            if pr.state == "open" and pr.verdict == "approved":
                said.append(_land_one(layout, config, where, pr, now, faults))
        if faults:
            system_faults.keep(layout.landing_fault, faults[0])
        else:
            files.remove(layout.landing_fault)
    return said


def _land_one(
    layout: Layout,
    config: Config,
    where: Forge,
    pr: PullRequest,
    now: float,
    faults: list[OrchestratorError],
) -> str:
    try:
        return f"merged {pr.id} as {merge(layout, config, pr, only=pr.reviewed)[:12]}"
    except CannotLand as error:
        where.give_verdict(pr.id, "changes_requested", pr.head, error.message)
        _send_back(layout, config, pr, error.message, now)
        return f"sent {pr.id} back: {error.message.splitlines()[0]}"
    except OrchestratorError as error:
        said = f"could not merge {pr.id}: {error.message}"
        faults.append(OrchestratorError(said, error.hint, code=error.code))
        return said


def _send_back(layout: Layout, config: Config, pr: PullRequest, feedback: str, now: float) -> None:
    store = stores.of_project(layout)
    try:
        task = store.find(pr.task or "")
    except NotFound:
        return
    if task.state == "done":
        review.record_verdict(
            store,
            config,
            task,
            now=now,
            run=f"landing-{pr.id}-{pr.head[:12]}",
            reviewer="scheduler",
            verdict="changes_requested",
            feedback=feedback,
            head=pr.head,
        )


def merge(layout: Layout, config: Config, pr: PullRequest, only: str | None = None) -> str:
    """Merge one pull request and return the base's new commit. Call it with `lock` held.

    `only` is the reviewed commit: any other commit is refused. Raises CannotLand, OrchestratorError
    if the pull request may not be merged, SystemFault if the remote cannot be reached.
    """
    where = forges.of_project(layout, config)
    if pr.state != "open":
        raise OrchestratorError(
            f"pull request {pr.id} is {pr.state}", "see: orchestrator pr list", code="not_open"
        )
    return where.merge(pr, only, lambda: _land(layout, config, pr, only))


def _land(layout: Layout, config: Config, pr: PullRequest, only: str | None) -> str:
    """Merge a pull request by git; return the base's new commit. Raises as `merge`."""
    remote = base_branch.remote_of(layout, config)
    for _ in range(TRIES):
        merged = _try(layout, config, pr, remote, only)
        if merged is not None:
            return merged
    raise SystemFault(f"the branch {pr.base} moved during each try to merge", code="push_rejected")


def _try(
    layout: Layout, config: Config, pr: PullRequest, remote: str | None, only: str | None
) -> str | None:
    """Make, check and push one merge; return its commit, or None if the base moved meanwhile."""
    root = layout.root
    if remote:
        base_branch.fetch(layout, remote, [pr.base, pr.branch])
    base = base_branch.branch_commit(root, remote, pr.base)
    head = base_branch.branch_commit(root, remote, pr.branch)
    if base is None or head is None:
        gone = pr.base if base is None else pr.branch
        raise OrchestratorError(f"the branch {gone} does not exist", code="no_branch")
    if only is not None and head != only:
        raise OrchestratorError(
            f"pull request {pr.id} has commits that were not reviewed", code="not_reviewed"
        )
    if repository.is_ancestor(root, head, base):
        return base
    path = os.path.join(layout.cache, f"landing-{pr.id}")
    with worktree.throw_away(root, path, base):
        merged = _merged(path, pr, base, head)
        _check(layout, config, pr, path)
    if remote is None:
        _fast_forward(root, pr.base, base, merged)
        return merged
    refused = remotes.push(root, remote, merged, pr.base)
    if refused is None:
        repository.update_ref(root, f"refs/remotes/{remote}/{pr.base}", merged)
        return merged
    if remotes.tips(root, remote, [pr.base]).get(pr.base) == base:
        raise OrchestratorError(f"the remote refused the merge: {refused}", code="push_rejected")
    return None


def _merged(path: str, pr: PullRequest, base: str, head: str) -> str:
    """Return the merge commit of base and head, made in the worktree at `path`."""
    if repository.is_ancestor(path, base, head):
        worktree_commands.detach(path, head)
        return head
    conflicts = worktree_commands.merge(path, head, f"Merge {pr.branch}: {pr.title}")
    if conflicts is None:
        return call.ask(path, "rev-parse", "HEAD")
    raise CannotLand(f"{pr.branch} conflicts with {pr.base}: merge {pr.base} into it. {conflicts}")


def _check(layout: Layout, config: Config, pr: PullRequest, path: str) -> None:
    """Run the checks on the merge at `path`; raises CannotLand or SystemFault when one fails."""
    checker = Checker(
        user_commands.commands_environment(config),
        os.path.join(layout.cache, "landing.log"),
        config.check_timeout_seconds,
        # The mark of its processes: no landing of another project may have the same mark.
        f"landing-{pr.id}-of-{layout.root}",
    )
    failure = checker.first_failure(config.checks, path)
    if failure is None:
        return
    if failure.program_is_missing:
        raise SystemFault(f"a check's program is missing: {failure}", code="check_failed")
    if failure.was_killed:
        raise SystemFault(f"a check was killed: {failure}", code="check_killed")
    raise CannotLand(f"merged into {pr.base}, the checks fail: {failure}")


def _fast_forward(root: str, branch: str, old: str, new: str) -> None:
    """Move the base branch of a repository without a remote, as requested (reference 9.5)."""
    holder = worktree_commands.holder_of(root, branch)
    if holder is None:
        repository.update_ref(root, f"refs/heads/{branch}", new, old)
        return
    if worktree_commands.has_changes(holder):
        raise OrchestratorError(
            f"{branch} is checked out in {holder} with uncommitted changes",
            "commit or stash them, then merge again",
            code="checkout_not_clean",
        )
    done = call.run(holder, "merge", "--quiet", "--ff-only", new)
    if done.code != 0:
        raise OrchestratorError(
            f"git cannot merge into {holder}: {done.err.strip()[:300]}",
            "move those files away, then merge again",
            code="checkout_not_clean",
        )
