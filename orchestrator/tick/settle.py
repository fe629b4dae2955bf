"""Settling runs: what their end means for the task, for its review, for the agent and for all.

Called only under the scheduler's lock. Every function can be repeated after a crash at any point:
what was already appended, moved or created is recognised and not done again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from orchestrator.client import registry
from orchestrator.config.load import Settings
from orchestrator.errors import NotFound
from orchestrator.layout import Layout
from orchestrator.model import Action, Config, Entry, Hold, Outcome, Task, iso
from orchestrator.project import agent_memory, events, faults, mark, run_record
from orchestrator.project.agent_memory import AgentState, Totals
from orchestrator.project.run_record import RunRecord
from orchestrator.pulls import review
from orchestrator.system import files, locks, process
from orchestrator.tasks import store as stores

#: What fixes a fault, by the first word of its reason; the client knows its own. Work then resumes.
_HINTS = {
    "remote_unreachable": "try by hand: git ls-remote; work goes on by itself when it answers",
    "check_program_missing": "install it, or correct `checks` in agents.yaml",
    "hook_failed": "mend `hooks` in agents.yaml",
    "role_broken": "mend that role's file in .orchestrator/roles/",
    "disk_full": "free some space (df, df -i, orchestrator clean); work then goes on by itself",
    "disk_read_only": "mount it writable again, or mend its owner; work then goes on by itself",
    "git_missing": "install git, or mend the schedule's PATH: orchestrator doctor",
    "git_failed": "try by hand: git status; look at the disk (df), and for locks of a killed git",
    "git_hung": "try by hand: git status; look at the disk, and at what git waits for",
    "system_fault": "look at that file's owner, its permissions and the free space of its disk",
    "forge_failed": "try by hand: gh auth status",
}
#: Characters of a reason or error that go into events and listings.
REASON_KEPT = 500


class Settler:
    """Settles the ended runs of one project, in one tick."""

    def __init__(self, layout: Layout, settings: Settings, now: float) -> None:
        self.layout = layout
        self.settings = settings
        self.config: Config = settings.config
        self.now = now
        self.store = stores.of_project(layout)

    def settle(self, action: Action) -> Action | None:
        """Carry out what was decided about a run: its task first, the agent's memory last.

        None when its supervisor has not let go of it yet: the next tick settles it.
        """
        if not action.agent or not action.run:
            return self._release(action)
        folder = self.layout.run(action.agent, action.run)
        found = run_record.read(folder)
        believed = found is not None and found.is_of_clone(folder, mark.key(self.layout))
        record = found if believed else None
        outcome = record.outcome if record else None
        lock = locks.Lock(self.layout.agent_lock(action.agent))
        try:
            # A supervisor that took the run up meanwhile outranks what we saw before.
            with lock:
                if outcome is None:
                    outcome = Outcome("interrupted", action.reason)
                    self._close_record(folder, found, outcome)
                task = self._claimed_task(action)
                if task is not None:
                    self._settle_task(action, task, outcome, record)
                self._settle_hold(outcome, record)
                self._tell(action, outcome, record)
                # Last: until the agent's memory says so, the run is not settled, and a tick that
                # is killed here leaves the whole to be done again.
                self._settle_agent(action, record, outcome)
        except locks.LockHeld:
            # Told as the agent's `running`, by the plan: each agent gets one skip (reference 6).
            return None
        finally:
            lock.close()
        return action

    def _hint(self, code: str) -> str:
        known = {**registry.of_config(self.config).hints, **_HINTS}
        return known.get(code, "nobody is charged; each tick tries again with one run")

    def _tell(self, action: Action, outcome: Outcome, record: RunRecord | None) -> None:
        """Append the run's end to the project's history."""
        self._event(
            action.action,
            agent=action.agent,
            task=action.task,
            run=action.run,
            verdict=outcome.verdict,
            reason=_short(outcome.reason),
            pr=outcome.pr,
            cost_usd=outcome.cost_usd,
            seconds=record.seconds() if record else None,
        )

    def end_waiting(self, action: Action, waiting: Mapping[str, Task]) -> Action:
        """End a review that nobody needs any more, or a task that has cost all it may."""
        task = waiting[action.task or ""]
        if action.action == "finish":
            summary = "Its pull request is no longer open: there is nothing to review."
            self.store.move(task, "done", self._entry("done", summary=summary, verdict="no_change"))
        else:
            cap = self.config.budgets.task_usd
            error = f"{action.reason}: its runs have cost {task.cost_usd:.2f} of {cap:g} US dollars"
            self.store.move(
                task, "failed", self._entry("failed", reason=action.reason, error=error)
            )
        self._event(action.action, task=task.id, reason=action.reason)
        return action

    def _release(self, action: Action) -> Action:
        """Put back a task that lies in `claimed` though nobody ever claimed it."""
        task = self.store.find(action.task or "")
        entry = self._entry("requeued", charged=False, reason="run_gone", error=action.reason)
        self.store.move(task, "incoming", entry)
        self._event("requeue", task=action.task, reason="run_gone")
        return action

    def _close_record(self, folder: str, record: RunRecord | None, outcome: Outcome) -> None:
        """Take a run from supervisors that died: end what they left, and write the run's end."""
        if record is None:
            return
        client = record.client
        process.end_run(client and client.pid, client and client.identity, record.id)
        run_record.write(folder, record._replace(outcome=outcome, status="finished"))

    def _claimed_task(self, action: Action) -> Task | None:
        if action.task is None:
            return None
        try:
            task = self.store.find(action.task)
        except NotFound:
            return None
        return task if task.state == "claimed" and task.run == action.run else None

    def _event(self, word: str, **fields: object) -> None:
        events.append(self.layout, self.now, word, **fields)

    def _entry(self, word: str, **fields: object) -> Entry:
        kept = {name: value for name, value in fields.items() if value is not None}
        return Entry(iso(self.now) or "", word, kept)

    def _settle_task(
        self, action: Action, task: Task, outcome: Outcome, record: RunRecord | None
    ) -> None:
        reason = (outcome.reason or "").split(":", 1)[0] or None
        cost = _cost(outcome, record)
        fields: dict[str, object]
        match action.action:
            case "finish":
                self._finish(action, task, outcome, record)
            case "block":
                question = outcome.question or outcome.summary or "It gave no question."
                fields = {"run": action.run, "question": question, "session": outcome.session}
                fields["cost_usd"] = cost
                self.store.move(task, "blocked", self._entry("blocked", **fields))
            case "fail":
                fields = {"run": action.run, "reason": reason, "error": outcome.reason}
                fields["cost_usd"] = cost
                self.store.move(task, "failed", self._entry("failed", charged=True, **fields))
            case "requeue":
                keeps = outcome.verdict in ("usage_limit", "system_fault", "interrupted", "stopped")
                session, session_cost = _conversation(outcome, record)
                delay = action.delay
                entry = self._entry(
                    "requeued",
                    run=action.run,
                    charged=action.charged,
                    # A run that was stopped between two interruptions does not part them, or a
                    # client that is killed early would be started for ever (failures 5).
                    interrupted=outcome.verdict == "interrupted"
                    or (outcome.verdict == "stopped" and task.interruptions > 0),
                    reason=reason or outcome.verdict,
                    error=outcome.reason,
                    delay=delay,
                    not_before=iso(self.now + delay, "milliseconds") if delay else None,
                    session=session if keeps else None,
                    session_cost_usd=session_cost if keeps else None,
                    agent=action.agent if keeps else None,
                    cost_usd=cost,
                    undelivered=action.run if keeps and record and record.undelivered else None,
                )
                self.store.move(task, "incoming", entry)

    def _finish(
        self, action: Action, task: Task, outcome: Outcome, record: RunRecord | None
    ) -> None:
        role = self.settings.roles.get(record.role) if record else None
        if role is not None and role.delivers == "verdict":
            review.give_verdict(
                self.layout,
                self.config,
                task,
                outcome,
                now=self.now,
                run=action.run or "",
                reviewer=action.agent or "",
            )
        elif outcome.pr is not None and role is not None:
            asked = review.ask(
                self.store, self.settings, task, outcome, now=self.now, run=action.run or ""
            )
            if asked is not None:
                self._event("review_wanted", task=task.id, review=asked, pr=outcome.pr)
        entry = self._entry(
            "done",
            run=action.run,
            summary=outcome.summary,
            verdict=outcome.verdict,
            cost_usd=_cost(outcome, record),
            pr=outcome.pr,
            head=outcome.head,
            branch=outcome.branch,
        )
        self.store.move(task, "done", entry)

    # --- the agent's memory ----------------------------------------------------------------

    def _settle_agent(self, action: Action, record: RunRecord | None, outcome: Outcome) -> None:
        assert action.agent
        state = agent_memory.read(self.layout, action.agent)
        if state.run != action.run:
            return
        cost = _cost(outcome, record) or 0.0
        today = time.strftime("%Y-%m-%d", time.localtime(self.now))
        spend = {today: state.spend.get(today, 0.0) + cost}
        state = state.idle()._replace(
            last_outcome=outcome.verdict,
            last_reason=_short(outcome.reason),
            last_finished=self.now,
            last_run=state.run,
            # A week: a clock that is moved on and back again must find what today has cost.
            spend={**dict(sorted(state.spend.items())[-7:]), **spend},
            totals=_added(state.totals, outcome, cost, record.seconds() if record else None),
        )
        if record is None or record.task is None:
            state = self._count_failures(state, outcome)
        agent_memory.write(self.layout, action.agent, state)

    def _count_failures(self, state: AgentState, outcome: Outcome) -> AgentState:
        """Pause an agent whose runs without a task fail several times in a row (reference 7)."""
        state = state._replace(question=outcome.question)
        if outcome.verdict == "no_change":
            return state._replace(failures=0)
        if outcome.verdict != "failed":
            return state
        failures, suspended = state.failures + 1, state.suspended
        if failures >= self.config.retry.max_attempts:
            suspended = f"failed {failures} times in a row: {_short(outcome.reason)}"
        return state._replace(failures=failures, suspended=suspended)

    def _settle_hold(self, outcome: Outcome, record: RunRecord | None) -> None:
        """Pause claiming for everybody after a fault of the system; end the pause on a good run.

        A run that began before the fault struck proves nothing about it.
        """
        if outcome.verdict in ("interrupted", "stopped"):
            return
        if outcome.verdict not in ("usage_limit", "system_fault"):
            hold = faults.read_hold(self.layout)
            # A fault dated ahead of the clock counts as of now: any run that ended well ends it.
            began = record.created if record else self.now
            if hold is not None and (began >= hold.since or hold.since > self.now):
                files.remove(self.layout.hold)
            return
        reason = outcome.reason or outcome.verdict
        code, _, message = reason.partition(": ")
        known = faults.read_hold(self.layout)
        hold = Hold(
            code=outcome.verdict,
            # Shown after the hold's code, which it is not to say again.
            message=message if message and code == outcome.verdict else reason,
            hint=self._hint(code),
            since=min(known.since, self.now) if known else self.now,
            until=outcome.until,
        )
        files.write_json(self.layout.hold, hold._asdict())


def _conversation(outcome: Outcome, record: RunRecord | None) -> tuple[str | None, float | None]:
    """Return the conversation that a task can go on with, and what it has cost.

    A run whose client never started leaves the one that it was to go on with as it was.
    """
    if record is None:
        return None, None
    if record.client is None or record.client.start_error:
        return record.resume, record.resume_cost_usd
    return outcome.session, outcome.cost_usd


def _cost(outcome: Outcome, record: RunRecord | None) -> float | None:
    """Return what a run cost by itself: a conversation that goes on counts all of its runs."""
    if outcome.cost_usd is None:
        return None
    return max(outcome.cost_usd - (record.resume_cost_usd if record else 0.0), 0.0)


def _added(totals: Totals, outcome: Outcome, cost: float, seconds: float | None) -> Totals:
    return Totals(
        totals.runs + 1,
        totals.input_tokens + (outcome.input_tokens or 0),
        totals.output_tokens + (outcome.output_tokens or 0),
        totals.cost_usd + cost,
        totals.seconds_running + (seconds or 0.0),
    )


def _short(text: str | None) -> str | None:
    return text[:REASON_KEPT] if text else None
