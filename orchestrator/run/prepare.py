"""The first stage of a run: its worktree and branch, its instructions, and how its client starts.

The stage may be killed at any instant. Started again, it does everything again; what an earlier
process did is already done then.
"""

# No `from __future__ import annotations`, for the reason that `model` gives.

import os
from typing import NamedTuple

from orchestrator.errors import GitError, OrchestratorError, SystemFault
from orchestrator.git import base_branch, repository, worktree, worktree_commands
from orchestrator.guard import user_commands
from orchestrator.model import Outcome, PullRequest
from orchestrator.project import faults, run_record
from orchestrator.pulls import forges
from orchestrator.run import instructions, launch
from orchestrator.run.job import Job
from orchestrator.run.journal import Journal, Plan
from orchestrator.tasks import history, task_file


def prepare(journal: Journal) -> Plan | None:
    """Prepare everything that the client needs; return how to start the client.

    None means that the run is finished, or that it is `concluding` because only the delivery is
    left to do. A system fault finishes the run and does not count as an attempt.
    """
    try:
        if run_record.stop_reason(journal.folder):
            journal.finish(Outcome("stopped", "stopped: by a person"))
            return None
        job = Job.load(journal)
        if not job.is_ours:
            # A tick that was killed before it claimed the task left a run without a task.
            gone = "no_result: its task was never claimed, or moved away"
            journal.finish(Outcome("interrupted", gone))
            return None
        start = _find_start(job)
        if _check_out(job, start):
            _run_hook(job)
        if _is_done_already(job):
            journal.write(journal.record._replace(status="concluding"))
            return None
        instructions.write(job)
        return launch.write(job)
    except BadBase as error:
        journal.finish(Outcome("failed", f"client_error: {error.message}"))
    except worktree.BranchHeld as error:
        journal.finish(Outcome("needs_human", question=error.message))
    except (OrchestratorError, OSError) as error:
        # A broken template, a full disk, a failing git: another attempt at the task cannot help.
        journal.finish(faults.outcome(error))
    return None


def _is_done_already(job: Job) -> bool:
    """Whether an earlier run did the work, and only its delivery is left to do.

    A system fault kept that run from delivering; the same work must not be paid for twice.
    """
    left = job.record.undelivered
    return left is not None and base_branch.tip(job.layout.root, job.record.branch) == left.head


class BadBase(OrchestratorError):
    """The branch that a task starts from does not exist."""

    code = "no_base"


class _Start(NamedTuple):
    """The commit that the worktree starts from, and the commits of branches here and remote."""

    commit: str
    here: dict[str, str]
    there: dict[str, str]


def _find_start(job: Job) -> _Start:
    """Ask git and the remote where the run starts, and write that into the record."""
    root = job.layout.root
    review = _pull_request_under_review(job)
    base = review.base if review else base_branch.base_branch(job.config, job.task)
    branch = None
    if review is None and job.task is not None:
        branch = job.task.work_branch or task_file.branch_name(job.task.id, job.task.title)
    mentioned = [name for name in (base, branch, review.branch if review else None) if name]
    url, pushurl = (f"remote.{job.config.remote}.{key}" for key in ("url", "pushurl"))
    known = repository.settings(root, url, pushurl, "user.email")
    remote = job.config.remote if url.lower() in known else None
    local = repository.refs(root, *(f"refs/heads/{name}" for name in mentioned))
    here = {ref.removeprefix("refs/heads/"): commit for ref, commit in local.items()}
    there = base_branch.fetch(job.layout, remote, mentioned) if remote else {}
    base_commit = there.get(base) or here.get(base)
    if base_commit is None:
        raise BadBase(f"its base branch {base!r} does not exist")
    start = _cut(job) or base_commit
    if review is not None:
        start = there.get(review.branch) or here.get(review.branch) or review.head
    job.journal.write_surely(
        job.record._replace(
            branch=branch,
            base=base,
            base_commit=base_commit,
            start=start,
            remote=remote,
            identity="user.email" in known,
            push_addresses=tuple(known.get(pushurl.lower(), ())),
            review=review,
        )
    )
    return _Start(start, here, there)


def _cut(job: Job) -> str | None:
    """Return the commit that the tick cut the branch from; None for the base (`pulls.cuts`)."""
    cut = history.cut(job.file.history) if job.file else None
    return repository.resolve(job.layout.root, cut) if cut else None


def _pull_request_under_review(job: Job) -> PullRequest | None:
    """Return the pull request that a review task is about; None for other roles."""
    if job.role.delivers != "verdict" or job.task is None or job.task.pr is None:
        return None
    return forges.of_project(job.layout, job.config).show(job.task.pr)


def _check_out(job: Job, start: _Start) -> bool:
    """Bring worktree and branch into the run's first state; return whether the worktree is new.

    What an earlier run left in the worktree is kept under a rescue ref.
    """
    root, branch = job.layout.root, job.record.branch
    fresh = worktree.ensure(root, job.path, start.commit)
    if not fresh and worktree.preserve(job.path, None, f"{job.record.id}-before").dirty:
        worktree_commands.clean(job.path)
    if os.path.realpath(repository.toplevel(job.path)) != os.path.realpath(job.path):
        raise GitError(f"{job.path} is not the top of a worktree")
    if branch is not None:
        here, there = start.here.get(branch), start.there.get(branch)
        worktree.take_up_branch(root, job.path, branch, start.commit, here, there)
    elif not fresh:
        worktree_commands.detach(job.path, start.commit)
    worktree.bring_included(root, job.path)
    return fresh


def _run_hook(job: Job) -> None:
    """Run `hooks.after_create` in a new worktree; a failing hook is a system fault."""
    variables = user_commands.check_environment(job.config, job.agent, job.layout)
    try:
        user_commands.run_hook(job.config, "after_create", job.path, variables)
    except SystemFault:
        # Created again next time, so that the hook runs again.
        worktree_commands.remove(job.layout.root, job.path)
        raise
