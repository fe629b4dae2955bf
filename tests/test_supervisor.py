"""In which process image a run is carried out."""

from __future__ import annotations

import sys
from pathlib import Path

import harness
import pytest
from harness import World, shadow, wait_until

from benchmarks import waiting_supervisor

world = harness.world

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
#: Megabytes that a waiting supervisor may hold; the aim of `make bench`.
MOST = waiting_supervisor.AIM.limit


@pytest.mark.parametrize("fresh", ["SMALL_AFTER = 0.2", "MOST_FORKS = 0"])
def test_a_supervisor_that_waits_for_long_becomes_small_and_finishes_its_run(
    world: World, fresh: str
) -> None:
    edge = f"from orchestrator.run import supervisor\nsupervisor.{fresh}\n"
    world.product = shadow(world.folder / "shadow", edge)
    world.create()
    world.script("default", {"steps": [["wait", "go"], ["work"]]})
    task = world.add("Takes long")
    [run] = world.tick_until(lambda: world.status()["running"], "the run")
    command = Path(f"/proc/{run['pid']}/cmdline")
    wait_until(lambda: b"\0_run\0" in command.read_bytes(), "the small image")
    wait_until(lambda: waiting_supervisor.memory(run["pid"])["Rss"] < MOST, "little memory")
    world.open("go")
    world.tick_until_in("done", task)
    assert len(world.commits_about(task)) == 1
    assert len(world.starts(task)) == 1
