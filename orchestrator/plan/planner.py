"""The decision: what one tick does, and why it does not do the rest.

Everything here is a pure function of a snapshot, the configuration and the time. "Not started,
because ..." is a decision like any other, so `tick`, `tick --dry-run`, `status` and `explain`
cannot disagree: they all read `plan` and `judge`.
"""

from __future__ import annotations

from orchestrator.model import Action, Agent, Config, Outcome, Role, Rule, RunView, Snapshot, Task
from orchestrator.plan.due import next_due

#: How often a supervisor that died is started again for one run before the run counts as lost.
MAX_RESTARTS = 3
#: The same for a run whose client has ended: its result outranks much (failures 1).
MAX_CONCLUDING_RESTARTS = 30

#: What became of a run, by the last event that it left in its task's history.
_ENDS = {"requeued": "requeue", "failed": "fail", "blocked": "block", "done": "finish"}


def plan(snapshot: Snapshot, config: Config, now: float) -> list[Action]:
    """Return the actions of one tick, in the order in which they are to be applied.

    First what becomes of runs that ended or lost their supervisor, then exactly one `start` or
    `skip` for each agent, in the order of the configuration. `now` is seconds since the epoch.
    """
    actions = settlements(snapshot, config)
    room = Room(snapshot)
    for review in snapshot.waiting:
        if is_pointless(review, snapshot):
            room.taken.add(review.id)
            actions.append(Action("finish", task=review.id, reason="pull_request_not_open"))
    for spent in snapshot.waiting:
        if has_spent_all(spent, config) and spent.id not in room.taken:
            room.taken.add(spent.id)
            actions.append(Action("fail", task=spent.id, reason="budget_exhausted"))
    for agent in config.agents:
        refusal, task = _decide(agent, snapshot, config, now, room)
        if refusal is None and room.starts >= config.max_starts:
            actions.append(Action("skip", agent.name, reason="max_starts"))
        elif refusal is None:
            room.take(task, snapshot)
            actions.append(Action("start", agent.name, task.id if task else None))
        else:
            actions.append(Action("skip", agent.name, reason=refusal.code))
    return actions


# --- what becomes of a run ---------------------------------------------------------------------


def settlements(snapshot: Snapshot, config: Config) -> list[Action]:
    """Return what is to be done about runs that ended or lost their supervisor, and claimed tasks
    that have no run at all (somebody deleted its files, or moved the task there by hand).
    """
    actions = [action for run in snapshot.runs if (action := settle(run, snapshot, config))]
    runs = {run.id for run in snapshot.runs}
    for task in snapshot.claimed:
        if task.run in runs:
            continue
        if not (task.run and task.claimed_by):
            actions.append(Action("requeue", task=task.id, reason="no_result: its run is gone"))
        else:
            lost = RunView(task.run, task.claimed_by, task.id, False, True, 0)
            outcome = Outcome("interrupted", "no_result: its run is gone")
            actions.append(_verdict_action(lost, outcome, task, config))
    return actions


def settle(run: RunView, snapshot: Snapshot, config: Config) -> Action | None:
    """Return what is to be done about a run, or None while it is well and at work."""
    outcome = run.outcome
    if not run.finished:
        if run.alive:
            return None
        limit = MAX_CONCLUDING_RESTARTS if run.concluding else MAX_RESTARTS
        if run.restarts < limit:
            return Action("deliver", run.agent, run.task, run.id, "supervisor_gone")
        outcome = Outcome("interrupted", f"no_result: its supervisor died {run.restarts + 1} times")
    if outcome is None:
        outcome = Outcome("interrupted", "no_result: its record cannot be read")
    task = next((t for t in snapshot.claimed if t.id == run.task and t.run == run.id), None)
    return _verdict_action(run, outcome, task, config)


