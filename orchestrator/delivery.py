"""Delivery: from commits on a branch to a pull request, by the scheduler's side, step by step.

`done` has its proof (FAILURES 2): commits exist, the checks passed on exactly that commit, the
remote has it, a pull request shows it. Each step is written into the run's journal when it is done
and asks first whether it already is.
"""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass, replace
from typing import Protocol

from orchestrator import files, forge, git, process, runrecord
from orchestrator.errors import SystemFault
from orchestrator.layout import Layout
from orchestrator.model import Agent, Config, Outcome, PullRequest, Role, Task, ports
from orchestrator.runrecord import Record

#: A shell's exit code for "there is no such program".
COMMAND_NOT_FOUND = 127
#: Characters of a failed check's output that go into the task and the next prompt.
OUTPUT_KEPT = 4000


class Stopped(Exception):
    """A person ended the run during its checks."""


class Run(Protocol):
    """What delivery needs to know of a run."""

    layout: Layout
    config: Config
    agent: Agent
    role: Role
    task: Task | None
    path: str


def base_branch(config: Config, task: Task | None) -> str:
    """Return the branch that a task's work starts from and goes back to."""
    if task is not None and task.branch:
        return task.branch
    if config.base_branch is None:
        raise SystemFault("no base branch is known", "set base_branch in agents.yaml")
    return config.base_branch


def branch_commit(root: str, remote: str | None, branch: str) -> str | None:
    """Return a branch's commit, the remote's where there is a remote."""
    if remote:
        found = git.resolve(root, f"refs/remotes/{remote}/{branch}")
        if found:
            return found
    return git.resolve(root, f"refs/heads/{branch}")


def tip(root: str, record: Record) -> str | None:
    """Return the commit at the tip of a run's branch."""
    return git.resolve(root, f"refs/heads/{record['branch']}") if record["branch"] else None


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

    Raises SystemFault when the machine or a service is at fault, Stopped when a person ended it.
    """
    if head is None or commits == 0:
        kept = f"; uncommitted changes are kept under {rescued}" if rescued else ""
        return _failed(outcome, f"no_commits: the branch has no commit{kept}")
    steps = record["steps"]
    if steps.get("checked") != head:
        complaint = run_checks(folder, record, run, head)
        if complaint:
            return _failed(outcome, f"checks_failed: {complaint}")
        steps["checked"] = head
        runrecord.write(folder, record)
    if not run.role.opens_pull_request:
        return replace(outcome, head=head, branch=record["branch"])
    if record["remote"] and steps.get("pushed") != head:
        refusal = _push(record, run, head)
        if refusal:
            return _failed(outcome, f"push_rejected: {refusal}")
        steps["pushed"] = head
        runrecord.write(folder, record)
    pr = _open_pull_request(record, run, outcome, head)
    steps["pr"] = pr.id
    runrecord.write(folder, record)
    return replace(outcome, pr=pr.id, head=head, branch=record["branch"])


def _failed(outcome: Outcome, reason: str) -> Outcome:
    return replace(outcome, verdict="failed", reason=reason)


def _push(record: Record, run: Run, head: str) -> str | None:
    """Push the branch and look whether the remote has it. Return why it refused, or None."""
    root, remote, branch = run.layout.root, record["remote"], record["branch"]
    there = git.remote_branches(root, remote, [branch]).get(branch)
    if there == head:
        return None
    # What we pushed in an earlier attempt may be replaced (a rebase after a conflict), nothing else.
    ours = run.task.head if run.task and run.task.head == there else None
    if ours and not git.is_ancestor(root, ours, head):
        git.update_ref(root, f"{git.RESCUE}{record['id']}-replaced", ours)
    refusal = git.push(root, remote, head, branch, ours)
    if refusal:
        return refusal
    if git.remote_branches(root, remote, [branch]).get(branch) != head:
        return "the remote took the push but does not show it"
    return None


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


@dataclass(frozen=True)
class CheckResult:
    code: int | None
    output: str


def check_environment(
    config: Config, agent: Agent, layout: Layout, record: Record
) -> dict[str, str]:
    """The environment of the user's own commands: ports, and a mark by which they can be ended.

    Not the run's own variables: a project's tests may run orchestrator themselves.
    """
    variables = git.environment(os.environ)
    variables.update({name: str(port) for name, port in ports(config, agent).items()})
    variables["ORCHESTRATOR_CHECK_OF"] = record["id"]
    variables["ORCHESTRATOR_WORKTREE"] = layout.worktree(agent.name)
    return variables


def run_checks(folder: str, record: Record, run: Run, head: str) -> str | None:
    """Run every check on `head` in the worktree; return what failed, or None.

    A check whose program does not exist, on the base commit neither, is a SystemFault.
    """
    if not run.config.checks:
        return None
    git.detach(run.path, head)
    for command in run.config.checks:
        result = _check(folder, record, run, command, run.path)
        if result.code == 0:
            continue
        if result.code == COMMAND_NOT_FOUND and _fails_on_base(folder, record, run, command):
            raise SystemFault(
                f"the check {command!r} names a program that is not there",
                "install it, or correct `checks` in agents.yaml",
                code="check_program_missing",
            )
        limit = run.config.check_timeout_seconds
        how = f"exited {result.code}" if result.code is not None else f"took over {limit:.0f} s"
        return f"{command!r} {how}\n{result.output}"
    return None


def _fails_on_base(folder: str, record: Record, run: Run, command: str) -> bool:
    """Whether a check's program is missing on the base commit too."""
    path = os.path.join(run.layout.cache, f"base-{record['id']}")
    git.add_worktree(run.layout.root, path, record["base_commit"])
    try:
        result = _check(folder, record, run, command, path)
        return result.code == COMMAND_NOT_FOUND
    finally:
        git.remove_worktree(run.layout.root, path)


def _check(folder: str, record: Record, run: Run, command: str, cwd: str) -> CheckResult:
    """Run one shell command with its output in the run's folder. Raises Stopped."""
    log = os.path.join(folder, "checks.log")
    files.append_line(log, f"$ {command}")
    with open(log, "ab") as out:
        began = out.tell()
        child = subprocess.Popen(
            ("/bin/sh", "-c", command),
            cwd=cwd,
            env=check_environment(run.config, run.agent, run.layout, record),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            process_group=0,
        )
        try:
            in_time = _wait(child.pid, folder, run.config.check_timeout_seconds)
        finally:
            # Whatever the check started ends with it: the next one begins on a quiet machine.
            process.kill_group(child.pid)
            code = child.wait()
            process.end_run(None, None, record["id"])
    with open(log, "rb") as file:
        file.seek(began)
        output = file.read()[-OUTPUT_KEPT:].decode(errors="replace")
    return CheckResult(code if in_time else None, output)


def _wait(pid: int, folder: str, timeout: float) -> bool:
    """Wait for a check to end, without reaping it; False when its time is over. Raises Stopped."""
    deadline = time.monotonic() + timeout
    pause = 0.005
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if runrecord.stop_reason(folder):
            raise Stopped
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
        pause = min(pause * 1.5, 0.2)
    return True
