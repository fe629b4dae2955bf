"""The stamp that a tick with nothing to do leaves for the next ones (read by `idle`)."""

from __future__ import annotations

import os

from orchestrator import config as config_module
from orchestrator import files, idle, settings
from orchestrator.layout import Layout
from orchestrator.model import STATES
from orchestrator.observe import observe
from orchestrator.planner import seconds_left
from orchestrator.scheduler import Report

#: With more waiting files than this, each tick looks at them afresh.
MOST_WATCHED = 200


def leave(layout: Layout, now: float, report: Report) -> None:
    """Leave a stamp if nothing can happen until a time, or until a file changes."""
    files.remove(layout.idle_stamp)
    quiet = report.good and all(a.action == "skip" for a in report.actions)
    if not quiet or any(p.code not in ("tick_stale", "task_malformed") for p in report.problems):
        return
    loaded = settings.load(layout, write_cache=False)
    seen = observe(layout, loaded, now, [])
    if seen.snapshot.runs or seen.snapshot.hold is not None or _open_pull_requests(layout):
        return
    wake = now + idle.LONGEST
    for agent in loaded.config.agents:
        state = seen.states.get(agent.name)
        last = state.last_started if state else None
        due = config_module.next_due(agent, last, now, None)
        if due > now:
            wake = min(wake, due)
    for task in seen.snapshot.waiting:
        left = seconds_left(task, now)
        if left > 0:
            wake = min(wake, now + left)
    # Yesterday's spending ends at midnight, wherever that is.
    wake = min(wake, now + 60) if _over_budget(report) else wake
    watched = _watched(layout)
    if watched is not None:
        idle.write_stamp(layout.idle_stamp, now, wake, watched)


def _over_budget(report: Report) -> bool:
    return any(action.reason == "budget_exhausted" for action in report.actions)


def _open_pull_requests(layout: Layout) -> bool:
    """Whether a local record says open: merges elsewhere are only seen by looking."""
    try:
        names = os.listdir(layout.prs)
    except FileNotFoundError:
        return False
    records = (files.read_json(os.path.join(layout.prs, n)) for n in names if n.endswith(".json"))
    return any(record and record.get("state") == "open" for record in records)


def _watched(layout: Layout) -> list[str] | None:
    """Everything whose change could matter; None when that is too much to look at."""
    incoming = layout.state("incoming")
    waiting = [os.path.join(incoming, n) for n in os.listdir(incoming) if n.endswith(".md")]
    if len(waiting) > MOST_WATCHED:
        return None
    folders = [*map(layout.state, STATES), layout.prs, layout.agents, layout.roles, layout.cache]
    return [layout.config, layout.hold, *folders, *waiting]
