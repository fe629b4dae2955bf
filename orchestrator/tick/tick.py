"""One tick: lock, observe, plan, apply each action alone, record, exit.

A tick never waits for an agent or for a check: supervisors do that. It asks the forge and the
remotes before it takes its lock, so that a slow remote keeps no other process waiting. It holds its
lock for milliseconds. If a tick holds it for minutes, the next tick kills it.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterable
from functools import partial

from orchestrator import idle
from orchestrator.config import load
from orchestrator.config.load import Settings
from orchestrator.errors import OrchestratorError, StoreFault
from orchestrator.git import base_branch
from orchestrator.git import settings as git_settings
from orchestrator.layout import Layout
from orchestrator.model.config import Config
from orchestrator.model.snapshot import Action, Problem
from orchestrator.model.work import PullRequest
from orchestrator.plan import dependencies
from orchestrator.plan.planner import Plan, plan
from orchestrator.plan.settlements import settlements
from orchestrator.project import agent_memory, event_fold, events, faults, mark
from orchestrator.project.agent_memory import AgentState
from orchestrator.pulls import forges, states
from orchestrator.run import supervisor
from orchestrator.system import disk, files, locks, memory, process
from orchestrator.tasks import stores
from orchestrator.tick import attendant, held, lock, observe, split, stamp
from orchestrator.tick.problems import find_problems
from orchestrator.tick.settle import Settler
from orchestrator.tick.start import Starter

#: Seconds that the tick after a run waits for an active tick, so that the run's end is seen.
AFTER_RUN_WAIT = 30.0
#: Problems that only a changed file can solve, or that an idle tick itself solves.
_STILL = ("tick_stale", "task_malformed", "agent_suspended", "record_damaged")

#: The work of a tick under its lock. Its arguments are what the lock's holder has to report, and
#: the gate that is closed until the work is done.
Work = Callable[[list[Problem], supervisor.Gate], "Report"]
#: Takes the tick's lock.
Take = Callable[[], contextlib.AbstractContextManager[list[Problem] | None]]


class Report:
    """What a tick did. `held` means that another tick was active, and this tick did nothing."""

    def __init__(
        self,
        actions: Iterable[Action] = (),
        problems: Iterable[Problem] = (),
        *,
        held: bool = False,
        good: bool = True,
    ) -> None:
        self.actions = list(actions)
        self.problems = list(problems)
        self.held = held
        #: False when the configuration is broken or one of the tick's actions failed.
        self.good = good
        #: An unexpected exception: the command line writes it to a log.
        self.bug: Exception | None = None


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
    begun: Callable[[], object] = lambda: None,
) -> Report:
    """Run one tick. `now` is seconds since the epoch.

    `forced` names agents to start regardless of their interval, each with the task to take or
    None; then only these agents start, with `fresh` each in a new worktree. `after_run`: a run's
    end calls this, not the schedule. Forge and remotes are not asked again within `at_most_every`
    seconds. `begun` is called when the tick has its lock, before it looks at the project.
    """
    take = partial(lock.taken, layout, now, wait_for_lock, begun)
    try:
        if dry_run:
            return _dry_run(layout, now)
        if disk.shortage(layout.home) is not None:
            return _without_disk(layout, now)
        files.make_folder(layout.home)
        looked = _look(layout, wait_for_lock, after_run=after_run, at_most_every=at_most_every)
        work = partial(_tick, layout, now, forced, looked, fresh=fresh, after_run=after_run)
        return _run_tick(layout, now, take, work)
    except StoreFault as error:
        report, loaded = _without_store(layout, error)
        if not dry_run:
            _tell_outage(layout, loaded, report)
        return report


def _without_disk(layout: Layout, now: float) -> Report:
    """Return the report of a tick on a full disk: it starts nothing.

    Work that starts now would stay half done, and would count against runs and tasks.
    """
    report = _dry_run(layout, now)
    skipped = [action for action in report.actions if action.action == "skip"]
    return Report(skipped, report.problems, good=False)


def _look(
    layout: Layout, wait: float, *, after_run: bool, at_most_every: float
) -> states.Look | None:
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
            return states.look(layout, config, after_run=after_run, at_most_every=at_most_every)
    except locks.LockHeld:
        return None


def _run_tick(layout: Layout, now: float, take: Take, work: Work) -> Report:
    """Run a tick if the locks allow it. Raises StoreFault."""
    try:
        return _locked(layout, now, take, work)
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
    try:
        with lock.exclusive(layout, 0.0):
            if notify.note_outage(layout, wanted, report.problems[0]):
                notify.start(layout)
    except locks.LockHeld:
        return  # the other tick meets the outage, too
    except OSError as error:
        report.problems.append(_problem("notify", error))


def _locked(layout: Layout, now: float, take: Take, work: Work) -> Report:
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
        if any(locks.held(store.places())):
            # Waits here once, not at each action.
            with store.change():
                pass
        with contextlib.closing(supervisor.Gate()) as gate:
            return work(problems, gate)


def _tick(
    layout: Layout,
    now: float,
    forced: dict[str, str | None] | None,
    looked: states.Look | None,
    problems: list[Problem],
    gate: supervisor.Gate,
    *,
    fresh: bool,
    after_run: bool,
) -> Report:
    loaded = load.settings(layout, write_cache=True)
    report = Report(problems=problems, good=loaded.good)
    after = partial(own_process, "_after_run")
    starter = Starter(layout, loaded, now, after, gate, fresh=fresh)
    settler = Settler(layout, loaded, now)
    store = stores.of_project(layout)
    # First: what changes while this tick looks makes the next one look again.
    number = store.number()
    memory, claimed, runs, records = observe.observe_runs(layout)
    store.attend(run.id for run in runs)
    if store.host is not None:
        if not after_run:
            faults.end_hold(layout, StoreFault.code)  # the database has just answered
        others = store.elsewhere()
        for name in agent_memory.follow_wakes(layout, others.own):
            events.append(layout, now, "resumed", agents=[name])
        for run in held.stop_lost(layout, runs, claimed.tasks, others.runs):
            events.append(layout, now, "lost", agent=run.agent, task=run.task, run=run.id)
    for record in held.continue_overdue(records, now):
        events.append(layout, now, "continued", agent=record.agent, run=record.id)
    for action in settlements(runs, claimed.tasks, loaded.config):
        act = starter.restart if action.action == "deliver" else settler.settle
        _apply(report, action, act)
    settled = list(report.actions)
    _repair_clocks(layout, memory, now)
    prs = states.record(layout, loaded.config, looked, report.problems)
    if prs and loaded.good:
        _follow(layout, loaded, prs, now, report)
    _finish_split(layout, now, report)
    if prs is not None and loaded.good and loaded.config.issues.label is not None:
        _follow_issues(layout, loaded, now, report)
    _land(layout, loaded, prs, report, now)
    config = loaded.config
    if forced is not None:
        config = config._replace(agents=tuple(a for a in config.agents if a.name in forced))

    def look() -> tuple[observe.Observation, Plan]:
        seen = observe.observe(layout, loaded, now, prs, forced, ask=True, after_run=after_run)
        # A run that met a fault must not start the next probe: probes would follow without a pause.
        return seen, plan(seen.snapshot._replace(may_probe=not after_run), config, now)

    seen, planned = look()
    with contextlib.ExitStack() as stack:
        if store.host is not None and any(a.action == "start" for a in planned.actions):
            # Limits are global: under the lock, no other host starts a run beside these.
            stack.enter_context(store.change())
            seen, planned = look()
        starter.cuts = seen.cuts
        _carry_out(report, seen, planned, starter, settler)
    if dependencies.UNKNOWN_TASK in seen.snapshot.dependencies.values():
        # The next tick looks for these ids again.
        stores.of_project(layout).tidy()
    if settled:
        # After the starts, so that no start waits for the pruning.
        _prune(layout, loaded, settled, report)
    if sum(pr.state == "merged" for pr in prs or ()) > forges.MANY:
        # After a run, `retention` does this: an old project in which no run starts has none.
        _put_away(layout, loaded.config, report)
    found = find_problems(layout, loaded, seen, now, in_tick=True)
    report.problems += found
    if loaded.config.notify.command:
        _notify(layout, loaded, seen, prs, report, now)
    if store.host is not None:
        from orchestrator.config import compare

        codes = dict.fromkeys(problem.code for problem in report.problems)
        store.tell(codes, compare.digests(loaded))
        store.publish()
        attendant.ensure(layout)
    if forced is None and loaded.good:
        files.remove(layout.idle_stamp)
        if _is_still(report, planned):
            sure = prs if looked and looked.has_seen(prs or ()) else None
            wake = planned.wake

            def said() -> str:
                from orchestrator.tick import news

                return news.text(layout, loaded, seen, planned, found)

            stamp.leave(layout, loaded.config, seen.snapshot, sure, now, wake, number, said)
    return report


def _is_still(report: Report, planned: Plan) -> bool:
    """Return whether the tick did nothing, and met nothing that the next tick must look at.

    A start that another process, or the clock of the database, prevented is tried again.
    """
    if any(action.action == "start" for action in planned.actions):
        return False
    idle_actions = all(action.action == "skip" for action in report.actions)
    return idle_actions and all(problem.code in _STILL for problem in report.problems)


def _carry_out(
    report: Report,
    seen: observe.Observation,
    planned: Plan,
    starter: Starter,
    settler: Settler,
) -> None:
    """Apply the actions of the plan: starts, and ends of waiting tasks."""
    before = len(report.actions)
    waiting = {task.id: task for task in seen.incoming.tasks}
    for action in planned.actions:
        task = waiting.get(action.task or "")
        if action.action == "start":
            _apply(report, action, partial(starter.claim, task))
        elif action.run is None and task is not None:
            refusal = next(v for v in planned.tasks[task.id] if v.code == action.reason)
            _apply(report, action, partial(settler.end_waiting, task, refusal))
        elif action.action == "skip":
            report.actions.append(action)
    for action in starter.claimed:
        _apply(report, action, starter.start)
    order = {action.agent or action.task: n for n, action in enumerate(planned.actions)}
    applied = sorted(report.actions[before:], key=lambda done: order[done.agent or done.task])
    report.actions[before:] = applied


def _follow(
    layout: Layout, loaded: Settings, prs: list[PullRequest], now: float, report: Report
) -> None:
    """Send tasks where the facts about their pull requests say."""
    from orchestrator.pulls import rework

    try:
        steps, failed = rework.follow(layout, loaded, prs, now)
        for task, state, why in steps:
            events.append(layout, now, "followed", task=task, state=state, reason=why)
        report.problems += [_problem("pull requests", fault) for fault in failed]
    except (OSError, OrchestratorError) as error:
        report.problems.append(_problem("pull requests", error))


def _follow_issues(layout: Layout, loaded: Settings, now: float, report: Report) -> None:
    """Make tasks of new issues on GitHub, and tell the issues of tasks that this tick settled."""
    from orchestrator.pulls import issues

    settled = [action.task for action in report.actions if action.task]
    try:
        for task, reason in issues.follow(layout, loaded, now, settled):
            events.append(layout, now, "issue", task=task, reason=reason)
    except (OSError, OrchestratorError) as error:
        report.problems.append(_problem("issues", error))


def _finish_split(layout: Layout, now: float, report: Report) -> None:
    try:
        for action in split.finish(stores.of_project(layout), now):
            report.actions.append(action)
            events.append(layout, now, action.action, task=action.task, reason=action.reason)
    except (OSError, OrchestratorError) as error:
        report.problems.append(_problem("split tasks", error))


def _land(
    layout: Layout,
    loaded: Settings,
    prs: list[PullRequest] | None,
    report: Report,
    now: float,
) -> None:
    """If `auto_merge` is on, start a process that merges approved pull requests."""
    approved = [pr for pr in prs or () if pr.state == "open" and pr.verdict == "approved"]
    if not (approved and loaded.good and loaded.config.review.auto_merge):
        files.remove(layout.landing_fault)
        return
    from orchestrator.pulls import landing, landing_queue

    # The refused one may be a draft by now, merged by hand, or have another head.
    if os.path.exists(layout.landing_fault) and not landing_queue.is_refused(layout, approved):
        files.remove(layout.landing_fault)
    # Without a remote only a person merges: the base branch exists only in a person's checkout.
    if loaded.config.paused or base_branch.remote_of(layout, loaded.config) is None:
        return
    due = landing_queue.candidates(layout, loaded.config, approved, now)
    if not due or locks.is_locked(landing.lock_path(layout)):
        return
    log = os.path.join(layout.cache, "landing.out")
    process.spawn_detached([*process.own_program(), "_land", layout.root], os.environ, log)
    report.actions += [Action("deliver", None, pr.task, None, "auto_merge") for pr in due]


def _notify(
    layout: Layout,
    loaded: Settings,
    seen: observe.Observation,
    prs: list[PullRequest] | None,
    report: Report,
    now: float,
) -> None:
    """Start a process that tells a person what is new, if something is, and sends the report."""
    from orchestrator.tick import daily, notify

    wanted = loaded.config.notify
    try:
        news = notify.news(layout, loaded, seen, prs, report.problems)
        is_new = notify.note(layout, wanted, news)
        if daily.note(layout, wanted, now) or is_new:
            notify.start(layout)
    except (OSError, OrchestratorError) as error:
        report.problems.append(_problem("notify", error))


def _prune(layout: Layout, loaded: Settings, settled: Iterable[Action], report: Report) -> None:
    """Remove old finished runs of the agents whose runs were settled."""
    from orchestrator.upkeep import retention

    try:
        agents = {agent for agent, _ in retention.settled(settled)}
        failures: list[Exception] = [*retention.prune(layout, loaded.config, agents)]
    except (OSError, OrchestratorError) as error:
        failures = [error]
    report.problems += [_problem("retention", error) for error in failures]


def _put_away(layout: Layout, config: Config, report: Report) -> None:
    """Put records of old merged pull requests away. What the tick has started is not affected."""
    try:
        forges.put_away(layout, config, forges.AT_ONCE)
    except (OSError, OrchestratorError) as error:
        report.problems.append(_problem("retention", error))


def own_process(word: str, root: str) -> None:
    """Run a process that the scheduler starts: the tick after a run, landing, notifying.

    If the database with the queue is gone, it ends: the next tick of the schedule reports that.
    """
    with contextlib.suppress(StoreFault):
        _work(word, root)


def _work(word: str, root: str) -> None:
    layout = Layout(root)
    # The tick that the schedule starts reports faulty symbolic links.
    if not mark.is_initialised(layout) or mark.links(layout):
        return
    if word == "_notify":
        from orchestrator.tick import daily, notify

        if usable := load.usable(layout):
            notify.tell(layout, usable.notify)
            if usable.notify.command:
                daily.tell(layout, load.settings(layout, write_cache=False), time.time())
        return
    if word == "_land":
        from orchestrator.pulls import landing

        config = load.usable(layout)
        said = landing.land_approved(layout, config, time.time()) if config else []
        for line in said:
            events.append(layout, time.time(), "landing", reason=line)
        if config and any(line.startswith("merged") for line in said):
            _drop_remote_branches(layout, config)
        if not any(line.startswith(("merged", "sent")) for line in said):
            return
    with contextlib.ExitStack() as turn:
        # Not after a landing: what it merged may not be in the look of the tick that waits.
        if word == "_after_run" and not _is_next(layout, turn):
            return
        now, wait = time.time(), AFTER_RUN_WAIT
        report = run_tick(layout, now, wait_for_lock=wait, after_run=True, begun=turn.close)
    from orchestrator.upkeep import retention

    retention.after_run(layout, report.actions, time.time())
    if os.path.isdir(layout.cache) and event_fold.is_due(layout):
        from orchestrator.account import fold

        try:
            fold.keep(layout)
        except OSError as error:
            events.append(layout, time.time(), "clean", reason=f"failed: {error}")


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


def _drop_remote_branches(layout: Layout, config: Config) -> None:
    from orchestrator.pulls import remote_branches

    for line in remote_branches.drop_merged(layout, config):
        events.append(layout, time.time(), "clean", reason=line)


def _apply(report: Report, action: Action, act: Callable[[Action], Action | None]) -> None:
    """Apply one action alone: an error is recorded on it and does not stop other actions."""
    try:
        done = act(action)
        if done is not None:
            report.actions.append(done)
    except Exception as error:  # a bad task, agent or branch must not stop others (failures 14)
        what = " ".join(filter(None, (action.action, action.agent, action.task)))
        report.problems.append(_problem(what, error))
        report.good = False
        if not isinstance(error, OrchestratorError | OSError | MemoryError):
            report.bug = error
        if action.action == "start":
            report.actions.append(action._replace(action="skip", reason="system_fault"))


def _problem(what: str, error: Exception) -> Problem:
    if isinstance(error, OrchestratorError):
        return Problem(error.code, f"{what}: {error.message}", error.hint)
    if isinstance(error, MemoryError):
        return Problem(memory.WORD, f"{what}: this process could not get more memory", memory.HINT)
    if isinstance(error, OSError):
        return Problem("system_fault", f"{what}: {error}", "orchestrator doctor")
    return Problem("bug", f"{what}: {type(error).__name__}: {error}", "please report this")


def _repair_clocks(layout: Layout, states: dict[str, AgentState], now: float) -> None:
    """Set recorded starts that are ahead of the clock to `now` (reference 8.7)."""
    for name, state in states.items():
        if state.last_started is not None and state.last_started > now + 1:
            fresh = agent_memory.read(layout, name)
            agent_memory.write(layout, name, fresh._replace(last_started=now))


def _dry_run(layout: Layout, now: float) -> Report:
    """Return what a tick would do. Changes nothing."""
    loaded = load.settings(layout, write_cache=False)
    prs = states.counted(layout, loaded.config)
    seen = observe.observe(layout, loaded, now, prs)
    actions = plan(seen.snapshot, loaded.config, now).actions
    return Report(actions, find_problems(layout, loaded, seen, now), good=loaded.good)
