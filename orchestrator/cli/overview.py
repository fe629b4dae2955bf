"""The JSON of `status`: the project at one moment (reference 6)."""

from __future__ import annotations

from orchestrator.cli import json_rows
from orchestrator.cli.json_rows import Row
from orchestrator.config.load import Settings
from orchestrator.errors import StoreFault
from orchestrator.layout import Layout
from orchestrator.model.annotations import TYPE_CHECKING
from orchestrator.model.fields import NamedTuple
from orchestrator.model.snapshot import RunView, Snapshot
from orchestrator.model.times import iso
from orchestrator.model.work import STATES, PullRequest, Task
from orchestrator.plan import dependencies
from orchestrator.plan.planner import Plan, plan, refusal
from orchestrator.plan.stuck import stuck
from orchestrator.project import agent_memory, run_record
from orchestrator.tasks import parts, stores
from orchestrator.tasks.store import Store

if TYPE_CHECKING:
    from orchestrator.tick.inbox import Survey
    from orchestrator.tick.observe import Observation


def _running_row(layout: Layout, seen: Observation, run: RunView, now: float) -> Row:
    record = seen.records.get(run.id)
    created = record.created if record else None
    state = seen.states.get(run.agent)
    supervisor = (record and record.supervisor) or (state and state.supervisor)
    if run.host is not None:
        # The clock of that host does not count.
        age = run.age or 0.0
        known = {"run": run.id, "agent": run.agent, "task": run.task, "pid": None}
        times = {"started": iso(now - age), "age_seconds": max(int(age), 0)}
        unknown = dict.fromkeys(("branch", "worktree", "cost_usd"))
        return {**known, **times, **unknown, "host": run.host}
    return {
        "run": run.id,
        "agent": run.agent,
        "task": run.task,
        "pid": supervisor.pid if supervisor else None,
        "started": iso(created),
        "age_seconds": None if created is None else max(int(now - created), 0),
        "branch": record.branch if record else None,
        "worktree": layout.worktree(run.agent),
        "cost_usd": record.outcome.cost_usd if record and record.outcome else None,
        **({"host": seen.snapshot.host} if seen.snapshot.host else {}),
    }


def _fault_row(snapshot: Snapshot, planned: Plan, now: float) -> Row | None:
    """Return since when a system fault keeps agents from starting, and which run tests it next.

    `run` is None if that run has not started. It starts at `at`; None is the next tick, or, without
    an agent, not known.
    """
    hold = snapshot.hold
    if hold is None or hold.code == "usage_limit":
        return None
    row: Row = {"since": iso(hold.since), "age_seconds": int(max(now - hold.since, 0))}
    test: Row = dict.fromkeys(("run", "agent", "task", "at"))
    if run := next((r for r in snapshot.runs if not (r.finished or r.host)), None):
        test |= {"run": run.id, "agent": run.agent, "task": run.task}
    elif start := next((a for a in planned.actions if a.action == "start"), None):
        test |= {"agent": start.agent, "task": start.task}
    else:
        refused = ((name, refusal(verdicts)) for name, verdicts in planned.agents.items())
        due = [(held.until, name) for name, held in refused if held and held.until is not None]
        if due:
            at, name = min(due)
            test |= {"agent": name, "at": iso(at)}
    return {**row, "test": test}


class Overview(NamedTuple):
    """The project at one moment: what `status --json` shows, and what people see in addition."""

    status: Row
    #: The verdicts on every agent and every waiting task.
    planned: Plan
    waiting: Survey
    #: None if they are not known.
    prs: list[PullRequest] | None
    #: US dollars, since local midnight.
    spent_today: float


def overview(
    layout: Layout, loaded: Settings, now: float, prs: list[PullRequest] | None
) -> Overview:
    """Look at the whole project, and change nothing.

    `prs` are the pull requests; None if the forge cannot be asked.
    """
    from orchestrator.tick import observe
    from orchestrator.tick.inbox import survey

    seen = observe.observe(layout, loaded, now, prs)
    planned = plan(seen.snapshot, loaded.config, now)
    waiting = survey(layout, loaded, seen, prs, planned)
    row = _status(layout, loaded, seen, planned, prs) | {"waiting_for_you": len(waiting.items)}
    return Overview(row, planned, waiting, prs, seen.snapshot.spent_today_usd)


