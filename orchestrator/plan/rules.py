"""The rules that decide what starts: one ordered list, in which each rule is one entry.

An entry is a decorated function: the code, the kind, what a person can do, and the judge. The kind
says what is judged:

* `agent`: may this agent start now? If an `agent` rule refuses every agent of a role, the role's
  tasks wait.
* `task`: may any agent take this waiting task? If the rule has `ends`, the plan ends a task that
  fails the rule.
* `choice`: may this available task be taken now? If every available task is refused, the agent is
  skipped with the code of the task that passed the most rules. If a `choice` rule refuses every
  task of a role, the role's agents wait.

The reason is the first verdict that is not ok, in the order of this file.
"""

import math
from collections.abc import Callable

from orchestrator.model.config import Agent
from orchestrator.model.errors import nearest
from orchestrator.model.times import A_TIME, parse_time
from orchestrator.model.work import Task
from orchestrator.plan import dependencies, pace
from orchestrator.plan.draft import Draft
from orchestrator.plan.due import next_due, next_midnight, seconds_left
from orchestrator.plan.rule import ONLY_HOST, Ends, Judge, Judged, Rule

RULES: list[Rule] = []


def _rule(code: str, kind: str, hint: str, ends: Ends | None = None) -> Callable[[Judge], Judge]:
    """Make the decorated function the judge of the next rule of the list."""

    def add(judge: Judge) -> Judge:
        RULES.append(Rule(code, kind, hint, ends, judge))
        return judge

    return add


# --- is a waiting task available at all? -------------------------------------------------------


@_rule("waiting", "task", "see where it is: orchestrator task show {about}")
def _waiting(task: Task, _: Draft) -> Judged:
    return Judged(task.state == "incoming", f"the task is in {task.state}")


@_rule("not_reviewable", "task", "see the pull request: orchestrator pr list")
def _reviewable(task: Task, draft: Draft) -> Judged | None:
    why = draft.snapshot.not_reviewable.get(task.id)
    return None if why is None else Judged(False, why)


@_rule("pull_request_not_open", "task", "no action needed: the next tick ends it", ends="finish")
def _review(task: Task, draft: Draft) -> Judged | None:
    known = draft.snapshot.open_heads
    if task.reviews is None or known is None:
        return None
    is_open = task.pr in known
    state = "" if is_open else "not "
    return Judged(is_open, f"pull request {task.pr}, which {task.id} reviews, is {state}open")


@_rule("superseded", "task", "no action needed: the next tick ends it", ends="finish")
def _reviewed_head(task: Task, draft: Draft) -> Judged | None:
    head = (draft.snapshot.open_heads or {}).get(task.pr or "")
    if task.reviews is None or task.head is None or head is None:
        return None
    if task.head == head:
        return Judged(True, f"{task.id} reviews the head of pull request {task.pr}")
    detail = f"{task.id} reviews {task.head[:12]}, but pull request {task.pr} has a newer commit"
    return Judged(False, f"{detail}, {head[:12]}")


@_rule("running", "task", "see what it does: orchestrator logs {about}")
def _held(task: Task, draft: Draft) -> Judged | None:
    # Two runs never have the same task, even if a person moves the task back during a run.
    run = next((run for run in draft.snapshot.runs if run.task == task.id), None)
    return Judged(False, f"run {run.id} still has {task.id}") if run else None


@_rule(
    "budget_exhausted",
    "task",
    "the next tick ends it; then: orchestrator task retry {about}",
    ends="fail",
)
def _task_budget(task: Task, draft: Draft) -> Judged | None:
    cap = draft.config.budgets.task_usd
    if cap is None or task.cost_usd < cap:
        return None
    detail = f"{task.id} has cost {task.cost_usd:.2f} of {cap:g} USD (budgets.task_usd)"
    return Judged(False, detail)


@_rule("no_matching_agent", "task", "{about}")
def _matching_agent(task: Task, draft: Draft) -> Judged:
    if agents := draft.takers.get(task.role):
        return Judged(True, f"agents that take ROLE {task.role}: {len(agents)}")
    role = next((r.name for r in draft.snapshot.roles.values() if r.takes == task.role), None)
    if role is not None:
        step = f"add an agent: orchestrator agent add NAME --role {role}"
        return Judged(False, f"no agent takes ROLE {task.role}", about=step)
    known = sorted(role.takes for role in draft.snapshot.roles.values() if role.takes)
    near = nearest(task.role, known)
    said = f"did you mean {near!r}?" if near else f"roles take {', '.join(known)}"
    step = f"correct its ROLE ({said}): orchestrator task set {task.id} role={near or 'ROLE'}"
    return Judged(False, f"no role takes ROLE {task.role}", about=step)


