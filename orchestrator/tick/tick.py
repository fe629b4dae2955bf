"""One tick: lock, then its steps (`tick/steps.py`), or the reason why it could not take them.

A tick never waits for an agent or for a check: supervisors do that. It asks the forge and the
remotes before it takes its lock, so that a slow remote keeps no other process waiting. It holds its
lock for milliseconds. If a tick holds it for minutes, the next tick kills it.
"""

import contextlib
import os
import time
from collections.abc import Callable
from functools import partial

from orchestrator import idle
from orchestrator.config import load
from orchestrator.config.load import Settings
from orchestrator.git import settings as git_settings
from orchestrator.layout import Layout
from orchestrator.model.errors import StoreFault
from orchestrator.model.snapshot import Action, Problem
from orchestrator.plan.planner import plan
from orchestrator.project import event_fold, events, mark
from orchestrator.pulls import look, states
from orchestrator.system import disk, files, locks
from orchestrator.tasks import stores
from orchestrator.tick import lock, observe
from orchestrator.tick.problems import find_problems
from orchestrator.tick.report import Report
from orchestrator.tick.steps import Steps, Wanted

#: Seconds that the tick after a run waits for an active tick, so that the run's end is seen.
AFTER_RUN_WAIT = 30.0

#: Takes the tick's lock.
Take = Callable[[], contextlib.AbstractContextManager[list[Problem] | None]]


def run_tick(
    layout: Layout,
    now: float,
    *,
    dry_run: bool = False,
    wait_for_lock: float = 0.0,
    forced: dict[str, str | None] | None = None,
    fresh: bool = False,
    after_run: bool = False,
    at_most_every: float = 0.0,
    may_rest: bool = False,
    begun: Callable[[], object] = lambda: None,
) -> Report:
    """Run one tick. `now` is seconds since the epoch.

    `forced` names agents to start regardless of their interval, each with the task to take or
    None; then only these agents start, with `fresh` each in a new worktree. `after_run`: a run's
    end calls this, not the schedule. Forge and remotes are not asked again within `at_most_every`
    seconds. `may_rest`: if they say nothing new, and the stamp of the last tick in the project
    around the current folder holds, this tick ends as an idle one. `begun` is called when the tick
    has its lock, before it looks at the project.
    """
    take = partial(lock.taken, layout, wait_for_lock, begun)
    try:
        if dry_run:
            return _dry_run(layout, now)
        if disk.shortage(layout.home) is not None:
            return _without_disk(layout, now)
        files.make_folder(layout.home)
        looked = _look(layout, wait_for_lock, after_run=after_run, at_most_every=at_most_every)
        if may_rest and (looked is None or looked.is_calm) and idle.nothing_to_do(asked=True):
            return Report()
        wanted = Wanted(forced, fresh, after_run)
        return _run_tick(layout, now, take, looked, wanted)
    except StoreFault as error:
        report, loaded = _without_store(layout, error)
        if not dry_run:
            _tell_outage(layout, loaded, report)
        return report


def _dry_run(layout: Layout, now: float) -> Report:
    """Return what a tick would do. Changes nothing."""
    loaded = load.settings(layout, write_cache=False)
    prs = states.counted(layout, loaded.config)
    seen = observe.observe(layout, loaded, now, prs)
    actions = plan(seen.snapshot, loaded.config, now).actions
    return Report(actions, find_problems(layout, loaded, seen, now), good=loaded.good)


def _without_disk(layout: Layout, now: float) -> Report:
    """Return the report of a tick on a full disk: it starts nothing.

    Work that starts now would stay half done, and would count against runs and tasks.
    """
    report = _dry_run(layout, now)
    skipped = [action for action in report.actions if action.action == "skip"]
    return Report(skipped, report.problems, good=False)


def _look(
    layout: Layout, wait: float, *, after_run: bool, at_most_every: float
) -> look.Look | None:
    """Ask the forge and the remotes; None if another process does that at this moment.

    Also None if another tick is active and this one will not wait for it.
    """
    if not after_run:  # the end of the run has just asked
        git_settings.forget()
    is_held = not wait and locks.is_locked(layout.scheduler_lock)
    if is_held or not mark.is_initialised(layout):
        return None
    files.make_folder(layout.cache)
    try:
        with locks.Lock(layout.look_lock):
            if not mark.is_initialised(layout):  # uninstalled since
                files.remove(layout.look_lock)
                return None
            config = load.settings(layout, write_cache=False).config
            return look.look(layout, config, after_run=after_run, at_most_every=at_most_every)
    except locks.LockHeld:
        return None


