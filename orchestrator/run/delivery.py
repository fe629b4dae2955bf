"""Delivery: from commits on a branch to a pull request, by the scheduler's side, step by step.

A task is `done` only after four checks (failures 2): commits exist, the checks passed on exactly
that commit, the remote has the commit, and a pull request shows it. Each step first checks whether
the step is already complete, and is recorded in the run's journal when it is complete.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Sequence

from orchestrator.git import base_branch, repository, submodules, worktree_commands
from orchestrator.guard.user_commands import Failure
from orchestrator.model.errors import NotFound, Rejected, SystemFault
from orchestrator.model.fields import NamedTuple
from orchestrator.model.snapshot import Commit, Outcome
from orchestrator.model.work import PullRequest
from orchestrator.project import checkout_changed
from orchestrator.project.run_record import Steps
from orchestrator.pulls import forges, states
from orchestrator.run import instructions, nested, pushing, readiness
from orchestrator.run.job import Job

#: Characters of subjects in the event of a run. `report` asks git if there are more.
MOST_TEXT = 4_000


class Secured(NamedTuple):
    """What was found of the work when it was put on its branch."""

    #: The ref with what is not on the branch.
    rescued: str | None = None
    #: The branch's commits since the base, each with its subject, the newest first; None if they
    #: are not known.
    commits: Sequence[tuple[str, str]] | None = None
    #: Whether one of them has no parent: the branch was deleted, or created again, during the run.
    has_root: bool = False


def deliver(job: Job, outcome: Outcome, secured: Secured) -> Outcome:
    """Check, push and open the pull request; return the outcome with its proof, or as failed.

    Raises SystemFault when the machine or a service is at fault, `user_commands.Stopped` when a
    person ended the run.
    """
    head, branch = job.record.tip, job.record.branch
    if head is None or branch is None or job.record.commits == 0:
        return _without_commits(job, outcome, secured.rescued)
    if (ended := _ended_meanwhile(job)) is not None:
        return _stopped(outcome, ended)
    broken = _unrelated(job, branch, head, secured)
    broken = broken or nested.refusal(job, branch, head) or instructions.refusal(job, head)
    if broken is not None:
        return _failed(outcome, f"push_rejected: {broken}")
    if job.record.steps.checked != head:
        failure = run_checks(job, head)
        if failure is not None and failure.was_killed:
            reason = f"no_result: a check was killed: {failure}"
            return outcome._replace(verdict="interrupted", reason=reason)
        if failure is not None:
            return _failed(outcome, f"checks_failed: {failure}")
        _note(job, job.record.steps._replace(checked=head), surely=bool(job.config.checks))
    if job.role.delivers != "pull_request":
        return outcome._replace(head=head, branch=branch)
    # Only now: the checks may take long.
    if (ended := _ended_meanwhile(job, ask=True)) is not None:
        return _stopped(outcome, ended)
    if not job.is_ours:
        return given_away(outcome)
    checkout_changed.require_remotes(job.layout, job.config.remote, job.config.push_remote)
    if job.record.push_remote and job.record.steps.pushed != head:
        try:
            pushing.push(job, branch, head)
        except Rejected as error:
            return _failed(outcome, f"{error.code}: {error.message}")
        except pushing.NameRefused as error:
            question = (
                f"{error.message}. It takes other branches of agents. Change its rule, or give the "
                f"task a title that gives its branch another name: orchestrator task set "
                f"{job.record.task} title='...'. Then answer this question, and the work continues."
            )
            reason = f"{error.code}: {error.message}"
            return outcome._replace(verdict="needs_human", reason=reason, question=question)
        except pushing.Moved as error:
            reason = f"{error.code}: {error.message}"
            return outcome._replace(verdict="moved", reason=reason)
        # A supervisor that starts again finds the commit at the remote.
        _note(job, job.record.steps._replace(pushed=head), surely=False)
    try:
        pr = _open_pull_request(job, branch, outcome, head)
    except Rejected as error:
        return _failed(outcome, f"{error.code}: {error.message}")
    # A supervisor that starts again finds the pull request.
    _note(job, job.record.steps._replace(pr=pr.id), surely=False)
    listed = _commits(secured.commits)
    return outcome._replace(pr=pr.id, head=head, branch=branch, commits=listed)


def _commits(known: Sequence[tuple[str, str]] | None) -> tuple[Commit, ...] | None:
    """Return the delivered commits for the event of the run; None if they are not to be listed.

    `report` asks git then.
    """
    listed = known and known[: repository.MOST_COMMITS]
    if not listed or sum(len(subject) for _, subject in listed) > MOST_TEXT:
        return None
    return tuple(itertools.starmap(Commit, listed))


def _without_commits(job: Job, outcome: Outcome, rescued: str | None) -> Outcome:
    """Return the outcome of a run whose branch has no commit that the base lacks."""
    base = job.record.base_commit
    pr = _pull_request(job)
    if pr is not None and base and repository.is_ancestor(job.layout.root, pr.head, base):
        return _stopped(outcome, f"pull request {pr.id} is merged: {job.record.base} has its head")
    if job.record.client is None:
        # An earlier run did the work and pushed it; no pull request could be opened. By now the
        # base has all of its commits: a person merged the branch.
        reason = "the work was merged before its pull request was opened"
        return outcome._replace(verdict="no_change", reason=reason)
    kept = f"; what is not on the branch is kept under {rescued}" if rescued else ""
    return _failed(outcome, f"no_commits: the branch has no commit{kept}")


def _unrelated(job: Job, branch: str, head: str, secured: Secured) -> str | None:
    """Return why a branch is refused that git could merge with nothing; None for another branch."""
    base = job.record.base_commit
    if not (secured.has_root and base) or repository.merge_base(job.layout.root, base, head):
        return None
    kept = f"; what it had before is kept under {secured.rescued}" if secured.rescued else ""
    return (
        f"{branch} has no commit in common with {job.record.base}: it was deleted or created again "
        f"during the run{kept}. Put the work on top of {base}"
    )


def _pull_request(job: Job) -> PullRequest | None:
    """Return the task's pull request that this run works on, as it is recorded."""
    if job.task is None or job.task.pr is None or job.role.delivers != "pull_request":
        return None
    pr = forges.of_project(job.layout, job.config).book.get(job.task.pr)
    # After a change of `forge`, the number may be that of another task's pull request.
    return pr if pr is not None and pr.task == job.task.id and not pr.followed else None


