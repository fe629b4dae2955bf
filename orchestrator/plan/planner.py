"""The plan of one tick: its actions, and every rule's verdict on the agents and tasks.

A pure function of a snapshot, the configuration and the time. `tick`, `tick --dry-run`, `status`,
`explain` and the idle stamp read one plan, so they cannot disagree.
"""

import math
from collections.abc import Iterable, Sequence

from orchestrator.model.config import Agent, Config
from orchestrator.model.fields import NamedTuple
from orchestrator.model.snapshot import Action, Snapshot
from orchestrator.model.waiting import Kin
from orchestrator.model.work import Task
from orchestrator.plan.alike import Differ
from orchestrator.plan.draft import Draft, Waiting
from orchestrator.plan.rows import Row, Rows, refusal
from orchestrator.plan.rule import Verdict, verdicts
from orchestrator.plan.rules import RULES
from orchestrator.plan.settlements import settlements

_AGENT, _TASK, _CHOICE = (
    [rule for rule in RULES if rule.kind == kind] for kind in ("agent", "task", "choice")
)
_OWN = [rule for rule in RULES if rule.kind != "agent"]
#: The place in the list of each rule that can refuse an agent.
_PLACE = {rule.code: place for place, rule in enumerate(RULES) if rule.kind != "task"}

_ENDS = {rule.code: rule.ends for rule in RULES if rule.ends}


class Plan(NamedTuple):
    """What one tick does, and why."""

    #: The actions in the order in which they are applied: first for ended runs and for waiting
    #: tasks that end, then one `start` or `skip` per agent, in the order of the configuration.
    actions: list[Action]
    #: The verdicts on each configured agent, by name. The agent starts if all of them are ok;
    #: otherwise the first verdict that is not ok is the reason.
    agents: dict[str, Row]
    #: The verdicts on each waiting task, by id, in the same way.
    tasks: Rows
    #: The first time (seconds since the epoch) at which the plan for the same snapshot may differ;
    #: None means never.
    wake: float | None


def hint(code: str, agent: str) -> str | None:
    """Return what a person can do about an agent that the rule with this code refuses."""
    found = next((r for r in RULES if (r.code, r.kind) == (code, "agent")), None)
    return found and found.hint.format(about=agent)


def plan(snapshot: Snapshot, config: Config, now: float) -> Plan:
    """Return the plan of one tick at `now` (seconds since the epoch)."""
    apart: list[Kin] = []
    while True:
        try:
            return _plan(Draft(snapshot, config, now, apart))
        except Differ as found:
            # A rule looked at something that these tasks do not share.
            apart.append(found.kin)


def _plan(draft: Draft) -> Plan:
    snapshot, config = draft.snapshot, draft.config
    actions = settlements(snapshot.runs, snapshot.claimed, config)
    ends: list[tuple[float, Action]] = []
    for each in draft.waiting:
        held = refusal(verdicts(each.subject, draft, _TASK))
        if held is None:
            draft.available.setdefault(each.subject.role, []).append(each)
        elif word := _ENDS.get(held.code):
            tasks = ((place, draft.queue.at(place).id) for place in each.places)
            ends += [(place, Action(word, task=task, reason=held.code)) for place, task in tasks]
    actions += [action for _, action in sorted(ends)]
    agents: dict[str, Row] = {}
    decided: dict[str, Action] = {}
    chosen: dict[tuple[str, str | None], tuple[Row, Waiting | None]] = {}
    for agent in draft.agents():
        # Until the next start, agents that take the same tasks get the same verdicts.
        key = (draft.takes(agent), snapshot.forced.get(agent.name))
        if key not in chosen:
            chosen[key] = _choose(agent, draft)
        choice, tasks_to_take = chosen[key]
        row = sorted((*verdicts(agent, draft, _AGENT), *choice), key=lambda v: _PLACE[v.code])
        agents[agent.name] = tuple(row)
        if held := refusal(row):
            decided[agent.name] = Action("skip", agent.name, reason=held.code)
        else:
            task = draft.take(agent, tasks_to_take)
            decided[agent.name] = Action("start", agent.name, task.id if task else None)
            chosen.clear()
    # Shown in the order of the configuration.
    agents = {agent.name: agents[agent.name] for agent in config.agents}
    actions += [decided[name] for name in agents]
    rows = _of_tasks(draft, agents)
    untils = (verdict.until for row in (*agents.values(), *rows.distinct()) for verdict in row)
    wake = min((until for until in untils if until is not None), default=None)
    return Plan(actions, agents, rows, wake)


def _choose(agent: Agent, draft: Draft) -> tuple[Row, Waiting | None]:
    """Return the verdicts of the `choice` rules for an agent, and the tasks that it may take."""
    takes = draft.takes(agent)
    if not takes:
        return (), None
    held = []
    for each in draft.choices(agent):
        refused = refusal(verdicts(each.subject, draft, _CHOICE))
        if refused is None:
            return tuple(verdicts(each.next(), draft, _CHOICE)), each
        held.append((_distance(refused), each))
    if held:
        _, nearest = min(held, key=lambda pair: pair[0])
        return tuple(verdicts(nearest.next(), draft, _CHOICE)), None
    # A limit also refuses an agent that finds no task: judge it with an empty task of its role.
    return tuple(verdicts(Task("", "", takes, "incoming", ""), draft, _CHOICE)), None


def _of_tasks(draft: Draft, agents: dict[str, Row]) -> Rows:
    """Return each waiting task's own verdicts, then those of the agent nearest to it.

    Verdicts of an agent that starts another task are used only if every agent of the role starts.
    """
    nearest = {}
    for role, takers in draft.takers.items():
        rows = [agents[agent.name] for agent in takers]
        held = [row for row in rows if refusal(row)]
        nearest[role] = min(held or rows, key=lambda row: _distance(refusal(row)))
    taken = [(agents[name], task) for name, task in draft.starts if task]
    # For a task that starts, use the `choice` verdicts in the agent's row: they were made before
    # the start was counted.
    shared: list[tuple[Sequence[float], Row]] = [
        ((place,), _row(verdicts(task, draft, _TASK), starter))
        for place, (starter, task) in zip(draft.started, taken, strict=True)
    ]
    for each in draft.waiting:
        if each.places:
            own = verdicts(each.subject, draft, _OWN)
            shared.append((each.places, _row(own, nearest.get(each.subject.role, ()))))
    return Rows(draft.queue, shared)


def _row(own: Iterable[Verdict], rest: Row) -> Row:
    own = tuple(own)
    codes = {verdict.code for verdict in own}
    row = (*own, *(verdict for verdict in rest if verdict.code not in codes))
    # `queue_order` is the reason only if no other rule refuses the task.
    return tuple(sorted(row, key=lambda verdict: verdict.code == "queue_order"))


def _distance(held: Verdict | None) -> tuple[int, float]:
    """Sort key: how near a subject is to a start, by its first refusal.

    A subject that no rule refuses comes first; then the subject whose first refusal is latest in
    the list; then the subject whose refusal ends earliest. The first subject's verdicts are shown
    for all.
    """
    if held is None:
        return (-len(RULES), 0.0)
    return (-_PLACE[held.code], math.inf if held.until is None else held.until)
