"""Reference 8.1, 8.2: kill -9 at any instant, then ticks, and nothing is lost, doubled or stuck."""

from __future__ import annotations

import random
import signal
import subprocess
import time

import both_stores
import pytest
from harness import World, is_alive, kill, wait_until

world = both_stores.world

#: Works once, then waits for the test: a second execution finds the first one's commit.
CAREFUL = {"steps": [["work_once"], ["wait", "go"]]}


def running(world: World, task: str) -> dict[str, int]:
    """Tick until a task's client has made its commit; return the pids of client and supervisor."""
    world.tick_until(lambda: world.running(task), "the client to run")
    [client] = world.running(task)
    wait_until(lambda: world.ledger("commit") + world.ledger("found_done"), "its commit")
    return {"client": client["pid"], "supervisor": client["parent"]}


def assert_done_once(world: World, task: str) -> None:
    world.quiet()
    assert world.where(task) == ["done"]
    world.assert_never_at_once()
    assert len(world.commits_about(task)) == 1
    [pr] = [pr for pr in world.prs() if pr["task"] == task]
    assert pr["head"] == world.sha(pr["branch"]) == world.remote_sha(pr["branch"])


@pytest.mark.parametrize(
    "victims",
    [["supervisor"], ["client"], ["supervisor", "client"], ["client", "supervisor"]],
    ids=" then ".join,
)
def test_a_killed_run_is_taken_up_again_and_its_commit_is_there_once(
    world: World, victims: list[str]
) -> None:
    world.create()
    task = world.add("Survive")
    world.script("default", CAREFUL)
    pids = running(world, task)
    [own] = (world.root / ".git" / "worktrees").iterdir()
    assert (own / "locked").exists(), "git must not take the worktree away from the run"
    for victim in victims:
        kill(pids[victim])
    world.run("tick")
    assert len([s for s in world.places().values() if f"{task}.md" in s]) == 1
    world.open("go")
    world.tick_until_in("done", task)
    assert_done_once(world, task)
    assert not (own / "locked").exists()


@pytest.mark.parametrize("victims", [[], ["supervisor"]], ids=["all live", "supervisor dies"])
def test_a_run_of_a_set_up_that_is_no_more_gives_its_task_back(
    world: World, victims: list[str]
) -> None:
    """The mark in git's folder was lost under a run (a new clone, a clean-up), and made anew."""
    world.create(retry={"max_attempts": 1, "backoff_seconds": 0})
    task = world.add("Survive")
    world.script("default", CAREFUL)
    pids = running(world, task)
    (world.root / ".git" / "orchestrator.json").unlink()
    assert world.run("tick").code == 1
    for victim in victims:
        kill(pids[victim])
    world.ok("init", "--schedule", "none", "--no-commands")
    world.run("tick")
    world.open("go")
    world.tick_until_in("done", task)
    assert_done_once(world, task)
    assert len(world.starts(task)) == 2


def test_an_interrupted_run_costs_nothing_the_first_time(world: World) -> None:
    world.create(retry={"max_attempts": 1, "backoff_seconds": 0})
    task = world.add("Interrupted once")
    world.script("default", CAREFUL)
    for pid in running(world, task).values():
        kill(pid)
    world.open("go")
    world.tick_until(lambda: world.where(task) in (["done"], ["failed"]))
    assert world.where(task) == ["done"], world.text(task)
    assert len(world.starts(task)) == 2


def test_a_second_interruption_in_a_row_costs_an_attempt(world: World) -> None:
    world.create(retry={"max_attempts": 1, "backoff_seconds": 0})
    task = world.add("Interrupted twice")
    world.script("default", CAREFUL)
    for count in (1, 2):
        world.tick_until(
            lambda n=count: len(world.starts(task)) == n and world.running(task), "it to run"
        )
        [client] = world.running(task)
        kill(client["parent"])
        kill(client["pid"])
    world.tick_until_in("failed", task)
    assert len(world.starts(task)) == 2
    ends = [entry for entry in world.task(task)["history"] if "charged" in entry]
    assert [entry["charged"] for entry in ends] == [False, True]
    assert [end["error"].endswith("(the second interruption in a row)") for end in ends] == [
        False,
        True,
    ]


def test_a_result_that_was_written_outranks_the_death_of_both(world: World) -> None:
    world.create(agents=[World.agent("impl-1", stall_seconds=0)])
    task = world.add("Finished before the lights went out")
    world.script("default", {"steps": [["work"]], "after": [["wait", "never"]]})
    world.tick_until(lambda: world.ledger("end"), "the result line")
    [client] = world.starts(task)
    kill(client["parent"])
    kill(client["pid"])
    world.tick_until_in("done", task)
    assert_done_once(world, task)
    assert len(world.starts(task)) == 1


