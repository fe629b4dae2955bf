"""The decision is a table: what starts, what does not and why, and what becomes of ended runs."""

from __future__ import annotations

import copy
import importlib
import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest
from conftest import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from rows import each_row

from orchestrator.layout import Layout
from orchestrator.model.config import Agent, Budgets, Config, Pace, QueueLimits, Retry, Role
from orchestrator.model.errors import StoreFault
from orchestrator.model.snapshot import (
    VERDICTS,
    Action,
    AgentView,
    Hold,
    Outcome,
    RunView,
    Snapshot,
    UsageWindow,
)
from orchestrator.model.times import iso, parse_time
from orchestrator.model.waiting import grouped
from orchestrator.model.work import Task
from orchestrator.plan import planner, repeats, rules, settlements
from orchestrator.plan.draft import Draft
from orchestrator.plan.due import next_due, seconds_left
from orchestrator.plan.rule import Judged, Verdict
from orchestrator.plan.stuck import stuck
from orchestrator.tasks import stores, task_file
from orchestrator.tick import steps, tick

NOW = 1_800_000_000.0
#: The codes of the rules that can refuse an agent, in their order (reference 6 repeats it).
ORDER = [rule.code for rule in rules.RULES if rule.kind != "task"]


def role(name: str, takes: str | None, delivers: str) -> Role:
    return Role(name, takes, delivers, tools=(), allow=(), deny=(), brief="")


ROLES = {
    "implementer": role("implementer", "implement", "pull_request"),
    "tester": role("tester", "test", "pull_request"),
    "reviewer": role("reviewer", "review", "verdict"),
    "product_manager": role("product_manager", None, "nothing"),
}


def task(
    task_id: str = "T1", role: str = "implement", state: str = "incoming", **more: Any
) -> Task:
    return Task(task_id, f"Title of {task_id}", role, state, f"/q/{state}/{task_id}.md", **more)


def claimed(task_id: str, role: str = "implement", **more: Any) -> Task:
    return task(task_id, role, "claimed", **more)


def run(run_id: str = "R1", agent: str = "busy", **more: Any) -> RunView:
    facts = {"task": None, "alive": True, "finished": False, "restarts": 0, **more}
    return RunView(run_id, agent, **facts)


@dataclass
class World:
    """A snapshot and a configuration in which everything starts, to be spoilt bit by bit."""

    agents: list[Agent] = field(
        default_factory=lambda: [Agent("impl", "implementer", 0, interval_seconds=300)]
    )
    waiting: list[Task] = field(default_factory=lambda: [task()])
    claimed: list[Task] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    snapshot: dict[str, Any] = field(default_factory=dict)

    def seen(self) -> Snapshot:
        facts: dict[str, Any] = {
            "open_prs": 0,
            "runs": (),
            "agents": {},
            "roles": ROLES,
            "dependencies": {},
            "spent_today_usd": 0.0,
            **self.snapshot,
        }
        return Snapshot(waiting=tuple(self.waiting), claimed=tuple(self.claimed), **facts)

    def configured(self) -> Config:
        return Config(**{"agents": tuple(self.agents), **self.config})

    def plan(self, now: float = NOW) -> list[Action]:
        return self.whole_plan(now).actions

    def whole_plan(self, now: float = NOW) -> planner.Plan:
        plan = planner.plan(self.seen(), self.configured(), now)
        assert_agreement(self.seen(), self.configured(), plan)
        return plan

    def decisions(self, now: float = NOW) -> dict[str | None, str]:
        """Each agent's decision in words: `start`, `start T1`, or the reason why not."""
        actions = [a for a in self.plan(now) if a.action in ("start", "skip")]
        said = {
            a.agent: a.reason or "" if a.action == "skip" else f"start {a.task or ''}".strip()
            for a in actions
        }
        assert len(said) == len(actions) == len(self.agents)
        return said

    def decision(self, now: float = NOW) -> str:
        return self.decisions(now)[self.agents[0].name]


def refused(row: tuple[Verdict, ...]) -> list[str]:
    return [verdict.code for verdict in row if not verdict.ok]


def assert_agreement(snapshot: Snapshot, config: Config, plan: planner.Plan) -> None:
    """Check that the verdicts on each agent and each waiting task say what the plan does."""
    decided = {a.agent: a for a in plan.actions if a.action in ("start", "skip")}
    assert list(plan.agents) == [agent.name for agent in config.agents]
    for name, row in plan.agents.items():
        assert refused(row)[:1] == [reason for reason in [decided[name].reason] if reason]
    started = {action.task for action in decided.values()}
    ended = {a.task: a.reason for a in plan.actions if a.run is None and a.action != "requeue"}
    assert list(plan.tasks) == [waiting.id for waiting in snapshot.waiting]
    for task_id, row in plan.tasks.items():
        # `run AGENT --task ID` shows no verdicts on the tasks that it does not name.
        if not any(snapshot.forced.values()):
            assert (refused(row) == []) == (task_id in started)
        if task_id in ended and task_id not in started:
            assert refused(row)[0] == ended[task_id]
    for row in (*plan.agents.values(), *plan.tasks.values()):
        codes = [verdict.code for verdict in row]
        assert len(codes) == len(set(codes))
        assert all((verdict.hint is None) == verdict.ok for verdict in row)


# --- one rule after the other ------------------------------------------------------------------


def _all_tasks(header: Mapping[str, str] | None = None, **changes: Any) -> Callable[[World], None]:
    def spoil(world: World) -> None:
        world.waiting = [
            each._replace(header={**each.header, **(header or {})}, **changes)
            for each in world.waiting
        ]

    return spoil


def _snapshot(**changes: Any) -> Callable[[World], None]:
    return lambda world: world.snapshot.update(changes)


def _config(**changes: Any) -> Callable[[World], None]:
    return lambda world: world.config.update(changes)


def _pause_agent(world: World) -> None:
    world.agents[0] = world.agents[0]._replace(paused=True)


def _pin_elsewhere(world: World) -> None:
    world.snapshot["host"] = "one"
    world.agents[0] = world.agents[0]._replace(host="two")


def _add_run(view: RunView) -> Callable[[World], None]:
    def spoil(world: World) -> None:
        world.snapshot["runs"] = (*world.snapshot.get("runs", ()), view)

    return spoil


def _fault(world: World) -> None:
    world.snapshot["hold"] = Hold("system_fault", "no disk", None, NOW - 60)
    _add_run(run("R2", "another"))(world)


def _spend(world: World) -> None:
    world.snapshot["spent_today_usd"] = 50.0
    world.config["budgets"] = Budgets(daily_usd=50.0)


def _claim(world: World) -> None:
    world.claimed = [claimed(f"C{n}") for n in range(5)]


LIMIT = Hold("usage_limit", "the limit is reached", None, NOW - 60, until=NOW + 60)


def _use_up(world: World) -> None:
    world.config["pace"] = Pace(five_hour=0.8)
    world.snapshot["usage"] = {"five_hour": UsageWindow(0.81, NOW + 70)}


#: What makes each rule fail, and only that one, for an agent that takes tasks.
SPOILERS: dict[str, Callable[[World], None]] = {
    "config_error": _snapshot(may_start=False),
    "system_paused": _config(paused=True),
    "paused": _pause_agent,
    "other_host": _pin_elsewhere,
    "running": _add_run(run(agent="impl")),
    "not_due": _snapshot(agents={"impl": AgentView("impl", last_started=NOW - 10)}),
    "usage_limit": _snapshot(hold=LIMIT),
    "pace": _use_up,
    "system_fault": _fault,
    "budget_exhausted": _spend,
    "max_claimed": _claim,
    "open_prs_unknown": _snapshot(open_prs=None),
    "max_open_prs": _snapshot(open_prs=10),
    "blocked_by_dependency": _all_tasks(depends_on=("T0",)),
    "overlap": _snapshot(overlaps={f"T{n}": "T9 changes app.py" for n in range(9)}),
    "not_before": _all_tasks(header={"NOT_BEFORE": iso(NOW + 50)}),
    "backoff": _all_tasks(not_before=NOW + 30, backoff=60.0),
    "no_matching_task": _all_tasks(role="draw"),
    "max_starts": _config(max_starts=0),
}
#: The rules that read a task, and not only how much work there is.
OF_A_TASK = ORDER[ORDER.index("blocked_by_dependency") : ORDER.index("no_matching_task")]
#: They cannot both be so: one hold at a time, one count, and no task to be blocked or to wait.
EXCLUSIVE = {
    ("usage_limit", "system_fault"),
    ("open_prs_unknown", "max_open_prs"),
    *((code, "no_matching_task") for code in OF_A_TASK),
}


