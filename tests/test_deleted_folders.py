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
    # At the instant the process says so, and goes on when the folders were deleted.
    there, deleted = world.folder / "there", world.folder / "deleted"
    edge = (
        "import os, time\nfrom orchestrator.run import supervisor, watch\n"
        f"supervisor.SMALL_AFTER = 0.1\nactual = {module}.{name}\n"
        # The first image waits for a time, which is the second value; the small image waits on.
        "def late(first, most=None):\n"
        f"    if most is None:\n        open({str(there)!r}, 'w').close()\n"
        "        for _ in range(1000):\n"
        f"            if os.path.exists({str(deleted)!r}):\n                break\n"
        "            time.sleep(0.03)\n"
        "    return actual(first, *([] if actual.__name__ == 'become' else [most]))\n"
        f"{module}.{name} = late\n"
    )
    world.product = shadow(world.folder / "shadow", edge)
    world.create()
    _, pids = begin(world)
    wait_until(there.exists, "the instant")
    delete(world, "agents")
    deleted.touch()
    wait_until(lambda: not any(map(is_alive, pids)), "the end of the client")


@pytest.mark.parametrize("command", [["tick"], ["stop", "--all"]], ids=" ".join)
def test_a_run_is_found_by_its_processes_when_nothing_else_says_that_there_is_one(
    world: World, command: list[str]
) -> None:
    """Its supervisor, which would end it, was killed."""
    world.create(agents=[World.agent("pm-1", role="product_manager")])
    world.script("default", {"steps": [["spawn", True], ["wait", "never"]]})
    world.tick_until(lambda: world.ledger("spawn"), "the client")
    world.ok("agent", "pause", "--all")
    [client], [spawned] = world.starts(), world.ledger("spawn")
    pids = [client["pid"], spawned["child"]]
    [run] = world.status()["running"]
    harness.kill(run["pid"])
    wait_until(lambda: not is_alive(run["pid"]), "the end of the supervisor")
    marks = {"ORCHESTRATOR_AGENT": "pm-1", "ORCHESTRATOR_RUN_ID": "20260101T000000Z-aaaaaa"}
    elsewhere = {**world.environment, **marks, "ORCHESTRATOR_PROJECT": f"{world.root}-2"}
    other = subprocess.Popen(["sleep", "600"], env=elsewhere)
    try:
        shutil.rmtree(world.home_folder / "agents")
        shutil.rmtree(world.root / ".git" / "worktrees")
        assert [*map(is_alive, pids)] == [True, True]
        world.ok(*command)
        assert not any(map(is_alive, pids))
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def spent(world: World) -> float:
    return float(world.json("costs")["budgets"]["spent_today_usd"])


@pytest.mark.parametrize("what", ["agents", "agent"])
def test_what_runs_cost_today_is_known_after_their_folders_were_deleted(
    world: World, what: str
) -> None:
    agents = [World.agent("impl-1"), World.agent("impl-2", role="reviewer")]
    world.create(budgets={"run_usd": 1, "daily_usd": 0.2}, agents=agents)
    world.add("Costs a quarter")
    world.tick_until(lambda: world.places()["done"], "the first task")
    world.quiet()
    assert spent(world) == 0.25
    world.add("Too expensive for today")
    folder = world.home_folder / "agents"
    shutil.rmtree(folder if what == "agents" else folder / "impl-1")

    def reason() -> str:
        return str(world.status()["agents"][0]["reason"])

    assert (spent(world), reason()) == (0.25, "budget_exhausted")
    # Another agent gets its memory first, and then the file with the events is deleted too.
    for _ in range(2):
        world.ok("tick")
        assert (spent(world), reason()) == (0.25, "budget_exhausted")
        (world.home_folder / "events.jsonl").unlink(missing_ok=True)
    assert len(world.starts()) == 1
    assert world.status()["problems"] == []


@pytest.mark.parametrize("how", ["git clean", "all"])
def test_that_all_records_of_what_runs_cost_were_deleted_is_a_problem_of_that_day(
    world: World, how: str
) -> None:
    world.product, move = harness.movable_clock(world.folder)
    world.create(budgets={"run_usd": 1, "daily_usd": 50})
    world.git("add", "-A")
    world.git("commit", "-q", "-m", "Set up")
    world.add("Costs a quarter")
    world.tick_until(lambda: world.places()["done"], "the task")
    world.quiet()

    def codes() -> list[str]:
        return [problem["code"] for problem in world.status()["problems"]]

    assert codes() == []
    delete(world, "git clean")
    assert codes() == ["queue_missing"]
    refused = world.refused("task", "add", "Before any tick", "--json")
    assert refused.json["error"]["code"] == "queue_missing"
    if how == "all":
        shutil.rmtree(world.home_folder)
    said = world.ok("init", "--schedule", "none", "--no-commands").out
    assert ".orchestrator/shared/ (it was missing)" in said
    assert codes() == ["costs_lost"]
    world.ok("tick")
    assert codes() == ["costs_lost"]
    assert "can cost more than 50 USD today" in world.ok("status").out
    assert '"costs_lost"' in world.run("doctor", "--json").out
    move(86_400.0)
    world.ok("tick")
    assert "costs_lost" not in codes()
