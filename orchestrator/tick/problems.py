"""Everything that is wrong in a project, the most pressing problem first. Reads only."""

from __future__ import annotations

import os

from orchestrator.config.load import Settings
from orchestrator.errors import OrchestratorError
from orchestrator.layout import Layout
from orchestrator.model import Hold, Problem
from orchestrator.project import faults, mark
from orchestrator.tasks import store as stores
from orchestrator.text.words import span
from orchestrator.tick.lock import hung_tick
from orchestrator.tick.observe import Observation

#: Seconds since the last tick after which a problem is reported: no schedule seems to run ticks.
STALE_AFTER = 300.0


def last_tick(layout: Layout) -> float | None:
    """Return the time at which the last tick took its lock; None before the first tick."""
    try:
        found = os.stat(layout.scheduler_lock)
    except OSError:
        return None
    return found.st_mtime if found.st_size else None


def is_overdue(layout: Layout, now: float) -> bool:
    """Return whether a tick is overdue. `init` starts the wait for the first tick."""
    ticked = last_tick(layout)
    since = mark.set_up(layout) if ticked is None else ticked
    return since is None or now - since > STALE_AFTER


def find_problems(
    layout: Layout, settings: Settings, seen: Observation, now: float
) -> list[Problem]:
    """Return the problems that a person should know, the most pressing problem first."""
    found = _of_the_clone(layout, now)
    found += settings.problems
    snapshot = seen.snapshot
    if snapshot.hold is not None:
        found.append(faults.hold_problem(snapshot.hold))
    if snapshot.open_prs is None:
        found += _forge_problem(layout, snapshot.hold)
    for listing in (seen.incoming, seen.claimed, stores.of_project(layout).list("blocked")):
        found += [
            Problem("task_malformed", f"{bad.where}: {bad.reason}", "fix or move that file")
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
    not_landed = faults.landing_fault(layout)
    found += [not_landed] if not_landed else []
    ticked = last_tick(layout)
    # A tick leaves no trace on a disk that cannot be written.
    unwritable = snapshot.hold is not None and snapshot.hold.message.startswith("disk_")
    # Without `init` no tick runs: `not_initialised` reports that.
    if not unwritable and is_overdue(layout, now) and mark.is_initialised(layout):
        message = "no tick has run yet"
        if ticked is not None:
            message = f"the last tick was {span(now - ticked)} ago"
        found.append(
            Problem(
                "tick_stale",
                message,
                "orchestrator init --schedule cron; if there is a schedule: orchestrator doctor",
            )
        )
    return found


def _of_the_clone(layout: Layout, now: float) -> list[Problem]:
    """Return the reasons why no tick can run here: the clone is not set up, or a tick hangs."""
    hung = hung_tick(layout, now)
    found = [hung] if hung else []
    try:
        mark.require_initialised(layout)
    except OrchestratorError as error:
        found.insert(0, Problem(error.code, error.message, error.hint))
    return found


def _forge_problem(layout: Layout, hold: Hold | None) -> list[Problem]:
    """Return why open pull requests cannot be counted, unless the hold reports it already."""
    found = faults.forge_fault(layout)
    if found is None:
        message = "the forge cannot list its pull requests"
        return [Problem("open_prs_unknown", message, "see: orchestrator doctor")]
    if hold is not None and hold.message.startswith((found.code, found.message)):
        return []
    return [Problem("open_prs_unknown", f"{found.code}: {found.message}", found.hint)]