def test_the_table_has_every_rule_that_can_refuse_an_agent_in_the_order_of_the_rules() -> None:
    # `max_incoming` concerns only agents that take no tasks: see below.
    assert list(SPOILERS) == [code for code in ORDER if code != "max_incoming"]


def test_an_agent_that_nothing_speaks_against_starts_with_the_first_task() -> None:
    assert World().decision() == "start T1"


@each_row("reason", SPOILERS)
def test_each_rule_alone_holds_an_agent_back(reason: str) -> None:
    world = World()
    SPOILERS[reason](world)
    assert world.decision() == reason
    assert refused(world.whole_plan().agents["impl"]) == [reason]


def test_one_tick_starts_no_more_than_max_starts_and_says_so() -> None:
    agents = [Agent(f"pm-{n}", "product_manager", n) for n in range(4)]
    world = World(agents=agents, config={"max_starts": 2})
    assert list(world.decisions().values()) == ["start", "start", "max_starts", "max_starts"]
    world.agents[0] = world.agents[0]._replace(paused=True)
    assert list(world.decisions().values()) == ["paused", "start", "start", "max_starts"]


def test_a_task_that_has_cost_all_it_may_fails_instead_of_starting() -> None:
    world = World(waiting=[task("T1", cost_usd=2.0), task("T2", cost_usd=1.99)])
    assert world.decision() == "start T1"
    world.config["budgets"] = Budgets(task_usd=2.0)
    assert world.plan()[0] == Action("fail", task="T1", reason="budget_exhausted")
    assert world.decision() == "start T2"


@each_row(
    ("first", "second"),
    [pair for pair in itertools.combinations(SPOILERS, 2) if pair not in EXCLUSIVE],
)
def test_of_two_failing_rules_the_earlier_is_the_reason(first: str, second: str) -> None:
    for order in ((first, second), (second, first)):
        world = World()
        for reason in order:
            SPOILERS[reason](world)
        assert world.decision() == first


@each_row("reason", ORDER[: ORDER.index("max_incoming") + 1])
def test_a_product_manager_is_held_back_by_its_own_rules_in_the_same_order(reason: str) -> None:
    world = World(agents=[Agent("impl", "product_manager", 0, interval_seconds=300)])
    assert world.decision() == "start"
    world.waiting = [task(f"T{n}") for n in range(15)]
    _claim(world)
    assert world.decision() == "max_incoming"
    if reason != "max_incoming":
        SPOILERS[reason](world)
    assert world.decision() == reason


@pytest.mark.parametrize("reason", ["max_claimed", "open_prs_unknown", "max_open_prs", "backoff"])
def test_what_concerns_claiming_does_not_concern_a_product_manager(reason: str) -> None:
    world = World(agents=[Agent("pm", "product_manager", 0)])
    SPOILERS[reason](world)
    assert world.decision() == "start"


@pytest.mark.parametrize(
    ("waiting", "at_work", "decision"),
    [(20, 0, "max_incoming"), (16, 4, "max_incoming"), (19, 0, "start"), (15, 4, "start")],
)
def test_creating_needs_waiting_and_claimed_tasks_together_below_max_incoming(
    waiting: int, at_work: int, decision: str
) -> None:
    world = World(agents=[Agent("pm", "product_manager", 0)])
    world.waiting = [task(f"T{n}") for n in range(waiting)]
    world.claimed = [claimed(f"C{n}") for n in range(at_work)]
    assert world.decision() == decision


def test_an_agent_whose_role_is_gone_is_a_configuration_error() -> None:
    world = World(agents=[Agent("odd", "juggler", 0), Agent("impl", "implementer", 1)])
    assert world.decisions() == {"odd": "config_error", "impl": "start T1"}


# --- when an agent is due ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("last_started", "decision"),
    [
        (None, "start T1"),
        (NOW - 300, "start T1"),
        (NOW - 290, "start T1"),
        (NOW - 289, "not_due"),
        (NOW, "not_due"),
        (NOW + 86_400, "not_due"),
    ],
)
def test_an_agent_is_due_an_interval_after_its_last_start(
    last_started: float | None, decision: str
) -> None:
    world = World()
    world.snapshot["agents"] = {"impl": AgentView("impl", last_started)}
    assert world.decision() == decision


def test_a_start_recorded_ahead_of_the_clock_never_waits_longer_than_an_interval() -> None:
    world = World()
    world.snapshot["agents"] = {"impl": AgentView("impl", last_started=NOW + 86_400)}
    agent = world.agents[0]
    assert next_due(agent, NOW + 86_400, NOW) - NOW <= (agent.interval_seconds or 0)


def test_an_agent_that_is_asked_for_by_name_is_due_whatever_its_interval() -> None:
    world = World()
    world.snapshot["agents"] = {"impl": AgentView("impl", last_started=NOW - 1)}
    world.snapshot["forced"] = {"impl": None}
    assert world.decision() == "start T1"
    world.waiting = [task("T1"), task("T2")]
    world.snapshot["forced"] = {"impl": "T2"}
    assert world.decision() == "start T2"
    world.snapshot["forced"] = {"impl": "T3"}
    assert world.decision() == "no_matching_task"


@each_row("reason", [r for r in SPOILERS if r not in ("not_due", "config_error")])
def test_asking_for_an_agent_by_name_lifts_no_rule_but_the_interval(reason: str) -> None:
    world = World()
    world.snapshot["forced"] = {"impl": None}
    SPOILERS[reason](world)
    assert world.decision() == reason


def test_an_agent_that_the_scheduler_suspended_is_paused_and_says_why() -> None:
    world = World()
    world.snapshot["agents"] = {"impl": AgentView("impl", suspended="failed 3 times in a row")}
    assert world.decision() == "paused"
    verdict = planner.refusal(world.whole_plan().agents["impl"])
    assert verdict is not None
    assert verdict.detail == "impl: failed 3 times in a row"


def test_an_agent_whose_folder_is_closed_leaves_the_tasks_to_the_others() -> None:
    world = World(agents=crew(*IMPL2), waiting=[task("T1")])
    first, second = (agent.name for agent in world.agents)
    world.snapshot["agents"] = {first: AgentView(first, closed="its folder cannot be written")}
    assert world.decisions() == {first: "system_fault", second: "start T1"}


# --- limits ------------------------------------------------------------------------------------


def crew(*roles: str) -> list[Agent]:
    return [Agent(f"a{n}", name, n) for n, name in enumerate(roles, 1)]


IMPL2 = ("implementer", "implementer")
#: roles, waiting tasks' roles, claimed, open pull requests, limits -> decisions
CAPACITY: dict[str, tuple[tuple[str, ...], str, int, int, dict[str, int], list[str]]] = {
    "two agents, two tasks": (IMPL2, "ii", 0, 0, {}, ["start T1", "start T2"]),
    "two agents, one task": (IMPL2, "i", 0, 0, {}, ["start T1", "no_matching_task"]),
    "room for one claim": (
        IMPL2,
        "ii",
        1,
        0,
        {"max_claimed": 2},
        ["start T1", "max_claimed"],
    ),
    "room for one pull request": (
        IMPL2,
        "ii",
        0,
        0,
        {"max_open_prs": 1},
        ["start T1", "max_open_prs"],
    ),
    "a claimed task is a coming pull request": (
        IMPL2,
        "ii",
        1,
        1,
        {"max_open_prs": 3},
        ["start T1", "max_open_prs"],
    ),
    "claims count across roles": (
        ("implementer", "reviewer", "tester"),
        "irt",
        0,
        0,
        {"max_claimed": 2},
        ["start T1", "start T2", "max_claimed"],
    ),
    "a reviewer takes no pull request's place": (
        ("reviewer", "implementer"),
        "ri",
        0,
        0,
        {"max_open_prs": 1},
        ["start T1", "start T2"],
    ),
    "limits of nothing let nothing start": (
        IMPL2,
        "ii",
        0,
        0,
        {"max_claimed": 0},
        ["max_claimed", "max_claimed"],
    ),
    "more claimed than a lowered limit": (
        IMPL2,
        "ii",
        5,
        0,
        {"max_claimed": 2},
        ["max_claimed", "max_claimed"],
    ),
    "product managers take no claim's place": (
        ("product_manager", "implementer"),
        "i",
        0,
        0,
        {"max_claimed": 1},
        ["start", "start T1"],
    ),
}


