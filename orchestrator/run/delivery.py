"""Delivery: from commits on a branch to a pull request, by the scheduler's side, step by step.

`done` has its proof (failures 2): commits exist, the checks passed on exactly that commit, the
remote has it, a pull request shows it. Each step is written into the run's journal when it is done
and asks first whether it already is.
"""

from __future__ import annotations

import os
from typing import Protocol

from orchestrator.errors import SystemFault
from orchestrator.git import remotes, repository, worktree, worktree_commands
from orchestrator.guard import user_commands
from orchestrator.guard.user_commands import Checker, Failure
from orchestrator.layout import Layout
from orchestrator.model import Agent, Config, Outcome, PullRequest, Role, Task
from orchestrator.project import run_record
from orchestrator.project.run_record import Record
from orchestrator.pulls import forges


class Run(Protocol):
    """What delivery needs to know of a run."""

    @property
    def layout(self) -> Layout: ...
    @property
    def config(self) -> Config: ...
    @property
    def agent(self) -> Agent: ...
    @property
    def role(self) -> Role: ...
    @property
    def task(self) -> Task | None: ...
    @property
    def path(self) -> str: ...


def deliver(
    folder: str,
    record: Record,
    run: Run,
    outcome: Outcome,
    head: str | None,
    commits: int,
    rescued: str | None,
) -> Outcome:
    """Check, push and open the pull request; return the outcome with its proof, or as failed.

    Raises SystemFault when the machine or a service is at fault, checks.Stopped when a person ended
    the run.
    """
    if head is None or commits == 0:
        kept = f"; uncommitted changes are kept under {rescued}" if rescued else ""
        return _failed(outcome, f"no_commits: the branch has no commit{kept}")
    steps = record["steps"]
    if steps.get("checked") != head:
        failure = run_checks(folder, record, run, head)
        if failure is not None and failure.was_killed:
            reason = f"no_result: a check was killed: {failure}"
            return outcome._replace(verdict="interrupted", reason=reason)
        if failure is not None:
            return _failed(outcome, f"checks_failed: {failure}")
        steps["checked"] = head
        run_record.write(folder, record)
    if not run.role.opens_pull_request:
        return outcome._replace(head=head, branch=record["branch"])
    if record["remote"] and steps.get("pushed") != head:
        refusal = _push(record, run, head)
        if refusal:
            return _failed(outcome, f"push_rejected: {refusal}")
        steps["pushed"] = head
        run_record.write(folder, record)
    pr = _open_pull_request(record, run, outcome, head)
    steps["pr"] = pr.id
    run_record.write(folder, record)
    return outcome._replace(pr=pr.id, head=head, branch=record["branch"])


def _failed(outcome: Outcome, reason: str) -> Outcome:
    return outcome._replace(verdict="failed", reason=reason)


def _push(record: Record, run: Run, head: str) -> str | None:
    """Push the branch and look whether the remote has it. Return why it refused, or None."""
    root, remote, branch = run.layout.root, record["remote"], record["branch"]
    there = remotes.tips(root, remote, [branch]).get(branch)
    if there == head:
        return None
    # What we pushed in an earlier attempt may be replaced (after a rebase), nothing else.
    ours = run.task.head if run.task and run.task.head == there else None
    if ours and not repository.is_ancestor(root, ours, head):
        repository.update_ref(root, f"{repository.RESCUE}{record['id']}-replaced", ours)
    refusal = remotes.push(root, remote, head, branch, ours)
    # Whatever it said: the push of a supervisor that was killed may have come through meanwhile.
    if remotes.tips(root, remote, [branch]).get(branch) == head:
        return None
    return refusal or "the remote took the push but does not show it"


def _open_pull_request(record: Record, run: Run, outcome: Outcome, head: str) -> PullRequest:
    title = run.task.title if run.task else record["branch"]
    wanted = PullRequest(
        id="",
        task=record["task"],
        branch=record["branch"],
        base=record["base"],
        head=head,
        title=title,
        state="open",
    )
    body = outcome.summary or "(the agent gave no summary)"
    return forges.of_project(run.layout, run.config).open(wanted, body)


# --- checks ------------------------------------------------------------------------------------


def run_checks(folder: str, record: Record, run: Run, head: str) -> Failure | None:
    """Run every check on `head` in the worktree; return the first that fails, or None.

    A check whose program is missing, on the base commit too, is a SystemFault: the machine's or
    the configuration's doing, not the work's.
    """
    if not run.config.checks:
        return None
    worktree_commands.detach(run.path, head)
    checker = Checker(
        user_commands.check_environment(run.config, run.agent, run.layout),
        os.path.join(folder, "checks.log"),
        run.config.check_timeout_seconds,
        record["id"],
        lambda: run_record.stop_reason(folder),
    )
    try:
        failure = checker.first_failure(run.config.checks, run.path)
    finally:
        # What the checks left behind is nobody's work: it must not look like an agent's.
        worktree_commands.detach(run.path, head)
        worktree_commands.clean(run.path)
    if failure is not None and failure.program_is_missing:
        path = os.path.join(run.layout.cache, f"base-{record['id']}")
        with worktree.throw_away(run.layout.root, path, record["base_commit"]):
            on_base = checker.run(failure.command, path)
        if on_base is not None and on_base.program_is_missing:
            raise SystemFault(
                f"the check {failure.command!r} names a program that is not there",
                "install it, or correct `checks` in agents.yaml",
                code="check_program_missing",
            )
    return failure
