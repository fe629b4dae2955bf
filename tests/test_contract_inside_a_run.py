"""Reference 5: what an agent may do with the commands from inside its run."""

from __future__ import annotations

import json
from typing import Any

import both_stores
import pytest
from harness import ONCE, PRODUCT, PYTHON, World

world = both_stores.world

COMMAND = [*PYTHON, str(PRODUCT)]


def call(*words: str) -> list[str]:
    return ["call", *COMMAND, *words]


def add(title: str, *words: str) -> list[str]:
    return call("task", "add", "--title", title, "--role", "implement", *words)


def calls(world: World) -> list[dict[str, Any]]:
    assert not [c for c in world.ledger("call") if "Traceback" in c["err"]]
    return world.ledger("call")


def product_manager(world: World, *steps: list[str], **config: Any) -> list[dict[str, Any]]:
    """Let a product manager take these steps; return what its calls gave."""
    agents = [World.agent("pm-1", "product_manager", interval_seconds=ONCE)]
    world.create(agents=agents, **config)
    world.script("pm-1", {"steps": list(steps)})
    world.tick_until(lambda: world.ledger("end"), "its run")
    world.quiet()
    return calls(world)


def test_a_product_manager_creates_tasks_that_bear_its_name(world: World) -> None:
    [call] = product_manager(world, add("Found something", "--json", "--priority", "P1"))
    assert call["code"] == 0, call
    task = json.loads(call["out"])["id"]
    shown = world.task(task)
    assert shown["created_by"] == "pm-1"
    assert shown["state"] == "incoming"
    assert shown["priority"] == "P1"


def test_inside_a_run_the_limit_holds_and_force_is_for_people(world: World) -> None:
    steps = [add(f"Idea {n}", "--json") for n in range(4)]
    steps.append(add("Idea by force", "--force", "--json"))
    found = product_manager(world, *steps, queue_limits={"max_incoming": 2})
    assert [call["code"] for call in found] == [0, 0, 1, 1, 1]
    codes = [json.loads(call["out"])["error"]["code"] for call in found[2:4]]
    assert codes == ["max_incoming", "max_incoming"]
    assert len(world.places()["incoming"]) == 2


@pytest.mark.parametrize("state", ["incoming", "done", "failed", "blocked"])
def test_inside_a_run_a_title_that_stands_in_any_state_is_refused(world: World, state: str) -> None:
    agents = [World.agent("pm-1", "product_manager", interval_seconds=ONCE)]
    world.create(agents=agents)
    task = world.add("Known idea")
    if state != "incoming":
        world.ok("task", "move", task, state)
    world.script("pm-1", {"steps": [add("known  IDEA", "--json"), add("New idea", "--json")]})
    world.tick_until(lambda: world.ledger("end"), "its run")
    first, second = calls(world)
    assert first["code"] == 1
    assert json.loads(first["out"])["error"]["code"] == "duplicate_task"
    assert second["code"] == 0


CHANGES = [
    ["tick"],
    ["init", "--schedule", "none"],
    ["init", "--uninstall"],
    ["run", "impl-1"],
    ["stop", "--all"],
    ["agent", "pause", "impl-1"],
    ["agent", "pause", "--all", "--stop"],
    ["agent", "resume", "--all"],
    ["agent", "set", "impl-1", "budget_usd=1000"],
    ["agent", "add", "evil", "--role", "implementer"],
    ["agent", "remove", "impl-1"],
    ["limits", "set", "max_claimed=99"],
    ["task", "retry", "--all"],
    ["task", "cancel", "other"],
    ["task", "move", "other", "done"],
    ["pr", "merge", "1"],
    ["pr", "close", "1"],
    ["pr", "approve", "1"],
    ["pr", "request-changes", "1", "No."],
    ["pr", "merged", "1"],
    ["pr", "checkout", "1"],
    ["inbox", "reject", "1", "No."],
    ["inbox", "dismiss", "other"],
    ["clean"],
]
READS = [
    ["status"],
    ["task", "list"],
    ["task", "show", "other"],
    ["pr", "list"],
    ["limits"],
    ["agent", "list"],
]


def test_inside_a_run_every_other_command_that_changes_something_is_refused(world: World) -> None:
    world.create()
    world.drop("other.md", "# [other] Other\n\nROLE: test\n\n")
    steps = [call(*words) for words in (*CHANGES, *READS)]
    world.script("default", {"steps": [["work"], *steps]})
    before = (world.home_folder / "agents.yaml").read_bytes()
    task = world.add("Tries everything")
    world.tick_until_in("done", task)
    for found in calls(world):
        words = found["argv"][len(COMMAND) :]
        expected = 1 if words in CHANGES else 0
        assert found["code"] == expected, found
        assert expected == 0 or "inside a run" in found["err"], found
    assert (world.home_folder / "agents.yaml").read_bytes() == before
    assert world.where("other") == ["incoming"]
    assert [pr["state"] for pr in world.prs()] == ["open"]


def test_the_environment_says_which_project_is_meant_whatever_the_worktree_holds(
    world: World,
) -> None:
    world.create()
    world.git("add", "-A")
    world.git("commit", "-q", "-m", "the configuration is committed")
    world.git("push", "-q", "origin", "main")
    steps = [["work"], call("task", "list", "--json"), add("From the worktree", "--json")]
    world.script("default", {"steps": [["work"]]})
    task = world.add("In a worktree with its own .orchestrator")
    # Of this task only: the run of the task that it adds begins at once.
    world.script(task, {"steps": steps})
    world.tick_until(lambda: len(world.ledger("call")) == 2)
    listed, added = calls(world)
    assert [t["id"] for t in json.loads(listed["out"])] == [task]
    other = json.loads(added["out"])["id"]
    assert world.task(other)["created_by"] == "impl-1"
    world.tick_until_in("done", task, other)


def test_orchestrator_is_on_the_path_of_a_run(world: World) -> None:
    world.create()
    world.script(
        "default", {"steps": [["call", "sh", "-c", "orchestrator task list --json"], ["work"]]}
    )
    task = world.add("Uses the command by its name")
    world.tick_until_in("done", task)
    [call] = calls(world)
    assert call["code"] == 0, call
    assert [t["id"] for t in json.loads(call["out"])] == [task]
