"""Reference 5 and 8: stop and pause --all end whole process groups; locks; clocks."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import both_stores
import harness
import pytest
from harness import ONCE, World, is_alive, kill, wait_until

world = both_stores.world

#: A client that ignores requests to end, with grandchildren in its group and in their own session.
STUBBORN = {
    "steps": [
        ["work_once"],
        ["ignore_sigterm"],
        ["spawn", False, True],
        ["spawn", True, True],
        ["wait", "go"],
    ]
}


def stubborn_run(world: World, **config: object) -> tuple[str, list[int]]:
    """Create a project in which a stubborn client runs; return its task and all its pids."""
    world.create(retry={"max_attempts": 1, "backoff_seconds": 0}, **config)
    world.script("default", STUBBORN)
    task = world.add("Stubborn")
    world.tick_until(lambda: len(world.ledger("spawn")) == 2, "the grandchildren")
    [start] = world.starts(task)
    return task, [start["pid"], *(s["child"] for s in world.ledger("spawn"))]


@pytest.mark.parametrize(
    "words",
    [
        ["stop", "impl-1"],
        pytest.param(["stop", "--all"], marks=pytest.mark.slow),
        ["agent", "pause", "--all", "--stop"],
    ],
    ids=" ".join,
)
def test_stopping_ends_everything_that_a_run_started_within_five_seconds(
    world: World, words: list[str]
) -> None:
    task, pids = stubborn_run(world)
    assert os.getsid(pids[0]) == pids[0], "signals of the tick's terminal do not reach the client"
    # The machine may be busy, and starting a process is not what is measured.
    spare = min(10.0, _seconds(lambda: world.ok("status")) * 3)
    took = _seconds(lambda: world.ok(*words))
    left = 5 + spare - took
    wait_until(lambda: not any(is_alive(pid) for pid in pids), "the end of all", max(left, 0.5))
    world.tick_until(lambda: world.where(task) == ["incoming"], "the task to go back")
    world.quiet()
    shown = world.task(task)
    assert shown["attempts"] == 0, "no attempt is charged"
    [agent] = world.status()["agents"]
    assert agent["reason"] == ("system_paused" if "pause" in words else "paused")
    for _ in range(2):
        world.ok("tick")
    assert len(world.starts(task)) == 1
    world.script("default", {"steps": [["work_once"]]})
    world.ok("agent", "resume", *(["--all"] if "pause" in words else ["impl-1"]))
    world.tick_until_in("done", task)
    assert len(world.commits_about(task)) == 1


def _seconds(act: object) -> float:
    began = time.monotonic()
    assert callable(act)
    act()
    return time.monotonic() - began


def test_cancelling_a_running_task_ends_its_run(world: World) -> None:
    task, pids = stubborn_run(world)
    world.ok("task", "cancel", task)
    wait_until(lambda: not any(is_alive(pid) for pid in pids), "the end of all")
    world.tick_until_in("failed", task)
    world.quiet()
    assert world.task(task)["reason"].startswith("cancelled")
    assert world.where(task) == ["failed"]
    assert sum(day["done"] for day in world.json("history")["days"]) == 0


def test_the_brake_lets_running_agents_finish(world: World) -> None:
    world.create(agents=[World.agent("impl-1"), World.agent("impl-2")])
    world.script("default", {"steps": [["work"], ["wait", "go"]]})
    task = world.add("Finishes")
    world.tick_until(lambda: world.running(task))
    world.ok("agent", "pause", "--all")
    other = world.add("Not begun")
    report = world.tick()
    reasons = {a["agent"]: a["reason"] for a in report["actions"] if a["action"] == "skip"}
    assert reasons == {"impl-1": "system_paused", "impl-2": "system_paused"}
    world.open("go")
    world.tick_until_in("done", task)
    world.quiet()
    assert world.where(other) == ["incoming"]
    assert world.starts(other) == []


def test_a_paused_agent_starts_nothing_and_the_others_go_on(world: World) -> None:
    world.create(agents=[World.agent("impl-1"), World.agent("impl-2")])
    world.ok("agent", "pause", "impl-1")
    task = world.add("For the other")
    world.tick_until_in("done", task)
    assert world.starts(task)[0]["agent"] == "impl-2"
    # A tick has no actions while the tick that settled the run is at work.
    actions = wait_until(lambda: world.tick()["actions"], "a tick of its own")
    reasons = {a["agent"]: a["reason"] for a in actions if a["action"] == "skip"}
    assert reasons["impl-1"] == "paused"


def test_run_starts_one_now_and_returns_once_it_shows_in_status(world: World) -> None:
    world.create(agents=[World.agent("impl-1", interval_seconds=ONCE)])
    world.script("default", {"steps": [["work"], ["wait", "go"]]})
    first, second = world.add("First"), world.add("Second")
    world.ok("run", "impl-1", "--task", second)
    [running] = world.status()["running"]
    assert running["task"] == second
    assert running["agent"] == "impl-1"
    world.refused("run", "impl-1", "--task", first)
    world.refused("run", "nobody")
    world.open("go")
    world.tick_until_in("done", second)


def test_run_obeys_the_other_rules(world: World) -> None:
    world.create(queue_limits={"max_claimed": 0})
    world.add("Held")
    refused = world.refused("run", "impl-1", "--json")
    assert "max_claimed" in refused.out + refused.err
    world.configure(paused=True)
    assert (
        "system_paused" in (refused := world.refused("run", "impl-1", "--json")).out + refused.err
    )
    assert world.starts() == []


# --- locks -------------------------------------------------------------------------------------

HOLD = (
    "import fcntl, sys, time\n"
    "file = open(sys.argv[1], 'r+')\n"
    "fcntl.flock(file, fcntl.LOCK_EX)\n"
    "print('held', flush=True)\n"
    "time.sleep(100)\n"
)


def test_a_held_tick_lock_is_no_failure(world: World) -> None:
    world.create()
    world.ok("tick")
    task = world.add("Waits for the lock")
    path = world.home_folder / "scheduler.lock"
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        for words in (["tick"], ["tick", "--json"]):
            world.ok(*words)
        assert world.json("tick")["actions"] == []
        assert world.where(task) == ["incoming"]
        assert world.status()["queue"]["incoming"] == 1, "reading needs no lock"
        holder.kill()
    world.tick_until_in("done", task)


def hang_git(world: World) -> None:
    """Put a `git` on PATH that hangs while a file is there."""
    import shutil

    real = shutil.which("git")
    path = world.bin / "git"
    path.write_text(
        f"#!/bin/sh\nif [ -e {world.folder}/hang ]; then touch {world.folder}/hung; "
        f'while [ -e {world.folder}/hang ]; do sleep 0.1; done; fi\nexec {real} "$@"\n'
    )
    path.chmod(0o755)


@pytest.mark.skipif(sys.platform != "linux", reason="who holds a lock is read from /proc/locks")
def test_a_tick_that_holds_its_lock_for_over_five_minutes_is_reported_and_ended(
    world: World,
) -> None:
    """The tick is really stopped, and its lock file is made to look six minutes old."""
    world.create()
    task = world.add("After the hung tick")
    hang_git(world)
    (world.folder / "hang").touch()
    # A stopped process holds its lock; catch one that has it, and has said so.
    lock = world.home_folder / "scheduler.lock"

    def has_it(pid: int) -> bool:
        return _holds(pid, lock) and lock.read_text().startswith(f"{pid} ")

    hung = None
    for _ in range(200):
        tick = world.start("tick")
        wait_until(lambda t=tick: t.poll() is not None or has_it(t.pid), "the lock")
        kill(tick.pid, 19)
        if tick.poll() is None and has_it(tick.pid):
            hung = tick
            break
        kill(tick.pid, 18)
        tick.communicate(timeout=60)
    assert hung is not None, "no tick was caught with its lock"
    (world.folder / "hang").unlink()
    [told] = [p for p in world.status()["problems"] if p["code"] == "lock_held"]
    assert f"process {hung.pid} (" in told["message"]
    assert f"kill -CONT {hung.pid}" in told["hint"]
    [told] = [p for p in world.tick()["problems"] if p["code"] == "lock_held"]
    text = lock.read_text()
    pid, identity, since = text.split()
    assert int(pid) == hung.pid
    lock.write_text(f"{pid} {identity} {float(since) - 360:.3f}\n")
    problems = [p for p in world.status()["problems"] if p["code"] == "tick_hung"]
    assert len(problems) == 1
    report = world.tick()
    assert "tick_hung" in [p["code"] for p in report["problems"]]
    hung.communicate(timeout=10)
    world.tick_until_in("done", task)
    assert [p for p in world.status()["problems"] if p["code"] == "tick_hung"] == []


def _holds(pid: int, lock: object) -> bool:
    """Whether a process holds the lock's flock (Linux)."""
    import os

    try:
        inode = os.stat(str(lock)).st_ino
        with open("/proc/locks") as file:
            rows = [line.split() for line in file]
    except OSError:
        return False
    return any("->" not in r and r[4] == str(pid) and r[5].endswith(f":{inode}") for r in rows)


