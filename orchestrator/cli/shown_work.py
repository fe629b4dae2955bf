"""What `status` shows of agents, runs and tasks, in the way of `cli/shown.py`."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.cli import json_rows
from orchestrator.cli.json_rows import Row
from orchestrator.cli.screen import Entry, Mood
from orchestrator.cli.shown import Looked, Shown, clock
from orchestrator.layout import Layout
from orchestrator.model.snapshot import RunView
from orchestrator.model.times import iso
from orchestrator.model.waiting import touched
from orchestrator.plan import dependencies
from orchestrator.plan.rows import refusal
from orchestrator.plan.stuck import stuck
from orchestrator.project.agent_memory import AgentState
from orchestrator.project.run_record import RunRecord
from orchestrator.tasks import parts, stores
from orchestrator.text.quoting import one_line
from orchestrator.text.words import some, span

#: Characters of an error, a question or a title that are shown.
CELL = 160
#: Reasons that are said in other words than those of the rule's verdict.
_WORDS = {
    "system_paused": "the project is paused",
    "no_matching_task": "no task waits for it",
    "max_starts": "starts at the tick after the next",
}
#: The order in which more than `FEW_AGENTS` agents are listed: perhaps not all of them fit.
FEW_AGENTS = 8
_AGENTS = ("running", "paused", "ready", "waiting")


def _agents(looked: Looked) -> list[Row]:
    config, seen = looked.loaded.config, looked.seen
    return json_rows.agent_rows(config, seen.snapshot, looked.planned, seen.now)


def _agents_lines(rows: list[Row], looked: Looked) -> Iterator[Entry]:
    wide = min(max((len(row["name"]) for row in rows), default=0), 24)
    runs = {run.agent: run for run in looked.seen.snapshot.runs}
    titles = {task.id: task.title for task in looked.seen.claimed.tasks}
    if len(rows) > FEW_AGENTS:
        # Stable: agents of one state stay in the order of agents.yaml.
        rows = sorted(rows, key=lambda row: _AGENTS.index(row["state"]))
    for row in rows:
        held, run = refusal(looked.planned.agents[row["name"]]), runs.get(row["name"])
        if row["reason"] == "running" or row["run"]:
            host = (run.host if run else None) or looked.seen.snapshot.host
            where = f" on {host}" if host else ""
            age = looked.age(run) if run else None
            title = titles.get(row["task"])
            said = f": {one_line(title, CELL)}" if title else ""
            why = f"{row['task'] or 'no task'}{where}, for {span(age)}{said}"
        else:
            why = _why(row, held.detail if held else "")
            why += f"; last run: {row['last_outcome']}" if row["last_outcome"] else ""
        text = f"  {row['name']:{wide}}  {row['state']:7}  {why}"
        mood: Mood = "good" if row["run"] else "plain"
        yield Entry(text, mood=mood, about=("agent", row["name"]))


def _why(row: Row, detail: str) -> str:
    """Return why an agent does not start, and when it is due."""
    if row["reason"] is None:
        return "starts at the next tick"
    due = row["due_in_seconds"]
    when = f"due in {span(due)}" if due else ""
    if row["reason"] == "not_due":
        return when or detail
    said = _WORDS.get(row["reason"], detail or row["reason"])
    if row["reason"] == "paused" and detail == f"{row['name']} is paused":
        said = f"orchestrator agent resume {row['name']}"
    return f"{said}; {when}" if when else said


def _running(looked: Looked) -> list[Row]:
    return [_run(looked, run) for run in looked.seen.snapshot.runs]


def _run(looked: Looked, run: RunView) -> Row:
    seen = looked.seen
    row: Row = {"run": run.id, "agent": run.agent, "task": run.task}
    if run.host is not None:
        times = {"started": iso(seen.now - (run.age or 0.0)), "age_seconds": looked.age(run)}
        unknown = dict.fromkeys(("branch", "worktree", "cost_usd"))
        return {**row, "pid": None, **times, **unknown, "host": run.host}
    record, state = seen.records.get(run.id), seen.states.get(run.agent)
    row |= run_here(looked.layout, run.agent, record, state, seen.now)
    return row | ({"host": seen.snapshot.host} if seen.snapshot.host else {})


def run_here(
    layout: Layout, agent: str, record: RunRecord | None, state: AgentState | None, now: float
) -> Row:
    """Return what is known of a run of this host from its record and its agent's memory."""
    supervisor = (record and record.supervisor) or (state and state.supervisor)
    return {
        "pid": supervisor.pid if supervisor else None,
        "started": iso(record.created if record else None),
        "age_seconds": max(int(now - record.created), 0) if record else None,
        "branch": record.branch if record else None,
        "worktree": layout.worktree(agent),
        "cost_usd": record.outcome.cost_usd if record and record.outcome else None,
    }


