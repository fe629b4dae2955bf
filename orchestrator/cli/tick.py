"""`tick`: one tick of the scheduler."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator

from orchestrator.cli import context, output
from orchestrator.cli.parser import Namespace, argument, command, flag
from orchestrator.layout import Layout
from orchestrator.model.errors import NotFound, UsageError
from orchestrator.model.snapshot import Action, Snapshot
from orchestrator.model.waiting import touched
from orchestrator.plan.planner import hint, plan
from orchestrator.project import agent_memory, faults, mark
from orchestrator.system import locks
from orchestrator.tasks import stores
from orchestrator.tasks.store import Store
from orchestrator.text.words import count
from orchestrator.tick import soon
from orchestrator.tick.report import Report
from orchestrator.tick.tick import run_tick

#: Seconds to wait for the rest of a tick that settled the last run.
SETTLING = 10.0
#: Seconds without a supervisor after which an unsettled run gets a tick from here.
PATIENCE = 2.0
WAIT = (
    "wait for the end of an active tick, at most 30 s, then until the runs that this tick started "
    "are finished (default: at most one day)"
)


@command(
    "tick",
    flag("--dry-run", "print what a tick would do, and change nothing"),
    argument("--wait", nargs="?", type=float, const=86_400.0, metavar="SECONDS", help=WAIT),
)
def tick(arguments: Namespace) -> int:
    """Run one tick of the scheduler: settle finished runs, then start agents that are due.

    examples:
      orchestrator tick --dry-run     print what would start, and why other agents do not start
      orchestrator tick --wait 600    wait at most 600 seconds for the runs that start
    """
    wait, dry_run, as_json = arguments.wait, arguments.dry_run, arguments.json
    if wait is not None and not 0 <= wait < float("inf"):
        raise UsageError(f"--wait: expected a number of seconds, found {wait}")
    context.refuse_in_run("no tick is allowed")
    layout = context.layout(arguments)
    mark.require_initialised(layout)
    # Taken away: the runs inherit this environment.
    is_soon = os.environ.pop(soon.MARK, None) is not None
    every = soon.LOOK_EVERY if is_soon else 0.0
    rests = wait is None and not (as_json or arguments.project)
    began = time.monotonic()
    report = run_tick(
        layout,
        context.now(),
        dry_run=dry_run,
        wait_for_lock=min(wait or 0.0, locks.LONGEST_WAIT),
        at_most_every=every,
        may_rest=rests,
    )
    if not as_json:
        _show(report)
    if wait is not None and not dry_run:
        left = max(0.0, began + wait - time.monotonic())
        _wait(layout, report, left, quiet=as_json)
    if as_json:
        fields = ("action", "agent", "task", "run", "reason")
        actions = [{f: getattr(a, f) for f in fields} for a in report.actions]
        output.show_json({"actions": actions, "problems": [p._asdict() for p in report.problems]})
    if report.bug is not None:
        return output.report_bug(report.bug, as_json=False)
    return 0 if report.good else 1


def _show(report: Report) -> None:
    if report.held:
        output.out("another tick is active")
    for action in report.actions:
        output.out(_words(action.action, action.agent, action.task, action.run, action.reason))
    if any(action.reason == "system_paused" for action in report.actions):
        output.out(f"  {hint('system_paused', '')}")
    output.warn_of(report.problems)


def _wait(layout: Layout, report: Report, seconds: float, *, quiet: bool) -> None:
    """Wait until the runs that this tick started are settled; print their ends and what is next."""
    from orchestrator.tick import stop

    started = {a.agent: a for a in report.actions if a.action == "start" and a.run and a.agent}
    runs = {agent: str(action.run) for agent, action in started.items()}
    deadline = time.monotonic() + seconds
    ended: list[Action] = []
    for agent in stop.settled(layout, runs, seconds, PATIENCE):
        state = agent_memory.read(layout, agent)
        ended.append(started.pop(agent))
        if not quiet:
            subject = f"{_words(agent, ended[-1].task)}:"
            output.err(_words(subject, state.last_outcome, state.last_reason))
    if ended:
        _await_settling(layout, deadline)
    if quiet:
        return
    for line in _next_steps(layout, [action.task for action in ended]) if ended else ():
        output.out(line)
    for action in started.values():
        output.out(f"still running: {_words(action.agent, action.task)}")
        output.out(f"  orchestrator logs {action.agent} --follow")


def _words(*words: str | None) -> str:
    return " ".join(filter(None, words))


def _await_settling(layout: Layout, deadline: float) -> None:
    """Wait for the end of the tick that settled a run: it also starts what follows."""
    until = min(deadline, time.monotonic() + SETTLING)
    while locks.is_locked(layout.scheduler_lock) and time.monotonic() < until:
        time.sleep(0.05)


def _next_steps(layout: Layout, tasks: Iterable[str | None]) -> Iterator[str]:
    """Yield what comes next for tasks whose runs have ended; None is a run without a task."""
    from orchestrator.cli import explain
    from orchestrator.pulls.movers import of_task
    from orchestrator.tick import inbox

    loaded, seen = context.look(layout)
    if seen.snapshot.hold is not None:
        problem = faults.hold_problem(seen.snapshot.hold)
        yield f"{problem.code}: {problem.message}"
        yield f"  {problem.hint}"
    planned = plan(seen.snapshot, loaded.config, context.now())
    items, moves = inbox.survey(layout, loaded, seen, planned=planned)
    approvals = {
        item.task: item
        for item in items
        if item.kind == "approval" and (item.step or "").startswith("orchestrator inbox approve")
    }
    for task_id in dict.fromkeys(tasks):
        if task_id is None:
            if waiting := len(seen.incoming.tasks):
                yield f"next: {count(waiting, 'waiting task')}"
                yield "  orchestrator task list --state incoming"
            continue
        store = stores.of_project(layout)
        task = store.get(task_id)
        if task and task.state == "done" and of_task(moves, task):
            verb = "reviewed" if task.reviews else "delivered"
            yield f"{task_id} {verb} pull request {task.pr}"
        for subject in _subjects(store, task_id, seen.snapshot):
            if subject in approvals:
                yield f"next: {subject} is done, and its pull request waits for your approval"
                yield f"  orchestrator inbox approve {approvals[subject].id}"
                continue
            try:
                found = explain.explanation(layout, loaded, subject, planned, moves)
            except NotFound:  # the task was removed meanwhile
                continue
            yield f"next: {subject} {found.verdict}"
            if (found.next_step or "").startswith("no action") and mark.schedule(layout) is None:
                yield "  no schedule runs ticks here; run the next one: orchestrator tick --wait"
            elif found.next_step:
                yield f"  {found.next_step}"


def _subjects(store: Store, task_id: str, snapshot: Snapshot) -> list[str]:
    """Return the tasks that a task's run led to: open reviews, else the reviewed task or itself."""
    try:
        reviewed = store.find(task_id).reviews or task_id
    except NotFound:
        return []
    open_ones = (*touched(snapshot.waiting), *snapshot.claimed)
    return [task.id for task in open_ones if task.reviews == reviewed] or [reviewed]