def _ended_meanwhile(job: Job, *, ask: bool = False) -> str | None:
    """Return what a person did with the task's pull request during the run, if it is not open.

    With `ask`, the forge or the remote is asked about a pull request that is open according to its
    record: a delivery must not open again what a person closed since the last tick.
    """
    pr = _pull_request(job)
    if pr is None:
        return None
    # Without a remote, the branch is only here, and this run has moved it.
    if ask and pr.state == "open" and job.record.push_remote:
        with contextlib.suppress(NotFound):
            pr = states.fresh(job.layout, job.config, pr)
    return None if pr.state == "open" else f"pull request {pr.id} was {pr.state} during the run"


def given_away(outcome: Outcome) -> Outcome:
    """Return the outcome of a run that no longer has its task: the branch may be another run's."""
    return _stopped(outcome, "the task was moved, deleted or given to another run")


def _stopped(outcome: Outcome, ended: str) -> Outcome:
    """The next tick tells the task how its pull request ended; the work stays on its branch."""
    return outcome._replace(verdict="stopped", reason=f"stopped: {ended}")


def _note(job: Job, steps: Steps, *, surely: bool) -> None:
    """Note a step in the record; unless `surely`, it is written only with the next change."""
    job.journal.record = job.record._replace(steps=steps)
    if surely:
        job.journal.write(job.record)


def _failed(outcome: Outcome, reason: str) -> Outcome:
    return outcome._replace(verdict="failed", reason=reason)


def _open_pull_request(job: Job, branch: str, outcome: Outcome, head: str) -> PullRequest:
    wanted = PullRequest(
        id="",
        task=job.record.task,
        branch=branch,
        # As it is now: `init --base` may have followed a renamed branch during the run.
        base=base_branch.base_branch(job.config, job.task),
        head=head,
        title=job.task.title if job.task else branch,
        state="open",
    )
    body = outcome.summary or "(the agent gave no summary)"
    issue = job.task.header.get("ISSUE", "") if job.task else ""
    if re.fullmatch(r"[0-9]{1,9}", issue):
        body += f"\n\nCloses #{issue}"
    return forges.of_project(job.layout, job.config).open(wanted, body)


# --- checks ------------------------------------------------------------------------------------


def _first_failure(job: Job, head: str, *, fresh: bool = False) -> Failure | None:
    """Return the first failure of the set-up for `head`, by its own fault, or of a check."""
    readiness.check_out(job, head, fresh=fresh)
    try:
        failure = readiness.before_the_checks(job)
        checker = readiness.checker(job, job.path, "checks.log")
        return failure or checker.first_failure(job.config.checks, job.path)
    finally:
        # What the checks left behind is nobody's work: it must not look like an agent's.
        worktree_commands.detach(job.path, head)
        worktree_commands.clean(job.path)
        submodules.check_out(job.layout.root, job.path)


def run_checks(job: Job, head: str) -> Failure | None:
    """Run every check on `head` in the worktree; return the first that fails, or None.

    A check whose program is missing, on the base commit too, is a SystemFault: the machine's or
    the configuration's doing, not the work's.
    """
    if not job.config.checks:
        return None
    failure = _first_failure(job, head)
    if failure is not None and readiness.site(job).may_be_outdated():
        failure = _first_failure(job, head, fresh=True)
    if failure is not None and failure.program_is_missing:
        with readiness.on_base(job, head) as site:
            site.set_up()
            on_base = site.checker.run(failure.command, site.path)
        if on_base is not None and on_base.program_is_missing:
            raise SystemFault(
                f"the check {failure.command!r} names a program that is not there",
                "install it, or correct `checks` in agents.yaml; `setup` there prepares worktrees",
                code="check_program_missing",
            )
    return failure
