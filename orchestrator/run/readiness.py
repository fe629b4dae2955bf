"""The set-up of a run's worktree, and whose fault it is when it fails.

A set-up that fails on the base too is a system fault. If it fails only on the task's branch,
for example because of its lock file, then the agent gets to know the error, and can fix it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from orchestrator.git import repository, submodules, worktree
from orchestrator.guard import user_commands
from orchestrator.guard.user_commands import Checker, Failure
from orchestrator.project import run_record
from orchestrator.project.worktree_setup import SetUpFailed, Site
from orchestrator.run.job import Job


def checker(job: Job, path: str, log: str) -> Checker:
    """Return what runs the user's commands in the run's worktree, or in one on its base."""
    variables = user_commands.check_environment(job.config, job.agent, job.layout)
    return Checker(
        {**variables, "ORCHESTRATOR_WORKTREE": path},
        job.journal.path(log),
        job.config.check_timeout_seconds,
        job.record.id,
        lambda: run_record.stop_reason(job.folder),
    )


def site(job: Job) -> Site:
    """Return the run's worktree as a place to set up."""
    log = checker(job, job.path, run_record.SETUP_LOG)
    return Site(job.layout.root, job.path, job.config, log, job.record.base_commit)


def before_the_client(job: Job) -> None:
    """Set the worktree up; note in the record if the branch keeps it from being set up.

    Raises SetUpFailed for a system fault, and Stopped.
    """
    try:
        site(job).set_up()
    except SetUpFailed as error:
        if not _is_of_the_branch(job, error):
            raise
        job.journal.record = job.record._replace(not_set_up=str(error.failure))


def check_out(job: Job, head: str, *, fresh: bool = False) -> None:
    """Have `head` checked out, to be checked; in a new worktree if the worktree is half set up."""
    root, is_new = job.layout.root, site(job).provide(head, f"{job.record.id}-checks", fresh=fresh)
    worktree.detach(job.path, head)
    submodules.check_out(root, job.path, job.config.submodules.checkout if is_new else "none")
    if is_new:
        worktree.bring_included(root, job.path)


def before_the_checks(job: Job) -> Failure | None:
    """Set the worktree up for what is checked out; return a failure that is of the branch.

    The agent's commits may have changed a file that the set-up depends on. Raises as
    `before_the_client`.
    """
    try:
        site(job).set_up(before_run=False)
    except SetUpFailed as error:
        if not _is_of_the_branch(job, error):
            raise
        return error.failure
    return None


def _is_of_the_branch(job: Job, error: SetUpFailed) -> bool:
    """Whether the set-up that failed in the run's worktree succeeds on the base."""
    here, base = repository.resolve(job.path, "HEAD"), job.record.base_commit
    if error.failure.was_killed or base is None or here == base:
        return False
    try:
        with on_base(job, base) as place:
            place.set_up()
    except SetUpFailed:
        return False
    return True


@contextlib.contextmanager
def on_base(job: Job, otherwise: str) -> Iterator[Site]:
    """Provide a temporary worktree on the run's base commit, or on the commit `otherwise`."""
    root, path = job.layout.root, os.path.join(job.layout.cache, f"base-{job.record.id}")
    base, which = job.record.base_commit or otherwise, job.config.submodules.checkout
    with worktree.throw_away(root, path, base, which):
        worktree.bring_included(root, path)
        log = checker(job, path, run_record.SETUP_LOG)
        yield Site(root, path, job.config, log, job.record.base_commit)
