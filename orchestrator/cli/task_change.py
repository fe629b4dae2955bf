"""`task retry|cancel|move`: what a person decides about tasks, whatever the scheduler thinks."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from orchestrator.cli import context, json_rows, output
from orchestrator.cli.parser import command
from orchestrator.config import load
from orchestrator.errors import OrchestratorError, UsageError
from orchestrator.layout import Layout
from orchestrator.model import STATES, Entry, Task, iso
from orchestrator.project import agent_memory, run_record
from orchestrator.tasks import store as stores


def register(tasks: Any) -> None:
    retry_parser = command(
        tasks,
        "retry",
        retry,
        "put failed or blocked tasks back, their attempts counted from 0 again",
        "  orchestrator task retry TASK-a1b2c3d4\n"
        "  orchestrator task retry --all        all of both states, the cancelled ones too",
    )
    retry_parser.add_argument("ids", nargs="*", metavar="ID")
    retry_parser.add_argument("--all", action="store_true", help="every failed or blocked task")
    retry_parser.set_defaults(rest="ids")
    cancel_parser = command(
        tasks,
        "cancel",
        cancel,
        "end tasks for good: they go to failed with the reason `cancelled`, their runs are ended",
        "  orchestrator task cancel TASK-a1b2c3d4",
    )
    cancel_parser.add_argument("ids", nargs="+", metavar="ID")
    move_parser = command(
        tasks,
        "move",
        move,
        "put a task into another state, as a person's override",
        "  orchestrator task move TASK-a1b2c3d4 done\n"
        "  orchestrator task move TASK-a1b2c3d4 incoming --force     also ends its run",
    )
    move_parser.add_argument("id", metavar="ID")
    move_parser.add_argument("state", metavar="STATE", choices=STATES)
    move_parser.add_argument("--force", action="store_true", help="also when a run has it: it ends")


def entry(event: str, **fields: object) -> Entry:
    """Return an entry for a task's history, as of now; fields that are None are left out."""
    kept = {name: value for name, value in fields.items() if value is not None}
    return Entry(iso(context.now()) or "", event, kept)


# --- retry -------------------------------------------------------------------------------------


def retry(arguments: argparse.Namespace) -> int:
    layout = context.changing(arguments)
    if bool(arguments.ids) == arguments.all:
        raise UsageError("name tasks, or give --all", "for example: orchestrator task retry --all")
    store = stores.of_project(layout)
    with store.change():
        if arguments.all:
            tasks = [t for s in ("blocked", "failed") for t in store.list(s).tasks]
        else:
            tasks = _all_or_none(store, arguments.ids, _why_no_retry)
        moved = [store.move(task, "incoming", entry("retried")) for task in tasks]
    for task in moved:
        context.record_event(layout, "retried", task=task.id)
    _report(arguments, layout, moved, "is in incoming again")
    if not arguments.json and not moved:
        output.out("nothing to retry")
    return 0


def _why_no_retry(task: Task) -> str | None:
    return None if task.state in ("failed", "blocked") else f"{task.id} is in {task.state}"


def _all_or_none(
    store: stores.Store, ids: list[str], complaint: Callable[[Task], str | None]
) -> list[Task]:
    """Return the tasks with these ids; if one is unknown or unfit, refuse all and say why."""
    tasks, wrong = [], []
    for task_id in dict.fromkeys(ids):
        try:
            task = store.find(task_id)
        except OrchestratorError as error:
            if len(ids) == 1:
                raise
            wrong.append(f"{error.message} ({error.hint})" if error.hint else error.message)
            continue
        said = complaint(task)
        tasks.append(task)
        if said:
            wrong.append(said)
    if wrong:
        nothing = "nothing was changed; " if len(ids) > 1 else ""
        hint = f"{nothing}see: orchestrator task list"
        raise OrchestratorError("; ".join(wrong), hint, code="wrong_state")
    return tasks


# --- cancel ------------------------------------------------------------------------------------


def cancel(arguments: argparse.Namespace) -> int:
    layout = context.changing(arguments)
    store = stores.of_project(layout)
    to_end: list[str] = []
    cancelled = []
    with store.change():
        tasks = _all_or_none(store, arguments.ids, _why_no_cancel)
        for task in tasks:
            if task.reason == "cancelled" and task.state == "failed":
                cancelled.append(task)
                continue
            agent = live_agent(layout, task)
            if agent is not None:
                ask_to_stop(layout, agent, "cancelled")
                to_end.append(agent)
            # First the task, then its run, whose end would put the task back for others to take.
            cancelled.append(store.move(task, "failed", entry("cancelled")))
            context.record_event(layout, "cancelled", task=task.id)
    for agent in to_end:
        end_run(layout, agent, "cancelled")
    _report(arguments, layout, cancelled, "is cancelled; undo: orchestrator task retry {id}")
    return 0


def _why_no_cancel(task: Task) -> str | None:
    return f"{task.id} is done already" if task.state == "done" else None


def live_agent(layout: Layout, task: Task) -> str | None:
    """Return the agent that has a run on a claimed task which is not settled yet."""
    if task.state != "claimed" or task.claimed_by is None or task.run is None:
        return None
    return task.claimed_by if agent_memory.read(layout, task.claimed_by).run == task.run else None


def ask_to_stop(layout: Layout, agent: str, reason: str) -> None:
    """Leave word for the agent's run: it holds even if this process is killed next."""
    run = agent_memory.read(layout, agent).run
    if run is not None:
        run_record.ask_to_stop(layout.run(agent, run), reason)


def end_run(layout: Layout, agent: str, reason: str) -> None:
    """End an agent's run as `orchestrator stop` does."""
    from orchestrator.cli import run_and_stop

    run_and_stop.end_run_of(layout, agent, reason)


# --- move --------------------------------------------------------------------------------------


def move(arguments: argparse.Namespace) -> int:
    layout = context.changing(arguments)
    state = arguments.state
    if state == "claimed":
        raise OrchestratorError(
            "only a run claims a task",
            "start one: orchestrator run AGENT --task ID",
            code="wrong_state",
        )
    store = stores.of_project(layout)
    agent = live_agent(layout, store.find(arguments.id))
    if agent is not None and not arguments.force:
        raise _has_a_run(arguments.id, agent)
    if agent is not None and state == "incoming":
        # Ended before anybody can take the task again: no task ever has two runs (reference 8.2).
        end_run(layout, agent, "moved")
        agent = None
    with store.change():
        task = store.find(arguments.id)
        if task.state != state:
            now_at_it = live_agent(layout, task)
            if now_at_it not in (None, agent):
                raise _has_a_run(task.id, str(now_at_it))
            if agent is not None:
                ask_to_stop(layout, agent, "moved")
            event = entry("moved", **{"from": task.state, "to": state})
            task = store.move(task, state, event)
            context.record_event(layout, "moved", task=task.id, state=state)
    if agent is not None:
        end_run(layout, agent, "moved")
    _report(arguments, layout, [task], f"is in {state}")
    return 0


def _has_a_run(task_id: str, agent: str) -> OrchestratorError:
    return OrchestratorError(
        f"{agent} is at work on {task_id}",
        f"end that first: orchestrator stop {agent} (or --force, which ends it too)",
        code="running",
    )


def _report(arguments: argparse.Namespace, layout: Layout, tasks: list[Task], said: str) -> None:
    if arguments.json:
        config = load.settings(layout, write_cache=False).config
        output.show_json([json_rows.task_row(task, config) for task in tasks])
        return
    for task in tasks:
        output.out(f"{task.id} {said.format(id=task.id)}")