def test_failure_37_a_stopped_supervisor_is_named_in_status_and_stop_ends_its_run(
    world: World,
) -> None:
    world.create()
    world.script("default", {"steps": [["work"], ["wait", "never"]]})
    task = world.add("Stands still")
    world.tick_until(lambda: world.running(task), "the run")
    [start] = world.starts(task)
    [running] = world.status()["running"]
    kill(running["pid"], 19)
    kill(start["pid"], 19)
    world.ok("tick")
    told = [p for p in world.status()["problems"] if p["code"] == "run_stopped"]
    for pid in (running["pid"], start["pid"]):
        assert [p for p in told if f"(process {pid})" in p["message"]]
        assert [p for p in told if f"kill -CONT {pid};" in p["hint"]]
    assert "SIGSTOP" in world.ok("status").out
    world.ok("stop", "impl-1")
    assert not is_alive(start["pid"])
    assert world.where(task) == ["incoming"]
    assert world.task(task)["attempts"] == 0
    wait_until(lambda: not is_alive(running["pid"]), "the end of the supervisor's own tick")
    assert world.status()["problems"] == []


@pytest.mark.parametrize("by", ["tick", "stop"])
def test_a_run_whose_agents_folder_was_deleted_ends_before_the_agent_starts_again(
    world: World, by: str
) -> None:
    world.create(agents=[World.agent("pm-1", "product_manager")])
    world.script("product_manager", {"steps": [["wait", "never"]]})
    [first] = world.tick_until(world.running, "the run")
    [supervised] = world.status()["running"]
    kill(supervised["pid"], signal.SIGKILL)  # alive, it would end the client itself
    wait_until(lambda: not is_alive(supervised["pid"]), "the end of the supervisor")
    shutil.rmtree(world.home_folder / "agents" / "pm-1")
    assert "run_lost" in [p["code"] for p in world.status()["problems"]]
    if by == "stop":
        assert world.json("stop", "pm-1")["stopped"] == {"pm-1": first["run"]}
        assert not is_alive(first["pid"])
        assert len(world.starts()) == 1
        return
    # The second client, which a tick starts, never meets the first.
    world.tick_until(lambda: len(world.starts()) > 1, "the next run")
    assert not is_alive(first["pid"])
    ended = [run for run in world.json("runs") if run["run"] == first["run"]]
    assert [run["outcome"] for run in ended] == ["interrupted"]
    assert "run_lost" not in [p["code"] for p in world.status()["problems"]]