@each_row("name", CAPACITY)
def test_what_a_plan_starts_counts_against_the_limits_of_the_same_plan(name: str) -> None:
    roles, tasks, at_work, open_prs, limits, expected = CAPACITY[name]
    words = {"i": "implement", "r": "review", "t": "test"}
    world = World(agents=crew(*roles))
    world.waiting = [task(f"T{n}", words[letter]) for n, letter in enumerate(tasks, 1)]
    world.claimed = [claimed(f"C{n}") for n in range(at_work)]
    world.snapshot["open_prs"] = open_prs
    world.config["queue_limits"] = QueueLimits(**limits)
    assert list(world.decisions().values()) == expected


@each_row("open_prs", [None, 10, 11])
@each_row(
    ("role", "waiting", "decision"),
    [
        ("reviewer", task("T1", "review"), "start T1"),
        ("implementer", task("T1", pr="7"), "start T1"),
        ("tester", task("T1", "test", pr="7"), "start T1"),
        ("implementer", task("T1"), None),
    ],
)
def test_what_drains_is_never_held_by_what_is_full(
    open_prs: int | None, role: str, waiting: Task, decision: str | None
) -> None:
    world = World(agents=[Agent("impl", role, 0)], waiting=[waiting])
    world.snapshot["open_prs"] = open_prs
    expected = "open_prs_unknown" if open_prs is None else "max_open_prs"
    assert world.decision() == (decision or expected)


def test_at_the_limit_rework_is_taken_past_the_tasks_that_wait_before_it() -> None:
    world = World(waiting=[task("T1"), task("T2"), task("T3", pr="7")])
    world.snapshot["open_prs"] = 10
    assert world.decision() == "start T3"


def test_rework_that_cannot_run_yet_does_not_let_new_work_through_the_limit() -> None:
    world = World(waiting=[task("T1"), task("T2", pr="7", not_before=NOW + 9, backoff=10.0)])
    world.snapshot["open_prs"] = 10
    assert world.decision() == "backoff"


@pytest.mark.parametrize(
    ("heads", "ends"),
    [
        ({"7": "c1"}, None),
        ({"7": "c2"}, "superseded"),
        ({}, "pull_request_not_open"),
        (None, None),
    ],
)
def test_a_review_of_a_commit_that_is_not_the_head_ends(
    heads: dict[str, str] | None, ends: str | None
) -> None:
    review = task("R1", "review", pr="7", reviews="T1", head="c1")
    world = World(agents=[Agent("rev", "reviewer", 0)], waiting=[review])
    world.snapshot["open_heads"] = heads
    assert world.decision() == ("no_matching_task" if ends else "start R1")
    ended = [action.reason for action in world.plan() if action.action == "finish"]
    assert ended == ([ends] if ends else [])


def test_a_review_of_a_draft_waits_until_it_is_ready() -> None:
    review = task("R1", "review", pr="7", reviews="T1", head="c1")
    world = World(agents=[Agent("rev", "reviewer", 0)], waiting=[review, task("T2", pr="7")])
    world.snapshot |= {"open_heads": {}, "not_reviewable": {"R1": "a draft"}}
    assert world.decision() == "no_matching_task"
    refused = [verdict.code for verdict in world.whole_plan().tasks["R1"] if not verdict.ok]
    assert refused[0] == "not_reviewable"
    world.snapshot |= {"open_heads": {"7": "c1"}, "not_reviewable": {}}
    assert world.decision() == "start R1"


def test_a_claimed_task_with_a_pull_request_or_a_reviewers_is_not_counted_twice() -> None:
    world = World(claimed=[claimed("C1", pr="1"), claimed("C2", "review"), claimed("C3", "draw")])
    world.snapshot["open_prs"] = 9
    assert world.decision() == "start T1"
    world.claimed.append(claimed("C4", "test"))
    assert world.decision() == "max_open_prs"


# --- usage limits, faults and money ------------------------------------------------------------


@pytest.mark.parametrize(
    ("until", "decision"),
    [(NOW + 1, "usage_limit"), (NOW, "start T1"), (NOW - 1, "start T1")],
)
def test_a_usage_limit_holds_everyone_until_its_reset(until: float, decision: str) -> None:
    world = World(agents=crew("implementer", "product_manager"))
    world.snapshot["hold"] = LIMIT._replace(until=until)
    assert list(world.decisions().values()) == [decision, decision.replace(" T1", "")]


def test_a_usage_limits_reset_far_ahead_of_the_clock_is_believed() -> None:
    world = World()
    world.snapshot["hold"] = LIMIT._replace(since=NOW + 9e5, until=NOW + 1e6)
    assert world.decision() == "usage_limit"


FAULT = Hold("system_fault", "remote_unreachable: no route", None, NOW - 60)


def test_after_a_fault_each_plan_tries_again_with_one_run() -> None:
    world = World(agents=crew(*IMPL2, "product_manager"), waiting=[task("T1"), task("T2")])
    world.snapshot["hold"] = FAULT
    assert list(world.decisions().values()) == ["start T1", "system_fault", "system_fault"]


def test_the_run_that_tests_a_fault_rotates_among_agents_and_tasks() -> None:
    agents = crew(*IMPL2, "product_manager")
    world = World(agents=agents, waiting=[task("T1"), task("T2"), task("T3")])
    hold, seen = FAULT, []
    for _ in range(6):
        world.snapshot["hold"] = hold
        [(agent, said)] = [(a, d) for a, d in world.decisions().items() if d != "system_fault"]
        assert list(world.decisions()) == [each.name for each in agents], "the reported order"
        seen.append(said.partition(" ")[2])
        hold = hold.met_by(agent, seen[-1] or None)
    assert seen == ["T1", "T2", "", "T3", "T1", ""]


@pytest.mark.parametrize(("hours", "task_id"), [(0, "T1"), (0.9, "T1"), (1, "T4")])
def test_only_a_few_paid_runs_of_other_tasks_test_one_fault(hours: float, task_id: str) -> None:
    world = World(waiting=[task(f"T{number}") for number in range(1, 6)])
    hold = FAULT._replace(since=NOW - hours * 3600)
    for number in range(1, 4):
        hold = hold.met_by("another", f"T{number}", paid=True)
    world.snapshot["hold"] = hold
    assert world.decision() == f"start {task_id}"


def test_no_run_is_paid_for_to_test_a_refusal_that_does_not_depend_on_the_task() -> None:
    world = World(waiting=[task("T1"), task("T2"), task("T3")])
    refused = FAULT._replace(message="remote_refuses: a rule about names", since=NOW - 7200)
    world.snapshot["hold"] = refused.met_by("another", "T3")
    assert world.decision() == "start T3"


def test_a_paused_agent_and_a_task_that_always_fails_do_not_keep_the_fault() -> None:
    agents = (crew("implementer")[0]._replace(name="paused", paused=True), *crew("implementer"))
    world = World(agents=agents, waiting=[task("T1"), task("T2")])
    world.snapshot["hold"] = FAULT.met_by(agents[1].name, "T1")
    assert list(world.decisions().values()) == ["paused", "start T2"]


def test_a_product_managers_run_may_be_the_one_that_tries_again() -> None:
    world = World(agents=crew("product_manager", "implementer"))
    world.snapshot["hold"] = FAULT
    assert list(world.decisions().values()) == ["start", "system_fault"]


def test_an_agent_that_cannot_start_anyway_does_not_use_up_the_try() -> None:
    world = World(agents=crew("reviewer", "implementer"))
    world.snapshot["hold"] = FAULT
    assert list(world.decisions().values()) == ["no_matching_task", "start T1"]