# --- may an agent start? -----------------------------------------------------------------------


@_rule("config_error", "agent", "see what is wrong: orchestrator doctor")
def _configured(agent: Agent, draft: Draft) -> Judged | None:
    if not draft.snapshot.may_start:
        return Judged(False, "agents.yaml is broken: see orchestrator status")
    known = agent.role in draft.snapshot.roles
    return None if known else Judged(False, f"there is no role {agent.role!r}")


@_rule("system_paused", "agent", "resume the project: orchestrator agent resume --all")
def _system_paused(_: Agent, draft: Draft) -> Judged:
    paused = draft.config.paused
    return Judged(not paused, f"the project is {'' if paused else 'not '}paused")


@_rule("paused", "agent", "resume the agent: orchestrator agent resume {about}")
def _paused(agent: Agent, draft: Draft) -> Judged:
    view = draft.snapshot.agents.get(agent.name)
    if view and view.suspended:
        return Judged(False, f"{agent.name}: {view.suspended}")
    return Judged(not agent.paused, f"{agent.name} is {'' if agent.paused else 'not '}paused")


@_rule("other_host", "agent", "run a tick there; or: orchestrator agent set {about} host=null")
def _host(agent: Agent, draft: Draft) -> Judged | None:
    if agent.host is None:
        return None
    here, why = draft.snapshot.host, f"{agent.name} runs on the host {agent.host}"
    return Judged(agent.host == here, f"{why}; this host is {here or ONLY_HOST}")


@_rule("running", "agent", "see what it does: orchestrator logs {about}")
def _running(agent: Agent, draft: Draft) -> Judged:
    run = next((run for run in draft.snapshot.runs if run.agent == agent.name), None)
    at = f" on the host {run.host}" if run and run.host else ""
    return Judged(run is None, f"{agent.name} has {f'run {run.id}{at}' if run else 'no run'}")


@_rule("not_due", "agent", "start it now: orchestrator run {about}")
def _due(agent: Agent, draft: Draft) -> Judged:
    if agent.name in draft.snapshot.forced:
        return Judged(True, f"{agent.name} was asked for by name")
    view = draft.snapshot.agents.get(agent.name)
    last = view.last_started if view else None
    due = next_due(agent, last, draft.at)
    if due <= draft.at:
        return Judged(True, f"{agent.name} is due")
    if math.isinf(due):
        return Judged(False, f"{agent.name} is never due: its schedule matches no time")
    return Judged(False, f"{agent.name} is due in {due - draft.at:.0f} s", due)


@_rule("usage_limit", "agent", "no action needed: work continues when the limit resets")
def _usage_limit(_: Agent, draft: Draft) -> Judged:
    hold = draft.snapshot.hold
    if hold and hold.code == "usage_limit" and hold.until and draft.at < hold.until:
        return Judged(False, hold.message, hold.until)
    return Judged(True, "no usage limit is known")


@_rule("pace", "agent", "no action needed: it starts then; or change `pace` in agents.yaml")
def _pace(_: Agent, draft: Draft) -> Judged:
    judged = pace.judge(draft.config.pace, draft.snapshot.usage, draft.at)
    return judged or Judged(True, "no pace is set")


@_rule("system_fault", "agent", "find the cause: orchestrator doctor; work resumes after the fix")
def _system_fault(agent: Agent, draft: Draft) -> Judged:
    hold, view = draft.snapshot.hold, draft.snapshot.agents.get(agent.name)
    if view and view.closed:
        return Judged(False, view.closed)
    if hold is None or hold.code == "usage_limit":
        return Judged(True, "no fault is known")
    if draft.may_probe:
        return Judged(True, f"this run tests whether the fault is gone: {hold.message}")
    return Judged(False, hold.message)


@_rule("budget_exhausted", "agent", "wait for tomorrow, or raise budgets.daily_usd in agents.yaml")
def _daily_budget(_: Agent, draft: Draft) -> Judged:
    cap, spent = draft.config.budgets.daily_usd, draft.snapshot.spent_today_usd
    if cap is None or spent < cap:
        return Judged(True, f"{spent:.2f} USD spent today")
    return Judged(False, f"{spent:.2f} of {cap:g} USD spent today", next_midnight(draft.at))