def test_failure_04_an_orphaned_client_with_its_grandchildren_does_not_outlive_its_task(
    world: World,
) -> None:
    world.create()
    task = world.add("With children")
    steps = [["work_once"], ["spawn", False, True], ["spawn", True, True], ["wait", "go"]]
    world.script("default", {"steps": steps}, {"steps": [["work_once"]]})
    world.tick_until(lambda: len(world.ledger("spawn")) == 2, "the grandchildren")
    kill(world.starts(task)[0]["parent"])
    world.open("go")
    world.tick_until_in("done", task)
    for spawned in world.ledger("spawn"):
        wait_until(lambda pid=spawned["child"]: not is_alive(pid), f"the end of {spawned}")
    assert_done_once(world, task)


def test_a_pid_that_now_belongs_to_another_process_is_left_alone(world: World) -> None:
    """The files of a dead run name pids; a stranger that has one of them now must survive."""
    world.create()
    task = world.add("Pid reuse")
    world.script("default", CAREFUL)
    pids = running(world, task)
    for pid in pids.values():
        kill(pid)
    wait_until(lambda: not any(is_alive(pid) for pid in pids.values()), "both to be dead")
    stranger = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        for folder in (world.home_folder / "agents").rglob("*"):
            if (
                folder.is_file()
                and folder.suffix in (".json", "")
                and "worktree" not in str(folder)
            ):
                text = folder.read_text(errors="replace")
                for pid in pids.values():
                    text = text.replace(str(pid), str(stranger.pid))
                folder.write_text(text)
        world.open("go")
        world.tick_until_in("done", task)
        assert stranger.poll() is None, "an innocent process was killed"
    finally:
        stranger.kill()
        stranger.wait()


def test_ticks_killed_at_random_instants_lose_and_double_nothing(world: World) -> None:
    chance = random.Random(7)
    agents = [world.agent(f"impl-{n}") for n in range(3)]
    world.create(agents=agents, queue_limits={"max_claimed": 3, "max_open_prs": 50})
    tasks = [world.add(f"Task {n}") for n in range(6)]
    for _ in range(12):
        tick = world.start("tick")
        time.sleep(chance.random() * 0.4)
        kill(tick.pid)
        tick.communicate()
        world.ok("tick")
        names = [name for found in world.places().values() for name in found]
        assert sorted(n for n in names if n[:-3] in tasks) == sorted(f"{t}.md" for t in tasks)
    world.tick_until(lambda: len(world.places()["done"]) == len(tasks), "all done")
    for task in tasks:
        assert_done_once(world, task)
        assert len(world.starts(task)) == 1


@pytest.mark.timeout(240)
def test_failure_01_anything_killed_at_random_instants_still_ends_with_each_commit_there_once(
    world: World,
) -> None:
    chance = random.Random(11)
    agents = [world.agent(f"impl-{n}") for n in range(3)]
    retry = {"max_attempts": 50, "backoff_seconds": 0}
    limits = {"max_claimed": 2, "max_open_prs": 50}
    world.create(agents=agents, queue_limits=limits, retry=retry)
    tasks = [world.add(f"Task {n}") for n in range(4)]
    world.script("default", {"steps": [["sleep", 0.1], ["work_once"], ["sleep", 0.1]]})
    for _ in range(15):
        tick = world.start("tick")
        time.sleep(chance.random() * 0.5)
        found = world.processes()
        for process in chance.sample(found, min(len(found), chance.choice([1, 1, 2]))):
            kill(process.pid)
        tick.communicate()
        world.ok("tick")
        names = [name for names in world.places().values() for name in names]
        assert sorted(n for n in names if n[:-3] in tasks) == sorted(f"{t}.md" for t in tasks)
    world.tick_until(lambda: len(world.places()["done"]) == len(tasks), "all done")
    for task in tasks:
        assert_done_once(world, task)
    world.assert_never_at_once(most=2)


def test_a_supervisor_that_is_asked_to_end_loses_nothing(world: World) -> None:
    """What a shutdown does: SIGTERM to everything."""
    world.create()
    task = world.add("Shutdown")
    world.script("default", CAREFUL)
    pids = running(world, task)
    kill(pids["supervisor"], signal.SIGTERM)
    kill(pids["client"], signal.SIGTERM)
    world.open("go")
    world.tick_until_in("done", task)
    assert_done_once(world, task)