@pytest.mark.parametrize(
    ("other", "decision"),
    [
        (run("R1", "other", alive=True), "system_fault"),
        (run("R1", "other", alive=True, finished=True), "system_fault"),
        (run("R1", "other", alive=False), "system_fault"),
        (run("R1", "other", alive=False, finished=True), "start T1"),
    ],
    ids=["at work", "ending", "about to be started again", "ended"],
)
def test_while_a_run_is_under_way_no_second_one_tries_a_fault(
    other: RunView, decision: str
) -> None:
    world = World()
    world.snapshot.update(hold=FAULT, runs=(other,))
    assert world.decision() == decision


@pytest.mark.parametrize(
    ("spent", "cap", "decision"),
    [
        (49.99, 50.0, "start T1"),
        (50.0, 50.0, "budget_exhausted"),
        (51.0, 50.0, "budget_exhausted"),
        (1e9, None, "start T1"),
        (0.0, 0.0, "budget_exhausted"),
    ],
)
def test_a_run_starts_while_todays_spending_is_below_the_cap(
    spent: float, cap: float | None, decision: str
) -> None:
    world = World()
    world.snapshot["spent_today_usd"] = spent
    world.config["budgets"] = Budgets(daily_usd=cap)
    assert world.decision() == decision


# --- which task --------------------------------------------------------------------------------


def test_a_task_that_is_blocked_or_waits_lets_the_ones_behind_it_pass() -> None:
    world = World(waiting=[task("T1", depends_on=("T9",)), task("T2", not_before=NOW + 5), task()])
    world.waiting[2] = task("T3")
    assert world.decision() == "start T3"


@pytest.mark.parametrize(
    ("verdicts", "decision"),
    [
        ({"A": "met", "B": "met"}, "start T1"),
        ({"A": "met", "B": "waiting: it is in claimed"}, "blocked_by_dependency"),
        ({"A": "met", "B": "broken: it failed"}, "blocked_by_dependency"),
        ({"A": "met"}, "blocked_by_dependency"),
        ({}, "blocked_by_dependency"),
    ],
)
def test_a_task_starts_when_every_dependency_is_met(
    verdicts: dict[str, str], decision: str
) -> None:
    world = World(waiting=[task(depends_on=("A", "B"))])
    world.snapshot["dependencies"] = verdicts
    assert world.decision() == decision


#: seconds until not_before, the delay it came from -> seconds that the task still waits
BACKOFF: list[tuple[float | None, float | None, float]] = [
    (None, None, 0),
    (None, 60, 0),
    (30, 60, 30),
    (60, 60, 60),
    (61, 60, 60),  # by so little, clocks are set right: recorded ahead of now, it counts as now
    (62, 60, 0),  # farther away than its whole delay: the clock was moved back
    (28_800, 60, 0),
    (0, 60, 0),
    (-1, 60, 0),
    (-28_800, 60, 0),  # the clock was moved forward
    (0.5, 10, 0.5),
]


@each_row(("ahead", "delay", "left"), BACKOFF)
def test_a_failed_task_waits_for_its_delay_and_never_longer_by_a_moved_clock(
    ahead: float | None, delay: float | None, left: float
) -> None:
    waiting = task(not_before=None if ahead is None else NOW + ahead, backoff=delay)
    assert seconds_left(waiting, NOW) == left
    assert World(waiting=[waiting]).decision() == ("backoff" if left else "start T1")


def test_only_tasks_that_wait_for_their_delay_are_named_as_waiting() -> None:
    late = task("T2", not_before=NOW + 7, backoff=10)
    for waiting, detail in (
        ([task("T1")], "no delay"),
        ([], "no delay"),
        ([task("T1"), late], "no delay"),
        ([late, task("T3", not_before=NOW + 9)], "T2 is retried in 7 s"),
    ):
        rules = World(waiting=waiting).whole_plan().agents["impl"]
        assert [rule.detail for rule in rules if rule.code == "backoff"] == [detail]


def test_each_agent_takes_only_tasks_of_its_role_and_no_task_is_given_out_twice() -> None:
    world = World(agents=crew("implementer", "tester", "reviewer", "implementer"))
    world.waiting = [task("T1", "review"), task("T2", "test"), task("T3"), task("T4")]
    assert list(world.decisions().values()) == ["start T3", "start T2", "start T1", "start T4"]


# --- what becomes of a run ---------------------------------------------------------------------

RETRY = Retry(max_attempts=3, backoff_seconds=10, max_backoff_seconds=300)


def settled(
    outcome: Outcome | None, attempts: int = 0, interruptions: int = 0, **facts: Any
) -> Action | None:
    world = World(
        claimed=[claimed("T1", run="R1", attempts=attempts, interruptions=interruptions)],
        config={"retry": RETRY},
    )
    view = run(**{"task": "T1", "alive": False, "finished": True, "outcome": outcome, **facts})
    return settlements.settle(view, world.seen().claimed, world.configured())


#: verdict, attempts so far, interruptions in a row -> action, delay, charged
VERDICT_TABLE: list[tuple[str, int, int, str, float | None, bool]] = [
    ("done", 0, 0, "finish", None, False),
    ("done", 2, 1, "finish", None, False),
    ("no_change", 0, 0, "finish", None, False),
    ("approved", 0, 0, "finish", None, False),
    ("changes_requested", 0, 0, "finish", None, False),
    ("needs_human", 2, 0, "block", None, False),
    ("split", 2, 1, "block", None, False),
    ("failed", 0, 0, "requeue", 10, True),
    ("failed", 1, 0, "requeue", 20, True),
    ("failed", 2, 0, "fail", None, True),
    ("failed", 7, 0, "fail", None, True),
    ("usage_limit", 2, 0, "requeue", None, False),
    ("system_fault", 2, 5, "requeue", None, False),
    ("stopped", 2, 1, "requeue", None, False),
    ("moved", 2, 1, "requeue", None, False),
    ("interrupted", 0, 0, "requeue", None, False),
    ("interrupted", 2, 0, "requeue", None, False),
    ("interrupted", 0, 1, "requeue", 10, True),
    ("interrupted", 1, 2, "requeue", 20, True),
    ("interrupted", 2, 1, "fail", None, True),
]


def test_the_table_of_verdicts_leaves_none_out() -> None:
    assert {row[0] for row in VERDICT_TABLE} == set(VERDICTS)


@each_row(("verdict", "attempts", "interruptions", "word", "delay", "charged"), VERDICT_TABLE)
def test_every_verdict_has_its_action(
    verdict: str,
    attempts: int,
    interruptions: int,
    word: str,
    delay: float | None,
    charged: bool,
) -> None:
    outcome = Outcome(verdict, "stalled: it said nothing")
    action = settled(outcome, attempts, interruptions)
    expected = Action(word, "busy", "T1", "R1", "stalled: it said nothing", delay, charged)
    assert action == expected


@each_row(
    ("verdict", "cost", "before", "word"),
    [
        ("moved", 0.5, {"moved": 1}, "requeue"),
        ("moved", None, {"moved": 2}, "block"),
        ("moved", 0.5, {"system_fault": 9, "interrupted": 9}, "requeue"),
        ("system_fault", 0.5, {"system_fault": 8, "moved": 2}, "requeue"),
        ("system_fault", 0.5, {"system_fault": 9}, "block"),
        ("system_fault", 0.0, {"system_fault": 9}, "requeue"),
        ("system_fault", None, {"system_fault": 9}, "requeue"),
        ("system_fault", None, {"first_fault": 2}, "requeue"),
        ("system_fault", None, {"first_fault": 3}, "block"),
        ("moved", 0.5, {"first_fault": 3}, "requeue"),
        ("interrupted", None, {"interrupted": 8}, "requeue"),
        ("interrupted", None, {"interrupted": 9}, "block"),
        ("usage_limit", 0.5, {"usage_limit": 99}, "requeue"),
        ("stopped", 0.5, {"stopped": 99}, "requeue"),
    ],
)
def test_endings_that_cost_money_but_no_attempt_ask_a_person_in_the_end(
    verdict: str, cost: float | None, before: dict[str, int], word: str
) -> None:
    task = claimed("T1", run="R1", uncharged=before)
    outcome = Outcome(verdict, "branch_moved: somebody pushed", cost_usd=cost)
    view = run(task="T1", alive=False, finished=True, outcome=outcome)
    action = settlements.settle(view, [task], World(config={"retry": RETRY}).configured())
    assert action is not None
    assert (action.action, action.charged) == (word, False)
    if word == "block":
        said = repeats.question(task, outcome)
        assert f": {max(before.values()) + 1}." in said
        assert "branch_moved: somebody pushed" in said


