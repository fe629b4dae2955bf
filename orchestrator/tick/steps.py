"""The steps of one tick, under its lock: settle, follow pull requests, plan, start, tell, stamp."""

import contextlib
from collections.abc import Callable, Collection, Iterable
from functools import partial

from orchestrator.account import spending
from orchestrator.config.load import Settings
from orchestrator.git import settings as git_settings
from orchestrator.layout import Layout
from orchestrator.model.errors import OrchestratorError, StoreFault
from orchestrator.model.fields import NamedTuple
from orchestrator.model.snapshot import Action, Problem, RunView
from orchestrator.model.waiting import with_ids
from orchestrator.model.work import PullRequest
from orchestrator.plan import dependencies
from orchestrator.plan.planner import Plan, plan
from orchestrator.plan.settlements import settlements
from orchestrator.project import agent_memory, events, faults, mark
from orchestrator.project.agent_memory import AgentState
from orchestrator.pulls import look, states
from orchestrator.run import supervisor
from orchestrator.system import files
from orchestrator.tasks import stores
from orchestrator.tick import attendant, held, observe, pull_requests, split, stamp, turn
from orchestrator.tick.problems import find_problems
from orchestrator.tick.report import Report
from orchestrator.tick.settle import Settler
from orchestrator.tick.start import Starter

#: Runs that may begin while their tick still starts others. Beside more, the tick, which holds its
#: lock, would last as long as their preparation; runs that begin together work in waves.
MOST_FREE = 50
#: Problems that only a changed file can solve, or that an idle tick itself solves.
_STILL = ("tick_stale", "task_malformed", "agent_suspended", "record_damaged", "costs_lost")


class Wanted(NamedTuple):
    """What the caller of a tick asks for."""

    #: Agents to start regardless of their interval, each with the task to take or None; then only
    #: these agents start.
    forced: dict[str, str | None] | None = None
    #: Whether the runs start in new worktrees.
    fresh: bool = False
    #: Whether the end of a run calls the tick, and not the schedule.
    after_run: bool = False


