"""Reference 8.7 and failures 10: the clock is moved between ticks and under runs, and all goes on.

The product's own `time.time` is shifted by what a file says, in every process that it starts.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness
import pytest
from harness import World

world = harness.world

HOUR, DAY = 3600, 86_400
MOVES = [8 * HOUR, -8 * HOUR, 400 * DAY, -400 * DAY]
FAILED = {"steps": [], "report": {"outcome": "failed", "summary": "Not yet."}}


@pytest.fixture
def move(world: World, tmp_path: Path) -> Callable[[float], None]:
    """Return a function that sets how many seconds the product's clock is off."""
    world.product, move = harness.movable_clock(tmp_path)
    return move


def shown(world: World) -> Any:
    """Return what `status` shows: no time in it is negative, and nothing is said to be wrong.

    But for the last tick: its time is the kernel's, which no test can move.
    """
    status = world.status()
    ages = [status["scheduler"]["age_seconds"], status["totals"]["seconds_running"]]
    ages += [row["age_seconds"] for row in status["running"]]
    ages += [row["due_in_seconds"] or 0 for row in status["agents"]]
    assert min(ages) >= 0, status
    assert {problem["code"] for problem in status["problems"]} <= {"tick_stale"}, status
    return status


def skips(world: World) -> dict[str, str]:
    return {a["agent"]: a["reason"] for a in world.tick()["actions"] if a["action"] == "skip"}


@pytest.mark.slow
@pytest.mark.parametrize("seconds", MOVES)
def test_a_clock_that_is_moved_between_ticks_makes_nothing_wait_longer(
    world: World, move: Callable[[float], None], seconds: float
) -> None:
    retry = {"max_attempts": 3, "backoff_seconds": 2, "max_backoff_seconds": 2}
    world.create(retry=retry, agents=[World.agent("impl-1", interval_seconds=2)])
    world.script("default", FAILED, {"steps": [["work_once"]]})
    task = world.add("Tried again")
    world.tick_until(lambda: world.ledger("end") and world.where(task) == ["incoming"])
    world.quiet()
    move(seconds)
    shown(world)
    world.tick_until_in("done", task, limit=30)
    world.quiet()
    later = world.add("Begun by the moved clock")
    world.tick_until_in("done", later, limit=30)
    world.quiet()
    shown(world)
    move(0)
    last = world.add("Begun by the right clock")
    world.tick_until_in("done", last, limit=30)
    world.quiet()
    shown(world)
    assert [world.task(t)["attempts"] for t in (task, later, last)] == [1, 1, 1]
    assert len(world.starts()) == 6, "each failed once, and waited for its second attempt"


@pytest.mark.parametrize("seconds", harness.variants(MOVES, -8 * HOUR, 400 * DAY))
def test_a_clock_that_is_moved_under_a_run_ends_no_live_work(
    world: World, move: Callable[[float], None], seconds: float
) -> None:
    limits = {"max_runtime_seconds": 3600, "stall_seconds": 600}
    retry = {"max_attempts": 1, "backoff_seconds": 0}
    world.create(retry=retry, agents=[World.agent("impl-1", **limits)])
    world.script("default", {"steps": [["work"], ["wait", "go"]]})
    task = world.add("Through the jump")
    world.tick_until(lambda: world.running(task))
    for moved in (seconds, -seconds, seconds):
        move(moved)
        assert skips(world) == {"impl-1": "running"}
        [row] = shown(world)["running"]
        assert row["task"] == task
    world.open("go")
    world.tick_until_in("done", task)
    world.quiet()
    shown(world)
    move(0)
    shown(world)
    assert len(world.starts(task)) == 1


def test_a_hung_client_is_ended_however_the_clock_is_moved(
    world: World, move: Callable[[float], None]
) -> None:
    retry = {"max_attempts": 1, "backoff_seconds": 0}
    world.create(retry=retry, agents=[World.agent("impl-1", stall_seconds=3)])
    world.script("default", {"steps": [["hang"]]})
    task = world.add("Hangs")
    hours = itertools.count(1)

    def has_failed() -> bool:
        # Again and again: a slow client can be ended before anybody has seen that it started.
        move(-next(hours) * HOUR)
        return world.where(task) == ["failed"]

    world.tick_until(has_failed, "the end of the client")
    assert world.task(task)["reason"] == "stalled"


@pytest.mark.parametrize("seconds", harness.variants(MOVES, -8 * HOUR, 400 * DAY))
def test_a_fault_is_tried_again_at_each_tick_however_the_clock_is_moved(
    world: World, move: Callable[[float], None], seconds: float
) -> None:
    client = world.bin / "the-client"
    world.create()
    world.configure(
        retry={"max_attempts": 1, "backoff_seconds": 0}, claude={"command": [str(client)]}
    )
    task = world.add("Held by a fault")
    world.tick()
    world.quiet()
    move(seconds)
    for _ in range(2):
        assert [a["action"] for a in world.tick()["actions"] if a["agent"]].count("start") <= 1
        world.quiet()
    words = " ".join(f"'{word}'" for word in (*harness.PYTHON, str(harness.FAKE_CLIENT)))
    client.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    client.chmod(0o755)
    world.tick_until_in("done", task)
    world.quiet()
    world.ok("tick")
    shown(world)


def test_a_usage_limit_ends_at_its_reset_by_the_clock_of_that_moment(
    world: World, move: Callable[[float], None]
) -> None:
    world.create(retry={"max_attempts": 1, "backoff_seconds": 0})
    reset = int(time.time()) + 4 * HOUR
    info = {"status": "rejected", "resetsAt": reset, "rateLimitType": "five_hour"}
    limit = {
        "steps": [["work_once"], ["say", {"type": "rate_limit_event", "rate_limit_info": info}]],
        "report": None,
        "result": {"is_error": True, "terminal_reason": "api_error", "api_error_status": 429},
        "exit": 1,
    }
    world.script("default", limit, {"steps": []})
    task = world.add("Limited")
    world.tick_until(lambda: world.ledger("end") and world.where(task) == ["incoming"])
    world.quiet()
    for seconds in (0, -8 * HOUR, 3 * HOUR):
        move(seconds)
        # Started "now", it is due a moment later: a start ahead of the clock counts as now.
        world.tick_until(lambda: skips(world) == {"impl-1": "usage_limit"}, "the limit to hold")
        problems = [p for p in world.status()["problems"] if p["code"] != "tick_stale"]
        assert [problem["code"] for problem in problems] == ["usage_limit"]
        assert problems[0]["hint"]
    assert world.task(task)["attempts"] == 0
    move(4 * HOUR + 60)
    world.tick_until_in("done", task)
    first, second = world.starts(task)
    assert second["resumed"]
    assert second["session"] == first["session"]
    world.quiet()
    world.ok("tick")
    shown(world)


def test_a_day_there_and_back_makes_no_day_cheaper(
    world: World, move: Callable[[float], None]
) -> None:
    world.create(budgets={"run_usd": 1, "daily_usd": 0.5})
    tasks = [world.add(f"Costs a quarter {n}") for n in range(5)]
    world.tick_until(lambda: len(world.places()["done"]) == 2)
    world.quiet()
    assert skips(world) == {"impl-1": "budget_exhausted"}
    move(DAY)
    world.tick_until(lambda: len(world.places()["done"]) == 4)
    world.quiet()
    assert skips(world) == {"impl-1": "budget_exhausted"}
    move(0)
    world.tick_until(lambda: skips(world) == {"impl-1": "budget_exhausted"}, "the day to be over")
    assert len(world.starts()) == 4
    assert sum(world.where(task) == ["incoming"] for task in tasks) == 1
