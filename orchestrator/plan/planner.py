"""The plan of one tick: its actions, and every rule's verdict on the agents and tasks.

A pure function of a snapshot, the configuration and the time. `tick`, `tick --dry-run`, `status`,
`explain` and the idle stamp read one plan, so they cannot disagree.
"""

import math
from collections.abc import Iterable, Iterator

from orchestrator.model.config import Agent, Config
from orchestrator.model.fields import NamedTuple
from orchestrator.model.snapshot import Action, Snapshot
from orchestrator.model.work import Task
from orchestrator.plan.draft import Draft
from orchestrator.plan.rule import Verdict, verdicts
from orchestrator.plan.rules import RULES
from orchestrator.plan.settlements import settlements

Row = tuple[Verdict, ...]
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
    tasks: dict[str, Row]
    #: The first time (seconds since the epoch) at which the plan for the same snapshot may differ;
    #: None means never.
    wake: float | None


def hint(code: str, agent: str) -> str | None:
    """Return what a person can do about an agent that the rule with this code refuses."""
    found = next((r for r in RULES if (r.code, r.kind) == (code, "agent")), None)
    return found and found.hint.format(about=agent)


def refusal(row: Iterable[Verdict]) -> Verdict | None:
    """Return the first verdict that is not ok; None if all are."""
    return next((verdict for verdict in row if not verdict.ok), None)


def plan(snapshot: Snapshot, config: Config, now: float) -> Plan:
    """Return the plan of one tick at `now` (seconds since the epoch)."""
    draft = Draft(snapshot, config, now)
    actions = settlements(snapshot.runs, snapshot.claimed, config)
    for each in snapshot.waiting:
        held = refusal(verdicts(each, draft, _TASK))
        if held is None:
            draft.available.setdefault(each.role, []).append(each)
        elif held.code in _ENDS:
            actions.append(Action(_ENDS[held.code], task=each.id, reason=held.code))
    agents: dict[str, Row] = {}
    decided: dict[str, Action] = {}
    chosen: dict[tuple[str, str | None], tuple[Row, Task | None]] = {}
    for agent in draft.agents():
        # Until the next start, agents that take the same tasks get the same verdicts.
        key = (draft.takes(agent), snapshot.forced.get(agent.name))
        if key not in chosen:
            chosen[key] = _choose(agent, draft)
        choice, task = chosen[key]
        row = sorted((*verdicts(agent, draft, _AGENT), *choice), key=lambda v: _PLACE[v.code])
        agents[agent.name] = tuple(row)
        if held := refusal(row):
            decided[agent.name] = Action("skip", agent.name, reason=held.code)
        else:
            decided[agent.name] = Action("start", agent.name, task.id if task else None)
            draft.take(agent, task)
            chosen.clear()
    # Shown in the order of the configuration.
    agents = {agent.name: agents[agent.name] for agent in config.agents}
    actions += [decided[name] for name in agents]
    tasks = dict(_of_tasks(draft, agents))
    untils = (verdict.until for row in (*agents.values(), *tasks.values()) for verdict in row)
    wake = min((until for until in untils if until is not None), default=None)
    return Plan(actions, agents, tasks, wake)


def _choose(agent: Agent, draft: Draft) -> tuple[Row, Task | None]:
    """Return the verdicts of the `choice` rules for an agent, and the task that it may take."""
    takes = draft.takes(agent)
    if not takes:
        return (), None
    held = []
    # A limit also refuses an agent that finds no task: judge it with an empty task of its role.
    for task in draft.choices(agent) or [Task("", "", takes, "incoming", "")]:
        refused = refusal(verdicts(task, draft, _CHOICE))
        if refused is None:
            return tuple(verdicts(task, draft, _CHOICE)), task if task.id else None
        held.append((_distance(refused), task))
    _, nearest = min(held, key=lambda pair: pair[0])
    return tuple(verdicts(nearest, draft, _CHOICE)), None


def _of_tasks(draft: Draft, agents: dict[str, Row]) -> Iterator[tuple[str, Row]]:
    """Yield each waiting task's id with its own verdicts, then those of the agent nearest to it.

    Verdicts of an agent that starts another task are used only if every agent of the role starts.
    """
    starters = {task.id: agents[name] for name, task in draft.starts if task}
    nearest = {}
    for role, takers in draft.takers.items():
        rows = [agents[agent.name] for agent in takers]
        held = [row for row in rows if refusal(row)]
        nearest[role] = min(held or rows, key=lambda row: _distance(refusal(row)))
    for task in draft.snapshot.waiting:
        starter = starters.get(task.id)
        # For a task that starts, use the `choice` verdicts in the agent's row: they were made
        # before the start was counted.
        own = tuple(verdicts(task, draft, _TASK if starter else _OWN))
        codes = {verdict.code for verdict in own}
        rest = starter or nearest.get(task.role, ())
        row = (*own, *(verdict for verdict in rest if verdict.code not in codes))
        # `queue_order` is the reason only if no other rule refuses the task.
        yield task.id, tuple(sorted(row, key=lambda verdict: verdict.code == "queue_order"))


def _distance(held: Verdict | None) -> tuple[int, float]:
    """Sort key: how near a subject is to a start, by its first refusal.

    A subject that no rule refuses comes first; then the subject whose first refusal is latest in
    the list; then the subject whose refusal ends earliest. The first subject's verdicts are shown
    for all.
    """
    if held is None:
        return (-len(RULES), 0.0)
    return (-_PLACE[held.code], math.inf if held.until is None else held.until)