class Steps:
    """One tick in one project; the caller holds the tick's lock."""

    def __init__(
        self,
        layout: Layout,
        loaded: Settings,
        now: float,
        wanted: Wanted,
        after: Callable[[str], object],
    ) -> None:
        self.layout = layout
        self.loaded = loaded
        self.now = now
        self.wanted = wanted
        self.store = stores.of_project(layout)
        self.starter = Starter(layout, loaded, now, after, fresh=wanted.fresh)
        self.settler = Settler(layout, loaded, now)
        self.report = Report(good=loaded.good)

    def take(self, looked: look.Look | None, problems: Iterable[Problem]) -> Report:
        """Take all steps. `looked` is what forge and remotes said before the lock was taken.

        `problems` are those of the lock.
        """
        report, loaded = self.report, self.loaded
        report.problems += problems
        # First: what changes while this tick looks makes the next one look again.
        number = self.store.number()
        self._settle_runs()
        settled = list(report.actions)
        prs = states.record(self.layout, loaded.config, looked)
        self._follow(prs)
        before = len(report.actions)
        seen, planned = self._act(prs)
        if dependencies.UNKNOWN_TASK in seen.snapshot.dependencies.values():
            # The next tick looks for these ids again.
            self.store.tidy()
        found = find_problems(self.layout, loaded, seen, self.now, in_tick=True)
        report.problems += found
        # Late: the runs that start compete with this tick, which holds its lock, for the
        # processors.
        self._start()
        report.actions[before:] = _in_order(report.actions[before:], planned)
        if settled:
            # After the starts, so that no start waits for the pruning.
            self._prune(settled)
        self._tell(seen, prs)
        if self.wanted.forced is None and loaded.good:
            files.remove(self.layout.idle_stamp)
            if _is_still(report, planned):
                sure = prs if looked and looked.has_seen(prs or ()) else None
                self._leave_stamp(seen, planned, sure, number, found)
        return report

    def _settle_runs(self) -> None:
        """Settle runs that ended, and start a supervisor for those whose supervisor is gone."""
        layout, now, store, after_run = self.layout, self.now, self.store, self.wanted.after_run
        names = [agent.name for agent in self.loaded.config.agents]
        folders = agent_memory.folders_mark(layout)
        found = observe.observe_runs(layout, surely=True, configured=names)
        memory, claimed, runs, records = found
        others = store.elsewhere()
        gone = agent_memory.lost(layout, memory, names)
        lost = spending.forgotten(layout, self.loaded.config, memory, others, now)
        _adopt(layout, memory | lost, runs)
        with contextlib.suppress(OSError):  # on a full disk, the next tick looks again
            for name in lost.keys() - {run.agent for run in runs}:
                agent_memory.write(layout, name, lost[name])
            if gone:
                agent_memory.note_folders(layout, folders)
        spending.note_loss(layout, (memory | lost).values())
        store.attend(run.id for run in runs)
        if store.host is not None:
            for name in agent_memory.follow_wakes(layout, others.own):
                events.append(layout, now, "resumed", agents=[name])
            for run in held.stop_lost(layout, runs, claimed.tasks, others.runs):
                events.append(layout, now, "lost", agent=run.agent, task=run.task, run=run.id)
        for record in held.continue_overdue(records, now):
            events.append(layout, now, "continued", agent=record.agent, run=record.id)
        for action in settlements(runs, claimed.tasks, self.loaded.config):
            is_restart = action.action == "deliver"
            self.report.apply(action, self.starter.restart if is_restart else self.settler.settle)
        if store.host is not None and not after_run:
            # The database has just answered. A run that met its outage may be settled only now.
            faults.end_hold(layout, StoreFault.code)
        _repair_clocks(layout, memory, now)

    def _follow(self, prs: list[PullRequest] | None) -> None:
        """Move tasks where pull requests, split tasks and issues say; land what is approved."""
        layout, loaded, now, report = self.layout, self.loaded, self.now, self.report
        if prs and loaded.good:
            pull_requests.follow(layout, loaded, prs, now, report)
        with report.noting("split tasks"):
            for action in split.finish(self.store, now):
                report.actions.append(action)
                events.append(layout, now, action.action, task=action.task, reason=action.reason)
        if prs is not None and loaded.good and loaded.config.issues.label is not None:
            pull_requests.follow_issues(layout, loaded, now, report)
        pull_requests.land(layout, loaded, prs or (), now, report)

    def _act(self, prs: list[PullRequest] | None) -> tuple[observe.Observation, Plan]:
        """Observe, plan, and apply the plan."""
        seen, planned = self._plan(prs)
        with contextlib.ExitStack() as stack:
            if self.store.host is not None and any(a.action == "start" for a in planned.actions):
                # Limits are global: under the lock, no other host starts a run beside these.
                stack.enter_context(self.store.change())
                seen, planned = self._plan(prs)
            # No run could be recorded, or no task claimed (`observe`).
            self.report.good &= seen.snapshot.may_probe
            self.starter.cuts = seen.cuts
            self._carry_out(seen, planned)
        with self.report.noting("waiting tasks"):
            self.store.keep_waiting()
        return seen, planned

    def _plan(self, prs: list[PullRequest] | None) -> tuple[observe.Observation, Plan]:
        forced, after_run = self.wanted.forced, self.wanted.after_run
        config = self.loaded.config
        if forced is not None:
            config = config._replace(agents=tuple(a for a in config.agents if a.name in forced))
        seen = observe.observe(
            self.layout, self.loaded, self.now, prs, forced, ask=True, after_run=after_run
        )
        # A run that met a fault must not start the next probe: probes would follow without a pause.
        may_probe = seen.snapshot.may_probe and not after_run
        return seen, plan(seen.snapshot._replace(may_probe=may_probe), config, self.now)

    def _carry_out(self, seen: observe.Observation, planned: Plan) -> None:
        """Apply the actions of the plan: claims for the starts, and ends of waiting tasks."""
        report, starter = self.report, self.starter
        waiting = with_ids(seen.incoming.tasks, [action.task for action in planned.actions])
        for action in planned.actions:
            task = waiting.get(action.task or "")
            if action.action == "start":
                report.apply(action, partial(starter.claim, task))
            elif action.run is None and task is not None:
                refusal = next(v for v in planned.tasks[task.id] if v.code == action.reason)
                report.apply(action, partial(self.settler.end_waiting, task, refusal))
            elif action.action == "skip":
                report.actions.append(action)

    def _start(self) -> None:
        """Start the supervisors of the claimed runs."""
        claimed = self.starter.claimed
        if len(claimed) > 1:
            # Asked once, and not by each of the forked processes.
            with contextlib.suppress(OrchestratorError):
                git_settings.seen(self.layout.root)
        with contextlib.closing(supervisor.Gate()) as gate:
            held = gate if len(claimed) > MOST_FREE else None
            for action in claimed:
                self.report.apply(action, partial(self.starter.start, held))
            for agent in self.starter.started:
                with self.report.noting(f"start {agent}"):
                    self.starter.note(agent)

    def _prune(self, settled: Iterable[Action]) -> None:
        """Remove old finished runs of the agents whose runs were settled."""
        from orchestrator.upkeep import retention

        with self.report.noting("retention"):
            agents = {agent for agent, _ in retention.settled(settled)}
            for error in retention.prune(self.layout, self.loaded.config, agents):
                self.report.note("retention", error)

    def _tell(self, seen: observe.Observation, prs: list[PullRequest] | None) -> None:
        """Tell a person what is new, and other hosts what this host has seen."""
        if self.loaded.config.notify.command:
            self._notify(seen, prs)
        if self.store.host is not None:
            from orchestrator.config import compare

            codes = dict.fromkeys(problem.code for problem in self.report.problems)
            takes = turn.takes(self.loaded, seen.snapshot, self.store.host)
            has_schedule = mark.schedule(self.layout) is not None
            self.store.tell(codes, compare.digests(self.loaded), takes, scheduled=has_schedule)
            self.store.publish()
            attendant.ensure(self.layout)

    def _notify(self, seen: observe.Observation, prs: list[PullRequest] | None) -> None:
        """If there is news, or the report is due, start the process that tells a person."""
        from orchestrator.tick import daily, notify

        layout, wanted = self.layout, self.loaded.config.notify
        with self.report.noting("notify"):
            news = notify.news(layout, self.loaded, seen, prs, self.report.problems)
            is_new = notify.note(layout, wanted, news)
            if daily.note(layout, wanted, self.now) or is_new:
                notify.start(layout)

    def _leave_stamp(
        self,
        seen: observe.Observation,
        planned: Plan,
        sure: list[PullRequest] | None,
        number: str,
        found: Collection[Problem],
    ) -> None:
        """Leave the stamp by which the next tick sees that there is nothing to do."""

        def said() -> str:
            from orchestrator.tick import news

            return news.text(self.layout, self.loaded, seen, planned, found)

        config, snapshot, wake = self.loaded.config, seen.snapshot, planned.wake
        stamp.leave(self.layout, config, snapshot, sure, self.now, wake, number, said)


