"""Observing: the world as one `Snapshot`, for the planner. This module changes only the cache."""

import os
from collections.abc import Iterable, Mapping, Sequence

from orchestrator.account import spending
from orchestrator.config.load import Settings
from orchestrator.layout import Layout
from orchestrator.model.errors import OrchestratorError
from orchestrator.model.fields import NamedTuple
from orchestrator.model.snapshot import AgentView, Hold, RunView, Snapshot
from orchestrator.model.waiting import touched
from orchestrator.model.work import PullRequest, Task
from orchestrator.plan import dependencies
from orchestrator.project import agent_memory, faults, mark, memories, run_record, usage
from orchestrator.project.agent_memory import AgentState
from orchestrator.project.memories import Remembered
from orchestrator.project.run_record import RunRecord
from orchestrator.project.unsettled import forgotten
from orchestrator.pulls import cuts, forges, overlap
from orchestrator.system import disk, files, locks
from orchestrator.tasks import stores
from orchestrator.tasks.sharing import ELSEWHERE
from orchestrator.tasks.store import Listing


class Observation(NamedTuple):
    """A snapshot, with the raw facts behind it for the commands that show them."""

    snapshot: Snapshot
    incoming: Listing
    claimed: Listing
    states: dict[str, AgentState]
    records: dict[str, RunRecord]
    #: By waiting task: the commit of delivered dependencies that its branch is to be cut from.
    cuts: Mapping[str, str] = {}
    #: The open pull requests of other forges than the project's, each with its forge.
    left: Sequence[tuple[str, PullRequest]] = ()
    #: When it was observed, in epoch seconds.
    now: float = 0.0
    #: The pull requests that were given; None if they are not known.
    prs: Sequence[PullRequest] | None = None
    #: What the agents remember on the other hosts that share the queue.
    others: Sequence[Remembered] = ()


#: The fields of an agent's memory that the plan sees: the view's fields with the same names.
_REMEMBERED = AgentView._fields[1:-1]


def observe(
    layout: Layout,
    settings: Settings,
    now: float,
    prs: list[PullRequest] | None,
    forced: dict[str, str | None] | None = None,
    *,
    ask: bool = False,
    after_run: bool = False,
    surely: bool = False,
) -> Observation:
    """Look at everything once. `prs` is None when the forge cannot list its pull requests.

    `ask`: a tick looks, so what git finds out is remembered in the cache. The tick `after_run` does
    not look ahead for the commands that show overlaps: the next tick of the schedule does.
    `surely`: as a tick looks, at each waiting task's file; else as in `store.waiting`.
    """
    store, given = stores.of_project(layout), prs
    with store.ahead("claimed", "incoming", ELSEWHERE):
        states, claimed, runs, records = observe_runs(layout, surely=ask)
        incoming = store.list("incoming") if ask or surely else store.waiting()
        left = _left(layout, settings)
        elsewhere = store.elsewhere()
    states |= spending.forgotten(layout, settings.config, states, elsewhere, now)
    others = memories.of_others(elsewhere)
    open_heads = None if prs is None else {pr.id: pr.head for pr in prs if pr.state == "open"}
    if open_heads is not None:
        open_heads |= {f"{forge}:{pr.id}": pr.head for forge, pr in left}
    waits = tuple(touched(incoming.tasks))
    found = dependencies.closure(waits, store.get, prs)
    prs = forges.with_merged(layout, settings.config, prs, found.values())
    ready = cuts.find(layout, settings.config, waits, found, prs, ask=ask)
    hold = faults.read_hold(layout)
    if hold is not None and hold.until is not None and now >= hold.until:
        hold = None
    short = disk.shortage(layout.home) or _closed_queue(store.places())
    if short is not None:
        hold = Hold("system_fault", f"{short.word}: {short.why}", short.hint, now)
    snapshot = Snapshot(
        waiting=incoming.tasks,
        claimed=claimed.tasks,
        open_prs=None if open_heads is None else len(open_heads),
        runs=(*runs, *elsewhere.runs),
        agents=_views(states, others, {} if short else _closed(layout, states)),
        roles=settings.roles,
        dependencies=dependencies.verdicts(
            {other for task in waits for other in task.depends_on},
            found,
            prs,
            delivered=settings.config.dependencies == "delivered",
        ),
        spent_today_usd=agent_memory.spent((*states.values(), *(m for *_, m in others)), now),
        hold=hold,
        host=store.host,
        usage=usage.read(layout),
        open_heads=open_heads,
        not_reviewable=_not_reviewable(waits, prs or (), left),
        may_start=settings.good,
        # A run on a full disk could not even be recorded, so it cannot probe the fault.
        may_probe=short is None,
        forced=forced or {},
        conflicts={task: cut.conflict for task, cut in ready.items() if cut.conflict},
        overlaps=_held(layout, settings, incoming.tasks, prs, ask=ask, ahead=not after_run),
    )
    starts = {task: cut.commit for task, cut in ready.items() if cut.commit}
    seen = Observation(snapshot, incoming, claimed, states, records, starts, left, now, given)
    return seen._replace(others=others)


