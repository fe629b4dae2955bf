"""The JSON of reference 6: one function a noun, so that every command says the same of it.

`None` means "not known". Times leave as ISO 8601 with `Z`, paths as absolute ones.
"""

from __future__ import annotations

import math
from typing import Any

from orchestrator.layout import Layout
from orchestrator.model import Agent, Config, Problem, PullRequest, Snapshot, Task, iso
from orchestrator.plan.planner import plan, refusal
from orchestrator.plan.rules import Verdict
from orchestrator.tasks.task_file import TaskFile
from orchestrator.tick.observe import Observation

Row = dict[str, Any]


def time_text(seconds: float | None) -> str | None:
    """Return a time as the outside writes it; None for one that no calendar has."""
    try:
        return iso(seconds)
    except (ValueError, OverflowError, OSError):
        return None


# --- tasks -------------------------------------------------------------------------------------


def task_row(task: Task, config: Config) -> Row:
    """Return a task as `task list --json` shows it; `branch` is the base that it will be given."""
    return {
        "id": task.id,
        "title": task.title,
        "role": task.role,
        "priority": task.priority,
        "branch": task.branch or config.base_branch,
        "created": time_text(task.created),
        "created_by": task.created_by,
        "state": task.state,
        "path": task.where,
        "attempts": task.attempts,
        "not_before": time_text(task.not_before),
        "depends_on": list(task.depends_on),
        "claimed_by": task.claimed_by,
        "reason": task.reason,
        "work_branch": task.work_branch,
        "pr": task.pr,
    }


def task_with_history(task: Task, file: TaskFile, config: Config) -> Row:
    """Return a task as `task show --json` shows it: the row, the body as written, each event."""
    history = [{**e.fields, "at": e.at, "event": e.event} for e in file.history]
    return {**task_row(task, config), "body": file.body, "history": history}


def retrying_row(task: Task) -> Row:
    """Return a waiting task that was tried before; `attempt` is the number of the coming one."""
    return {
        "task": task.id,
        "attempt": task.attempts + 1,
        "not_before": time_text(task.not_before),
        "error": task.error,
    }


# --- agents and runs ---------------------------------------------------------------------------


def agent_rows(config: Config, snapshot: Snapshot, now: float) -> list[Row]:
    """Return every configured agent, with the reason why the plan does not start it."""
    verdicts = plan(snapshot, config, now).agents
    return [_agent_row(agent, snapshot, verdicts[agent.name], now) for agent in config.agents]


def _agent_row(agent: Agent, snapshot: Snapshot, verdicts: tuple[Verdict, ...], now: float) -> Row:
    run = next((run for run in snapshot.runs if run.agent == agent.name), None)
    view = snapshot.agents.get(agent.name)
    refused = refusal(verdicts)
    reason = refused.code if refused else None
    due = next(verdict for verdict in verdicts if verdict.code == "not_due")
    return {
        "name": agent.name,
        "role": agent.role,
        "state": _agent_state(run is not None, reason),
        "reason": reason,
        "due_in_seconds": 0 if due.ok else due.until and math.ceil(due.until - now),
        "run": run.id if run else None,
        "task": run.task if run else None,
        "last_outcome": view.last_outcome if view else None,
    }


def _agent_state(runs: bool, reason: str | None) -> str:
    if runs:
        return "running"
    if reason in ("system_paused", "paused"):
        return "paused"
    return "ready" if reason is None else "waiting"


def running_rows(layout: Layout, seen: Observation, now: float) -> list[Row]:
    """Return the runs that are not settled yet, as `status --json` shows them."""
    rows = []
    for run in seen.snapshot.runs:
        record = seen.records.get(run.id)
        created = record.created if record else None
        supervisor = (record and record.supervisor) or seen.states[run.agent].supervisor
        rows.append(
            {
                "run": run.id,
                "agent": run.agent,
                "task": run.task,
                "pid": supervisor.pid if supervisor else None,
                "started": time_text(created),
                "age_seconds": None if created is None else max(int(now - created), 0),
                "branch": record.branch if record else None,
                "worktree": layout.worktree(run.agent),
                "cost_usd": record.outcome.cost_usd if record and record.outcome else None,
            }
        )
    return rows


# --- the rest ----------------------------------------------------------------------------------


def pull_request_row(pr: PullRequest) -> Row:
    """Return a pull request as `pr list --json` shows it."""
    names = ("id", "task", "branch", "base", "head", "title", "state", "verdict", "url")
    return {name: getattr(pr, name) for name in names}


def problem_row(problem: Problem) -> Row:
    """Return a problem as `status --json` and `tick --json` show it."""
    return {"code": problem.code, "message": problem.message, "hint": problem.hint}