def test_a_fault_of_the_database_is_never_taken_for_the_fault_of_a_task() -> None:
    """Four runs of one task met an outage, and the runs of the other tasks ended well."""
    task = claimed("T1", run="R1", uncharged={"first_fault": 3})
    for code, word in ((StoreFault.code, "requeue"), ("remote_failed", "block")):
        outcome = Outcome("system_fault", f"{code}: no answer")
        assert repeats.may_be_own(outcome) == (word == "block")
        view = run(task="T1", alive=False, finished=True, outcome=outcome)
        action = settlements.settle(view, [task], World(config={"retry": RETRY}).configured())
        assert action is not None
        assert action.action == word


def test_a_verdict_that_nobody_knows_is_a_failure_of_the_work() -> None:
    action = settled(Outcome("marvellous"))
    assert action is not None
    assert (action.action, action.charged) == ("requeue", True)


@each_row(
    ("attempt", "delay"),
    [(0, 10), (1, 10), (2, 20), (3, 40), (5, 160), (6, 300), (7, 300), (5000, 300)],
)
def test_the_delay_doubles_with_each_attempt_up_to_the_longest(attempt: int, delay: float) -> None:
    assert RETRY.delay(attempt) == delay


@pytest.mark.parametrize(
    "retry", [Retry(1, 10, 300), Retry(1, 0, 0), Retry(5000, 1e-9, 31_622_400), Retry(9, 300, 10)]
)
def test_no_delay_is_longer_than_the_longest_nor_negative(retry: Retry) -> None:
    assert all(0 <= retry.delay(n) <= retry.max_backoff_seconds for n in range(-1, 5000, 7))


def test_a_run_that_is_at_work_is_left_alone() -> None:
    assert settled(None, alive=True, finished=False) is None


def test_a_result_outranks_a_living_supervisor_and_any_number_of_restarts() -> None:
    done = Outcome("done", pr="4")
    for alive, restarts in itertools.product((True, False), (0, settlements.MAX_RESTARTS)):
        action = settled(done, alive=alive, restarts=restarts)
        assert action is not None
        assert action.action == "finish"


@pytest.mark.parametrize("restarts", range(settlements.MAX_RESTARTS + 1))
def test_a_run_whose_supervisor_died_is_taken_up_again_and_lost_after_the_last_time(
    restarts: int,
) -> None:
    action = settled(None, alive=False, finished=False, restarts=restarts)
    assert action is not None
    if restarts < settlements.MAX_RESTARTS:
        assert action == Action("deliver", "busy", "T1", "R1", "supervisor_gone")
    else:
        assert (action.action, action.charged) == ("requeue", False)
        assert (action.reason or "").startswith("no_result")


def test_a_run_whose_client_has_ended_is_not_given_up_so_soon() -> None:
    died = {"alive": False, "finished": False, "concluding": True}
    for restarts in range(settlements.MAX_RESTARTS, settlements.MAX_CONCLUDING_RESTARTS):
        action = settled(None, restarts=restarts, **died)
        assert action == Action("deliver", "busy", "T1", "R1", "supervisor_gone")
    last = settled(None, restarts=settlements.MAX_CONCLUDING_RESTARTS, **died)
    assert last is not None
    assert last.action == "requeue"


def test_a_run_that_is_lost_a_second_time_in_a_row_costs_an_attempt() -> None:
    lost = {"alive": False, "finished": False, "restarts": settlements.MAX_RESTARTS}
    action = settled(None, 0, 1, **lost)
    assert action is not None
    assert (action.action, action.charged, action.delay) == ("requeue", True, 10)


def test_a_finished_run_whose_outcome_cannot_be_read_was_interrupted() -> None:
    action = settled(None)
    assert action is not None
    assert (action.action, action.charged) == ("requeue", False)
    assert (action.reason or "").startswith("no_result")


@each_row("verdict", VERDICTS)
@each_row("whose", ["nobody's", "another run's", "not claimed"])
def test_a_task_that_was_moved_away_is_not_moved_again(verdict: str, whose: str) -> None:
    world = World(config={"retry": RETRY})
    if whose == "another run's":
        world.claimed = [claimed("T1", run="R2")]
    view = run(
        task=None if whose == "nobody's" else "T1",
        alive=False,
        finished=True,
        outcome=Outcome(verdict),
    )
    action = settlements.settle(view, world.seen().claimed, world.configured())
    assert action is not None
    assert (action.action, action.charged) == ("finish", False)


@pytest.mark.parametrize(
    ("ended", "action"),
    [("requeued", "requeue"), ("failed", "fail"), ("blocked", "block"), ("done", "finish")],
)
def test_an_end_that_is_written_down_already_is_not_decided_anew(ended: str, action: str) -> None:
    """A kill came between the line in the file, which counted an attempt, and the file's move."""
    world = World(config={"retry": RETRY})
    world.claimed = [claimed("T1", run="R1", attempts=2, interruptions=1, ended=ended)]
    for verdict in ("failed", "interrupted"):
        view = run(task="T1", alive=False, finished=True, outcome=Outcome(verdict))
        said = settlements.settle(view, world.seen().claimed, world.configured())
        assert said is not None
        assert said.action == action


def test_a_task_put_back_by_hand_waits_until_the_run_at_work_on_it_has_ended() -> None:
    world = World(agents=crew("implementer", "implementer"), waiting=[task("T1"), task("T2")])
    world.snapshot["runs"] = (run("R1", "elsewhere", task="T1"),)
    assert world.decisions() == {"a1": "start T2", "a2": "no_matching_task"}


def test_runs_are_settled_before_agents_are_judged_and_each_once() -> None:
    world = World(agents=crew("implementer", "tester"))
    world.claimed = [claimed("T8", run="R1"), claimed("T9", run="R2")]
    done = {"alive": False, "finished": True}
    world.snapshot["runs"] = (
        run("R1", "a1", task="T8", **done, outcome=Outcome("done")),
        run("R2", "gone", task="T9", **done, outcome=Outcome("failed")),
        run("R3", "gone2"),
    )
    said = [(a.action, a.run or a.agent) for a in world.plan()]
    assert said == [("finish", "R1"), ("requeue", "R2"), ("skip", "a1"), ("skip", "a2")]


def test_a_broken_configuration_still_settles_runs_but_starts_nothing() -> None:
    world = World(claimed=[claimed("T8", run="R1")])
    view = run("R1", "impl", task="T8", alive=False, finished=True, outcome=Outcome("done"))
    world.snapshot.update(may_start=False, runs=(view,))
    assert [(a.action, a.reason) for a in world.plan()] == [
        ("finish", None),
        ("skip", "config_error"),
    ]


def test_a_paused_system_still_settles_what_is_running() -> None:
    world = World(claimed=[claimed("T8", run="R1")], config={"paused": True})
    view = run("R1", "impl", task="T8", alive=False, finished=True, outcome=Outcome("done"))
    world.snapshot["runs"] = (view,)
    assert [a.action for a in world.plan()] == ["finish", "skip"]


# --- why a task is not claimed -----------------------------------------------------------------


@each_row(
    ("reason", "code"),
    [
        ("config_error", "config_error"),
        ("paused", "paused"),
        ("max_claimed", "max_claimed"),
        ("max_open_prs", "max_open_prs"),
        ("blocked_by_dependency", "blocked_by_dependency"),
        ("not_before", "not_before"),
        ("backoff", "backoff"),
        ("no_matching_task", "no_matching_agent"),
    ],
)
def test_explaining_a_task_names_what_holds_it(reason: str, code: str) -> None:
    world = World()
    SPOILERS[reason](world)
    assert refused(world.whole_plan().tasks["T1"])[0] == code