def _verdict_action(run: RunView, outcome: Outcome, task: Task | None, config: Config) -> Action:
    def action(word: str, delay: float | None = None, charged: bool = False) -> Action:
        return Action(word, run.agent, run.task, run.id, outcome.reason, delay, charged)

    if task is None:  # no task, or a person moved it away while the run was at work
        return action("finish")
    if task.ended in _ENDS:  # decided and written down; a kill came before the file's move
        return action(_ENDS[task.ended], charged=task.ended == "failed")
    match outcome.verdict:
        case "done" | "no_change" | "approved" | "changes_requested":
            return action("finish")
        case "needs_human":
            return action("block")
        case "usage_limit" | "system_fault" | "stopped":
            return action("requeue")
        case "interrupted" if task.interruptions == 0:
            return action("requeue")
        case _:
            attempt = task.attempts + 1
            if attempt >= config.retry.max_attempts:
                return action("fail", charged=True)
            return action("requeue", config.retry.delay(attempt), charged=True)


# --- whether an agent starts -------------------------------------------------------------------


class Room:
    """How much of each limit is left while one plan is being made."""

    def __init__(self, snapshot: Snapshot) -> None:
        claimed = len(snapshot.claimed)
        open_prs = snapshot.open_prs
        if open_prs is not None:
            opening = (r.takes for r in snapshot.roles.values() if r.opens_pull_request)
            roles = frozenset(opening)
            open_prs += sum(
                1 for t in snapshot.claimed if t.role in roles and not has_pull_request(t, snapshot)
            )
        busy = any(run.alive or not run.finished for run in snapshot.runs)
        self.claimed = claimed
        #: Tasks that wait or are claimed: what `max_incoming` counts.
        self.unfinished = snapshot.incoming_count + claimed
        #: Open pull requests and claimed tasks that will open one; None is not known.
        self.open_prs = open_prs
        #: A fault is probed by one run at a time.
        self.may_probe = snapshot.may_probe and not busy
        #: Tasks that nobody may take (any more). No two runs ever have one task, even when a person
        #: has put it back by hand while a run is at work on it (reference 8.2).
        self.taken = {run.task for run in snapshot.runs if run.task}
        self.starts = 0

    def take(self, task: Task | None, snapshot: Snapshot) -> None:
        """Count a start."""
        self.may_probe = False
        self.starts += 1
        if task is None:
            return
        self.taken.add(task.id)
        self.claimed += 1
        opening = any(
            r.opens_pull_request and r.takes == task.role for r in snapshot.roles.values()
        )
        if self.open_prs is not None and opening and not has_pull_request(task, snapshot):
            self.open_prs += 1


def _decide(
    agent: Agent, snapshot: Snapshot, config: Config, now: float, room: Room
) -> tuple[Rule | None, Task | None]:
    """Return the first rule that holds an agent back, else None and the task that it takes.

    What `judge` says, without a look at the waiting tasks where that changes nothing: for each of
    50 agents at each of 500 tasks it was most of a tick.
    """
    early = _agent_rules(agent, snapshot, config, now, room)
    role = snapshot.roles.get(agent.role)
    if role is not None and role.takes is not None:
        early.append(_max_claimed(config, room))
    task = None
    if all(rule.ok for rule in early):
        early, task = judge(agent, snapshot, config, now, room)
    return next((rule for rule in early if not rule.ok), None), task


def _max_claimed(config: Config, room: Room) -> Rule:
    limit = config.queue_limits.max_claimed
    detail = f"{room.claimed} of {limit} tasks claimed"
    return Rule("max_claimed", room.claimed < limit, detail)


