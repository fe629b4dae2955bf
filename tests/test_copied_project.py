"""A person copies a project (`cp -a`) while an agent works in it: two projects from then on."""

from __future__ import annotations

import subprocess

import harness
import psutil
import pytest
from harness import World, is_alive

world = harness.world


@pytest.mark.parametrize(
    "words",
    [
        ["stop", "impl-1"],
        ["stop", "--all"],
        ["task", "move", "TASK-00000001", "incoming", "--force"],
        ["task", "cancel", "TASK-00000001", "--force"],
        ["tick"],
    ],
    ids=" ".join,
)
def test_no_command_in_a_copy_ends_or_signals_a_process_of_the_original(
    world: World, words: list[str]
) -> None:
    world.create()
    world.script("default", {"steps": [["spawn", True], ["work"], ["wait", "go"]]})
    task = world.add("Worked on while the project is copied")
    world.tick_until(lambda: world.ledger("spawn"), "the client")
    [client], [spawned] = world.starts(), world.ledger("spawn")
    supervisor = world.supervisor(task)
    pids = [client["pid"], spawned["child"], supervisor]
    copy = world.folder / "copy"
    subprocess.run(["cp", "-a", str(world.root), str(copy)], check=True)
    world.ok("agent", "pause", "--all", cwd=copy)
    # As a stopped process, which each request would continue.
    psutil.Process(spawned["child"]).suspend()
    world.run(*words, cwd=copy)
    # Its own record of the run has no process, so the task of the copy returns to its queue.
    world.ok("tick", cwd=copy)
    assert world.json("status", cwd=copy)["running"] == []
    assert [*map(is_alive, pids)] == [True] * 3
    assert psutil.Process(spawned["child"]).status() == psutil.STATUS_STOPPED
    psutil.Process(spawned["child"]).resume()
    world.open("go")
    world.tick_until_in("done", task)
    assert len(world.starts(task)) == 1
    assert [run["outcome"] for run in world.json("runs")] == ["done"]
