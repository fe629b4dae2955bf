"""The JSON of reference 6: one function per noun, so that every command shows a noun alike.

`None` means "not known". Times are ISO 8601 with `Z`, paths are absolute.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from orchestrator.model.annotations import TYPE_CHECKING, Any
from orchestrator.model.config import Agent, Config
from orchestrator.model.snapshot import Snapshot
from orchestrator.model.times import iso, parse_time
from orchestrator.model.work import Given, PullRequest, Task
from orchestrator.plan.planner import Plan
from orchestrator.plan.rows import refusal
from orchestrator.plan.rule import Verdict
from orchestrator.tasks import parts
from orchestrator.tasks.store import Store
from orchestrator.tasks.task_file import TaskFile

if TYPE_CHECKING:
    from orchestrator.pulls.movers import Move

Row = dict[str, Any]


def task_row(task: Task, config: Config) -> Row:
    """Return a task as `task list --json` shows it; `branch` is its base branch."""
    wanted = parse_time(task.header.get("NOT_BEFORE") or "")
    return {
        "id": task.id,
        "title": task.title,
        "role": task.role,
        "priority": task.priority,
        "branch": task.branch or config.base_branch,
        "created": iso(task.created),
        "created_by": task.created_by,
        "state": task.state,
        "path": task.where,
        "attempts": task.attempts,
        # The delay after a failed attempt, or the person's own time: both must be over.
        "not_before": iso(max(task.not_before or 0.0, wanted or 0.0) or None),
        "depends_on": list(task.depends_on),
        "claimed_by": task.claimed_by,
        "reason": task.reason,
        "work_branch": task.work_branch,
        "pr": task.pr,
        **({"host": task.host} if task.host and task.claimed_by else {}),
    }


def task_with_history(store: Store, task: Task, file: TaskFile, config: Config) -> Row:
    """Return a task as `task show --json` shows it: the row, the body as written, each event."""
    history = [{**e.fields, "at": e.at, "event": e.event} for e in file.history]
    listed = [
        {"id": part.id, "title": part.title, "state": part.state, "pr": part.pr}
        for part in parts.recorded(store, task)
    ]
    parent = task.header.get(parts.PARENT)
    return {
        **task_row(task, config),
        **({"parent": parent} if parent else {}),
        **({"parts": listed} if listed else {}),
        "body": file.body,
        "history": history,
    }


def agent_rows(config: Config, snapshot: Snapshot, planned: Plan, now: float) -> list[Row]:
    """Return every configured agent, with the reason why the plan does not start it."""
    rows = planned.agents
    return [_agent_row(agent, snapshot, rows[agent.name], now) for agent in config.agents]


def _agent_row(agent: Agent, snapshot: Snapshot, verdicts: tuple[Verdict, ...], now: float) -> Row:
    run = next((run for run in snapshot.runs if run.agent == agent.name), None)
    view = snapshot.agents.get(agent.name)
    refused = refusal(verdicts)
    reason = refused.code if refused else None
    words = {"system_paused": "paused", "paused": "paused", None: "ready"}
    due = next(verdict for verdict in verdicts if verdict.code == "not_due")
    return {
        "name": agent.name,
        "role": agent.role,
        "state": "running" if run else words.get(reason, "waiting"),
        "reason": reason,
        "due_in_seconds": 0 if due.ok else due.until and math.ceil(due.until - now),
        "run": run and run.id,
        "task": run and run.task,
        "last_outcome": view and view.last_outcome,
    }


def pull_request_row(pr: PullRequest) -> Row:
    """Return a pull request as `pr list --json` shows it."""
    names = ("id", "task", "branch", "base", "head", "title", "state", "verdict", "url")
    return {name: getattr(pr, name) for name in names}


def pull_request(
    pr: PullRequest, body: str, reviews: Sequence[Given], move: Move | None = None
) -> Row:
    """Return a pull request as `pr show --json` shows it; `reviews` are the oldest first.

    `move` says who moves it next; None if it is not open.
    """
    shown = ("by", "kind", "verdict", "commit", "text", "at")
    return {
        **pull_request_row(pr),
        "body": body,
        "reviews": [{name: getattr(given, name) for name in shown} for given in reviews],
        "checks": [{"name": c.name, "state": c.state, "url": c.url} for c in pr.checks],
        "mergeable": pr.mergeable,
        "draft": pr.draft,
        "next": move and {"by": move.by, "text": move.text, "step": move.step},
    }
