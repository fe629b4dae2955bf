"""The Board: what each column of the queue shows, one page of it."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.model.annotations import Any
from orchestrator.model.errors import NotFound
from orchestrator.model.work import OPEN_STATES, PRIORITIES, STATES
from orchestrator.page.commands import Commands

Row = dict[str, Any]
#: Cards of a column: of unfinished tasks, and of one page of finished tasks.
MOST_OPEN, MOST_FINISHED = 200, 20
#: The states that a person may move a task to; only a run claims a task.
TARGETS = tuple(state for state in STATES if state != "claimed")


def load(commands: Commands, query: Mapping[str, str]) -> Row:
    """Return the columns. The query has `q` (search), `role`, `done_after` and `failed_after`."""
    status = commands.read("status")
    shared: Row = {"search": query.get("q") or None, "role": query.get("role") or None}
    columns = [_column(commands, state, shared, query) for state in STATES]
    why = {row["task"]: row for row in status["cannot_start"]}
    questions = {row["task"]: row for row in status["blocked"]}
    counts = status["queue"]
    return {
        "columns": columns,
        "counts": counts,
        "is_searched": any(shared.values()),
        "why": why,
        "questions": questions,
        "states": {task["id"]: task["state"] for column in columns for task in column["tasks"]},
        "targets": TARGETS,
        "priorities": PRIORITIES,
    }


def _column(commands: Commands, state: str, shared: Row, query: Mapping[str, str]) -> Row:
    finished = state not in OPEN_STATES
    most = MOST_FINISHED if finished else MOST_OPEN
    after = (query.get(f"{state}_after") or None) if finished else None
    # One more than is shown tells whether there are more.
    asked = {**shared, "state": state, "limit": most + 1, "after": after}
    try:
        tasks = commands.read("task list", asked)
    except NotFound:  # the task after which this page begins was removed meanwhile
        if after is None:
            raise
        after = None
        tasks = commands.read("task list", {**asked, "after": None})
    shown = tasks[:most]
    lanes = [{"priority": None, "tasks": shown}]
    if state == "incoming":
        known = [
            {"priority": p, "tasks": [t for t in shown if t["priority"] == p]} for p in PRIORITIES
        ]
        others = [t for t in shown if t["priority"] not in PRIORITIES]
        lanes = [*known, *([{"priority": None, "tasks": others}] if others else [])]
    return {
        "state": state,
        "tasks": shown,
        "lanes": lanes,
        "after": after,
        "next": shown[-1]["id"] if len(tasks) > most else None,
        "is_finished": finished,
    }
