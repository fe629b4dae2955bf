"""Everything that is wrong in a project, the most pressing problem first. Reads only."""

import errno
import os
from collections.abc import Iterator

from orchestrator import idle
from orchestrator.account import spending
from orchestrator.config.load import Settings
from orchestrator.layout import SCHEDULE_LOG, Layout
from orchestrator.model.annotations import TYPE_CHECKING
from orchestrator.model.config import FORGES
from orchestrator.model.errors import OrchestratorError
from orchestrator.model.snapshot import Hold, Problem
from orchestrator.project import agent_memory, faults, mark
from orchestrator.project.agent_memory import AgentState
from orchestrator.pulls import book, states
from orchestrator.system import disk
from orchestrator.system.later import Later
from orchestrator.tasks import stores
from orchestrator.text.words import span
from orchestrator.tick import held, lock
from orchestrator.tick.observe import Observation

if TYPE_CHECKING:
    from orchestrator.git import damage
else:
    damage = Later("git.damage")

#: Seconds since the last tick after which a problem is reported: no schedule seems to run ticks.
STALE_AFTER = 300.0


def last_tick(layout: Layout) -> float | None:
    """Return the time at which the last tick took its lock; None before the first tick."""
    found = idle.mark(layout.scheduler_lock)
    return found[1] / 1e9 if found and found[2] else None


def is_overdue(layout: Layout, now: float) -> bool:
    """Return whether a tick is overdue. `init` starts the wait again: it may install a schedule."""
    since = max(last_tick(layout) or 0.0, mark.set_up(layout) or 0.0)
    return now - since > STALE_AFTER


def find_problems(
    layout: Layout, settings: Settings, seen: Observation, now: float, *, in_tick: bool = False
) -> list[Problem]:
    """Return the problems that a person should know, the most pressing problem first.

    `in_tick`: the caller itself holds the tick's lock.
    """
    return [*_found(layout, settings, seen, now, in_tick=in_tick)]


def _found(
    layout: Layout, settings: Settings, seen: Observation, now: float, *, in_tick: bool
) -> Iterator[Problem]:
    hold = seen.snapshot.hold
    yield from _of_the_clone(layout)
    locked = held.held_locks(layout)
    if not in_tick and (blocked := lock.trouble(layout, now, locked)):
        yield blocked
    # Before the configuration, which another branch may not have.
    yield from _of_the_checkout(layout)
    yield from settings.problems
    yield from held.problems(layout, seen, locked)
    if hold is not None:
        yield faults.hold_problem(hold)
    if seen.snapshot.open_prs is None:
        yield from _forge_problem(layout, settings, hold)
    yield from _left_problem(settings, seen)
    yield from _of_tasks(layout, seen)
    yield from _damaged_records(layout)
    yield from _of_agents(layout, seen)
    yield from spending.loss(layout, settings.config, now)
    yield from _told_by_others(layout, settings)
    remote = faults.read(layout.remote_fault)
    if remote and not (hold and hold.message.startswith(f"{remote.code}: ")):
        yield remote
    yield from _closed(layout, hold)
    yield from _overdue(layout, hold, now)


def _of_the_checkout(layout: Layout) -> Iterator[Problem]:
    if os.path.exists(layout.checkout_changed):
        from orchestrator.project import checkout_changed

        yield from filter(None, [checkout_changed.problem(layout)])


def _of_tasks(layout: Layout, seen: Observation) -> Iterator[Problem]:
    blocked = stores.of_project(layout).list("blocked")
    for listing in (seen.incoming, seen.claimed, blocked):
        yield from (bad.problem() for bad in listing.malformed)
    for task in blocked.tasks:
        if task.reason and task.reason == damage.CODE:
            yield Problem(
                damage.CODE,
                f"the branch of {task.id} is damaged: {task.work_branch}; other tasks continue",
                f"its question says what to do: orchestrator task show {task.id}",
            )


def _of_agents(layout: Layout, seen: Observation) -> Iterator[Problem]:
    for name, view in seen.snapshot.agents.items():
        if view.closed and (found := agent_memory.closed(layout, name)):
            message = f"{found[0]}: {name} starts no run"
            yield Problem("permissions", message, found[1])
    for name, state in seen.states.items():
        if state == AgentState() and (error := disk.withheld(layout.agent_state(name))):
            message = f"{error.filename}: {error.strerror}: what {name} has done is not known"
            hint = "check that disk"
            if error.errno == errno.EACCES:
                hint = disk.opening(error.filename)
            hint += "; until then, no tick works"
            yield Problem("memory_withheld", message, hint)
        if why := state.suspended:
            hint = f"then: orchestrator agent resume {name}"
            yield Problem("agent_suspended", f"{name}: {why}", hint)