def without_store(layout: Layout, loaded: Settings, error: StoreFault, now: float) -> Row:
    """Return what `status --json` can show while the database with the queue does not answer."""
    from orchestrator.tick import problems

    memories = {name: agent_memory.read(layout, name) for name in agent_memory.names(layout)}
    runs = {name: memory.run for name, memory in memories.items() if memory.run}
    records = {run: run_record.read(layout.run(name, run)) for name, run in runs.items()}
    ticked = problems.last_tick(layout)
    unknown = ("open_prs", "open_prs_age_seconds", "waiting_for_you", "totals", "fault")
    empty = ("agents", "retrying", "blocked", "notes", "cannot_start", "overlaps")
    return {
        "queue": dict.fromkeys(STATES),
        "limits": loaded.config.queue_limits._asdict(),
        **dict.fromkeys(unknown),
        **{name: [] for name in empty},
        "running": [
            {
                "run": run,
                "agent": name,
                "task": record.task if record else None,
                "pid": record.supervisor.pid if record and record.supervisor else None,
                "started": iso(record.created) if record else None,
                "age_seconds": max(int(now - record.created), 0) if record else None,
                "branch": record.branch if record else None,
                "worktree": layout.worktree(name),
                "cost_usd": None,
            }
            for name, run in runs.items()
            for record in [records[run]]
        ],
        "scheduler": {
            "last_tick": iso(ticked),
            "age_seconds": None if ticked is None else int(max(now - ticked, 0)),
            "stale": problems.is_overdue(layout, now),
        },
        "problems": [{"code": error.code, "message": error.message, "hint": error.hint}],
    }


def status(layout: Layout, loaded: Settings, now: float, prs: list[PullRequest] | None) -> Row:
    """Return the whole project as `status --json` shows it; the parameters are `overview`'s."""
    return overview(layout, loaded, now, prs).status


def _status(
    layout: Layout,
    loaded: Settings,
    seen: Observation,
    planned: Plan,
    prs: list[PullRequest] | None,
) -> Row:
    from orchestrator.pulls import states
    from orchestrator.pulls.overlap import Radar
    from orchestrator.tick import problems

    store, snapshot, now = stores.of_project(layout), seen.snapshot, seen.now
    incoming, claimed, blocked = seen.incoming, seen.claimed, store.list("blocked")
    parsed = {"incoming": incoming, "claimed": claimed, "blocked": blocked}
    running = [_running_row(layout, seen, run, now) for run in snapshot.runs]
    ticked = problems.last_tick(layout)
    found = problems.find_problems(layout, loaded, seen, now)
    asked = states.asked(layout, loaded.config)
    return {
        "queue": {**store.counts(), **{state: len(of.tasks) for state, of in parsed.items()}},
        "limits": loaded.config.queue_limits._asdict(),
        "open_prs": snapshot.open_prs,
        "open_prs_age_seconds": None if asked is None else int(max(now - asked, 0)),
        "agents": json_rows.rows_of_agents(loaded.config, snapshot, planned, now),
        "running": running,
        "retrying": [
            {
                "task": task.id,
                "attempt": task.attempts + 1,
                "not_before": iso(task.not_before),
                "error": task.error,
            }
            for task in incoming.tasks
            if task.attempts > 0
        ],
        "blocked": [
            {
                "task": task.id,
                "title": task.title,
                "question": task.question,
                "reason": task.reason,
                **({"parts": _progress(store, task)} if parts.waits(task) else {}),
            }
            for task in blocked.tasks
        ],
        "totals": _totals(seen, running),
        "scheduler": {
            "last_tick": iso(ticked),
            "age_seconds": None if ticked is None else int(max(now - ticked, 0)),
            "stale": problems.is_overdue(layout, now),
        },
        "problems": [problem._asdict() for problem in found],
        "fault": _fault_row(snapshot, planned, now),
        "notes": states.notes(layout, loaded.config, prs),
        "cannot_start": [
            {"task": task, "reason": held.code, "message": held.detail, "hint": held.hint}
            for task, held in stuck(planned).items()
        ],
        "overlaps": [
            {
                "a": each.one.task,
                "b": each.other.task,
                "files": list(each.files),
                "by_line": each.by_line,
            }
            for each in Radar(layout, loaded.config).overlaps(prs)
        ],
    }


def _progress(store: Store, task: Task) -> str:
    return dependencies.progress(parts.recorded(store, task))


def _totals(seen: Observation, running: list[Row]) -> Row:
    """Return the sums over the settled runs of all hosts; the time includes the active runs."""
    every = (*seen.states.values(), *(state for *_, state in seen.others))
    sums = agent_memory.added(state.totals for state in every)._asdict()
    seconds = sums["seconds_running"] + sum(row["age_seconds"] or 0 for row in running)
    cost = round(float(sums["cost_usd"]), 6)
    return {**sums, "cost_usd": cost, "seconds_running": round(float(seconds), 3)}
