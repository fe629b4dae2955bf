"""`explain`, `status`, `tick --dry-run` and the tick say the same of every agent and task."""

from __future__ import annotations

from typing import Any

import harness
import pytest
from harness import World

world = harness.world

PAIR = [World.agent("a"), World.agent("b")]
DEAR = """\
# [DEAR] Has cost two dollars

ROLE: implement

<!-- orchestrator:history -->
## History
- 2026-01-01T00:00:00Z requeued {"run": "R0", "charged": true, "cost_usd": 2.0}
"""
#: The configuration, the tasks' roles or files, and what is to be said of each agent and task.
WORLDS: dict[str, tuple[dict[str, Any], dict[str, str], dict[str, str | None]]] = {
    "one start per tick": (
        {"agents": PAIR, "max_starts": 1},
        {"T1": "implement", "T2": "implement"},
        {"a": None, "b": "max_starts", "T1": None, "T2": "max_starts"},
    ),
    "an agent for each task": (
        {"agents": PAIR},
        {"T1": "implement", "T2": "implement"},
        {"a": None, "b": None, "T1": None, "T2": None},
    ),
    "a task that has cost all it may": (
        {"agents": PAIR, "budgets": {"task_usd": 1}},
        {"DEAR": DEAR},
        {"a": "no_matching_task", "b": "no_matching_task", "DEAR": "budget_exhausted"},
    ),
    "one claim at a time": (
        {"agents": PAIR, "queue_limits": {"max_claimed": 1}},
        {"T1": "implement\nDEPENDS_ON: T2", "T2": "implement", "T3": "implement", "T4": "paint"},
        {
            "a": None,
            "b": "max_claimed",
            "T1": "max_claimed",
            "T2": None,
            "T3": "max_claimed",
            "T4": "no_matching_agent",
        },
    ),
    "a paused agent and one without a task": (
        {"agents": [World.agent("a", paused=True), World.agent("b", "reviewer")]},
        {"T1": "implement", "T2": "test"},
        {"a": "paused", "b": "no_matching_task", "T1": "paused", "T2": "no_matching_agent"},
    ),
}


@pytest.mark.parametrize("name", WORLDS)
def test_all_commands_say_the_same_and_the_tick_does_it(world: World, name: str) -> None:
    config, tasks, expected = WORLDS[name]
    world.create(**config)
    for task, text in tasks.items():
        header = f"# [{task}] Title\n\nROLE: {text}\nCREATED: 2026-01-01T00:00:00Z\n"
        world.drop(f"{task}.md", text if text.startswith("#") else header)
    assert {subject: reason(world, subject) for subject in expected} == expected
    planned = decisions(world.json("tick", "--dry-run"))
    assert planned == {agent: expected[agent] for agent in planned}
    assert {row["name"]: row["reason"] for row in world.status()["agents"]} == planned
    assert decisions(world.tick()) == planned
    left = {row["id"] for row in world.json("task", "list", "--state", "incoming")}
    ended = {task for task in tasks if expected[task] == "budget_exhausted"}
    assert left == {task for task in tasks if expected[task]} - ended


def reason(world: World, subject: str) -> str | None:
    """Return the code of the first rule that is not ok."""
    rules = world.json("explain", subject)["rules"]
    return next((rule["code"] for rule in rules if not rule["ok"]), None)


def decisions(report: Any) -> dict[str, str | None]:
    """Return each agent's reason; None for one that starts."""
    decided = [a for a in report["actions"] if a["action"] in ("start", "skip")]
    return {action["agent"]: action["reason"] for action in decided}
