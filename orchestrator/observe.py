"""Observing: the world as one `Snapshot`, for the planner. Reads only; nothing is changed here."""

# No `from __future__ import annotations`, for the reason that `model` gives.

import os
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from orchestrator import agentstate, clone, disk, fault, files, process, runrecord
from orchestrator.agentstate import AgentState
from orchestrator.config.load import Settings
from orchestrator.errors import NotFound, OrchestratorError
from orchestrator.layout import Layout
from orchestrator.model import (
    AgentView,
    Hold,
    Outcome,
    Problem,
    PullRequest,
    RunView,
    Snapshot,
    Task,
)
from orchestrator.runrecord import Record
from orchestrator.store import Listing, Store

#: A tick older than this is reported: nothing seems to drive the scheduler (seconds).
STALE_AFTER = 300.0


class Observation(NamedTuple):
    """A snapshot with the raw facts behind it, for those who show them."""

    snapshot: Snapshot
    incoming: Listing
    claimed: Listing
    states: dict[str, AgentState]
    #: Unsettled runs by id.
    records: dict[str, Record]


def observe(
    layout: Layout,
    settings: Settings,
    now: float,
    prs: list[PullRequest] | None,
    forced: dict[str, str | None] | None = None,
    *,
    remember: bool = False,
) -> Observation:
    """Look at everything once. `prs` are the forge's, None when it cannot be asked.

    With `remember`, what a long queue holds is kept for the next look to be quicker.
    """
    store = Store(layout)
    states = {name: agentstate.read(layout, name) for name in agentstate.names(layout)}
    incoming = store.list("incoming", remember=remember)
    claimed = store.list("claimed")
    runs, records = _runs(layout, states, claimed.tasks, now)
    open_prs = None if prs is None else sum(1 for pr in prs if pr.state == "open")
    today = time.strftime("%Y-%m-%d", time.localtime(now))
    hold = read_hold(layout)
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
        # Nothing to be tried by a run: it could not even be remembered.
        may_probe=short is None,
        forced=forced or {},
    )
    return Observation(snapshot, incoming, claimed, states, records)


def observe_runs(layout: Layout, settings: Settings, now: float) -> Observation:
    """Look at what is unsettled only: runs, their agents and the claimed tasks."""
    states = {name: agentstate.read(layout, name) for name in agentstate.names(layout)}
    claimed = Store(layout).list("claimed")
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
    return AgentView(name, state.last_started, state.last_outcome, state.failures, state.suspended)


def _runs(
    layout: Layout, states: dict[str, AgentState], claimed: tuple[Task, ...], now: float
) -> tuple[tuple[RunView, ...], dict[str, Record]]:
    views, records = [], {}
    unsettled = {state.run: name for name, state in states.items() if state.run}
    for task in claimed:
        # An agent's memory can be lost; the task remembers too whose it is.
        if (
            task.run
            and task.claimed_by
            and all(map(files.is_plain_name, (task.run, task.claimed_by)))
        ):
            folder = layout.run(task.claimed_by, task.run)
            if task.run not in unsettled and runrecord.read(folder) is not None:
                unsettled[task.run] = task.claimed_by
    key = clone.key(layout) if unsettled else ""
    for run_id, name in unsettled.items():
        state = states.get(name) or AgentState()
        folder = layout.run(name, run_id)
        record = runrecord.read(folder)
        good = record is not None and runrecord.can_go_on(record)
        if record is None or not (good and runrecord.is_of_clone(record, folder, key)):
            # Whose it was, only the task itself can say; it is not to wait for it for ever.
            claimant = next((task.id for task in claimed if task.run == run_id), None)
            views.append(RunView(run_id, name, claimant, False, True, 0))
            continue
        records[run_id] = record
        views.append(
            RunView(
                id=run_id,
                agent=name,
                task=record["task"],
                alive=is_supervised(layout, name, state, record),
                finished=record["status"] == "finished",
                # Deaths in an earlier stage say nothing about the one that the run has reached.
                restarts=state.restarts if state.restarted_in == record["status"] else 0,
                outcome=outcome_of(record),
                age=max(now - record["created"], 0.0),
                concluding=record["status"] == "concluding",
            )
        )
    return tuple(views), records


def is_supervised(layout: Layout, agent: str, state: AgentState, record: Record) -> bool:
    """Return whether a supervisor lives for a run: the one we started, or one that took over."""
    both: tuple[Mapping[str, Any], ...] = (record.get("supervisor") or {}, state.supervisor)
    for known in both:
        if process.is_alive(known.get("pid"), known.get("identity")):
            return True
    return files.is_locked(layout.agent_lock(agent))


def outcome_of(record: Record) -> Outcome | None:
    """Return a finished run's outcome; None before, or when it cannot be read."""
    found: Any = record.get("outcome")
    try:
        return Outcome(**found) if isinstance(found, dict) else None
    except TypeError:
        return None


def read_hold(layout: Layout) -> Hold | None:
    """Return why claiming pauses for everyone, if it does."""
    record = files.read_json(layout.hold) or {}
    text, number = (str,), (int, float)
    code, message, hint = (record.get(name) for name in ("code", "message", "hint"))
    since, until = record.get("since"), record.get("until")
    if not (files.fits(code, text) and files.fits(message, text) and files.fits(since, number)):
        return None
    return Hold(
        str(code),
        str(message),
        hint if isinstance(hint, str) else None,
        float(since or 0),
        float(until) if until is not None and files.fits(until, number) else None,
    )


