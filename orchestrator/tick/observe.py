"""Observing: the world as one `Snapshot`, for the planner. This module changes nothing."""

import time
from typing import NamedTuple

from orchestrator.config.load import Settings
from orchestrator.errors import NotFound, OrchestratorError
from orchestrator.layout import Layout
from orchestrator.model import AgentView, Hold, PullRequest, RunView, Snapshot, Task
from orchestrator.plan import dependencies
from orchestrator.project import agent_memory, faults, mark, run_record
from orchestrator.project.agent_memory import AgentState
from orchestrator.project.run_record import RunRecord
from orchestrator.system import disk, files, locks
from orchestrator.tasks import stores
from orchestrator.tasks.store import Listing, Store


class Observation(NamedTuple):
    """A snapshot, with the raw facts behind it for the commands that show them."""

    snapshot: Snapshot
    incoming: Listing
    claimed: Listing
    states: dict[str, AgentState]
    #: Unsettled runs by id.
    records: dict[str, RunRecord]


def observe(
    layout: Layout,
    settings: Settings,
    now: float,
    prs: list[PullRequest] | None,
    forced: dict[str, str | None] | None = None,
) -> Observation:
    """Look at everything once. `prs` is None when the forge cannot list its pull requests."""
    store = stores.of_project(layout)
    states = {name: agent_memory.read(layout, name) for name in agent_memory.names(layout)}
    incoming = store.list("incoming")
    claimed = store.list("claimed")
    runs, records = _runs(layout, states, claimed.tasks, now)
    open_prs = None if prs is None else sum(1 for pr in prs if pr.state == "open")
    today = time.strftime("%Y-%m-%d", time.localtime(now))
    hold = faults.read_hold(layout)
    if hold is not None and hold.until is not None and now >= hold.until:
        hold = None
    short = disk.shortage(layout.home)
    if short is not None:
        hold = Hold("system_fault", f"{short.word}: {short.why}", short.hint, now)
    snapshot = Snapshot(
        waiting=incoming.tasks,
        claimed=claimed.tasks,
        incoming_count=len(incoming.tasks),
        open_prs=open_prs,
        runs=runs,
        agents={name: _view(name, state) for name, state in states.items()},
        roles=settings.roles,
        dependencies=_dependencies(store, incoming.tasks, prs),
        spent_today_usd=sum(state.spend.get(today, 0.0) for state in states.values()),
        hold=hold,
        open_pr_ids=None if prs is None else frozenset(p.id for p in prs if p.state == "open"),
        may_start=settings.good,
        # A run on a full disk could not even be recorded, so it cannot probe the fault.
        may_probe=short is None,
        forced=forced or {},
    )
    return Observation(snapshot, incoming, claimed, states, records)


def observe_runs(layout: Layout, settings: Settings, now: float) -> Observation:
    """Look only at unsettled runs, their agents and the claimed tasks."""
    states = {name: agent_memory.read(layout, name) for name in agent_memory.names(layout)}
    claimed = stores.of_project(layout).list("claimed")
    runs, records = _runs(layout, states, claimed.tasks, now)
    snapshot = Snapshot(
        waiting=(),
        claimed=claimed.tasks,
        incoming_count=0,
        open_prs=None,
        runs=runs,
        agents={name: _view(name, state) for name, state in states.items()},
        roles=settings.roles,
        dependencies={},
        spent_today_usd=0.0,
        may_start=False,
    )
    return Observation(snapshot, Listing(()), claimed, states, records)


def _view(name: str, state: AgentState) -> AgentView:
    return AgentView(name, state.last_started, state.last_outcome, state.suspended)


def _runs(
    layout: Layout, states: dict[str, AgentState], claimed: tuple[Task, ...], now: float
) -> tuple[tuple[RunView, ...], dict[str, RunRecord]]:
    views, records = [], {}
    unsettled = {state.run: name for name, state in states.items() if state.run}
    for task in claimed:
        # An agent's memory can be lost; the task also records its agent and run.
        if (
            task.run
            and task.claimed_by
            and all(map(files.is_plain_name, (task.run, task.claimed_by)))
        ):
            folder = layout.run(task.claimed_by, task.run)
            if task.run not in unsettled and run_record.read(folder) is not None:
                unsettled[task.run] = task.claimed_by
    key = mark.key(layout) if unsettled else ""
    for run_id, name in unsettled.items():
        state = states.get(name) or AgentState()
        folder = layout.run(name, run_id)
        record = run_record.read(folder)
        if record is None or not record.is_of_clone(folder, key):
            # The record is lost, so only a task can say that it belongs to this run; without this
            # view, that task would stay claimed forever.
            claimant = next((task.id for task in claimed if task.run == run_id), None)
            views.append(RunView(run_id, name, claimant, False, True, 0))
            continue
        records[run_id] = record
        views.append(
            RunView(
                id=run_id,
                agent=name,
                task=record.task,
                alive=is_supervised(layout, name, state, record),
                finished=record.status == "finished",
                # Only the deaths of supervisors in the current stage count.
                restarts=state.restarts if state.restarted_in == record.status else 0,
                outcome=record.outcome,
                concluding=record.status == "concluding",
            )
        )
    return tuple(views), records


def is_supervised(layout: Layout, agent: str, state: AgentState, record: RunRecord) -> bool:
    """Return whether a run has a living supervisor: the recorded one, or one that has the lock."""
    known = (record.supervisor, state.supervisor)
    if any(each is not None and each.is_alive() for each in known):
        return True
    return locks.is_locked(layout.agent_lock(agent))


def _dependencies(
    store: Store, waiting: tuple[Task, ...], prs: list[PullRequest] | None
) -> dict[str, str]:
    """Return "met", "waiting: ..." or "broken: ..." for each id that a waiting task depends on."""
    wanted = {other for task in waiting for other in task.depends_on}
    if not wanted:
        return {}
    found: dict[str, Task | None] = {task.id: task for task in waiting}
    for task_id in wanted - found.keys():
        try:
            found[task_id] = store.find(task_id)
        except (NotFound, OrchestratorError):
            found[task_id] = None
    return dependencies.verdicts(wanted, found, waiting, prs)