def test_explaining_a_task_that_is_free_says_who_takes_it_and_who_is_before_it() -> None:
    world = World(waiting=[task("T1"), task("T2")])
    tasks = world.whole_plan().tasks
    assert [refused(row) for row in tasks.values()] == [[], ["queue_order"]]
    details = [v.detail for row in tasks.values() for v in row if v.code == "queue_order"]
    assert details == ["impl takes T1 at the next tick", "impl takes T1 first"]


def test_a_task_starts_at_its_not_before_and_no_second_earlier() -> None:
    for later, decision in ((0, "start T1"), (1, "not_before")):
        world = World(waiting=[task("T1", header={"NOT_BEFORE": iso(NOW + later)})])
        assert world.decision() == decision


def test_a_not_before_that_is_no_time_holds_only_its_task() -> None:
    world = World(waiting=[task("T1", header={"NOT_BEFORE": "soon"}), task("T2")])
    assert world.decision() == "start T2"
    assert refused(world.whole_plan().tasks["T1"])[0] == "not_before"


# --- when a plan may change by itself -----------------------------------------------------------

#: What makes a verdict change as time goes by, and after how many seconds.
WAKES: dict[str, tuple[Callable[[World], None], float]] = {
    "an interval": (SPOILERS["not_due"], 280),
    "a schedule": (
        lambda world: [
            _snapshot(agents={"impl": AgentView("impl", NOW)})(world),
            world.agents.append(world.agents.pop()._replace(schedule="5 * * * *")),
        ],
        300,
    ),
    "a usage limit": (SPOILERS["usage_limit"], 60),
    "a share of a usage window": (SPOILERS["pace"], 70),
    "a time before which a task must not start": (SPOILERS["not_before"], 50),
    "a delay": (SPOILERS["backoff"], 30),
    "a delay that begins again": (_all_tasks(not_before=NOW + 100, backoff=60.0), 39),
}


@pytest.mark.parametrize("name", WAKES)
def test_a_plan_wakes_when_a_verdict_changes_by_itself(name: str) -> None:
    spoil, seconds = WAKES[name]
    world = World()
    spoil(world)
    first = world.whole_plan()
    assert first.wake == NOW + seconds
    assert [v.until for v in first.agents["impl"] if v.until is not None] == [first.wake]
    assert world.decision(NOW + seconds - 0.01) == world.decision()
    assert world.decision(NOW + seconds + 0.01) != world.decision()


@each_row("reason", [None, *SPOILERS])
def test_a_plan_wakes_at_the_time_that_its_refusal_names_and_never_without_one(
    reason: str | None,
) -> None:
    world = World()
    if reason is not None:
        SPOILERS[reason](world)
    plan = world.whole_plan()
    refused_by = planner.refusal(plan.agents["impl"])
    assert (refused_by.code if refused_by else None) == reason
    assert plan.wake == (refused_by.until if refused_by else None)


def test_a_spent_daily_budget_lasts_until_the_day_ends_by_this_machines_clock() -> None:
    world = World()
    SPOILERS["budget_exhausted"](world)
    wake = world.whole_plan().wake
    assert wake is not None
    assert datetime.fromtimestamp(wake).time() == datetime.min.time()  # noqa: DTZ006
    assert NOW < wake <= NOW + 90_000


# --- one more rule ------------------------------------------------------------------------------


@pytest.fixture
def new_rules() -> Iterator[None]:
    """Rules as a contributor would add them, on header fields that no code knows."""
    before = list(rules.RULES)

    @rules._rule("too_early", "choice", "no action needed: {about} starts at that time")
    def _starts(waiting: Task, draft: Draft) -> Judged | None:
        at = parse_time(waiting.header.get("START", ""))
        if at is None:
            return None
        return Judged(at <= draft.at, f"{waiting.id} starts at {iso(at)}", at)

    @rules._rule("expired", "task", "then: orchestrator task retry {about}", ends="fail")
    def _expires(waiting: Task, draft: Draft) -> Judged | None:
        at = parse_time(waiting.header.get("EXPIRES", ""))
        if at is None:
            return None
        return Judged(draft.at < at, f"{waiting.id} expires at {iso(at)}", at)

    @rules._rule("not_needed", "task", "no action needed: the next tick ends it", ends="finish")
    def _needed(waiting: Task, _: Draft) -> Judged | None:
        why = waiting.header.get("NOT_NEEDED")
        return None if why is None else Judged(False, f"{waiting.id} is not needed: {why}")

    last = next(n for n, rule in enumerate(rules.RULES) if rule.code == "queue_order")
    rules.RULES.append(rules.RULES.pop(last))  # `queue_order` stays the last rule
    importlib.reload(planner)
    yield
    rules.RULES[:] = before
    importlib.reload(planner)


@pytest.mark.usefixtures("new_rules")
def test_a_new_rule_on_a_new_header_field_is_one_entry() -> None:
    text = f"# [T1] Later\n\nROLE: implement\nstart: {iso(NOW + 100)}\n"
    file = task_file.parse(text.encode(), "T1.md")
    later = task_file.summarise(file, "incoming", "/q/T1.md", NOW)
    world = World(waiting=[later, task("T2")])
    assert world.decision() == "start T2"
    assert refused(world.whole_plan().tasks["T1"])[0] == "too_early"
    world.waiting.pop()
    plan = world.whole_plan()
    assert world.decision() == "too_early"
    assert plan.wake == NOW + 100
    assert (held := planner.refusal(plan.tasks["T1"]))
    assert held.hint == "no action needed: T1 starts at that time"
    assert world.decision(NOW + 100) == "start T1"


