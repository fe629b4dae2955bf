"""Failures 17: limits are code. What a client does that ignores every instruction is ended by them.

The brake is measured: `pytest -s` prints how long it took.
"""

from __future__ import annotations

import time
from typing import Any

import harness
import pytest
from harness import World, is_alive, shadow, wait_until

world = harness.world

AGENTS, CHILDREN = 5, 50
#: A third of the children shares the client's process group, a third has sessions of its own, and
#: a third an empty environment besides. None listens to SIGTERM.
WILD = [["work_once"], ["ignore_sigterm"], ["swarm", CHILDREN]]
FLOOD, HANG = ["flood", 100], ["hang"]


def swarm(world: World, **config: Any) -> dict[str, list[int]]:
    """Let five clients run wild at once; return all pids by agent."""
    agents = [World.agent(f"impl-{n}") for n in range(AGENTS)]
    world.create(
        agents=agents,
        queue_limits={"max_claimed": AGENTS, "max_open_prs": 50},
        retry={"max_attempts": 1, "backoff_seconds": 0},
        **config,
    )
    world.script("default", {"steps": [*WILD, FLOOD]})
    for number in range(AGENTS):
        world.add(f"Task {number}")
    world.tick_until(lambda: len(world.ledger("swarm")) == AGENTS, "all to run wild", limit=90)
    pids = {start["agent"]: [start["pid"]] for start in world.starts()}
    for record in world.ledger("swarm"):
        pids[record["agent"]] += record["children"]
    assert all(len(found) == CHILDREN + 1 for found in pids.values())
    return pids


def test_the_brake_ends_five_clients_and_all_their_children_at_once(world: World) -> None:
    pids = swarm(world)
    everything = [pid for found in pids.values() for pid in found]
    assert all(map(is_alive, everything))
    began = time.monotonic()
    world.ok("status")
    # The machine may be busy: what any command takes now is not what is measured.
    spare = 5 * (time.monotonic() - began)
    began = time.monotonic()
    brake = world.start("agent", "pause", "--all", "--stop", "--json")
    wait_until(lambda: not any(map(is_alive, everything)), "the end of all", every=0.01)
    took = time.monotonic() - began
    out, err = brake.communicate(timeout=60)
    told = time.monotonic() - began
    print(f"\nthe brake: {len(everything)} processes gone in {took:.2f} s, told in {told:.2f} s")
    assert brake.returncode == 0, (out, err)
    assert took < 5 + spare
    world.quiet()
    assert len(world.places()["incoming"]) == AGENTS
    assert [task["attempts"] for task in world.json("task", "list")] == [0] * AGENTS
    world.ok("tick")
    world.quiet()
    assert len(world.starts()) == AGENTS, "nothing starts under the brake"
    world.script("default", {"steps": [["work_once"]]})
    world.ok("agent", "resume", "--all")
    world.tick_until(lambda: len(world.places()["done"]) == AGENTS, "all in done")


#: A megabyte instead of many: nobody wants to wait for those.
LITTLE_OUTPUT = "from orchestrator.run import watch\nwatch.MAX_OUTPUT = 1_000_000\n"


@pytest.mark.parametrize(
    ("limits", "steps", "reason"),
    [
        ({"stall_seconds": 1}, [*WILD, HANG], "stalled"),
        ({"stall_seconds": 0, "max_runtime_seconds": 2}, [*WILD, FLOOD], "timed_out"),
        ({"stall_seconds": 0}, [*WILD, FLOOD], "client_error: too_much_output"),
    ],
    ids=["stall_seconds", "max_runtime_seconds", "the cap on output"],
)
def test_failure_17_a_client_that_runs_wild_is_ended_by_its_limit_with_all_its_children(
    world: World,
    limits: dict[str, Any],
    steps: list[list[Any]],
    reason: str,
) -> None:
    if "too_much" in reason:
        world.product = shadow(world.folder / "shadow", LITTLE_OUTPUT, forked=True)
    retry = {"max_attempts": 1, "backoff_seconds": 0}
    world.create(retry=retry, agents=[World.agent("impl-1", **limits)])
    world.script("default", {"steps": steps})
    task = world.add("Wild")
    world.tick_until_in("failed", task)
    [failed] = [event for event in world.task(task)["history"] if event["event"] == "failed"]
    assert failed["error"].startswith(reason)
    [start], [record] = world.starts(task), world.ledger("swarm")
    assert not any(map(is_alive, [start["pid"], *record["children"]]))


def test_what_a_client_leaves_behind_when_it_is_done_ends_with_it(world: World) -> None:
    world.create(retry={"max_attempts": 1, "backoff_seconds": 0})
    world.script("default", {"steps": WILD})
    task = world.add("Leaves much behind")
    world.tick_until_in("done", task)
    [record] = world.ledger("swarm")
    assert len(record["children"]) == CHILDREN
    assert not any(map(is_alive, record["children"]))


def test_a_client_that_spends_more_than_it_may_is_the_last_of_the_day(world: World) -> None:
    world.create(budgets={"run_usd": 1, "daily_usd": 5})
    world.script("default", {"result": {"total_cost_usd": 7.5}})
    tasks = [world.add(f"Task {n}") for n in range(2)]
    world.tick_until(lambda: len(world.places()["done"]) == 1, "the first one")
    world.quiet()
    for _ in range(3):
        reasons = {a["agent"]: a["reason"] for a in world.tick()["actions"] if a["agent"]}
        assert reasons == {"impl-1": "budget_exhausted"}
    assert len(world.starts()) == 1
    assert [world.task(task)["attempts"] for task in tasks] == [0, 0]
    assert world.status()["totals"]["cost_usd"] == 7.5
    world.configure(budgets={"run_usd": 1, "daily_usd": 10})
    world.tick_until_in("done", *tasks)
