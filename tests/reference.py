"""A model of the queue as docs/reference.md describes it: what the result of a tick must be.

Plain data and arithmetic: no file, no clock, no process, and nothing of the product's own decisions
(only the numbers that the contract leaves to it: how often a dead supervisor is started again).
`tests/test_model.py` plays the same story to the product and to this, and compares after each step.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator.plan.settlements import MAX_CONCLUDING_RESTARTS, MAX_RESTARTS

#: What each role takes, and which of these open pull requests (reference 1, 7).
TAKES = {
    "implementer": "implement",
    "tester": "test",
    "reviewer": "review",
    "product_manager": None,
}
OPENING = ("implement", "test")
WELL = ("done", "no_change", "approved", "changes_requested")
#: How many endings that cost no attempt ask a person; None: `retry.max_attempts`.
MOST = {"moved": None, "system_fault": 10, "interrupted": 10}
#: Restarts of a dead supervisor within one stage of a run.
RESTARTS = {"concluding": MAX_CONCLUDING_RESTARTS}


@dataclass
class Task:
    """A task: the person's part as bytes, and what became of it."""

    id: str
    role: str
    #: Where its file lies.
    state: str
    name: str
    raw: bytes
    priority: str = "P2"
    created: int = 0
    depends_on: tuple[str, ...] = ()
    attempts: int = 0
    #: Runs in a row that were interrupted (one that was stopped does not part them).
    interruptions: int = 0
    #: Endings that cost money but no attempt, by verdict, since the last decision or delivery.
    uncharged: dict[str, int] = field(default_factory=dict)
    #: When it went back to wait, and for how many seconds; None: no wait.
    waits: tuple[int, float] | None = None
    #: The run that claimed it last, and was not parted from it since.
    run: str | None = None
    #: The run that it was settled for, and the action, if nothing has moved it since.
    settled: tuple[str, str] | None = None
    pr: str | None = None
    reviews: str | None = None
    #: The review runs that asked for changes.
    rounds: frozenset[str] = frozenset()
    cost: float = 0.0
    reason: str | None = None
    #: Whether a person decided where it is, and nothing happened to it since.
    decided: bool = False

    @property
    def order(self) -> tuple[int, int, str]:
        """Reference 3: priority, then CREATED, then name; what cannot be read comes last."""
        rank = int(self.priority[1:]) if self.priority in ("P0", "P1", "P2", "P3") else 9
        return (rank, self.created, self.id)


@dataclass
class Run:
    """One execution, as its record on disk and its supervisor's life have it."""

    id: str
    agent: str
    task: str | None
    role: str
    began: int
    #: starting, running, concluding, finished.
    stage: str = "starting"
    alive: bool = False
    #: Restarts of its supervisor in each stage.
    restarts: dict[str, int] = field(default_factory=dict)
    #: As the run's end was written down; None with an outcome that nobody can read.
    outcome: dict[str, Any] | None = None
    #: A person wants it to end.
    stop: bool = False


@dataclass
class Memory:
    """What is remembered of an agent."""

    last_started: int | None = None
    run: Run | None = None
    failures: int = 0
    suspended: bool = False
    #: US dollars by local day.
    spend: dict[str, float] = field(default_factory=dict)


@dataclass
class Expected:
    """What a tick's report must say."""

    #: By agent: ("start", task or None) or ("skip", reason).
    decisions: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    #: (action, task, run), whatever else was done.
    others: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    good: bool = True