def _in_order(applied: Iterable[Action], planned: Plan) -> list[Action]:
    """Return what became of a plan's actions, in the plan's order."""
    order = {action.agent or action.task: n for n, action in enumerate(planned.actions)}
    return sorted(applied, key=lambda done: order[done.agent or done.task])


def _is_still(report: Report, planned: Plan) -> bool:
    """Return whether the tick did nothing, and met nothing that the next tick must look at.

    A start that another process, or the clock of the database, prevented is tried again.
    """
    if any(action.action == "start" for action in planned.actions):
        return False
    idle_actions = all(action.action == "skip" for action in report.actions)
    return idle_actions and all(problem.code in _STILL for problem in report.problems)


def _adopt(layout: Layout, memory: dict[str, AgentState], runs: Iterable[RunView]) -> None:
    """Give agents their runs back that only a claimed task names, so that each run is settled.

    An agent's memory can be lost, and so can the answer of the database to a claim.
    """
    for run in runs:
        known = memory.get(run.agent) or AgentState()
        if known.run is None and known.last_run != run.id:
            agent_memory.write(layout, run.agent, known._replace(run=run.id))


def _repair_clocks(layout: Layout, memory: dict[str, AgentState], now: float) -> None:
    """Set recorded starts that are ahead of the clock to `now` (reference 8.7)."""
    for name, state in memory.items():
        if state.last_started is not None and state.last_started > now + 1:
            fresh = agent_memory.read(layout, name, surely=True)
            agent_memory.write(layout, name, fresh._replace(last_started=now))