@pytest.mark.usefixtures("new_rules")
def test_a_new_rule_that_ends_tasks_is_one_entry_and_its_detail_is_what_the_task_says(
    project: Layout,
) -> None:
    # There is no budget, and no agent starts.
    Path(project.config).write_text("paused: true\nagents: [{name: a, role: implementer}]\n")
    store = stores.of_project(project)
    now = time.time()
    for name, line in (("OLD", f"EXPIRES: {iso(now)}"), ("DONE", "NOT_NEEDED: it is there")):
        text = f"# [{name}] Title\n\nROLE: implement\n{line}\n"
        store.add(task_file.parse(text.encode(), f"{name}.md"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps, "plan", planner.plan)  # the reloaded module's
        report = tick.run_tick(project, now)
    assert not report.problems
    ended = {(a.action, a.task, a.reason) for a in report.actions if a.task}
    assert ended == {("fail", "OLD", "expired"), ("finish", "DONE", "not_needed")}
    [failed] = store.list("failed").tasks
    assert (failed.reason, failed.error) == ("expired", f"expired: OLD expires at {iso(now)}")
    [done] = store.list("done").tasks
    last = store.read(done).history[-1]
    assert (last.event, last.fields["summary"]) == ("done", "DONE is not needed: it is there")


# --- many tasks that are alike ------------------------------------------------------------------


def plain(task_id: str, role: str = "implement", **header: str) -> Task:
    """Return a task to which nothing has happened, of which each field may be its own."""
    more = {"priority": "P1", "created": NOW, "created_by": f"by {task_id}", "branch": task_id}
    return task(task_id, role, **more, header={"ROLE": role, "CREATED": task_id, **header})


def judged_together(world: World) -> planner.Plan:
    """Return the plan of tasks that are judged together; check that it is the plan of each."""
    snapshot, config = world.seen(), world.configured()
    together = planner.plan(snapshot._replace(waiting=grouped(snapshot.waiting)), config, NOW)
    assert_same(together, planner.plan(snapshot, config, NOW))
    return together


def assert_same(one: planner.Plan, other: planner.Plan) -> None:
    assert one._replace(tasks={}) == other._replace(tasks={})  # type: ignore[arg-type]
    assert list(one.tasks.items()) == list(other.tasks.items())
    assert list(stuck(one).items()) == list(stuck(other).items())


def judged(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Return a list to which each subject is added that the first rule judges."""
    subjects: list[object] = []
    first = rules.RULES[0]

    def judge(subject: Any, draft: Draft) -> Judged | None:
        subjects.append(subject)
        return first.judge(subject, draft)

    for name in ("_TASK", "_OWN"):
        found = [r if r is not first else r._replace(judge=judge) for r in getattr(planner, name)]
        monkeypatch.setattr(planner, name, found)
    return subjects


def test_tasks_to_which_nothing_has_happened_are_judged_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    many = [plain(f"T{n}", "paint" if n % 2 else "implement") for n in range(200)]
    dear = plain("DEAR")._replace(cost_usd=2.0)
    world = World(waiting=[*many, dear], config={"budgets": Budgets(task_usd=1)})
    subjects = judged(monkeypatch)
    snapshot, config = world.seen(), world.configured()
    together = planner.plan(snapshot, config, NOW)
    assert len(subjects) < 10
    monkeypatch.setattr("orchestrator.model.waiting.SEVERAL", math.inf)
    assert_same(together, planner.plan(snapshot, config, NOW))
    assert len(subjects) > 200
    assert [a.task for a in together.actions] == ["DEAR", "T0"]
    assert refused(together.tasks["T2"])[0] == "queue_order"
    assert refused(together.tasks["T1"])[0] == "no_matching_agent"
    assert "task set T199 role=" in str(together.tasks["T199"])
    assert "\0" not in str([*together.tasks.items()])


def test_a_rule_that_looks_at_what_is_a_tasks_own_judges_each_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks: dict[str, Callable[[Task], object]] = {
        "title": lambda each: each.title.endswith("T3"),
        "priority": lambda each: each.priority == "P1" and each.title.endswith("T3"),
        "header": lambda each: each.header.get("CREATED") == "T3",
        "keys": lambda each: {**each.header}["CREATED"] == "T3",
        "id": lambda each: each.id.endswith("3"),
        "letters": lambda each: each.id[1] == "3",
        "order": lambda each: "T2" < each.id < "T4",
        "part": lambda each: "3" in each.id,
    }
    for name, look in looks.items():

        def judge(each: Any, _: Draft, look: Callable[[Task], object] = look) -> Judged:
            return Judged(not look(each), f"{each.id} is looked at")

        more = rules.Rule(f"looks_at_{name}", "choice", "change {about}", None, judge)
        with monkeypatch.context() as patch:
            for part in ("_CHOICE", "_OWN"):
                patch.setattr(planner, part, [*getattr(planner, part), more])
            patch.setitem(planner._PLACE, more.code, 100)
            world = World(waiting=[plain(f"T{number}") for number in range(2, 6)])
            plan = judged_together(world)
        held = [each for each, row in plan.tasks.items() if more.code in refused(row)]
        assert held == ["T3"], name


def test_a_task_that_the_snapshot_names_is_judged_alone() -> None:
    world = World(waiting=[plain(f"T{number}") for number in range(2, 9)])
    world.agents = [Agent(f"a{n}", "implementer", 0, interval_seconds=300) for n in range(3)]
    world.snapshot |= {
        "not_reviewable": {"T3": "a draft"},
        "conflicts": {"T4": "it conflicts"},
        "overlaps": {"T6": "other work"},
        "runs": (run("R1", "busy", task="T2"),),
        "forced": {"a1": "T7"},
    }
    plan = judged_together(world)
    first = {each: refused(row)[:1] for each, row in plan.tasks.items()}
    assert first["T2"] == ["running"]
    assert first["T3"] == ["not_reviewable"]
    assert first["T4"] == ["blocked_by_dependency"]
    assert first["T6"] == ["overlap"]
    assert first["T7"] == first["T5"] == first["T8"] == []


# --- properties --------------------------------------------------------------------------------

QUICK = settings(max_examples=examples(0.4))
MANY = settings(max_examples=examples(1.2))

T = TypeVar("T")


def mostly(usual: T, odd: st.SearchStrategy[T]) -> st.SearchStrategy[T]:
    """Draw the usual value five times of six: a world in which all is odd starts nothing."""
    as_usual = st.just(usual)  # not in each draw: Hypothesis looks at each new strategy for long
    return st.sampled_from("uuuuuo").flatmap(lambda word: odd if word == "o" else as_usual)


def several(
    make: Callable[[str], st.SearchStrategy[T]], letter: str, most: int
) -> st.SearchStrategy[list[T]]:
    """Draw up to `most` things of different names: T1, T2 ..."""
    every = [make(f"{letter}{n}") for n in range(1, most + 1)]
    first = [st.tuples(*every[:n]).map(list) for n in range(most + 1)]
    return st.sampled_from([*range(most + 1), most, most, most]).flatmap(first.__getitem__)


names = st.sampled_from(["T1", "T2", "T3", "T4", "T5", "T6"])
words = st.sampled_from(["implement", "implement", "test", "review", "draw"])
shares = st.floats(0, 1)
moments = st.floats(NOW - 1e5, NOW + 1e5) | st.floats(NOW - 300, NOW + 300)


def some_task(name: str) -> st.SearchStrategy[Task]:
    return st.builds(
        task,
        st.just(name),
        words,
        depends_on=mostly((), st.lists(names, max_size=2).map(tuple)),
        attempts=st.integers(0, 4),
        interruptions=st.integers(0, 3),
        not_before=mostly(None, moments),
        backoff=st.none() | st.floats(0, 1e3),
        run=st.none() | st.sampled_from(["R1", "R2", "R3"]),
        pr=mostly(None, st.sampled_from(["1", "2"])),
        reviews=mostly(None, names),
        cost_usd=mostly(0.0, st.floats(0, 9)),
    )


def some_agent(name: str) -> st.SearchStrategy[Agent]:
    return st.builds(
        Agent,
        st.just(name),
        st.sampled_from(["implementer", "implementer", *ROLES]) | mostly("tester", st.just("cook")),
        st.just(0),
        interval_seconds=st.floats(0, 600),
        schedule=mostly(None, st.sampled_from(["*/20 * * * *", "0 3 * * 1", "0 0 29 2 *"])),
        paused=mostly(False, st.just(True)),
    )


views = st.builds(
    lambda **facts: RunView(**facts),
    id=st.sampled_from(["R1", "R2", "R3"]),
    agent=st.sampled_from(["a1", "a2", "gone"]),
    task=st.none() | names,
    alive=st.booleans(),
    finished=st.booleans(),
    restarts=st.integers(0, 4),
    outcome=st.none() | st.sampled_from(VERDICTS).map(Outcome),
)
limits = st.integers(0, 6)
configs = st.builds(
    lambda **facts: Config(**facts),
    paused=mostly(False, st.just(True)),
    queue_limits=mostly(QueueLimits(), st.builds(QueueLimits, limits, limits, limits)),
    max_starts=st.integers(1, 5),
    budgets=mostly(Budgets(), st.builds(Budgets, st.none(), st.floats(0, 9), st.floats(0, 9))),
    pace=mostly(Pace(), st.builds(Pace, shares, hours=st.sampled_from([None, "22:00-07:00"]))),
    agents=several(some_agent, "a", 5).map(tuple),
)


some_tasks = several(some_task, "T", 6)
agents_seen = st.dictionaries(
    st.sampled_from(["a1", "a2", "a3", "gone"]),
    st.tuples(st.none() | moments, mostly(None, st.just("tired")), mostly(None, st.just("closed"))),
)
facts = st.fixed_dictionaries(
    {
        "open_prs": mostly(0, st.none() | st.integers(0, 12)),
        "runs": mostly([], st.lists(views, max_size=3, unique_by=lambda r: r.id)).map(tuple),
        "agents": agents_seen.map(
            lambda seen: {
                name: AgentView(name, at, suspended=why, closed=closed)
                for name, (at, why, closed) in seen.items()
            }
        ),
        "dependencies": st.dictionaries(names, st.sampled_from(["met", "waiting: x"])),
        "spent_today_usd": st.floats(0, 9),
        "usage": mostly(
            {}, st.builds(UsageWindow, shares, moments).map(lambda window: {"five_hour": window})
        ),
        "hold": mostly(None, st.sampled_from([FAULT, LIMIT, LIMIT._replace(until=NOW - 1)])),
        "may_start": mostly(True, st.just(False)),
        "open_heads": mostly(None, st.dictionaries(st.sampled_from("12"), names)),
        "not_reviewable": mostly({}, st.dictionaries(names, st.just("a draft"))),
        "forced": mostly({}, st.dictionaries(st.just("a1"), st.none() | names)),
    }
)
# How many of the tasks are claimed: none more often than not.
shares_claimed = st.integers(0, 6) | st.just(0)


def seen(tasks: list[Task], claimed: int, facts: dict[str, Any]) -> Snapshot:
    split = max(0, len(tasks) - claimed)
    return Snapshot(
        waiting=tuple(tasks[:split]),
        claimed=tuple(t._replace(state="claimed") for t in tasks[split:]),
        roles=ROLES,
        **facts,
    )


snapshots = st.builds(seen, some_tasks, shares_claimed, facts)


def depends_on_nothing_but_its_input_and_leaves_that_as_it_was(
    snapshot: Snapshot, config: Config
) -> None:
    before = copy.deepcopy((snapshot, config))
    first = planner.plan(snapshot, config, NOW)
    again = planner.plan(*before, NOW)
    assert (first._replace(tasks=dict(first.tasks))) == again._replace(tasks=dict(again.tasks))
    assert (snapshot, config) == before


def says_in_every_verdict_what_it_does(snapshot: Snapshot, config: Config) -> None:
    assert_agreement(snapshot, config, planner.plan(snapshot, config, NOW))


@MANY
@given(snapshots, configs, st.sets(names, min_size=2), st.sets(names, max_size=2))
def test_tasks_that_are_judged_together_get_the_verdicts_that_each_gets_alone(
    snapshot: Snapshot, config: Config, untouched: set[str], later: set[str]
) -> None:
    waiting = tuple(
        plain(
            each.id, each.role, **({"NOT_BEFORE": iso(NOW + 9) or ""} if each.id in later else {})
        )
        if each.id in untouched
        else each
        for each in snapshot.waiting
    )
    snapshot = snapshot._replace(waiting=waiting)
    together = planner.plan(snapshot._replace(waiting=grouped(waiting)), config, NOW)
    assert_same(together, planner.plan(snapshot, config, NOW))


@MANY
@given(snapshots, configs)
def test_no_plan_changes_before_its_wake_up_time(snapshot: Snapshot, config: Config) -> None:
    plan = planner.plan(snapshot, config, NOW)
    wake = NOW + 1e6 if plan.wake is None else plan.wake
    assert wake > NOW
    for part in (0.1, 0.4, 0.7, 1):
        # A millisecond earlier: the sums of such times are no more exact than that.
        later = planner.plan(snapshot, config, max(NOW, NOW + part * (wake - NOW) - 0.001))
        assert later.actions == plan.actions
        assert outcome(later) == outcome(plan)


def outcome(plan: planner.Plan) -> list[tuple[str, list[tuple[str, bool]]]]:
    rows = (*plan.agents.items(), *plan.tasks.items())
    return [(name, [(verdict.code, verdict.ok) for verdict in row]) for name, row in rows]


def never_oversteps_a_limit_or_gives_a_task_out_twice(snapshot: Snapshot, config: Config) -> None:
    plan = planner.plan(snapshot, config, NOW).actions
    decided = [a for a in plan if a.action in ("start", "skip")]
    assert [a.agent for a in decided] == [agent.name for agent in config.agents]
    assert plan[len(plan) - len(decided) :] == decided
    assert all((a.reason is None) == (a.action == "start") for a in decided)
    taken = [a.task for a in decided if a.action == "start" and a.task]
    assert len(taken) == len(set(taken))
    by_id = {t.id: t for t in snapshot.waiting}
    assert all(name in by_id for name in taken)
    limits = config.queue_limits
    if taken:
        assert len(snapshot.claimed) + len(taken) <= limits.max_claimed
    opening = [by_id[t] for t in taken if by_id[t].role != "review" and by_id[t].pr is None]
    if opening:
        coming = [t for t in snapshot.claimed if t.role in ("implement", "test") and t.pr is None]
        assert snapshot.open_prs is not None
        assert snapshot.open_prs + len(coming) + len(opening) <= limits.max_open_prs
    by_role = {agent.name: agent.role for agent in config.agents}
    for action in decided:
        if action.action == "start" and action.task is None:
            assert by_role[action.agent or ""] == "product_manager"
            assert len(snapshot.waiting) + len(snapshot.claimed) < limits.max_incoming
        elif action.action == "start":
            assert by_id[action.task or ""].role == ROLES[by_role[action.agent or ""]].takes


def starts_nothing_paused_running_blocked_waiting_or_too_dear(
    snapshot: Snapshot, config: Config
) -> None:
    plan = planner.plan(snapshot, config, NOW).actions
    started = {a.agent: a.task for a in plan if a.action == "start"}
    cap = config.budgets.daily_usd
    if started:
        assert snapshot.may_start
        assert not config.paused
        assert cap is None or snapshot.spent_today_usd < cap
        assert snapshot.hold != LIMIT
    if snapshot.hold == FAULT:
        assert len(started) <= 1
    assert not {run.agent for run in snapshot.runs} & started.keys()
    for agent in config.agents:
        if agent.name not in started:
            continue
        view = snapshot.agents.get(agent.name)
        assert not agent.paused
        assert view is None or view.suspended is None
        wanted = snapshot.forced.get(agent.name)
        assert wanted is None or started[agent.name] in (wanted, None)
    for waiting in snapshot.waiting:
        if waiting.id in started.values():
            assert all(snapshot.dependencies.get(other) == "met" for other in waiting.depends_on)
            assert seconds_left(waiting, NOW) == 0


def gives_every_run_at_most_one_action_and_no_free_failure(
    snapshot: Snapshot, config: Config
) -> None:
    known = {run.id for run in snapshot.runs}
    about = [
        action
        for action in planner.plan(snapshot, config, NOW).actions
        if action.action not in ("start", "skip") and action.run in known
    ]
    assert len({a.run for a in about}) == len(about)
    at_work = {r.id for r in snapshot.runs if r.alive and not r.finished}
    assert not at_work & {a.run for a in about}
    assert len(about) + len(at_work) == len(snapshot.runs)
    for action in about:
        assert action.charged is (action.action == "fail" or action.delay is not None)
        held = [t for t in snapshot.claimed if t.id == action.task and t.run == action.run]
        if action.action not in ("finish", "deliver"):
            assert held
        if action.action == "fail":
            assert held[0].attempts + 1 >= config.retry.max_attempts


# Hypothesis takes longer to draw a snapshot than the planner to judge it, so one serves them all.
OF_EVERY_PLAN = (
    depends_on_nothing_but_its_input_and_leaves_that_as_it_was,
    says_in_every_verdict_what_it_does,
    never_oversteps_a_limit_or_gives_a_task_out_twice,
    starts_nothing_paused_running_blocked_waiting_or_too_dear,
    gives_every_run_at_most_one_action_and_no_free_failure,
)


@MANY
@given(snapshots, configs)
def test_every_plan_keeps_to_what_is_said_of_plans(snapshot: Snapshot, config: Config) -> None:
    for holds in OF_EVERY_PLAN:
        holds(snapshot, config)


@QUICK
@given(st.floats(0.001, 400), st.floats(-1e6, 1e6), st.floats(0, 1e6))
def test_no_look_at_any_clock_finds_more_than_the_delay_left(
    delay: float, moved: float, since: float
) -> None:
    recorded = NOW
    waiting = task(not_before=recorded + delay, backoff=delay)
    now = recorded + since + moved
    left = seconds_left(waiting, now)
    assert 0 <= left <= delay
    if not recorded - 1.001 <= now < recorded + delay:
        assert left == 0


@QUICK
@given(st.floats(0.5, 400), st.floats(0, 1), st.floats(-1000, 1000))
def test_a_clock_that_is_moved_once_has_a_delay_waited_twice_at_the_most(
    delay: float, part: float, moved: float
) -> None:
    waiting = task(not_before=NOW + delay, backoff=delay)
    waited = part * delay
    now = NOW + waited + moved
    over = seconds_left(waiting, now) == 0
    whole = waited if over else waited + (NOW + delay - now)
    assert whole <= 2 * delay + 1.001
    if moved >= 0 or moved < -waited - 1.001:
        assert whole <= delay + 0.001, "forward, or back behind its beginning"
