"""Ticks of the schedule, while the forge or a remote elsewhere must be asked of a pull request."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import harness
import pytest
from harness import World, wait_until

from orchestrator import idle

world = harness.world
BY_SCHEDULE = {idle.SCHEDULED: "1"}


@pytest.fixture
def github(world: World) -> Path:
    """Deliver a pull request on GitHub, and tick until the ticks rest; return the gh's state."""
    world.create(forge="github")
    state = world.on_github()
    world.tick_until_in("done", world.add("Delivered"))
    wait_until(lambda: not world.running(), "the end of the run")
    wait_until(lambda: rests(world), "a stamp")
    return state


def rests(world: World) -> bool:
    looked_at = stamp(world).with_name("bases-looked-at")
    if looked_at.exists():
        os.utime(looked_at, (time.time() - 60,) * 2)
    world.ok("tick")
    return stamp(world).exists()


def stamp(world: World) -> Path:
    return world.root / ".orchestrator" / "cache" / "idle"


def calls(state: Path) -> list[Any]:
    return [call[:2] for call in json.loads(state.read_text())["calls"]]


def change(state: Path, **fields: Any) -> None:
    text = json.loads(state.read_text())
    text["prs"][0] |= fields.pop("pr", {})
    state.write_text(json.dumps(text | fields))


def test_the_schedule_leaves_the_question_to_a_process_that_rests_if_nothing_is_new(
    world: World, github: Path
) -> None:
    left, before = stamp(world).read_bytes(), calls(github)
    world.ok("tick", **BY_SCHEDULE)
    wait_until(lambda: len(calls(github)) > len(before), "the question to GitHub")
    wait_until(lambda: not asking(world), "the end of the process")
    assert calls(github)[len(before) :] == [["pr", "list"]]
    assert stamp(world).read_bytes() == left, "no whole tick"
    # A person who ticks has the answer when the tick ends.
    world.ok("tick")
    assert calls(github)[len(before) :] == [["pr", "list"]] * 2
    assert stamp(world).read_bytes() == left


def asking(world: World) -> bool:
    return any(idle.ASK in process.cmdline() for process in world.processes())


@pytest.mark.parametrize(
    ("words", "fields", "merged", "problems"),
    [
        (BY_SCHEDULE, {"pr": {"state": "MERGED", "mergedAt": "2026-01-01T00:00:00Z"}}, True, []),
        ({}, {"pr": {"state": "MERGED", "mergedAt": "2026-01-01T00:00:00Z"}}, True, []),
        (BY_SCHEDULE, {"fails": "HTTP 502: Bad Gateway"}, False, ["open_prs_unknown"]),
    ],
    ids=["merged", "merged, a person ticks", "GitHub fails"],
)
def test_what_github_says_is_acted_upon_at_once(
    world: World,
    github: Path,
    words: dict[str, str],
    fields: dict[str, Any],
    merged: bool,
    problems: list[str],
) -> None:
    change(github, **fields)
    world.ok("tick", **words)

    def found() -> tuple[bool, list[str]]:
        codes = [each["code"] for each in world.status()["problems"]]
        return world.prs()[0]["state"] == "merged", codes

    if words:
        wait_until(lambda: found() == (merged, problems), lambda: f"{found()}")
    assert found() == (merged, problems)


def test_no_run_inherits_the_mark_of_the_schedule(world: World) -> None:
    world.create()
    task = world.add("Marked")
    world.ok("tick", **BY_SCHEDULE)
    [start] = wait_until(lambda: world.starts(task), "the run")
    assert start["environment"]["ORCHESTRATOR_TASK_ID"] == task
    assert idle.SCHEDULED not in start["environment"]
