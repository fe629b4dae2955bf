"""Reference 7 and 8.3: limits hold, and what drains is never held by what is full (failures 22)."""

from __future__ import annotations

from typing import Any

import both_stores
from harness import ONCE, World

world = both_stores.world

WAIT = {"steps": [["work"], ["wait", "go"]]}


def actions(report: Any, kind: str) -> dict[str, str | None]:
    """Return agent -> reason of the actions of one kind."""
    return {a["agent"]: a["reason"] for a in report["actions"] if a["action"] == kind}


def test_creating_is_refused_when_incoming_and_claimed_reach_max_incoming(world: World) -> None:
    world.create(queue_limits={"max_incoming": 3}, agents=[World.agent("impl-1")])
    world.script("default", WAIT)
    first = world.add("First")
    world.tick()
    assert world.where(first) == ["claimed"]
    world.add("Second")
    world.add("Third")
    refused = world.refused("task", "add", "--title", "Fourth", "--role", "implement", "--json")
    assert refused.json["error"]["code"] == "max_incoming"
    assert set(refused.json["error"]) == {"code", "message", "hint"}
    assert world.places()["incoming"] == sorted(world.places()["incoming"])
    assert len(world.places()["incoming"]) == 2
    world.ok("task", "add", "--title", "Fourth", "--role", "implement", "--force")
    assert len(world.places()["incoming"]) == 3


def test_a_dropped_file_counts_before_any_tick(world: World) -> None:
    world.create(queue_limits={"max_incoming": 2}, agents=[])
    world.drop("mine.md", "# Fix the login\n\nROLE: implement\n")
    words = ("task", "add", "--role", "implement", "--json", "--title")
    assert world.refused(*words, "Fix the login").json["error"]["code"] == "duplicate_task"
    world.drop("other.md", "# Another\n\nROLE: implement\n")
    assert world.status()["queue"]["incoming"] == 2
    assert world.task("other")["title"] == "Another"
    assert world.refused(*words, "A third").json["error"]["code"] == "max_incoming"
    world.ok("task", "cancel", "mine")
    assert world.where("mine") == ["failed"]


def test_no_more_than_max_claimed_are_claimed_in_one_tick(world: World) -> None:
    agents = [World.agent(f"impl-{n}") for n in range(4)]
    world.create(queue_limits={"max_claimed": 2}, agents=agents)
    world.script("default", WAIT)
    for n in range(4):
        world.add(f"Task {n}")
    report = world.tick()
    assert set(actions(report, "start")) == {"impl-0", "impl-1"}
    assert actions(report, "skip") == {"impl-2": "max_claimed", "impl-3": "max_claimed"}
    assert world.status()["queue"]["claimed"] == 2


def test_claimed_work_that_will_open_a_pull_request_counts_as_one_open(world: World) -> None:
    agents = [World.agent(f"impl-{n}") for n in range(3)]
    world.create(queue_limits={"max_open_prs": 1}, agents=agents)
    world.script("default", WAIT)
    for n in range(3):
        world.add(f"Task {n}")
    report = world.tick()
    assert set(actions(report, "start")) == {"impl-0"}
    assert actions(report, "skip") == {"impl-1": "max_open_prs", "impl-2": "max_open_prs"}


def test_an_open_pull_request_holds_new_work_until_it_is_closed_or_merged(world: World) -> None:
    world.create(queue_limits={"max_open_prs": 1})
    first, second, third = (world.add(f"Task {n}") for n in range(3))
    world.tick_until(lambda: len(world.places()["done"]) == 1)
    world.tick_until(lambda: actions(world.tick(), "skip").get("impl-1") == "max_open_prs")
    assert len(world.starts()) == 1
    [pr] = world.prs()
    assert pr["task"] == first
    world.ok("pr", "merge", str(pr["id"]))
    world.tick_until_in("done", second)
    [still_open] = [pr for pr in world.prs() if pr["state"] == "open"]
    world.ok("pr", "close", str(still_open["id"]))
    world.tick_until_in("done", third)


