"""`task retry`, `task cancel` and `task move`: a person's decisions about tasks."""

from __future__ import annotations

from collections.abc import Collection

from orchestrator.cli import context, json_rows, output
from orchestrator.cli.parser import NO_TICK, Namespace, argument, command, flag
from orchestrator.layout import Layout
from orchestrator.model.errors import OrchestratorError
from orchestrator.model.work import STATES, Task
from orchestrator.tasks import parts, stores
from orchestrator.tasks.store import Store

#: The states that a person can move a task to: only a run claims a task.
TARGETS = tuple(state for state in STATES if state != "claimed")


@command(
    "task retry",
    argument("ids", nargs="*", metavar="ID", help="the id of a failed or blocked task"),
    flag("--all", "retry every failed and blocked task, including cancelled tasks"),
    NO_TICK,
)
def retry(arguments: Namespace) -> None:
    """Put failed or blocked tasks back into the queue, and count their attempts from 0."""
    layout = context.changing(arguments)
    ids = context.names(arguments, arguments.ids, "tasks")
    store = stores.of_project(layout)
    with store.change():
        states = ("blocked", "failed")
        tasks = _fitting(store, ids, states) or [
            # A task that was split needs no retry: it waits for its parts.
            task
            for state in states
            for task in store.list(state).tasks
            if not parts.waits(task)
        ]
        moved = [store.move(task, "incoming", context.entry("retried")) for task in tasks]
    for task in moved:
        context.record_event(layout, "retried", task=task.id)
    _report(arguments, layout, moved, "is in incoming again")
    if not arguments.json and not moved:
        output.out("nothing to retry")


@command("task cancel", argument("ids", nargs="+", metavar="ID", help="the id of a task"))
def cancel(arguments: Namespace) -> None:
    """Cancel tasks: move them to failed with the reason `cancelled`, and end their runs."""
    from orchestrator.tick import stop

    layout = context.changing(arguments)
    store = stores.of_project(layout)
    runs: dict[str, str] = {}
    cancelled = []
    with store.change():
        for task in _fitting(store, arguments.ids, [state for state in STATES if state != "done"]):
            if (task.state, task.reason) == ("failed", "cancelled"):
                cancelled.append(task)
                continue
            if agent := stop.agent_at_work(layout, task):
                runs |= stop.ask(layout, [agent], "cancelled")
            # First the task, then its run, whose end would put the task back for others to take.
            cancelled.append(store.move(task, "failed", context.entry("cancelled")))
            context.record_event(layout, "cancelled", task=task.id)
    stop.end(layout, runs)
    _report(arguments, layout, cancelled, "is cancelled; undo: orchestrator task retry {id}")


def _fitting(store: Store, ids: list[str], states: Collection[str]) -> list[Task]:
    """Return the tasks with these ids. Raises OrchestratorError if one is not in one of `states`,
    or does not exist: then no task is to be changed."""
    tasks, wrong = [], []
    for task_id in dict.fromkeys(ids):
        try:
            task = store.find(task_id)
        except OrchestratorError as error:
            if len(ids) == 1:
                raise
            near = f" ({error.hint})" if (error.hint or "").startswith("did you mean") else ""
            wrong.append(f"{error.message}{near}")
            continue
        tasks.append(task)
        if task.state not in states:
            wrong.append(f"{task.id} is in {task.state}")
    if wrong:
        hint = "nothing was changed; see: orchestrator task list"
        if len(ids) == 1:
            hint = _instead(tasks[0])
        raise OrchestratorError("; ".join(wrong), hint, code="wrong_state")
    return tasks


def _instead(task: Task) -> str:
    """Return what a person can do with a task that is not in a state for `retry` or `cancel`."""
    match task.state:
        case "incoming":
            return f"it waits for an agent already; see: orchestrator explain {task.id}"
        case "claimed":
            return f"an agent works on it; see: orchestrator logs {task.id}"
        case "done" if task.reviews:
            return f"it is a review; see: orchestrator task show {task.id}"
        case "done" if task.merged or not task.pr:
            return f"to have more work done: orchestrator task move {task.id} incoming"
        case "done":
            again = f"to have more work done: orchestrator inbox reject {task.id} 'TEXT'"
            return f"{again}; see: orchestrator pr show {task.pr}"
    return f"see: orchestrator task show {task.id}"


@command(
    "task move",
    argument("id", metavar="ID", help="the id of a task"),
    argument("state", metavar="STATE", choices=STATES, help=", ".join(TARGETS)),
    flag("--force", "stop the run that works on the task, and move the task"),
    NO_TICK,
)
def move(arguments: Namespace) -> None:
    """Move a task to another state by hand."""
    from orchestrator.tick import stop

    layout = context.changing(arguments)
    state = arguments.state
    if state == "claimed":
        hint = "start a run: orchestrator run AGENT --task ID"
        raise OrchestratorError("only a run claims a task", hint, code="wrong_state")
    store = stores.of_project(layout)
    agent = stop.agent_at_work(layout, store.find(arguments.id))
    if agent is not None and not arguments.force:
        raise _has_a_run(arguments.id, agent)
    if agent is not None and state == "incoming":
        # Ended before an agent can take the task again: no task ever has two runs (reference 8.2).
        stop.end_runs(layout, [agent], "moved")
        agent = None
    runs: dict[str, str] = {}
    undo = ""
    with store.change():
        task = store.find(arguments.id)
        if task.state != state:
            if task.state != "claimed":
                undo = f"\n  undo: orchestrator task move {task.id} {task.state}"
            now_at_work = stop.agent_at_work(layout, task)
            if now_at_work not in (None, agent):
                raise _has_a_run(task.id, str(now_at_work))
            if agent is not None:
                runs = stop.ask(layout, [agent], "moved")
            event = context.entry("moved", **{"from": task.state, "to": state})
            task = store.move(task, state, event)
            context.record_event(layout, "moved", task=task.id, state=state)
    stop.end(layout, runs)
    _report(arguments, layout, [task], f"is in {state}{undo}")


def _has_a_run(task_id: str, agent: str) -> OrchestratorError:
    hint = f"end its run first: orchestrator stop {agent} (--force also ends it)"
    return OrchestratorError(f"{agent} is working on {task_id}", hint, code="running")


def _report(arguments: Namespace, layout: Layout, tasks: list[Task], said: str) -> None:
    config = context.settings(layout).config
    rows = [json_rows.task_row(task, config) for task in tasks]
    output.answer(arguments, rows, *(f"{task.id} {said.format(id=task.id)}" for task in tasks))
