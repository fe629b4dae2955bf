"""Settling runs: the effect of a run's end on its task, the review, the agent and the whole system.

Called only under the scheduler's lock. Every function can be repeated after a crash at any point:
it recognises events, moves and tasks that exist already and does not repeat them.
"""

import contextlib

from orchestrator.config.load import Settings
from orchestrator.git import damage, worktree_commands
from orchestrator.layout import Layout
from orchestrator.model.config import Config
from orchestrator.model.errors import NotFound
from orchestrator.model.snapshot import Action, Outcome
from orchestrator.model.times import iso
from orchestrator.model.work import Task
from orchestrator.plan import repeats
from orchestrator.plan.rule import Verdict
from orchestrator.plan.settlements import ENDS
from orchestrator.project import agent_memory, alike, events, faults, mark, run_record, usage
from orchestrator.project.agent_memory import AgentState, Totals
from orchestrator.project.run_record import RunRecord
from orchestrator.pulls import forges, review
from orchestrator.system import files, locks, process
from orchestrator.tasks import parts, stores
from orchestrator.tasks.history import NAME_REFUSED
from orchestrator.tasks.task_file import entry
from orchestrator.text.words import day
from orchestrator.tick import hold, run_facts

#: What a finished task's history takes from the outcome of its run.
_TOLD = ("summary", "verdict", "pr", "head", "branch")
#: Why an interrupted run counts as an attempt.
_AGAIN = " (the second interruption in a row)"
#: Why a run that delivered is not the end of its task. The next run delivers the work again.
_LOST = (
    "delivery_lost: the database has lost the record of the pull request: an earlier dump was "
    "restored, or a standby that lacked it took its place"
)


