"""The first stage of a run: its worktree and branch, its instructions, and how its client starts.

The stage may be killed at any instant. Started again, it does everything again; what an earlier
process did is already done then.
"""

# No `from __future__ import annotations`, for the reason that `model.config` gives.

from orchestrator.git import (
    base_branch,
    lfs,
    repository,
    settings,
    submodule_changes,
    submodules,
    task_branch,
    worktree,
    worktree_commands,
    worktree_list,
)
from orchestrator.guard import user_commands
from orchestrator.model.errors import GitError, OrchestratorError
from orchestrator.model.snapshot import Outcome
from orchestrator.project import run_record
from orchestrator.pulls import forges, restack
from orchestrator.run import attribution, instructions, launch, readiness, start_point
from orchestrator.run.job import Job
from orchestrator.run.journal import Journal, Plan
from orchestrator.tasks import stores


def prepare(journal: Journal) -> Plan | None:
    """Prepare everything that the client needs; return how to start the client.

    None means that the run is finished, or that it is `concluding` because only the delivery is
    left to do. A system fault finishes the run and does not count as an attempt.
    """
    settings.forget()
    try:
        if run_record.stop_reason(journal.folder):
            journal.finish(Outcome("stopped", run_record.STOPPED))
            return None
        job = Job.load(journal)
        if not job.is_ours:
            # A tick that was killed before it claimed the task left a run without a task.
            gone = "no_result: its task was never claimed, or moved away"
            journal.finish(Outcome("interrupted", gone))
            return None
        start = start_point.find(job)
        instructions.require_absent(job)
        _check_out(job, start)
        readiness.before_the_client(job)
        if _is_done_already(job):
            journal.write(journal.record._replace(status="concluding"))
            return None
        instructions.write(job)
        return launch.write(job)
    except user_commands.Stopped:
        journal.finish(Outcome("stopped", run_record.STOPPED))
    except (task_branch.BranchHeld, start_point.Question) as error:
        journal.finish(Outcome("needs_human", question=error.message))
    except (OrchestratorError, OSError, MemoryError) as error:
        # A broken template, a full disk, a failing git: another attempt at the task cannot help.
        journal.finish(attribution.outcome(journal.record, error))
    return None


def _is_done_already(job: Job) -> bool:
    """Whether an earlier run did the work, and only its delivery is left to do.

    A system fault kept that run from delivering; the same work must not be paid for twice.
    """
    left = job.record.undelivered
    return left is not None and base_branch.tip(job.layout.root, job.record.branch) == left.head


def _check_out(job: Job, start: start_point.Start) -> None:
    """Bring worktree and branch into the run's first state.

    What an earlier run left in the worktree is kept under a rescue ref.
    """
    root, branch = job.layout.root, job.record.branch
    lfs.require(root)
    before = f"{job.record.id}-before"
    fresh = readiness.site(job).provide(start.commit, before, fresh=job.record.fresh)
    worktree_commands.lock(job.path, job.record.id, job.record.agent)
    if not fresh and worktree.preserve(job.path, None, before, start.on_refs).dirty:
        worktree.clean(job.path)
    if worktree_commands.own_folder(job.path) is None:
        raise GitError(f"{job.path} is not the top of a worktree")
    if branch is not None:
        _take_up(job, branch, start)
    elif not fresh:
        worktree.detach(job.path, start.commit)
    _fill_submodules(job)
    worktree.bring_included(root, job.path)


def _fill_submodules(job: Job) -> None:
    """Check out the submodules. Raises SystemFault if a commit that the base names is nowhere."""
    root, base = job.layout.root, job.record.base_commit or "HEAD"
    missing = submodules.check_out(root, job.path, job.config.submodules.checkout)
    if missing:
        # What an earlier attempt changed is for this attempt to repair.
        own = {change.path for change in submodule_changes.changed(job.path, base, "HEAD")}
        if lost := [path for path in missing if path not in own]:
            raise submodules.missing_fault(lost)


def _take_up(job: Job, branch: str, start: start_point.Start) -> None:
    """Check out the task's branch, and note which commits gave way."""
    root, here, former = job.layout.root, start.here, start.former
    base = former[1] if former else start.commit
    task_branch.take_up(root, job.path, branch, base, here, start.there, start.rescue)
    kept = start_point.replaced_ref(job)
    if start.has_kept or (start.rescue and repository.resolve(root, kept)):
        job.journal.write(job.record._replace(replaced=kept))
    if former and worktree_list.holder_of(root, former[0]) is None:
        repository.delete_ref(root, f"refs/heads/{former[0]}", former[1])
    _catch_up(job, branch)


def _catch_up(job: Job, branch: str) -> None:
    """Bring the base in if what the work depends on landed as other commits (`pulls.restack`)."""
    root, record = job.layout.root, job.record
    if job.task is None or job.file is None or not job.task.depends_on:
        return
    tip = base_branch.tip(root, branch)
    if tip is None or _is_done_already(job):
        return
    base, store = (record.base or "", record.base_commit or ""), stores.of_project(job.layout)
    below = map(store.get, job.task.depends_on)
    prs = forges.of_project(job.layout, job.config).book.list()
    prs = forges.with_merged(job.layout, job.config, prs, below) or []
    updated = restack.updated(root, store, job.task, job.file.history, prs, (branch, tip), base)
    if updated is not None:
        worktree_commands.advance(job.path, updated)
