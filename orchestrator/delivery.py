"""Delivery: from commits on a branch to a pull request, by the scheduler's side, step by step.

`done` has its proof (FAILURES 2): commits exist, the checks passed on exactly that commit, the
remote has it, a pull request shows it. Each step is written into the run's journal when it is done
and asks first whether it already is.
"""

from __future__ import annotations

import os
from typing import Protocol

from orchestrator import (
    forge,
    git,
    gitremote,
    gitworktree,
    runrecord,
    withheld,
    worktree,
)
from orchestrator.checks import Checker, Failure
from orchestrator.errors import SystemFault
from orchestrator.layout import Layout
from orchestrator.model import Agent, Config, Outcome, PullRequest, Role, Task, ports
from orchestrator.runrecord import Record


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
        runrecord.write(folder, record)
    if not run.role.opens_pull_request:
        return outcome._replace(head=head, branch=record["branch"])
    if record["remote"] and steps.get("pushed") != head:
        refusal = _push(record, run, head)
        if refusal:
            return _failed(outcome, f"push_rejected: {refusal}")
        steps["pushed"] = head
        runrecord.write(folder, record)
    pr = _open_pull_request(record, run, outcome, head)
    steps["pr"] = pr.id
    runrecord.write(folder, record)
    return outcome._replace(pr=pr.id, head=head, branch=record["branch"])


def _failed(outcome: Outcome, reason: str) -> Outcome:
    return outcome._replace(verdict="failed", reason=reason)


def _push(record: Record, run: Run, head: str) -> str | None:
    """Push the branch and look whether the remote has it. Return why it refused, or None."""
    root, remote, branch = run.layout.root, record["remote"], record["branch"]
    there = gitremote.tips(root, remote, [branch]).get(branch)
    if there == head:
        return None
    # What we pushed in an earlier attempt may be replaced (after a rebase), nothing else.
    ours = run.task.head if run.task and run.task.head == there else None
    if ours and not git.is_ancestor(root, ours, head):
        git.update_ref(root, f"{git.RESCUE}{record['id']}-replaced", ours)
    refusal = gitremote.push(root, remote, head, branch, ours)
    # Whatever it said: the push of a supervisor that was killed may have come through meanwhile.
    if gitremote.tips(root, remote, [branch]).get(branch) == head:
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
    return forge.of_project(run.layout, run.config).open(wanted, body)


# --- checks ------------------------------------------------------------------------------------


def commands_environment(config: Config) -> dict[str, str]:
    """The environment of checks and hooks: what they run may be code that an agent wrote.

    So it holds no secret but those that `environment.allow` names, nor the client's sign-in.
    """
    return git.environment(withheld.without_secrets(os.environ, config.environment_allow))


def check_environment(config: Config, agent: Agent, layout: Layout) -> dict[str, str]:
    """The environment of the user's own commands: the agent's ports and worktree.

    Not the run's own variables: a project's tests may run orchestrator themselves.
    """
    variables = commands_environment(config)
    variables.update({name: str(port) for name, port in ports(config, agent).items()})
    variables["ORCHESTRATOR_WORKTREE"] = layout.worktree(agent.name)
    return variables


def run_checks(folder: str, record: Record, run: Run, head: str) -> Failure | None:
    """Run every check on `head` in the worktree; return the first that fails, or None.

    A check whose program is missing, on the base commit too, is a SystemFault: the machine's or
    the configuration's doing, not the work's.
    """
    if not run.config.checks:
        return None
    gitworktree.detach(run.path, head)
    checker = Checker(
        check_environment(run.config, run.agent, run.layout),
        os.path.join(folder, "checks.log"),
        run.config.check_timeout_seconds,
        record["id"],
        lambda: runrecord.stop_reason(folder),
    )
    try:
        failure = checker.first_failure(run.config.checks, run.path)
    finally:
        # What the checks left behind is nobody's work: it must not look like an agent's.
        gitworktree.detach(run.path, head)
        gitworktree.clean(run.path)
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