#: No command waits half a minute for the queue in a test.
_SHORT_WAIT = """
from orchestrator.tasks import file_store
from orchestrator.tick import held
file_store.LOCK_WAIT = held.LONG = 0.2
"""


@contextlib.contextmanager
def holding(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Have another process hold the lock on a file."""
    path.touch()
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        try:
            yield holder
        finally:
            holder.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="who holds a lock is read from /proc/locks")
@pytest.mark.files_only("it holds the lock file of the queue")
def test_a_queue_lock_that_is_held_is_no_bug_and_its_holder_is_named(world: World) -> None:
    world.create()
    task = world.add("Waits for the queue")
    world.product = harness.shadow(world.folder / "shadow", _SHORT_WAIT, forked=True)
    with holding(world.queue / ".lock") as holder:
        for words in (["tick"], ["task", "add", "x"], ["task", "cancel", task]):
            done = world.run(*words, "--json")
            told = done.json.get("error") or done.json["problems"][0]
            assert (done.code, told["code"]) == (1, "lock_held")
            assert f"process {holder.pid} (" in told["message"]
        for words in (["status"], ["task", "list"], ["task", "show", task], ["explain", task]):
            world.ok(*words)
        world.ok("agent", "pause", "--all")
        assert "lock_held" in [p["code"] for p in world.status()["problems"]]
    world.ok("agent", "resume", "--all")
    world.tick_until_in("done", task)


#: Nobody waits for seconds in a test until what hangs is ended, or for the configuration's lock.
_NO_PATIENCE = """
from orchestrator.config import change
from orchestrator.tick import stop
stop.GRACE, stop.END_AGAIN, stop.PATIENCE, change.LOCK_WAIT = 0.5, 0.4, 0.1, 0.2
"""


@pytest.mark.parametrize("held_by", ["a stopped process", "a process that hangs"])
def test_failure_37_a_run_that_waits_for_a_lock_can_be_stopped(world: World, held_by: str) -> None:
    world.create()
    path = world.home_folder / "cache" / "fetch.lock"
    path.parent.mkdir(exist_ok=True)
    task = world.add("Waits to fetch")
    world.product = harness.shadow(world.folder / "shadow", _NO_PATIENCE, forked=True)
    with holding(path) as holder:
        if held_by == "a stopped process":
            kill(holder.pid, signal.SIGSTOP)
        world.start("tick").communicate()
        wait_until(lambda: world.supervisor(task), "the supervisor")
        world.ok("stop", "impl-1")
        assert world.where(task) == ["incoming"]
        assert world.task(task)["attempts"] == 0
        assert is_alive(holder.pid)
    world.ok("agent", "resume", "impl-1")
    world.tick_until_in("done", task)


def test_failure_37_a_delivery_that_hangs_can_be_stopped_and_delivers_later(world: World) -> None:
    world.create(retry={"max_attempts": 1, "backoff_seconds": 0})
    hook, entered = world.remote / "hooks" / "pre-receive", world.folder / "entered"
    hook.write_text(f"#!/bin/sh\ntouch {entered}\nexec sleep 300\n")
    hook.chmod(0o755)
    task = world.add("Hangs at the remote")
    world.product = harness.shadow(world.folder / "shadow", _NO_PATIENCE, forked=True)
    world.tick_until(entered.exists, "the push")
    world.ok("agent", "pause", "--all", "--stop")
    assert world.where(task) == ["incoming"]
    assert world.task(task)["attempts"] == 0
    hook.unlink()
    world.ok("agent", "resume", "--all")
    world.tick_until_in("done", task)
    assert len(world.starts(task)) == 1, "the work is not paid for twice"
    assert len(world.commits_about(task)) == 1


def test_failure_37_the_brake_ends_runs_while_a_process_keeps_the_configurations_lock(
    world: World,
) -> None:
    world.create()
    world.script("default", {"steps": [["work"], ["wait", "never"]]})
    task = world.add("Runs on")
    world.tick_until(lambda: world.running(task), "the run")
    world.product = harness.shadow(world.folder / "shadow", _NO_PATIENCE, forked=True)
    with holding(world.home_folder / "cache" / "config.lock") as holder:
        kill(holder.pid, signal.SIGSTOP)
        world.ok("agent", "pause", "--all", "--stop")
        assert world.running() == []
        world.ok("tick")
    assert world.where(task) == ["incoming"]
    assert world.status()["agents"][0]["reason"] == "system_paused"


@pytest.mark.skipif(sys.platform != "linux", reason="who holds a lock is read from /proc/locks")
def test_failure_37_a_process_that_keeps_an_agents_lock_is_named(world: World) -> None:
    world.create()
    task = world.add("Cannot begin")
    path = world.home_folder / "agents" / "impl-1" / "lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with holding(path) as holder:
        kill(holder.pid, signal.SIGSTOP)
        world.ok("tick")
        [told] = [p for p in world.status()["problems"] if p["code"] == "lock_held"]
        assert f"process {holder.pid} (" in told["message"]
        assert f"kill -9 {holder.pid}" in told["hint"]
    world.tick_until_in("done", task)


# --- clocks ------------------------------------------------------------------------------------


def shift(world: World, hours: float) -> None:
    """Make every recorded time of every agent lie `hours` later."""
    for path in (world.home_folder / "agents").glob("*/state.json"):
        record = json.loads(path.read_text())
        for name, value in record.items():
            if name.startswith("last_") and isinstance(value, int | float):
                record[name] = value + hours * 3600
            elif name.startswith("last_") and isinstance(value, str) and value.endswith("Z"):
                moved = datetime.fromisoformat(value) + timedelta(hours=hours)
                record[name] = moved.strftime("%Y-%m-%dT%H:%M:%SZ")
        path.write_text(json.dumps(record))


@pytest.mark.parametrize("hours", [8, 24 * 365])
def test_a_last_start_in_the_future_counts_as_now(world: World, hours: float) -> None:
    world.create(agents=[World.agent("impl-1", interval_seconds=2)])
    world.tick_until_in("done", world.add("Before"))
    world.quiet()
    shift(world, hours)
    task = world.add("After the clock moved back")
    world.tick_until_in("done", task, limit=20)


@pytest.mark.files_only("it edits the file of a task")
def test_a_not_before_far_ahead_waits_no_longer_than_the_maximum(world: World) -> None:
    world.create(retry={"max_attempts": 3, "backoff_seconds": 1, "max_backoff_seconds": 2})
    world.script(
        "default",
        {"steps": [], "report": {"outcome": "failed", "summary": "No."}},
        {"steps": [["work"]]},
    )
    task = world.add("Waits")
    world.ok("tick")
    world.quiet()  # nothing ticks during the wait
    path = world.queue / "incoming" / f"{task}.md"
    text = path.read_text()
    stem = world.task(task)["not_before"].removesuffix("Z").partition(".")[0]
    far = (datetime.now(UTC) + timedelta(hours=8)).strftime("%Y-%m-%dT%H:%M:%S")
    assert stem in text
    path.write_text(text.replace(stem, far))
    world.tick_until_in("done", task, limit=20)


def test_failure_10_a_live_run_survives_a_clock_that_jumps(world: World) -> None:
    world.create(agents=[World.agent("impl-1", max_runtime_seconds=3600, stall_seconds=600)])
    world.script("default", {"steps": [["work"], ["wait", "go"]]})
    task = world.add("Through the jump")
    world.tick_until(lambda: world.running(task))
    shift(world, -8)
    world.ok("tick")
    shift(world, 16)
    world.ok("tick")
    assert world.running(task), "live work was thrown away"
    world.open("go")
    world.tick_until_in("done", task)
    assert len(world.starts(task)) == 1


def test_a_scheduler_that_stopped_ticking_is_told_by_status(world: World) -> None:
    world.create()
    shown = world.status()["scheduler"]
    assert set(shown) == {"last_tick", "age_seconds", "stale"}
    world.ok("tick")
    shown = world.status()["scheduler"]
    assert shown["stale"] is False
    assert shown["last_tick"].endswith("Z")
    assert 0 <= shown["age_seconds"] < 60