@dataclass
class Reference:
    """The whole system's state. `config` is `agents.yaml` as a dict, the last good one."""

    config: dict[str, Any]
    good: bool = True
    tasks: dict[str, Task] = field(default_factory=dict)
    #: Files whose id another file has already: they wait until that is gone.
    rivals: list[Task] = field(default_factory=list)
    #: Files that can be no tasks: path in the queue, and contents.
    malformed: dict[str, bytes] = field(default_factory=dict)
    memory: dict[str, Memory] = field(default_factory=dict)
    #: Pull requests: id to [state, branch]; and the branches that exist, True once merged.
    prs: dict[str, list[str]] = field(default_factory=dict)
    branches: dict[str, bool] = field(default_factory=dict)
    #: Pull requests whose end their tasks were told of.
    followed: set[str] = field(default_factory=set)
    #: (code, since, until) while claiming pauses for everybody.
    hold: tuple[str, int, int | None] | None = None
    #: The agents and tasks whose runs met the fault: others test it first.
    met: list[str] = field(default_factory=list)
    #: How many of these runs cost something. Three, and one more per hour, may be of new tasks.
    paid: int = 0

    # --- questions ---

    def of(self, agent: str) -> Memory:
        return self.memory.setdefault(agent, Memory())

    def unsettled(self) -> list[Run]:
        """Runs that are not settled, in the order of their agents' names."""
        return [m.run for _, m in sorted(self.memory.items()) if m.run is not None]

    def in_state(self, state: str) -> list[Task]:
        return sorted((t for t in self.tasks.values() if t.state == state), key=lambda t: t.order)

    def is_open(self, pr: str | None) -> bool:
        return pr is not None and self.prs[pr][0] == "open"

    def is_met(self, task_id: str) -> bool:
        """Reference 7: its pull request is merged, or it ended without one."""
        task = self.tasks.get(task_id)
        if task is None or task.state != "done":
            return False
        return task.pr is None or self.prs[task.pr][0] == "merged"

    def is_waiting(self, task: Task, now: int) -> bool:
        """Whether a task waits for its next attempt. A wait that began after now is over."""
        if task.waits is None:
            return False
        since, delay = task.waits
        left = since + delay - now
        # Times in files are no finer than a second, so a second is forgiven.
        return 0 < left <= delay + 1

    def limit(self, name: str) -> int:
        return int(self.config["queue_limits"][name])

    def claims(self, run: Run) -> Task | None:
        """Return the task that is claimed by this very run."""
        task = self.tasks.get(run.task or "")
        return task if task and task.state == "claimed" and task.run == run.id else None

    # --- a tick ---

    def settle_all(self, now: int, expected: Expected) -> None:
        """The first half of a tick: what becomes of runs, and of claimed tasks without one."""
        known = {run.id for run in self.unsettled()}
        lost = [task for task in self.in_state("claimed") if task.run not in known]
        for run in self.unsettled():
            if run.alive:  # at work, or about to let go of its lock
                continue
            tried = run.restarts.get(run.stage, 0)
            if run.stage != "finished" and tried < RESTARTS.get(run.stage, MAX_RESTARTS):
                run.restarts[run.stage] = tried + 1
                expected.others.append(("deliver", run.task, run.id))
            else:
                word = self.settle(run, now)
                expected.others.append((word, run.task, run.id))
        for task in lost:
            self._back(task, now)
            task.interruptions = 0
            expected.others.append(("requeue", task.id, None))
        for memory in self.memory.values():
            if memory.last_started is not None and memory.last_started > now + 1:
                memory.last_started = now

    def settle(self, run: Run, now: int) -> str:
        """Settle one ended run; return the action's word."""
        outcome = run.outcome or {"verdict": "interrupted", "reason": "no_result"}
        task, verdict = self.claims(run), outcome["verdict"]
        met = task is not None and task.uncharged.get("first_fault", 0)
        word = self.settle_task(run, outcome, now)
        if verdict == "system_fault" and met >= 3:
            # The fault is this task's own, and a person is asked about it.
            self.hold = None if self.hold and self.hold[0] == "system_fault" else self.hold
        else:
            self.settle_hold(run, outcome, now)
        self.settle_memory(run, outcome, now)
        return word

    def settle_task(self, run: Run, outcome: dict[str, Any], now: int) -> str:
        task = self.claims(run)
        if task is None:
            # A tick that was killed may have settled the task, and not yet the run.
            before = self.tasks.get(run.task or "")
            settled = before.settled if before and before.state != "claimed" else None
            return settled[1] if settled and settled[0] == run.id else "finish"
        word = self._settled(task, run, outcome, now)
        task.settled = run.id, word
        return word

    def _settled(self, task: Task, run: Run, outcome: dict[str, Any], now: int) -> str:
        verdict = outcome["verdict"]
        task.cost += outcome.get("cost_usd") or 0.0
        if verdict in WELL:
            self._finish(task, run, outcome, now)
            return "finish"
        if verdict == "needs_human":
            self._to(task, "blocked")
            task.interruptions = 0
            return "block"
        interrupted = verdict == "interrupted"
        again = interrupted and task.interruptions > 0
        if verdict == "failed" or again:
            task.attempts += 1
            if task.attempts >= self.config["retry"]["max_attempts"]:
                self._to(task, "failed")
                task.interruptions = 0
                task.reason = outcome.get("reason") or "interrupted"
                return "fail"
            self._back(task, now, self.delay(task.attempts))
        elif self._asks(task, verdict, outcome.get("cost_usd")):
            self._to(task, "blocked")
            task.interruptions = 0
            return "block"
        else:
            self._back(task, now)
        keeps = interrupted or (verdict == "stopped" and task.interruptions > 0)
        task.interruptions = task.interruptions + 1 if keeps else 0
        return "requeue"

    def _asks(self, task: Task, verdict: str, cost: float | None) -> bool:
        """Reference 7: count an ending that costs money but no attempt; a person is asked."""
        uncharged = dict(task.uncharged)
        if verdict == "system_fault" and uncharged.get("first_fault", 0) >= 3:
            return True
        if verdict == "system_fault" and not (self.hold and self.hold[0] == "system_fault"):
            # Failures 29: the others' runs ended well since the fault before.
            task.uncharged = {**uncharged, "first_fault": uncharged.get("first_fault", 0) + 1}
        if verdict not in MOST or (verdict == "system_fault" and not cost):
            return False
        most = MOST[verdict] or self.config["retry"]["max_attempts"]
        times = task.uncharged.get(verdict, 0) + 1
        task.uncharged = {**task.uncharged, verdict: times}
        return times >= most

    def delay(self, attempt: int) -> float:
        """Reference 7: min(backoff · 2^(n-1), max)."""
        retry = self.config["retry"]
        return float(
            min(retry["backoff_seconds"] * 2 ** (attempt - 1), retry["max_backoff_seconds"])
        )

    def _finish(self, task: Task, run: Run, outcome: dict[str, Any], now: int) -> None:
        if run.role == "reviewer":
            self._give_verdict(task, run, outcome["verdict"])
        elif outcome.get("pr"):
            self._ask_review(task, run, now)
        task.pr = outcome.get("pr") or task.pr
        self._to(task, "done")
        task.interruptions, task.reason, task.uncharged = 0, None, {}

    def _ask_review(self, task: Task, run: Run, now: int) -> None:
        """Reference 7: a delivered task gets a review, if somebody is there to give it."""
        review_id = f"REVIEW-{run.id.rpartition('-')[2]}"
        reviewers = any(agent["role"] == "reviewer" for agent in self.config["agents"])
        if (
            reviewers
            and task.role in self.config["review"]["after"]
            and review_id not in self.tasks
        ):
            pr = run.outcome["pr"] if run.outcome else None
            priority = task.priority if task.priority.startswith("P") else "P2"
            self.tasks[review_id] = Task(
                review_id, "review", "incoming", f"{review_id}.md", b"", priority, now,
                reviews=task.id, pr=pr,
            )  # fmt: skip

    def _give_verdict(self, review: Task, run: Run, verdict: str) -> None:
        task = self.tasks.get(review.reviews or "")
        if task is None or task.state != "done":
            return
        task.decided = False
        if verdict != "changes_requested":
            return
        task.rounds |= {run.id}
        if len(task.rounds) < self.config["review"]["max_rounds"]:
            self._to(task, "incoming")
            task.attempts = task.interruptions = 0
            task.uncharged = {}
        else:
            self._to(task, "blocked")

    def settle_hold(self, run: Run, outcome: dict[str, Any], now: int) -> None:
        """A fault or a usage limit pauses claiming; a good run begun since then ends the pause."""
        verdict = outcome["verdict"]
        if verdict in ("usage_limit", "system_fault"):
            since = min(self.hold[1], now) if self.hold else now
            if self.hold is None:
                self.met, self.paid = [], 0
            self.hold = (verdict, since, outcome.get("until"))
            if verdict == "system_fault":
                # The latest last, each once.
                self.met = [name for name in self.met if name not in (run.agent, run.task)]
                self.met += [run.agent, run.task or ""]
                self.paid += bool(outcome.get("cost_usd"))
        elif verdict not in ("interrupted", "stopped") and self.hold:
            since = self.hold[1]
            self.hold = None if run.began >= since or since > now else self.hold

    def settle_memory(self, run: Run, outcome: dict[str, Any], now: int) -> None:
        memory = self.of(run.agent)
        memory.run = None
        day = time.strftime("%Y-%m-%d", time.localtime(now))
        memory.spend[day] = memory.spend.get(day, 0.0) + (outcome.get("cost_usd") or 0.0)
        if run.task is None and outcome["verdict"] == "no_change":
            memory.failures = 0
        elif run.task is None and outcome["verdict"] == "failed":
            memory.failures += 1
            if memory.failures >= self.config["retry"]["max_attempts"]:
                memory.suspended = True

    def look_at_pull_requests(self) -> None:
        """Reference 9.3: merged once reachable from the base, closed once the branch is gone."""
        for pr in self.prs.values():
            if pr[0] == "open":
                merged = self.branches.get(pr[1])
                pr[0] = "closed" if merged is None else "merged" if merged else "open"

        if self.good:
            self._follow()

    def _follow(self) -> None:
        """Reference 9.5: a merge by hand finishes the task, a closed pull request cancels it."""
        for pr_id, (state, _) in self.prs.items():
            task = next(
                (t for t in self.tasks.values() if t.pr == pr_id and t.reviews is None), None
            )
            if state == "open" or pr_id in self.followed or task is None or task.state == "claimed":
                continue
            self.followed.add(pr_id)
            if task.decided:
                continue
            if state == "merged" and task.state in ("incoming", "blocked", "failed"):
                self._to(task, "done")
                task.interruptions, task.reason, task.uncharged = 0, None, {}
            elif state == "closed" and task.state in ("incoming", "blocked", "done"):
                self.cancel(task)

    def start_all(
        self,
        now: int,
        expected: Expected,
        after_run: bool = False,
        forced: dict[str, str | None] | None = None,
    ) -> None:
        """The second half of a tick: each agent's start, or the first reason why not."""
        unfinished = len(self.in_state("incoming")) + len(self.in_state("claimed"))
        for task in self.in_state("incoming"):
            if task.reviews is not None and not self.is_open(task.pr):
                self._to(task, "done")
                task.interruptions, task.reason, task.uncharged = 0, None, {}
                expected.others.append(("finish", task.id, None))
            elif (
                (cap := self.config["budgets"]["task_usd"])
                and task.cost >= cap
                and (task.id not in {run.task for run in self.unsettled()})
            ):
                self._to(task, "failed")
                task.interruptions, task.reason = 0, "budget_exhausted"
                expected.others.append(("fail", task.id, None))
        may_probe = not after_run and not self.unsettled()
        starts = 0
        is_fault = bool(self.hold and self.hold[0] == "system_fault")
        turns = {name: turn for turn, name in enumerate(self.met if is_fault else ())}
        for agent in sorted(self.config["agents"], key=lambda a: turns.get(a["name"], -1)):
            if forced is not None and agent["name"] not in forced:
                continue
            reason = self._agent_reason(agent, now, may_probe, forced is not None)
            task = None
            if reason is None and TAKES[agent["role"]] is None:
                full = unfinished >= self.limit("max_incoming")
                reason = "max_incoming" if full else None
            elif reason is None:
                reason, task = self._choose(agent, now, (forced or {}).get(agent["name"]))
            if reason is None and starts >= self.config["max_starts"]:
                reason = "max_starts"
            if reason is not None:
                expected.decisions[agent["name"]] = ("skip", reason)
                continue
            expected.decisions[agent["name"]] = ("start", task.id if task else None)
            starts, may_probe = starts + 1, False
            self._start(agent, task, now)

    def _start(self, agent: dict[str, Any], task: Task | None, now: int) -> None:
        """Begin a run; its id is not known yet (`named` gives it)."""
        name = agent["name"]
        run = Run(f"new {name}", name, task.id if task else None, agent["role"], now)
        memory = self.of(name)
        memory.run, memory.last_started = run, now
        if task is not None:
            task.state, task.name, task.run, task.waits = "claimed", f"{task.id}.md", run.id, None
            task.decided = False

    def named(self, agent: str, run_id: str) -> None:
        """Give the run that an agent has just begun its id."""
        run = self.of(agent).run
        assert run is not None
        task = self.claims(run)
        run.id = run_id
        if task is not None:
            task.run = run_id

    def _agent_reason(
        self, agent: dict[str, Any], now: int, may_probe: bool, forced: bool
    ) -> str | None:
        memory = self.of(agent["name"])
        day = time.strftime("%Y-%m-%d", time.localtime(now))
        spent = sum(m.spend.get(day, 0.0) for m in self.memory.values())
        cap = self.config["budgets"]["daily_usd"]
        held = self.hold
        if held and held[2] is not None and now >= held[2]:
            held = None
        reasons = {
            "config_error": not self.good,
            "system_paused": self.config["paused"],
            "paused": agent["paused"] or memory.suspended,
            "running": memory.run is not None,
            "not_due": not forced and not is_due(agent, memory.last_started, now),
            "usage_limit": bool(held and held[0] == "usage_limit"),
            "system_fault": bool(held and held[0] == "system_fault" and not may_probe),
            "budget_exhausted": cap is not None and spent >= cap,
        }
        return next((code for code, holds in reasons.items() if holds), None)

    def _choose(
        self, agent: dict[str, Any], now: int, wanted: str | None
    ) -> tuple[str | None, Task | None]:
        """Return why an agent takes no task, or the task that it takes."""
        claimed = self.in_state("claimed")
        opening = sum(1 for t in claimed if t.role in OPENING and not self.is_open(t.pr))
        open_prs = sum(1 for pr in self.prs.values() if pr[0] == "open") + opening
        takes = TAKES[agent["role"]]
        # No two runs ever have one task, even when a person put it back by hand (reference 8.2).
        held = {run.task for run in self.unsettled()}
        matching = [
            task
            for task in self.in_state("incoming")
            if task.role == takes and task.id not in held and wanted in (None, task.id)
        ]
        if len(claimed) >= self.limit("max_claimed"):
            return "max_claimed", None
        if open_prs >= self.limit("max_open_prs") and takes in OPENING:
            matching = [task for task in matching if self.is_open(task.pr)]
            if not matching:
                return "max_open_prs", None
        if not matching:
            return "no_matching_task", None
        free = [t for t in matching if all(map(self.is_met, t.depends_on))]
        if not free:
            return "blocked_by_dependency", None
        ready = [task for task in free if not self.is_waiting(task, now)]
        if self.hold and self.hold[0] == "system_fault":
            met, most = self.met, 3 + max(now - self.hold[1], 0) // 3600
            others = len(met) if self.paid >= most else -1
            ready.sort(key=lambda task: met.index(task.id) if task.id in met else others)
        return (None, ready[0]) if ready else ("backoff", None)

    # --- moves ---

    def _to(self, task: Task, state: str) -> None:
        task.state, task.name, task.run, task.waits = state, f"{task.id}.md", None, None
        task.decided, task.settled = False, None

    def _back(self, task: Task, now: int, delay: float | None = None) -> None:
        self._to(task, "incoming")
        task.waits, task.reason = ((now, delay) if delay else None), None

    # --- people ---

    def retry(self, task: Task) -> None:
        self._to(task, "incoming")
        task.attempts, task.interruptions, task.cost, task.reason = 0, 0, 0.0, None
        task.uncharged = {}
        task.decided = True

    def cancel(self, task: Task) -> None:
        self._to(task, "failed")
        task.reason = "cancelled"

    def move(self, task: Task, state: str) -> None:
        self._to(task, state)
        task.decided, task.uncharged = True, {}

    def forget(self, task: Task) -> None:
        """A person deleted the file; a rival of the same id is the task from now on."""
        del self.tasks[task.id]
        heirs = sorted((t for t in self.rivals if t.id == task.id), key=lambda t: t.name)
        if heirs:
            self.rivals.remove(heirs[0])
            self.tasks[task.id] = replace(heirs[0])


def is_due(agent: dict[str, Any], last: int | None, now: int) -> bool:
    """Whether an agent is due: never started, its interval over, or its time of day passed.

    A start ahead of the clock counts as now (reference 8.7).
    """
    if last is None:
        return True
    last = min(last, now)
    if agent.get("schedule") is None:
        interval = agent["interval_seconds"]
        return bool(last + interval - min(interval / 10, 10) <= now)
    minute, hour = map(int, agent["schedule"].split()[:2])
    day = last - 86_400
    while day <= now + 86_400:
        if last < _first_at(day, hour, minute) <= now:
            return True
        day += 43_200
    return False


def _first_at(day: int, hour: int, minute: int) -> int:
    """Return when the wall clock first shows a time of day, or a later one, on a local day.

    A time that the clocks skip has come when they have; one that they repeat comes once.
    """
    date = time.localtime(day)[:3]
    # Around the day's beginning, in quarters of an hour: zones and changes are made of these.
    at = day - 86_400 - day % 900
    while time.localtime(at)[:5] < (*date, hour, minute):
        at += 900
    return at
