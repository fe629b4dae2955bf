"""Applying decisions: starting runs, and moving tasks when runs have ended.

Called only under the scheduler's lock. Every function can be repeated after a crash at any point:
what was already appended, moved or created is recognised and not done again.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict
from typing import Any

from orchestrator import (
    agentstate,
    files,
    forge,
    observe,
    process,
    review,
    runrecord,
    supervisor,
    taskfile,
)
from orchestrator.errors import NotFound, OrchestratorError
from orchestrator.layout import Layout
from orchestrator.model import (
    Action,
    Agent,
    Config,
    Entry,
    Hold,
    Outcome,
    Role,
    Task,
    iso,
)
from orchestrator.runrecord import Record
from orchestrator.settings import Settings
from orchestrator.store import Store

#: Characters of a reason or error that go into events and listings.
REASON_KEPT = 500


class Applier:
    """Applies one tick's actions to one project."""

    def __init__(self, layout: Layout, settings: Settings, now: float) -> None:
        self.layout = layout
        self.settings = settings
        self.config: Config = settings.config
        self.now = now
        self.store = Store(layout)

    def event(self, word: str, **fields: Any) -> None:
        """Append to the project's history."""
        kept = {name: value for name, value in fields.items() if value is not None}
        line = json.dumps({"at": iso(self.now), "event": word, **kept}, ensure_ascii=False)
        files.append_line(self.layout.events, line)

    # --- starting --------------------------------------------------------------------------

    def start(self, agent: Agent, task: Task | None) -> Action:
        """Claim and start; intent is on disk before anything runs (FAILURES 1).

        Returns the start, or a skip when somebody else was faster.
        """
        files.remove(self.layout.idle_stamp)
        run_id = time.strftime("%Y%m%dT%H%M%SZ-", time.gmtime(self.now)) + os.urandom(3).hex()
        folder = self.layout.run(agent.name, run_id)
        files.make_folder(folder)
        record = self._new_record(run_id, agent, task)
        runrecord.write(folder, record)
        state = agentstate.read(self.layout, agent.name)
        before = (state.last_started, state.run)
        state.run, state.last_started = run_id, self.now
        state.supervisor, state.restarts = {}, 0
        agentstate.write(self.layout, agent.name, state)
        if task is not None:
            branch = None
            if self.settings.roles[agent.role].delivers != "verdict":
                branch = task.work_branch or taskfile.branch_name(task.id, task.title)
            fields: dict[str, object] = {"agent": agent.name, "run": run_id}
            if branch:
                fields["branch"] = branch
            entry = Entry(iso(self.now) or "", "claimed", fields)
            claimed = None
            try:
                claimed = self.store.claim(task, entry, self.config.queue_limits.max_claimed)
            finally:
                if claimed is None:
                    state.last_started, state.run = before
                    agentstate.write(self.layout, agent.name, state)
            if claimed is None:
                return Action("skip", agent.name, reason="no_matching_task")
        self._spawn(agent.name, folder)
        self.event("start", agent=agent.name, task=task.id if task else None, run=run_id)
        return Action("start", agent.name, task.id if task else None, run_id)

    def _new_record(self, run_id: str, agent: Agent, task: Task | None) -> Record:
        resume, cost = None, 0.0
        if task is not None and task.session:
            resume = task.session
            cost = _session_cost(self.store, task)
        return {
            "id": run_id,
            "agent": agent.name,
            "role": agent.role,
            #: As configured when the run began: it ends by these, whatever is edited meanwhile.
            "settings": asdict(agent),
            "task": task.id if task else None,
            "title": task.title if task else None,
            "attempt": task.attempts + 1 if task else 1,
            "project": self.layout.root,
            "created": self.now,
            "status": "starting",
            "limits": {
                "max_runtime_seconds": agent.max_runtime_seconds,
                "stall_seconds": agent.stall_seconds,
            },
            "resume": resume,
            #: What the conversation that is gone on with had cost before (its total is cumulative).
            "resume_cost_usd": cost,
            "steps": {},
        }

    def _spawn(self, agent: str, folder: str) -> None:
        pid = supervisor.start(folder)
        state = agentstate.read(self.layout, agent)
        state.supervisor = {"pid": pid, "identity": process.identity(pid)}
        agentstate.write(self.layout, agent, state)

    def restart(self, action: Action) -> Action:
        """Start a supervisor again for a run whose own is gone."""
        assert action.agent
        assert action.run
        state = agentstate.read(self.layout, action.agent)
        state.restarts += 1
        agentstate.write(self.layout, action.agent, state)
        self._spawn(action.agent, self.layout.run(action.agent, action.run))
        self.event("restart", agent=action.agent, run=action.run, reason=action.reason)
        return action

    # --- settling --------------------------------------------------------------------------

    def settle(self, action: Action) -> Action:
        """Carry out what was decided about a run: its task first, the agent's memory last."""
        if not action.agent or not action.run:
            return self._release(action)
        folder = self.layout.run(action.agent, action.run)
        record = runrecord.read(folder)
        outcome = observe.outcome_of(record) if record else None
        lock = files.Lock(self.layout.agent_lock(action.agent))
        try:
            # A supervisor that took the run up meanwhile outranks what we saw before.
            with lock:
                if outcome is None:
                    outcome = Outcome("interrupted", action.reason)
                    self._close_record(folder, record, outcome)
                task = self._claimed_task(action)
                if task is not None:
                    self._settle_task(action, task, outcome, record or {})
                self._settle_agent(action, record or {}, outcome)
        except files.LockHeld:
            return Action("skip", action.agent, action.task, action.run, "running")
        finally:
            lock.close()
        self._settle_hold(outcome, record or {})
        self.event(
            action.action,
            agent=action.agent,
            task=action.task,
            run=action.run,
            verdict=outcome.verdict,
            reason=_short(outcome.reason),
            pr=outcome.pr,
            cost_usd=outcome.cost_usd,
            seconds=_seconds(record or {}),
        )
        return action

    def _release(self, action: Action) -> Action:
        """Put back a task that lies in `claimed` though nobody ever claimed it."""
        task = self.store.find(action.task or "")
        entry = self._entry("requeued", charged=False, reason="run_gone", error=action.reason)
        self.store.move(task, "incoming", entry)
        self.event("requeue", task=action.task, reason="run_gone")
        return action

    def _close_record(self, folder: str, record: Record | None, outcome: Outcome) -> None:
        """Take a run from supervisors that died: end what they left, and write the run's end."""
        if record is None:
            return
        client = record.get("client") or {}
        process.end_run(client.get("pid"), client.get("identity"), record["id"])
        record["outcome"] = {"verdict": outcome.verdict, "reason": outcome.reason}
        record["status"] = "finished"
        runrecord.write(folder, record)

    def _claimed_task(self, action: Action) -> Task | None:
        if action.task is None:
            return None
        try:
            task = self.store.find(action.task)
        except NotFound:
            return None
        return task if task.state == "claimed" and task.run == action.run else None

    def _entry(self, word: str, **fields: object) -> Entry:
        kept = {name: value for name, value in fields.items() if value is not None}
        return Entry(iso(self.now) or "", word, kept)

    def _settle_task(self, action: Action, task: Task, outcome: Outcome, record: Record) -> None:
        reason = (outcome.reason or "").split(":", 1)[0] or None
        match action.action:
            case "finish":
                self._finish(action, task, outcome, record)
            case "block":
                question = outcome.question or outcome.summary or "It gave no question."
                fields = {"run": action.run, "question": question, "session": outcome.session}
                self.store.move(task, "blocked", self._entry("blocked", **fields))
            case "fail":
                fields = {"run": action.run, "reason": reason, "error": outcome.reason}
                self.store.move(task, "failed", self._entry("failed", charged=True, **fields))
            case "requeue":
                keeps = outcome.verdict in ("usage_limit", "system_fault", "interrupted", "stopped")
                delay = action.delay
                entry = self._entry(
                    "requeued",
                    run=action.run,
                    charged=action.charged,
                    # A run that was stopped between two interruptions does not part them, or a
                    # client that is killed early would be started for ever (FAILURES 5).
                    interrupted=outcome.verdict == "interrupted"
                    or (outcome.verdict == "stopped" and task.interruptions > 0),
                    reason=reason or outcome.verdict,
                    error=outcome.reason,
                    delay=delay,
                    not_before=iso(self.now + delay, "milliseconds") if delay else None,
                    session=outcome.session if keeps else None,
                    session_cost_usd=outcome.cost_usd if keeps else None,
                    agent=action.agent if keeps and outcome.session else None,
                )
                self.store.move(task, "incoming", entry)

    def _finish(self, action: Action, task: Task, outcome: Outcome, record: Record) -> None:
        role = self.settings.roles.get(record.get("role", ""))
        if role is not None and role.delivers == "verdict":
            self._apply_verdict(action, task, outcome)
        elif outcome.pr is not None and role is not None:
            self._ask_for_review(action, task, outcome)
        entry = self._entry(
            "done",
            run=action.run,
            summary=outcome.summary,
            verdict=outcome.verdict,
            pr=outcome.pr,
            head=outcome.head,
            branch=outcome.branch,
        )
        self.store.move(task, "done", entry)

    # --- reviews ---------------------------------------------------------------------------

    def _reviewer_role(self) -> Role | None:
        configured = {agent.role for agent in self.config.agents}
        roles = (self.settings.roles.get(name) for name in sorted(configured))
        return next((r for r in roles if r is not None and r.delivers == "verdict"), None)

    def _ask_for_review(self, action: Action, task: Task, outcome: Outcome) -> None:
        """Create the review task for a delivered pull request, once."""
        reviewer = self._reviewer_role()
        if task.role not in self.config.review.after or reviewer is None or not action.run:
            return
        review_id = f"REVIEW-{action.run.rpartition('-')[2]}"
        try:
            self.store.find(review_id)
            return
        except NotFound:
            pass
        extra = [("REVIEWS", task.id), ("PR", str(outcome.pr)), ("HEAD", str(outcome.head))]
        file = taskfile.new(
            review_id,
            f"Review: {task.title}"[:200],
            reviewer.takes or "review",
            task.priority,
            task.branch,
            iso(self.now) or "",
            "scheduler",
            (),
            _review_body(task, outcome),
            extra,
        )
        self.store.add(file)
        self.event("review_wanted", task=task.id, review=review_id, pr=outcome.pr)

    def _apply_verdict(self, action: Action, reviewing: Task, outcome: Outcome) -> None:
        """Record a verdict on its pull request, and on its task with what follows from it."""
        if reviewing.pr is not None:
            text = outcome.feedback or outcome.summary or ""
            where = forge.of_project(self.layout, self.config)
            where.give_verdict(reviewing.pr, outcome.verdict, outcome.head or "", text)
        if reviewing.reviews is None:
            return
        try:
            task = self.store.find(reviewing.reviews)
        except NotFound:
            return
        if task.state != "done":  # sent back already, or moved by a person
            return
        review.record_verdict(
            self.store,
            self.config,
            task,
            now=self.now,
            run=action.run or "",
            reviewer=action.agent or "",
            verdict=outcome.verdict,
            feedback=outcome.feedback or outcome.summary,
            head=outcome.head,
        )

    # --- the agent's memory ----------------------------------------------------------------

    def _settle_agent(self, action: Action, record: Record, outcome: Outcome) -> None:
        assert action.agent
        state = agentstate.read(self.layout, action.agent)
        if state.run != action.run:
            return
        cost = max((outcome.cost_usd or 0.0) - (record.get("resume_cost_usd") or 0.0), 0.0)
        totals = state.totals
        totals.runs += 1
        totals.cost_usd += cost
        totals.input_tokens += outcome.input_tokens or 0
        totals.output_tokens += outcome.output_tokens or 0
        totals.seconds_running += _seconds(record)
        today = time.strftime("%Y-%m-%d", time.localtime(self.now))
        spend = {today: state.spend.get(today, 0.0) + cost}
        state.spend = {**dict(sorted(state.spend.items())[-1:]), **spend}
        state.last_outcome, state.last_reason = outcome.verdict, _short(outcome.reason)
        state.last_finished, state.last_run, state.run = self.now, state.run, None
        state.supervisor, state.restarts = {}, 0
        if record.get("task") is None:
            self._count_failures(state, outcome)
        agentstate.write(self.layout, action.agent, state)

    def _count_failures(self, state: agentstate.AgentState, outcome: Outcome) -> None:
        """A run without a task has no attempts to charge: its agent pauses instead (CONTRACT 7)."""
        state.question = outcome.question
        if outcome.verdict != "failed":
            state.failures = 0 if outcome.verdict == "no_change" else state.failures
            return
        state.failures += 1
        if state.failures >= self.config.retry.max_attempts:
            state.suspended = f"failed {state.failures} times in a row: {_short(outcome.reason)}"

    def _settle_hold(self, outcome: Outcome, record: Record) -> None:
        """Pause claiming for everybody after a fault of the system; end the pause on a good run.

        A run that began before the fault struck proves nothing about it.
        """
        if outcome.verdict in ("interrupted", "stopped"):
            return
        if outcome.verdict not in ("usage_limit", "system_fault"):
            hold = observe.read_hold(self.layout)
            if hold is not None and record.get("created", self.now) >= hold.since:
                files.remove(self.layout.hold)
            return
        code, _, message = (outcome.reason or outcome.verdict).partition(": ")
        known = observe.read_hold(self.layout)
        hold = Hold(
            code="usage_limit" if outcome.verdict == "usage_limit" else "system_fault",
            message=f"{code}: {message}" if message else code,
            hint="it goes on by itself; see: orchestrator doctor",
            since=known.since if known else self.now,
            until=outcome.until,
        )
        files.write_json(self.layout.hold, {f: getattr(hold, f) for f in hold.__dataclass_fields__})


def _review_body(task: Task, outcome: Outcome) -> str:
    """The text of a review task; the author's words are quoted and cannot look like ours."""
    summary = outcome.summary or "(the author gave no summary)"
    quoted = "\n".join(f"> {line}" for line in summary.replace("<!--", "<! --").splitlines())
    said = f"Pull request {outcome.pr} of task {task.id}. Its author says:"
    return f"## Context\n{said}\n\n{quoted}\n"


def _session_cost(store: Store, task: Task) -> float:
    """What a task's conversation had cost when it was cut off."""
    try:
        history = store.read(task).history
    except OrchestratorError:
        return 0.0
    costs = [e.fields.get("session_cost_usd") for e in history if e.event == "requeued"]
    known = [c for c in costs if isinstance(c, int | float)]
    return float(known[-1]) if known else 0.0


def _seconds(record: Record) -> float:
    """How long a run took; a clock that was moved back makes no negative time."""
    ended = record.get("finished")
    return max(ended - record["created"], 0.0) if ended else 0.0


def _short(text: str | None) -> str | None:
    return text[:REASON_KEPT] if text else None