def test_failure_22_a_full_pipe_of_every_limit_drains_through_review_and_rework(
    world: World,
) -> None:
    world.create(
        queue_limits={"max_incoming": 1, "max_claimed": 1, "max_open_prs": 1},
        agents=[World.agent("impl-1"), World.agent("rev-1", "reviewer")],
        review={"after": ["implement"], "max_rounds": 3},
    )
    world.script(
        "reviewer",
        {
            "steps": [["wait", "look"]],
            "report": {
                "outcome": "changes_requested",
                "summary": "No.",
                "feedback": "Rename FROBNICATE to thing.",
            },
        },
    )
    task = world.add("Reworked while everything is full")
    # The review and the rework wait: without gates they may end before the test looks.
    world.script(task, {"steps": [["work"]]}, {"steps": [["wait", "go"], ["work"]]})
    world.tick_until_in("done", task)
    # The scheduler's own review task fills incoming: only a person's --force gets past it.
    other = world.add("Waits its turn", "implement", "--force")
    world.open("look")
    world.tick_until(lambda: len(world.starts(task)) == 2, "the rework to run")
    assert not world.starts(other), "new work ran although max_open_prs is full"
    assert "FROBNICATE" in world.seen(task)["instructions"]
    world.script("reviewer", {"report": {"outcome": "approved", "summary": "Yes."}})
    world.open("go")
    world.tick_until(
        lambda: [p["verdict"] for p in world.prs() if p["task"] == task] == ["approved"],
        "the second review",
    )
    [pr] = world.prs()
    assert pr["state"] == "open"
    assert not world.starts(other)
    world.ok("pr", "merge", str(pr["id"]))
    world.tick_until_in("done", other)
    world.assert_never_at_once(most=1)


def test_a_task_that_needs_no_pull_request_is_not_held_by_max_open_prs(world: World) -> None:
    world.create(
        queue_limits={"max_open_prs": 0},
        agents=[World.agent("impl-1"), World.agent("rev-1", "reviewer")],
    )
    world.add("Held")
    review = world.add("A look at the docs", "review")
    report = world.tick()
    assert set(actions(report, "start")) == {"rev-1"}
    assert actions(report, "skip") == {"impl-1": "max_open_prs"}
    world.tick_until_in("done", review)


def test_the_product_manager_is_held_while_nothing_may_be_created(world: World) -> None:
    world.create(
        queue_limits={"max_incoming": 1},
        agents=[World.agent("pm-1", "product_manager", interval_seconds=ONCE)],
    )
    task = world.add("One too many")
    assert actions(world.tick(), "skip") == {"pm-1": "max_incoming"}
    world.ok("task", "cancel", task)
    assert set(actions(world.tick(), "start")) == {"pm-1"}
    world.tick_until(lambda: world.ledger("end", agent="pm-1"))


def test_todays_spend_holds_new_runs_once_it_reaches_daily_usd(world: World) -> None:
    world.create(budgets={"run_usd": 1, "daily_usd": 0.4})
    tasks = [world.add(f"Costs a quarter {n}") for n in range(3)]
    world.tick_until(lambda: len(world.places()["done"]) == 2)
    world.tick_until(lambda: actions(world.tick(), "skip").get("impl-1") == "budget_exhausted")
    assert len(world.starts()) == 2
    assert sum(len(world.where(task)) for task in tasks) == 3
    assert abs(world.status()["totals"]["cost_usd"] - 0.5) < 1e-6
    argv = world.starts()[0]["argv"]
    assert argv[argv.index("--max-budget-usd") + 1] == "1"


def test_what_one_task_may_cost_over_all_its_attempts_ends_it(world: World) -> None:
    world.create(
        budgets={"run_usd": 1, "task_usd": 0.6}, retry={"max_attempts": 9, "backoff_seconds": 0}
    )
    world.script("default", {"report": {"outcome": "failed", "summary": "It does not work."}})
    task = world.add("Never done, a quarter each time")
    world.tick_until_in("failed", task)
    assert world.task(task)["reason"] == "budget_exhausted"
    caps = [s["argv"][s["argv"].index("--max-budget-usd") + 1] for s in world.starts(task)]
    assert caps == ["0.6", "0.35", "0.1"]
    world.ok("task", "retry", task)
    assert world.tick_until(lambda: world.starts(task)[3:])