def _closed_queue(places: Iterable[str]) -> disk.Shortage | None:
    """Return why a task cannot move in the queue: it could not be claimed, or its run not settled.

    `places` are those of the store; one that is a file is a lock or a database.
    """
    folders = (p for p in places if os.path.lexists(p) and not os.path.isfile(p))
    found = next(filter(None, map(disk.unwritable, folders)), None)
    return disk.Shortage("permissions", *found) if found else None


def _closed(layout: Layout, names: Iterable[str]) -> dict[str, str]:
    """Return the agents of which nothing can be kept: why."""
    found = {name: agent_memory.closed(layout, name) for name in names}
    return {name: why[0] for name, why in found.items() if why}


def _views(
    states: Mapping[str, AgentState], others: Iterable[Remembered], closed: Mapping[str, str]
) -> dict[str, AgentView]:
    """Return the views of all agents; an agent is due after its last start on any host."""
    views = {}
    for name, state in states.items():
        known = {field: getattr(state, field) for field in _REMEMBERED}
        views[name] = AgentView(name, **known, closed=closed.get(name))
    for _, name, memory in others:
        view = views.get(name) or AgentView(name)
        starts = filter(None, (view.last_started, memory.last_started))
        views[name] = view._replace(last_started=max(starts, default=None))
    return views


def observe_runs(
    layout: Layout, *, surely: bool = False, configured: Iterable[str] = ()
) -> tuple[dict[str, AgentState], Listing, tuple[RunView, ...], dict[str, RunRecord]]:
    """Return the agents' memory, the claimed tasks, and the views and records of unsettled runs.

    `surely`: raises OSError if the disk does not give an agent's memory. If one of the `configured`
    agents has no memory, its processes are looked for.
    """
    names = agent_memory.names(layout)
    states = {name: agent_memory.read(layout, name, surely=surely) for name in names}
    claimed = stores.of_project(layout).list("claimed")
    views, records = [], {}
    known = {state.run: name for name, state in states.items() if state.run}
    # An agent's memory can be lost, with its whole folder, while its client works.
    look = bool(agent_memory.lost(layout, states, configured))
    unsettled = {run: name for name, run in forgotten(layout, states, look=look)} | known
    for task in claimed.tasks:
        # The task also records its agent and run.
        run_id, agent = task.run, task.claimed_by
        if not (run_id and agent) or not all(map(files.is_plain_name, (run_id, agent))):
            continue
        if run_id not in unsettled and run_record.read(layout.run(agent, run_id)):
            unsettled[run_id] = agent
    key = mark.key(layout) if unsettled else ""
    for run_id, name in unsettled.items():
        state = states.get(name) or AgentState()
        folder = layout.run(name, run_id)
        record = run_record.read(folder)
        if record is None or not record.is_of_clone(folder, key):
            # The record is lost, so only a task can say that it belongs to this run; without this
            # view, that task would stay claimed forever.
            claimant = next((task.id for task in claimed.tasks if task.run == run_id), None)
            # While its supervisor works, or the disk gives no answer, the run is not over.
            lasts = is_supervised(layout, name, state, record) or (
                record is None and run_record.is_withheld(folder)
            )
            views.append(RunView(run_id, name, claimant, lasts, not lasts, 0))
            continue
        records[run_id] = record
        view = RunView(
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
        views.append(view)
    return states, claimed, tuple(views), records


def is_supervised(layout: Layout, agent: str, state: AgentState, record: RunRecord | None) -> bool:
    """Return whether a run has a living supervisor: the recorded one, or one that has the lock."""
    is_copy = record is not None and record.is_elsewhere(layout.run(agent, record.id))
    known = () if is_copy else (record and record.supervisor, state.supervisor)
    is_alive = any(each.is_alive() for each in known if each)
    return is_alive or locks.is_locked(layout.agent_lock(agent))


def _left(layout: Layout, settings: Settings) -> list[tuple[str, PullRequest]]:
    try:
        return forges.left(layout, settings.config)
    except OrchestratorError:  # git cannot be asked: that is reported elsewhere
        return []


def _not_reviewable(
    waiting: tuple[Task, ...],
    prs: Iterable[PullRequest],
    left: Iterable[tuple[str, PullRequest]],
) -> dict[str, str]:
    """Return why waiting reviews cannot start, although their pull requests are open."""
    whys: dict[tuple[str | None, str | None], str] = {
        (pr.task, pr.id): f"pull request {pr.id} is a draft"
        for pr in prs
        if pr.state == "open" and pr.draft
    }
    whys |= {(pr.task, pr.id): f"pull request {pr.id} is on the forge {at}" for at, pr in left}
    return {t.id: why for t in waiting if t.reviews and (why := whys.get((t.reviews, t.pr)))}


def _held(
    layout: Layout,
    settings: Settings,
    waiting: Sequence[Task],
    prs: list[PullRequest] | None,
    *,
    ask: bool,
    ahead: bool,
) -> dict[str, str]:
    """Return why `overlap: hold` holds waiting tasks; with `warn`, a tick only looks ahead."""
    mode = settings.config.overlap
    if not (mode == "hold" or (mode == "warn" and ask and ahead)):
        return {}
    radar = overlap.Radar(layout, settings.config, keep=ask)
    try:
        if mode == "hold":
            return radar.held(waiting, settings.roles, prs)
        radar.works(prs, running=False)
    except OrchestratorError:  # git cannot be asked: that is reported elsewhere
        pass
    return {}