def _told_by_others(layout: Layout, settings: Settings) -> Iterator[Problem]:
    """Yield what other processes than ticks found wrong: with issues, landings, notifications."""
    if settings.good and settings.config.issues.label is not None:
        from orchestrator.pulls import issues

        yield from filter(None, [issues.problem(layout, settings.config)])
    told = layout.notify_fault if settings.config.notify.command else None
    for path in filter(None, (layout.remote_moved, layout.landing_fault, told)):
        yield from filter(None, [faults.read(path)])


def _overdue(layout: Layout, hold: Hold | None, now: float) -> Iterator[Problem]:
    # A tick leaves no trace on a disk that cannot be written.
    unwritable = hold is not None and hold.message.startswith("disk_")
    # Without `init` no tick runs: `not_initialised` reports that.
    if not unwritable and is_overdue(layout, now) and mark.is_initialised(layout):
        ticked = last_tick(layout)
        ago = f"the last tick was {span(now - ticked)} ago" if ticked else "no tick has run yet"
        yield Problem("tick_stale", ago, schedule_hint(layout))


def _closed(layout: Layout, hold: Hold | None) -> Iterator[Problem]:
    """Yield the first folder in which nothing can be written, as after a command under `sudo`."""
    if hold is not None and hold.message.startswith(("disk_", "permissions: ")):
        return
    places = (layout.home, layout.agents, layout.shared, layout.prs, layout.cache, layout.ticks)
    closed = (disk.unwritable(path) for path in places if os.path.lexists(path))
    if found := next(filter(None, closed), None):
        yield Problem("permissions", *found)


def schedule_hint(layout: Layout) -> str:
    """Return what to do if no tick comes."""
    if entry := mark.schedule(layout):
        return f"check that {entry.kind} runs; errors of ticks are in {SCHEDULE_LOG}"
    return "install the schedule: orchestrator init --schedule cron; or: orchestrator tick"


def _damaged_records(layout: Layout) -> Iterator[Problem]:
    """Yield the records of pull requests that cannot be used, of every forge.

    The pull request is not known until a person acts. Its branch and its task are unchanged.
    """
    for forge in FORGES:
        for path, why in book.damaged(layout.records(forge)):
            hint = (
                "correct or restore that file, as the records beside it show; until then its pull "
                "request is not known, and its task and its branch stay as they are"
            )
            if why.endswith(os.strerror(errno.EACCES)):
                hint = disk.opening(path)
            if book.ASIDE in path:
                hint = "its pull request is known again; look at that file, then delete it"
            yield Problem("record_damaged", f"{path}: {why}", hint)


def _of_the_clone(layout: Layout) -> list[Problem]:
    """Return the problem that the clone is not set up, or that its queue is gone."""
    try:
        mark.require_initialised(layout)
    except OrchestratorError as error:
        return [Problem(error.code, error.message, error.hint)]
    gone = mark.queue_missing(layout)
    return [gone] if gone else []


def _left_problem(settings: Settings, seen: Observation) -> list[Problem]:
    """Return the problem that open pull requests are on another forge than the project's."""
    if not seen.left:
        return []
    named = ", ".join(f"{forge}:{pr.id} ({pr.branch})" for forge, pr in seen.left)
    first, example = seen.left[0][0], f"{seen.left[0][0]}:{seen.left[0][1].id}"
    message = f"`forge: {settings.config.forge}` leaves open pull requests behind, which nobody "
    hint = (
        f"set `forge: {first}` in .orchestrator/agents.yaml until they are finished; or decide "
        f"about each: orchestrator pr merge {example}, pr merged {example}, or pr close {example}"
    )
    return [Problem("open_prs_left", f"{message}reviews or lands: {named}", hint)]


def _forge_problem(layout: Layout, settings: Settings, hold: Hold | None) -> list[Problem]:
    """Return why open pull requests cannot be counted, unless the hold reports it already."""
    found = faults.forge_fault(layout) or states.unknown(layout, settings.config)
    if found is None:
        message = "the forge cannot list its pull requests"
        return [Problem("open_prs_unknown", message, "see: orchestrator doctor")]
    if hold is not None and hold.message.startswith((found.code, found.message)):
        return []
    return [Problem("open_prs_unknown", f"{found.code}: {found.message}", found.hint)]