@_rule("max_incoming", "agent", "let the queue drain, or: orchestrator limits set max_incoming=N")
def _max_incoming(agent: Agent, draft: Draft) -> Judged | None:
    if draft.takes(agent):
        return None
    limit = draft.config.queue_limits.max_incoming
    detail = f"{draft.unfinished} of {limit} tasks wait or are claimed"
    return Judged(draft.unfinished < limit, detail)


# --- may an available task be taken now? -------------------------------------------------------


@_rule("max_claimed", "choice", "let claimed tasks end, or: orchestrator limits set max_claimed=N")
def _max_claimed(_: Task, draft: Draft) -> Judged:
    limit = draft.config.queue_limits.max_claimed
    planned = sum(task is not None for _, task in draft.starts)
    more = f" (with the starts that are planned: {planned})" if planned else ""
    return Judged(draft.claimed < limit, f"{draft.claimed} of {limit} tasks are claimed{more}")


@_rule("open_prs_unknown", "choice", "find out why the forge does not answer: orchestrator doctor")
def _open_prs_known(task: Task, draft: Draft) -> Judged:
    known = draft.open_prs is not None
    detail = "the number of open pull requests is " + ("known" if known else "not known")
    return Judged(known or not draft.will_open(task), detail)


@_rule("max_open_prs", "choice", "merge or close pull requests: orchestrator pr list")
def _max_open_prs(task: Task, draft: Draft) -> Judged:
    most, count = draft.config.queue_limits.max_open_prs, draft.open_prs
    full = count is not None and count >= most
    detail = f"{'?' if count is None else count} of {most} pull requests are open or will be opened"
    return Judged(not (full and draft.will_open(task)), detail)


@_rule("blocked_by_dependency", "choice", "{about}")
def _dependencies(task: Task, draft: Draft) -> Judged:
    known, conflicts = draft.snapshot.dependencies, draft.snapshot.conflicts
    return dependencies.judged(task, known, conflicts.get(task.id))


@_rule("overlap", "choice", "no action needed: it starts when that work is merged or closed")
def _overlap(task: Task, draft: Draft) -> Judged | None:
    why = draft.snapshot.overlaps.get(task.id)
    if why is None and draft.config.overlap != "hold":
        return None
    return Judged(why is None, why or "no other work changes a file that it names")


@_rule("not_before", "choice", "{about}")
def _not_before(task: Task, draft: Draft) -> Judged | None:
    text = task.header.get("NOT_BEFORE")
    if text is None:
        return None
    at = parse_time(text)
    if at is None:
        why = f"{task.id}: NOT_BEFORE {text!r} is not a time like {A_TIME}"
        return Judged(False, why, about=f"orchestrator task set {task.id} not_before={A_TIME}")
    step = f"no action needed; to start it now: orchestrator task set {task.id} not_before="
    detail = f"{task.id} may start from {pace.shown(at)}"
    return Judged(draft.at >= at, detail, at if draft.at < at else None, step)


@_rule("backoff", "choice", "no action needed: it is retried automatically")
def _backoff(task: Task, draft: Draft) -> Judged:
    left = seconds_left(task, draft.at)
    if left > 0:
        return Judged(False, f"{task.id} is retried in {left:.0f} s", task.not_before)
    # If the clock was set back, the delay begins again when `not_before` is near enough.
    again = (task.not_before or 0.0) - (task.backoff or 0.0) - 1
    return Judged(True, "no delay", again if again > draft.at else None)


# --- rules after the choice of a task ----------------------------------------------------------


@_rule("no_matching_task", "agent", "add one: orchestrator task add --title '...' --role {about}")
def _matching_task(agent: Agent, draft: Draft) -> Judged | None:
    if takes := draft.takes(agent):
        found = sum(len(each.places) for each in draft.choices(agent))
        return Judged(found > 0, f"waiting tasks with ROLE {takes}: {found}", about=takes)
    return None


@_rule("max_starts", "agent", "no action needed: it starts at one of the next ticks")
def _max_starts(_: Agent, draft: Draft) -> Judged:
    before, limit = len(draft.starts), draft.config.max_starts
    return Judged(before < limit, f"{before} of {limit} starts of this tick come before it")


@_rule("queue_order", "task", "no action needed: it waits for its turn (PRIORITY P0 goes first)")
def _queue_order(task: Task, draft: Draft) -> Judged | None:
    before = [(name, taken.id) for name, taken in draft.starts if taken and taken.role == task.role]
    name = next((name for name, taken in before if taken == task.id), None)
    if name is not None:
        return Judged(True, f"{name} takes {task.id} at the next tick")
    return Judged(False, "{} takes {} first".format(*before[0])) if before else None