def _retrying(looked: Looked) -> list[Row]:
    return [
        {
            "task": task.id,
            "attempt": task.attempts + 1,
            "not_before": iso(task.not_before),
            "error": task.error,
        }
        for task in touched(looked.seen.incoming.tasks)
        if task.attempts > 0
    ]


def _retrying_lines(rows: list[Row], looked: Looked) -> Iterator[Entry]:
    for row in rows:
        number = f"attempt {row['attempt']} of {looked.loaded.config.retry.max_attempts}"
        when = f", not before {clock(row['not_before'])}" if row["not_before"] else ""
        error = one_line(row["error"] or "", CELL)
        text = f"  {row['task']}  {number}{when}; last error: {error}"
        yield Entry(text, about=("task", row["task"]))


def _blocked(looked: Looked) -> list[Row]:
    store = stores.of_project(looked.layout)
    rows = []
    for task in looked.blocked.tasks:
        row = {"task": task.id, "title": task.title, "question": task.question}
        if parts.waits(task):
            row["parts"] = dependencies.progress(parts.recorded(store, task))
        rows.append(row | {"reason": task.reason})
    return rows


def _blocked_lines(rows: list[Row], looked: Looked) -> Iterator[Entry]:
    """Make a line of each blocked task that is not in the inbox."""
    asked = {item.task for item in looked.waiting.items}
    for row in rows:
        if row["task"] not in asked:
            why = row.get("parts") or row["question"] or row["reason"] or "moved by hand"
            text = f"  {row['task']}  blocked: {row['title']}: {one_line(why, CELL)}"
            yield Entry(text, about=("task", row["task"]))


def _cannot_start(looked: Looked) -> list[Row]:
    return [
        {"task": task, "reason": held.code, "message": held.detail, "hint": held.hint}
        for task, held in stuck(looked.planned).items()
    ]


def _cannot_start_lines(rows: list[Row], _: Looked) -> Iterator[Entry]:
    """Make an entry of each reason why waiting tasks cannot start, with what to do.

    >>> row = {"reason": "no_agent", "message": "no agent has the role", "hint": "agent add"}
    >>> tasks = ("T1", "T2", "T3", "T4", "T5")
    >>> [(e.text, e.step) for e in _cannot_start_lines([row | {"task": t} for t in tasks], None)]
    [('  T1, T2, T3 and 2 more: no agent has the role', 'agent add')]
    """
    reasons: dict[tuple[str, str | None], list[str]] = {}
    for row in rows:
        # A pause of everything is in the headline.
        if row["reason"] != "system_paused":
            reasons.setdefault((row["message"], row["hint"]), []).append(row["task"])
    for (why, hint), tasks in reasons.items():
        yield Entry(f"  {some(tasks, 3)}: {why}", hint or "", "bad", ("task", tasks[0]))


SHOWN = (
    Shown("agents", _agents, "agents", _agents_lines, unknown=[]),
    Shown("running", _running, unknown=[]),
    Shown("blocked", _blocked, "tasks", _blocked_lines, unknown=[]),
    Shown("retrying", _retrying, "tasks", _retrying_lines, unknown=[]),
    Shown("cannot_start", _cannot_start, "cannot start", _cannot_start_lines, unknown=[]),
)