def judge(
    agent: Agent, snapshot: Snapshot, config: Config, now: float, room: Room
) -> tuple[list[Rule], Task | None]:
    """Return every rule's verdict on starting an agent, in their order, and the task it would take.

    The agent starts if all are ok; otherwise the first that is not is the reason.
    """
    rules = _agent_rules(agent, snapshot, config, now, room)
    role = snapshot.roles.get(agent.role)
    if role is None:
        rules.append(Rule("config_error", False, f"there is no role {agent.role!r}"))
        return rules, None
    if role.takes is None:
        limit = config.queue_limits.max_incoming
        detail = f"{room.unfinished} of {limit} tasks wait or are claimed"
        rules.append(Rule("max_incoming", room.unfinished < limit, detail))
        return rules, None
    task_rules, task = _task_rules(agent, role, snapshot, config, now, room)
    return rules + task_rules, task


def _agent_rules(
    agent: Agent, snapshot: Snapshot, config: Config, now: float, room: Room
) -> list[Rule]:
    run = next((r for r in snapshot.runs if r.agent == agent.name), None)
    forced = agent.name in snapshot.forced
    view = snapshot.agents.get(agent.name)
    last_started = view.last_started if view else None
    suspended = view.suspended if view else None
    due = now if forced else next_due(agent, last_started, now, snapshot.timezone)
    hold = snapshot.hold
    limited = bool(hold and hold.code == "usage_limit" and now < (hold.until or 0))
    faulty = bool(hold and hold.code != "usage_limit")
    cap = config.budgets.daily_usd
    spent = f"{snapshot.spent_today_usd:.2f} USD spent today"
    rules = [
        Rule("system_paused", not config.paused, _said("paused", config.paused)),
        Rule("paused", not (agent.paused or suspended), suspended or _said("paused", agent.paused)),
        Rule("running", run is None, f"run {run.id}" if run else "no run of its own"),
        Rule("not_due", due <= now, f"due in {max(due - now, 0):.0f} s" if due > now else "due"),
        Rule("usage_limit", not limited, hold.message if hold and limited else "none known"),
        Rule(
            "system_fault",
            not faulty or room.may_probe,
            hold.message if hold and faulty else "none known",
        ),
        Rule("budget_exhausted", cap is None or snapshot.spent_today_usd < cap, spent),
    ]
    if not snapshot.may_start:
        rules.insert(
            0, Rule("config_error", False, "agents.yaml is broken: see orchestrator status")
        )
    return rules


def _said(key: str, value: bool) -> str:
    return f"{key}: {str(value).lower()}"


def _task_rules(
    agent: Agent, role: Role, snapshot: Snapshot, config: Config, now: float, room: Room
) -> tuple[list[Rule], Task | None]:
    limits = config.queue_limits
    wanted = snapshot.forced.get(agent.name)
    matching = [
        task
        for task in snapshot.waiting
        if task.role == role.takes and task.id not in room.taken and wanted in (None, task.id)
    ]
    # What drains is never held by what is full: a task with a pull request opens no second one.
    draining = [
        task for task in matching if has_pull_request(task, snapshot) or not role.opens_pull_request
    ]
    exempt = bool(draining) or not role.opens_pull_request
    unknown = room.open_prs is None
    full = room.open_prs is not None and room.open_prs >= limits.max_open_prs
    allowed = draining if unknown or full else matching
    which, ready = _which(allowed, snapshot, now)
    count = "not known" if unknown else f"{room.open_prs} of {limits.max_open_prs} open or coming"
    rules = [
        _max_claimed(config, room),
        Rule("open_prs_unknown", not unknown or exempt, count),
        Rule("max_open_prs", not full or exempt, count),
        *which,
        Rule(
            "no_matching_task",
            bool(matching),
            f"{len(matching)} waiting tasks with ROLE {role.takes}",
        ),
    ]
    return rules, ready


