"""A person deletes folders of the product while agents are at work: no client is left alone."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import harness
import pytest
from harness import World, is_alive, shadow, wait_until

world = harness.world

DELETED = {
    "git clean": "git clean -ffdxq",
    "agents": "rm -rf .orchestrator/agents",
    "runs": "rm -rf .orchestrator/agents/impl-1/runs",
    "project": 'rm -rf "$PWD"',
}


def begin(world: World) -> tuple[str, list[int]]:
    """Let a client with a grandchild work in a committed project; return its task and the pids."""
    world.git("add", "-A")
    world.git("commit", "-q", "-m", "Set up")
    steps = [["write", "draft.txt", "a draft\n"], ["spawn", True], ["wait", "go"]]
    world.script("default", {"steps": steps})
    task = world.add("Its run's folder is deleted")
    world.tick_until(lambda: world.ledger("spawn"), "the client")
    # Of a client that ended early the task may be with another one by now.
    [client, *_], [grandchild, *_] = world.starts(), world.ledger("spawn")
    return task, [client["pid"], grandchild["child"]]


def delete(world: World, what: str) -> None:
    # Of a folder in which files are being written, `rm` may leave some: a person tries again.
    script = f"for _ in 1 2 3 4 5; do {DELETED[what]} && exit; done"
    subprocess.run(["sh", "-c", script], cwd=world.root, env=world.environment, check=True)


@pytest.mark.parametrize("small", [False, True], ids=["forked", "small"])
@pytest.mark.parametrize("what", DELETED)
def test_a_client_ends_when_the_folder_of_its_run_is_deleted(
    world: World, what: str, small: bool
) -> None:
    """Without its record, no command would show the client or end it, and it costs money."""
    after = 0.1 if small else 60
    edge = f"from orchestrator.run import supervisor\nsupervisor.SMALL_AFTER = {after}\n"
    world.product = shadow(world.folder / "shadow", edge, forked=not small)
    world.create()
    _, pids = begin(world)
    if small:
        supervisor = world.status()["running"][0]["pid"]
        command = Path(f"/proc/{supervisor}/cmdline")
        wait_until(lambda: b"\0_run\0" in command.read_bytes(), "the small image")
    delete(world, what)
    wait_until(lambda: not any(map(is_alive, pids)), "the end of the client")


def test_the_brake_works_although_the_folders_of_runs_were_deleted(world: World) -> None:
    world.create()
    task, pids = begin(world)
    shutil.rmtree(world.home_folder / "agents" / "impl-1" / "runs")
    world.ok("agent", "pause", "--all", "--stop")
    assert not any(map(is_alive, pids))
    assert world.where(task) == ["incoming"]
    assert world.task(task)["attempts"] == 0
    world.script("default", {"steps": [["work"]]})
    world.ok("agent", "resume", "--all")
    world.tick_until_in("done", task)
    refs = world.git("for-each-ref", "--format=%(refname)", "refs/orchestrator/rescue").split()
    assert any("draft.txt" in world.git("show", "--stat", "--first-parent", ref) for ref in refs)


INSTANTS = {
    # The small image finds neither the record nor the lock that it was handed.
    "before the small image": ("supervisor", "become"),
    "after it read the record": ("watch", "watch"),
}


@pytest.mark.parametrize(("module", "name"), INSTANTS.values(), ids=INSTANTS)
def test_a_client_ends_when_its_folders_are_deleted_between_two_steps(
    world: World, module: str, name: str
) -> None:
    folders = str(world.home_folder / "agents")
    edge = (
        "import shutil\nfrom orchestrator.run import supervisor, watch\n"
        f"supervisor.SMALL_AFTER = 0.1\nactual = {module}.{name}\n"
        # The first image waits for a time, which is the second value; the small image waits on.
        "def late(first, most=None):\n"
        f"    if most is None:\n        shutil.rmtree({folders!r})\n"
        "    return actual(first, *([] if actual.__name__ == 'become' else [most]))\n"
        f"{module}.{name} = late\n"
    )
    world.product = shadow(world.folder / "shadow", edge)
    world.create()
    _, pids = begin(world)
    wait_until(lambda: not any(map(is_alive, pids)), "the end of the client")
