"""Starting runs: a folder with the run's record, the claim of its task, then its supervisor.

Called only under the scheduler's lock. The intent is on disk before anything runs. If a tick is
killed at any point, the next tick recognises what exists already.
"""

import os
import time
from collections.abc import Callable, Mapping

from orchestrator.config.load import Settings
from orchestrator.layout import Layout
from orchestrator.model.config import Agent
from orchestrator.model.errors import OrchestratorError
from orchestrator.model.snapshot import Action
from orchestrator.model.work import Task
from orchestrator.project import agent_memory, events, mark, run_record
from orchestrator.project.agent_memory import AgentState
from orchestrator.project.run_record import RunRecord, Undelivered
from orchestrator.run import supervisor
from orchestrator.system import files, process
from orchestrator.tasks import stores, task_file
from orchestrator.tasks.store import Store
from orchestrator.tasks.task_file import entry


class Starter:
    """Starts one tick's runs in one project."""

    def __init__(
        self,
        layout: Layout,
        settings: Settings,
        now: float,
        after_run: Callable[[str], object],
        *,
        fresh: bool = False,
    ) -> None:
        self.layout = layout
        self.settings = settings
        self.now = now
        #: The tick that follows each run, in the run's process; it takes the project's folder.
        self.after_run = after_run
        #: Whether the runs start in new worktrees.
        self.fresh = fresh
        self.store = stores.of_project(layout)
        #: The commits that the branches of waiting tasks are cut from, where that is not the base.
        self.cuts: Mapping[str, str] = {}
        #: The claimed runs that have no supervisor yet, each with its agent's memory.
        self.claimed: dict[Action, AgentState] = {}
        #: The supervisors that were started for these runs, each with its agent's memory.
        self.started: dict[str, tuple[int, AgentState]] = {}

    def claim(self, task: Task | None, action: Action) -> Action | None:
        """Make the run's record and claim the task. The intent is on disk first (failures 1).

        Returns None if the run can start (`start`), and a skip if another process claimed the task
        first.
        """
        files.remove(self.layout.idle_stamp)
        agent = next(a for a in self.settings.config.agents if a.name == action.agent)
        run_id = _new_id(self.now)
        folder = self.layout.run(agent.name, run_id)
        files.make_folder(folder)
        record = self._new_record(run_id, agent, task)
        run_record.write(folder, record)
        state = agent_memory.read(self.layout, agent.name, surely=True)
        begun = state.idle()._replace(run=run_id, last_started=self.now)
        agent_memory.write(self.layout, agent.name, begun)
        claimed = False
        try:
            if task is None:
                claimed = self.store.begin(agent.name, run_id)
            else:
                claimed = self._claim(agent, task, run_id)
        finally:
            if not claimed:
                agent_memory.write(self.layout, agent.name, state)
        if not claimed:
            return Action("skip", agent.name, reason="no_matching_task")
        # The event comes before the fork: a forked run continues even if this tick dies. If this
        # tick dies in between, the next tick restarts the run and logs the restart.
        told = {"agent": agent.name, "task": action.task, "run": run_id}
        events.append(self.layout, self.now, "start", **told)
        self.claimed[action._replace(run=run_id)] = begun
        return None

    def start(self, gate: supervisor.Gate | None, action: Action) -> Action:
        """Start the supervisor of a claimed run, after all claims; it begins when `gate` opens."""
        assert action.agent
        assert action.run
        folder = self.layout.run(action.agent, action.run)
        pid = supervisor.start(folder, self.after_run, gate)
        self.started[action.agent] = pid, self.claimed[action]
        return action

    def note(self, agent: str) -> None:
        """Write down the supervisor that was started for an agent, after all starts.

        The system copies each page of memory that is written between two forks.
        """
        pid, state = self.started[agent]
        agent_memory.write(self.layout, agent, state._replace(supervisor=process.known(pid)))

    def _claim(self, agent: Agent, task: Task, run_id: str) -> bool:
        fields: dict[str, object] = {"agent": agent.name, "run": run_id}
        if self.settings.roles[agent.role].delivers != "verdict":
            fields["branch"] = self._branch(task)
            if task.work_branch not in (None, fields["branch"]):
                fields["former"] = task.work_branch
            if task.id in self.cuts:
                fields["cut"] = self.cuts[task.id]
        limit = self.settings.config.queue_limits.max_claimed
        return self.store.claim(task, entry(self.now, "claimed", **fields), limit) is not None

    def _branch(self, task: Task) -> str:
        """Return the name of the task's branch: the recorded one, unless it cannot be pushed.

        A name that the remote or another branch made impossible is given up once `branch_prefix`
        or the task's title has been changed.
        """
        refused = task.reason in ("remote_refuses", "branch_in_the_way") and task.pr is None
        if task.work_branch and not refused:
            return task.work_branch
        config = self.settings.config
        bases = (config.base_branch, task.branch)
        return task_file.branch_name(task.id, task.title, config.branch_prefix, bases)

    def _new_record(self, run_id: str, agent: Agent, task: Task | None) -> RunRecord:
        last, spent = _former(self.store, task) if task else ({}, {})
        cost = spent.get("session_cost_usd")
        return RunRecord(
            id=run_id,
            agent=agent.name,
            role=agent.role,
            task=task.id if task else None,
            created=self.now,
            status="starting",
            project=self.layout.root,
            settings=agent,
            attempt=task.attempts + 1 if task else 1,
            key=mark.key(self.layout),
            title=task.title if task else None,
            resume=task.session if task else None,
            resume_cost_usd=cost if isinstance(cost, int | float) else 0.0,
            fresh=self.fresh,
            resume_tokens=_counts(spent.get("session_tokens")),
            undelivered=self._undelivered(last),
        )

    def _undelivered(self, last: Mapping[str, object]) -> Undelivered | None:
        """Return the work that the previous run could not deliver, if the task is back for that."""
        agent, run_id = last.get("agent"), last.get("undelivered")
        if not (files.is_plain_name(agent) and files.is_plain_name(run_id)):
            return None
        record = run_record.read(self.layout.run(str(agent), str(run_id)))
        return record.undelivered if record else None

    def restart(self, action: Action) -> Action:
        """Start a new supervisor for a run whose supervisor is gone."""
        assert action.agent
        assert action.run
        folder = self.layout.run(action.agent, action.run)
        record = run_record.read(folder)
        stage = record.status if record else None
        state = agent_memory.read(self.layout, action.agent, surely=True)
        # A run that reached another stage is making progress, so the count starts again.
        restarts = state.restarts + 1 if stage == state.restarted_in else 1
        counted = state._replace(restarts=restarts, restarted_in=stage)
        agent_memory.write(self.layout, action.agent, counted)
        told = {"agent": action.agent, "run": action.run, "reason": action.reason}
        events.append(self.layout, self.now, "restart", **told)
        try:
            pid = supervisor.start(folder, self.after_run)
        except OSError:  # no memory for a process: no supervisor has died
            agent_memory.write(self.layout, action.agent, state)
            raise
        restarted = counted._replace(supervisor=process.known(pid))
        agent_memory.write(self.layout, action.agent, restarted)
        return action


def _new_id(now: float) -> str:
    """Return an id for a run that begins at `now` (epoch seconds). Ids sort by time."""
    second = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    return f"{second}-{int(now % 1 * 1e6):05x}{os.urandom(3).hex()}"


def _former(store: Store, task: Task) -> tuple[Mapping[str, object], Mapping[str, object]]:
    """Return the fields of two events of the task's history, each {} if there is no such event.

    They are: the last event, if it put the task back after an error; and the event that named the
    conversation to continue, with the cost of the conversation until then.
    """
    if not (task.error or task.session):
        return {}, {}
    try:
        history = store.read(task).history
    except OrchestratorError:
        return {}, {}
    is_back = bool(task.error and history and history[-1].event == "requeued")
    named = (e.fields for e in reversed(history) if e.fields.get("session") == task.session)
    return history[-1].fields if is_back else {}, next(named, {}) if task.session else {}


def _counts(found: object) -> tuple[int, ...]:
    """Return two numbers of tokens from a task's history; () if they are not there."""
    counts = found if isinstance(found, list) and len(found) == 2 else []
    return tuple(counts) if all(type(each) is int and each >= 0 for each in counts) else ()