def _which(allowed: list[Task], snapshot: Snapshot, now: float) -> tuple[list[Rule], Task | None]:
    """Judge the tasks that an agent may take; return the first that nothing holds back."""
    free = [task for task in allowed if not blockers(task, snapshot)]
    ready = [task for task in free if not in_backoff(task, now)]
    blocked = (f"{t.id}: {b}" for t in allowed[:3] for b in blockers(t, snapshot))
    late = [task for task in free if in_backoff(task, now)]
    waits = (f"{t.id}: retried in {seconds_left(t, now):.0f} s" for t in late[:3])
    rules = [
        Rule("blocked_by_dependency", bool(free) or not allowed, "; ".join(blocked) or "none"),
        Rule("backoff", bool(ready) or not free, "; ".join(waits) or "not waiting"),
    ]
    return rules, ready[0] if ready else None


def is_pointless(task: Task, snapshot: Snapshot) -> bool:
    """Whether a waiting review is about a pull request that was merged or closed meanwhile."""
    known = snapshot.open_pr_ids
    return task.reviews is not None and known is not None and task.pr not in known


def has_spent_all(task: Task, config: Config) -> bool:
    """Whether a task's attempts together have cost what a task may cost."""
    cap = config.budgets.task_usd
    return cap is not None and task.cost_usd >= cap


def has_pull_request(task: Task, snapshot: Snapshot) -> bool:
    """Whether work on a task opens no further pull request: its own one is open."""
    known = snapshot.open_pr_ids
    return task.pr is not None and (known is None or task.pr in known)


def blockers(task: Task, snapshot: Snapshot) -> list[str]:
    """Return the task's dependencies that are not met, each with why."""
    return [
        f"{other} ({snapshot.dependencies.get(other, 'unknown')})"
        for other in task.depends_on
        if snapshot.dependencies.get(other) != "met"
    ]


def seconds_left(task: Task, now: float) -> float:
    """Return how long a task still waits for its next attempt: never longer than its delay.

    A `not_before` farther away than the whole delay means that the clock was moved back behind the
    time at which it was recorded: it counts as over (reference 8.7). Moved back by less than what
    has been waited, a clock looks as if it was not moved: that much is waited once more.
    """
    if task.not_before is None:
        return 0.0
    left = task.not_before - now
    if task.backoff is not None:
        # A second of slack: clocks are set right by less, all the time.
        left = min(left, task.backoff) if left <= task.backoff + 1 else 0.0
    return max(left, 0.0)


def in_backoff(task: Task, now: float) -> bool:
    return seconds_left(task, now) > 0


def explain_task(task: Task, snapshot: Snapshot, config: Config, now: float) -> list[Rule]:
    """Return every rule that decides whether a waiting task is claimed, with its verdict."""
    unmet = blockers(task, snapshot)
    left = seconds_left(task, now)
    had_by = next((run for run in snapshot.runs if run.task == task.id), None)
    rules = [
        Rule("waiting", task.state == "incoming", f"the task is in {task.state}"),
        Rule("running", had_by is None, f"run {had_by.id} still has it" if had_by else "no run"),
        Rule("blocked_by_dependency", not unmet, "; ".join(unmet) or "every dependency is met"),
        Rule("backoff", left <= 0, f"retried in {left:.0f} s" if left > 0 else "not waiting"),
    ]
    takers = [a for a in config.agents if _takes(a, snapshot) == task.role]
    detail = ", ".join(a.name for a in takers) or f"no agent takes ROLE {task.role}"
    rules.append(Rule("no_matching_agent", bool(takers), detail))
    for agent in takers:
        verdicts, would_take = judge(agent, snapshot, config, now, Room(snapshot))
        refusal = next((rule for rule in verdicts if not rule.ok), None)
        if refusal is not None:
            rules.append(Rule(refusal.code, False, f"{agent.name}: {refusal.detail}"))
        elif would_take and would_take.id != task.id:
            rules.append(Rule("queue_order", False, f"{agent.name} takes {would_take.id} first"))
        else:
            rules.append(Rule("claimable", True, f"{agent.name} takes it at the next tick"))
    return rules


def _takes(agent: Agent, snapshot: Snapshot) -> str | None:
    role = snapshot.roles.get(agent.role)
    return role.takes if role else None