def _run_tick(
    layout: Layout, now: float, take: Take, looked: look.Look | None, wanted: Wanted
) -> Report:
    """Run a tick if the locks allow it. Raises StoreFault."""
    try:
        return _locked(layout, now, take, looked, wanted)
    except locks.LockHeld as error:
        # A process keeps the lock of the queue, or a hung tick cannot be killed.
        report = _dry_run(layout, now)
        skipped = [
            a._replace(action="skip", reason="system_fault") if a.action == "start" else a
            for a in report.actions
            if a.action in ("skip", "start")
        ]
        blocked = Problem(error.code, error.message, error.hint)
        return Report(skipped, dict.fromkeys([blocked, *report.problems]), good=False)


def _without_store(layout: Layout, error: StoreFault) -> tuple[Report, Settings]:
    """Return the report of a tick that could not reach the queue: runs go on, nothing starts."""
    loaded = load.settings(layout, write_cache=False)
    skips = [Action("skip", agent.name, reason="system_fault") for agent in loaded.config.agents]
    return Report(skips, [Problem(error.code, error.message, error.hint)]), loaded


def _tell_outage(layout: Layout, loaded: Settings, report: Report) -> None:
    """Start a process that tells a person that the queue is out of reach, once per outage."""
    from orchestrator.tick import notify

    wanted = loaded.config.notify
    if not wanted.command or not mark.is_initialised(layout):
        return
    with (
        report.noting("notify"),
        contextlib.suppress(locks.LockHeld),  # the tick that holds the lock meets the outage, too
        lock.exclusive(layout, 0.0),
    ):
        if notify.note_outage(layout, wanted, report.problems[0]):
            notify.start(layout)


def _locked(
    layout: Layout, now: float, take: Take, looked: look.Look | None, wanted: Wanted
) -> Report:
    """Run a tick under its lock. Raises LockHeld if a process keeps a lock that the tick needs."""
    with take() as problems:
        if problems is None:
            idle.note_tick(layout.ticks, now, idle.HELD)
            blocked = lock.trouble(layout, now)
            return Report(problems=[blocked] if blocked else (), held=True)
        if not mark.is_initialised(layout):
            # Uninstalled while we waited for the lock: start nothing and create no file there.
            files.remove(layout.scheduler_lock)
            return Report(held=True)
        files.make_folder(layout.ticks)
        idle.note_tick(layout.ticks, now, idle.WHOLE)
        store = stores.of_project(layout)
        if any(locks.is_locked(path) for path in store.places() if path.endswith(".lock")):
            # Waits here once, not at each action.
            with store.change():
                pass
        loaded = load.settings(layout, write_cache=True)
        # The process of a run that starts here calls `after_run` at its end.
        return Steps(layout, loaded, now, wanted, after_run).take(looked, problems)


def after_run(root: str) -> None:
    """Run the tick that follows a run in the project at `root`, in the run's process.

    Raises StoreFault if the database with the queue is gone.
    """
    layout = Layout(root)
    # The tick that the schedule starts reports faulty symbolic links.
    if not mark.is_initialised(layout) or mark.links_above(layout):
        return
    with contextlib.ExitStack() as turn:
        # Most ends of runs are followed by no tick of their own, and look at no other agent.
        if _is_next(layout, turn) and not mark.links_of_agents(layout):
            follow_up(layout, turn.close)


def _is_next(layout: Layout, turn: contextlib.ExitStack) -> bool:
    """Return whether this tick after a run is to wait for the tick's lock; `turn` keeps others out.

    False if another one waits already: it has not looked at the runs, so it sees the end of this
    run, too. Behind many agents, one tick settles all runs that ended meanwhile.
    """
    if os.path.isdir(layout.cache):  # an uninstall may have removed it: create nothing there
        try:
            turn.enter_context(locks.Lock(os.path.join(layout.cache, lock.WAITING)))
        except locks.LockHeld:
            return False
    return True


def follow_up(layout: Layout, begun: Callable[[], object] = lambda: None) -> None:
    """Run a tick after a run or a landing has ended, then clean up; `begun` as in `run_tick`."""
    now, wait = time.time(), AFTER_RUN_WAIT
    report = run_tick(layout, now, wait_for_lock=wait, after_run=True, begun=begun)
    begun()  # also if the tick did not begin: what follows keeps no other tick waiting
    from orchestrator.upkeep import retention

    retention.after_run(layout, report.actions, time.time())
    if os.path.isdir(layout.cache) and event_fold.is_due(layout):
        from orchestrator.account import fold

        try:
            fold.keep(layout)
        except OSError as error:
            events.append(layout, time.time(), "clean", reason=f"failed: {error}")