def forge_fault(layout: Layout) -> Problem | None:
    """Return why the last tick could not ask the forge; None when it could."""
    return fault.read(layout.forge_fault)


def landing_fault(layout: Layout) -> Problem | None:
    """Return why what is approved could not be merged the last time; None when it could."""
    return fault.read(layout.landing_fault)


def last_tick(layout: Layout) -> float | None:
    """Return when the last tick held its lock; None before the first."""
    try:
        found = os.stat(layout.scheduler_lock)
    except OSError:
        return None
    return found.st_mtime if found.st_size else None


def is_overdue(layout: Layout, now: float) -> bool:
    """Return whether there should have been a tick by now; the first is awaited from `init` on."""
    ticked = last_tick(layout)
    since = clone.set_up(layout) if ticked is None else ticked
    return since is None or now - since > STALE_AFTER


# --- dependencies ------------------------------------------------------------------------------


def _dependencies(
    store: Store, waiting: tuple[Task, ...], prs: list[PullRequest] | None
) -> dict[str, str]:
    """Say of each task that is waited for: "met", "waiting: ..." or "broken: ..."."""
    wanted = {other for task in waiting for other in task.depends_on}
    if not wanted:
        return {}
    found: dict[str, Task | None] = {task.id: task for task in waiting}
    for task_id in wanted - found.keys():
        try:
            found[task_id] = store.find(task_id)
        except (NotFound, OrchestratorError):
            found[task_id] = None
    by_id = {pr.id: pr for pr in prs or ()}
    circles = _in_circles({task.id: task.depends_on for task in waiting})
    verdicts = {}
    for task_id in wanted:
        task = found[task_id]
        if task_id in circles:
            verdicts[task_id] = "broken: it goes round in a circle"
        else:
            verdicts[task_id] = _dependency(task, by_id, prs is not None)
    return verdicts


def _dependency(task: Task | None, prs: dict[str, PullRequest], forge_known: bool) -> str:
    if task is None:
        return "broken: there is no such task"
    if task.state == "failed":
        return f"broken: it failed ({task.reason or 'no reason given'})"
    if task.state != "done":
        return f"waiting: it is in {task.state}"
    if task.pr is None:
        return "met"
    pr = prs.get(task.pr)
    if pr is None:
        known = "is gone" if forge_known else "cannot be looked up now"
        return f"waiting: its pull request {task.pr} {known}"
    if pr.state == "closed":
        return f"broken: its pull request {task.pr} was closed"
    return "met" if pr.state == "merged" else f"waiting: its pull request {task.pr} is {pr.state}"


def _in_circles(graph: dict[str, tuple[str, ...]]) -> set[str]:
    """Return the tasks that, followed along their dependencies, lead back to themselves."""
    # Taking away, again and again, what depends on nothing that is left, leaves the circles and
    # what leads into them; the same from the other side leaves the circles alone.
    left = {task: {o for o in others if o in graph} for task, others in graph.items()}
    for _ in range(2):
        while free := {task for task, others in left.items() if not others}:
            left = {t: others - free for t, others in left.items() if t not in free}
        turned: dict[str, set[str]] = {task: set() for task in left}
        for task, others in left.items():
            for other in others:
                turned[other].add(task)
        left = turned
    return set(left)


# --- problems ----------------------------------------------------------------------------------


def problems(layout: Layout, settings: Settings, seen: Observation, now: float) -> list[Problem]:
    """Return what a person should know, the most pressing first."""
    found = list(settings.problems)
    snapshot = seen.snapshot
    if snapshot.hold is not None:
        hold = snapshot.hold
        found.append(Problem(hold.code, hold.message, hold.hint))
    if snapshot.open_prs is None:
        found += _forge_problem(layout, snapshot.hold)
    for listing in (seen.incoming, seen.claimed, Store(layout).list("blocked")):
        found += [
            Problem("task_malformed", f"{bad.path}: {bad.reason}", "mend or move that file")
            for bad in listing.malformed
        ]
    for name, state in seen.states.items():
        if state.suspended:
            found.append(
                Problem(
                    "agent_suspended",
                    f"{name}: {state.suspended}",
                    f"then: orchestrator agent resume {name}",
                )
            )
    not_landed = landing_fault(layout)
    found += [not_landed] if not_landed else []
    ticked = last_tick(layout)
    # On a disk that takes nothing a tick leaves no trace.
    unwritable = snapshot.hold is not None and snapshot.hold.message.startswith("disk_")
    # Why nothing ticks where nobody ran `init` is another problem (`not_initialised`).
    if not unwritable and is_overdue(layout, now) and clone.is_initialised(layout):
        message = "there never was a tick"
        if ticked is not None:
            message = f"the last tick was {(now - ticked) / 60:.0f} minutes ago"
        found.append(
            Problem(
                "tick_stale",
                message,
                "orchestrator init --schedule cron; with a schedule already: orchestrator doctor",
            )
        )
    return found


def _forge_problem(layout: Layout, hold: Hold | None) -> list[Problem]:
    """Say why open pull requests cannot be counted, unless the hold says so already."""
    found = forge_fault(layout)
    if found is None:
        message = "the forge cannot be asked for its pull requests"
        return [Problem("open_prs_unknown", message, "see: orchestrator doctor")]
    if hold is not None and hold.message.startswith((found.code, found.message)):
        return []
    return [Problem("open_prs_unknown", f"{found.code}: {found.message}", found.hint)]