class Settler:
    """Settles the ended runs of one project, in one tick."""

    def __init__(self, layout: Layout, settings: Settings, now: float) -> None:
        self.layout = layout
        self.settings = settings
        self.config: Config = settings.config
        self.now = now
        self.store = stores.of_project(layout)

    def settle(self, action: Action) -> Action | None:
        """Carry out the decision about a run: its task first, the agent's memory last.

        Returns None if its supervisor still holds it: the next tick settles it.
        """
        if not action.agent or not action.run:
            return self._release(action)
        agent, folder = action.agent, self.layout.run(action.agent, action.run)
        found = run_record.read(folder)
        record = found if found and found.is_of_clone(folder, mark.key(self.layout)) else None
        outcome = record.outcome if record else None
        try:
            # A supervisor that took over the run since we looked has priority.
            files.make_folder(self.layout.agent(action.agent))
            with locks.Lock(self.layout.agent_lock(action.agent)):
                if outcome is None:
                    outcome = Outcome("interrupted", action.reason)
                    self._close_record(action.run or "", folder, found, outcome)
                if self._is_lost(action, outcome, record):
                    outcome = outcome._replace(verdict="stopped", reason=_LOST, pr=None)
                    action = action._replace(action="requeue", charged=False)
                if outcome.verdict == "interrupted" and action.charged:
                    outcome = outcome._replace(reason=f"{outcome.reason}{_AGAIN}")
                worktree_commands.unlock(self.layout.worktree(agent))
                ids, claimed = (action.task, action.run), self.store.list("claimed").tasks
                task = next((task for task in claimed if (task.id, task.run) == ids), None)
                if task is not None:
                    self._settle_task(action, task, outcome, record)
                elif (task := self._settled(action)) is not None:
                    action = action._replace(action=ENDS[task.ended or ""])
                blocked = task if action.action == "block" else None
                is_own = blocked is not None and repeats.is_own(blocked, outcome)
                hold.settle(
                    self.layout, self.config, self.now, action, outcome, record, is_own=is_own
                )
                if (outcome.reason or "").startswith(alike.WORD):
                    self._give_back(outcome, record)
                usage.keep(self.layout, outcome.usage, self.now)
                self._event(
                    action.action,
                    agent=action.agent,
                    task=action.task,
                    run=action.run,
                    verdict=outcome.verdict,
                    reason=run_facts.short(outcome.reason),
                    pr=outcome.pr,
                    **run_facts.account(record, outcome, self.config.checks),
                )
                # Last: the run is settled only when the agent's memory says so. If this tick is
                # killed earlier, the next tick repeats all steps.
                self._settle_agent(action, record, outcome)
        except locks.LockHeld:
            # The plan reports the agent as `running`: each agent gets one skip (reference 6).
            return None
        return action

    def _settled(self, action: Action) -> Task | None:
        """Return the task of a run, if a tick settled the task and was killed before the rest."""
        task = self.store.get(action.task) if action.task else None
        return task if task and task.run == action.run and task.ended in ENDS else None

    def _is_lost(self, action: Action, outcome: Outcome, record: RunRecord | None) -> bool:
        """Return whether the database has lost the record of the pull request of a run."""
        if self.store.host is None or action.action != "finish" or outcome.pr is None:
            return False
        if record is None or record.undelivered is None:
            return False  # nothing to deliver again
        return forges.of_project(self.layout, self.config).book.get(outcome.pr) is None

    def _give_back(self, outcome: Outcome, record: RunRecord | None) -> None:
        """Put back the tasks that failed by what turns out to be a system fault."""
        names = (record.task, record.agent, record.id, record.branch) if record else ()
        for task_id in alike.tasks_of(self.layout, outcome.reason, names):
            with contextlib.suppress(NotFound):
                task = self.store.find(task_id)
                if task.state == "failed" and task.reason in alike.REASONS:
                    reopened = entry(self.now, "reopened", reason=alike.WORD)
                    self.store.move(task, "incoming", reopened)
                    self._event("requeue", task=task.id, reason=alike.WORD)

    def end_waiting(self, task: Task, refusal: Verdict, action: Action) -> Action:
        """End a waiting task that fails a rule with `ends`; `refusal` is the rule's verdict."""
        if action.action == "finish":
            self._move(task, "done", summary=refusal.detail, verdict="no_change")
        else:
            error = f"{refusal.code}: {refusal.detail}"
            self._move(task, "failed", reason=refusal.code, error=error)
        self._event(action.action, task=task.id, reason=action.reason)
        return action

    def _release(self, action: Action) -> Action:
        """Put back a task that is in `claimed` although no run has claimed it.

        Or a run of a host that died: what that means for the task is decided as for other runs.
        """
        task = self.store.find(action.task or "")
        if task.claim_at == "gone":
            outcome = Outcome("interrupted", action.reason)
            self._settle_task(action._replace(run=task.run), task, outcome, None)
            self._event(action.action, task=action.task, reason=run_facts.short(action.reason))
            return action
        self._move(task, "requeued", charged=False, reason="run_gone", error=action.reason)
        self._event("requeue", task=action.task, reason="run_gone")
        return action

    def _close_record(
        self, run: str, folder: str, record: RunRecord | None, outcome: Outcome
    ) -> None:
        """Close a run whose supervisors died: end its processes and write the run's end.

        An agent can delete the record of its own run: its processes end before it starts again.
        """
        client = record.client if record else None
        if record is None or not record.is_elsewhere(folder):
            process.end_run(client and client.pid, client and client.identity, run)
        if record is None:
            return
        run_record.write(folder, record._replace(outcome=outcome, status="finished"))

    def _event(self, word: str, **fields: object) -> None:
        events.append(self.layout, self.now, word, **fields)

    def _move(self, task: Task, word: str, **fields: object) -> None:
        """Move a task to the state that an event leads to. Fields that are None are left out."""
        state = "incoming" if word == "requeued" else word
        self.store.move(task, state, entry(self.now, word, **fields))

    def _settle_task(
        self, action: Action, task: Task, outcome: Outcome, record: RunRecord | None
    ) -> None:
        run, cost = action.run, record.cost() if record else None
        reason = (outcome.reason or "").split(":", 1)[0] or None
        match action.action:
            case "finish":
                self._ask_for_review(action, task, outcome, record)
                told = {name: getattr(outcome, name) for name in _TOLD}
                self._move(task, "done", run=run, cost_usd=cost, **told)
            case "block" if outcome.verdict == "split":
                found = parts.of(self.store, task.id)
                listed = [part.id for part in found if part.state != "failed"]
                told = {"summary": outcome.summary, "head": outcome.head, "branch": outcome.branch}
                waits = {"reason": parts.WAITS, "parts": listed, "cost_usd": cost}
                self._move(task, "blocked", run=run, **waits, **told)
            case "block":
                question = outcome.question or outcome.summary or "The agent gave no question."
                why = reason if reason in (damage.CODE, NAME_REFUSED) else None
                kept = run_facts.conversation(outcome, record)
                if outcome.verdict != "needs_human":
                    why, question = reason, repeats.question(task, outcome)
                    kept = {} if outcome.verdict == "moved" else kept
                told = {"question": question, "cost_usd": cost, **kept}
                self._move(task, "blocked", run=run, reason=why, **told)
            case "fail":
                told = {"reason": reason, "error": outcome.reason, "cost_usd": cost}
                self._move(task, "failed", charged=True, run=run, **told)
            case "requeue":
                keeps = outcome.verdict in ("usage_limit", "system_fault", "interrupted", "stopped")
                known = faults.read_hold(self.layout)
                is_first = known is None or known.code != "system_fault"
                delay = action.delay
                self._move(
                    task,
                    "requeued",
                    run=run,
                    verdict=outcome.verdict,
                    charged=action.charged,
                    first=(repeats.may_be_own(outcome) and is_first) or None,
                    # A stopped run between two interruptions does not reset their count. Otherwise
                    # a client that is killed early would be started forever (failures 5).
                    interrupted=outcome.verdict == "interrupted"
                    or (outcome.verdict == "stopped" and task.interruptions > 0),
                    reason=reason or outcome.verdict,
                    error=outcome.reason,
                    delay=delay,
                    not_before=iso(self.now + delay, "milliseconds") if delay else None,
                    **(run_facts.conversation(outcome, record) if keeps else {}),
                    agent=action.agent if keeps else None,
                    cost_usd=cost,
                    undelivered=run if keeps and record and record.undelivered else None,
                )

    def _ask_for_review(
        self, action: Action, task: Task, outcome: Outcome, record: RunRecord | None
    ) -> None:
        """Add the review of a delivered pull request, or carry out the verdict of a review."""
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

    def _settle_agent(self, action: Action, record: RunRecord | None, outcome: Outcome) -> None:
        assert action.agent
        state = agent_memory.read(self.layout, action.agent, surely=True)
        if state.run != action.run:
            return
        cost = (record.cost() if record else None) or 0.0
        seconds = record.seconds() if record else None
        today = day(self.now)
        spend = {today: state.spend.get(today, 0.0) + cost}
        state = state.idle()._replace(
            last_outcome=outcome.verdict,
            last_reason=run_facts.short(outcome.reason),
            last_finished=self.now,
            last_run=state.run,
            # A week is kept: if the clock is set forward and back, today's cost must remain known.
            spend={**dict(sorted(state.spend.items())[-7:]), **spend},
            totals=Totals(
                runs=state.totals.runs + 1,
                input_tokens=state.totals.input_tokens + (outcome.input_tokens or 0),
                output_tokens=state.totals.output_tokens + (outcome.output_tokens or 0),
                cost_usd=state.totals.cost_usd + cost,
                seconds_running=state.totals.seconds_running + (seconds or 0.0),
            ),
            outcomes={
                **state.outcomes,
                outcome.verdict: state.outcomes.get(outcome.verdict, 0) + 1,
            },
        )
        if record is None or record.task is None:
            state = self._count_failures(state, outcome)
        self.store.end(action.agent, action.run or "", agent_memory.values(state))
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
            suspended = f"failed {failures} times in a row: {run_facts.short(outcome.reason)}"
        return state._replace(failures=failures, suspended=suspended)
