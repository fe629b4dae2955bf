"""Reference 8: any number of ticks at once; limits hold at every instant."""

from __future__ import annotations

import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import both_stores
import harness
import psutil
import pytest
from harness import ONCE, Sampler, World, wait_until

from orchestrator.git import remote_pair
from orchestrator.layout import Layout
from orchestrator.project import mark
from orchestrator.run import supervisor
from orchestrator.setup import uninstall
from orchestrator.system import locks
from orchestrator.tick.tick import run_tick

world = both_stores.world


def test_failure_16_twenty_ticks_at_once_execute_each_task_exactly_once(world: World) -> None:
    names = [f"impl-{n}" for n in range(6)]
    limits = {"max_incoming": 50, "max_claimed": 3, "max_open_prs": 50}
    world.create(agents=[world.agent(name) for name in names], queue_limits=limits)
    tasks = [world.add(f"Task number {n}") for n in range(8)]

    def all_done() -> bool:
        return len(world.places()["done"]) == len(tasks)

    with Sampler(lambda: len(world.places()["claimed"])) as claimed:
        for _ in range(2):
            with ThreadPoolExecutor(20) as pool:
                for tick in [pool.submit(world.run, "tick") for _ in range(20)]:
                    assert tick.result().code == 0, tick.result()
        world.tick_until(all_done, "all tasks in done")
    world.quiet()
    for task in tasks:
        assert world.where(task) == ["done"]
        assert len(world.starts(task)) == 1
        assert len(world.commits_about(task)) == 1
    assert max(claimed.answers) <= 3
    world.assert_never_at_once(most=3)
    assert len(world.prs()) == len(tasks)


@pytest.mark.files_only("it looks at the files of tasks while they move")
def test_no_file_of_the_queue_is_ever_seen_half_written_or_in_two_places(world: World) -> None:
    world.create(
        agents=[world.agent(f"impl-{n}") for n in range(3)],
        retry={"max_attempts": 2, "backoff_seconds": 0},
    )
    body = "## Context\n" + "A long line of the body.\n" * 2000 + "THE END\n"
    tasks = [f"long-{n}" for n in range(4)]
    failing = {"steps": [], "report": {"outcome": "failed", "summary": "x" * 3000}}
    world.script("default", failing, {"steps": [["work"]]})
    for task in tasks:
        world.drop(f"{task}.md", f"# [{task}] Long\n\nROLE: implement\n\n{body}")
    bad: list[str] = []

    def look() -> None:
        for path in world.queue.glob("*/*.md"):
            try:
                text = path.read_text()
            except FileNotFoundError:
                continue
            if not text.startswith(f"# [{path.stem}] Long\n") or body not in text:
                bad.append(f"{path}: {text[:80]!r} ... {text[-80:]!r}")

    with Sampler(look):
        world.tick_until(lambda: len(world.places()["done"]) == len(tasks))
    assert not bad, bad[0]


def test_a_dry_run_says_what_a_tick_would_do_and_does_nothing(world: World) -> None:
    world.create()
    task = world.add("Only talked about")
    planned = world.json("tick", "--dry-run")["actions"]
    assert [(a["action"], a["agent"], a["task"]) for a in planned] == [("start", "impl-1", task)]
    world.quiet()
    assert world.starts() == []
    assert world.where(task) == ["incoming"]
    done = world.tick()["actions"]
    assert [(a["action"], a["agent"], a["task"]) for a in done] == [("start", "impl-1", task)]


def test_tick_wait_waits_for_the_runs_it_started_and_shows_progress(world: World) -> None:
    world.create()
    task = world.add("Waited for")
    done = world.ok("tick", "--wait", "60")
    assert world.where(task) == ["done"]
    assert task in done.out + done.err
    world.script("default", {"steps": [["wait", "go"]]})
    other = world.add("Not waited for")
    world.tick_until(lambda: world.running(other))
    assert "still running" not in world.ok("tick", "--wait", "1").out
    assert world.where(other) == ["claimed"]


def test_tick_wait_waits_for_an_active_tick_and_then_does_its_own_work(world: World) -> None:
    world.create()
    task = world.add("Waited for")
    lock = world.home_folder / "scheduler.lock"

    def waits(process: subprocess.Popen[str]) -> bool:
        opened = [file.path for file in psutil.Process(process.pid).open_files()]
        return process.poll() is not None or str(lock) in opened

    with locks.Lock(str(lock)):
        for words in (["tick"], ["tick", "--wait", "0"]):
            assert world.ok(*words).out == "another tick is active\n"
        waiting = world.start("tick", "--wait", "60")
        wait_until(lambda: waits(waiting), "the tick waits for the lock")
    said, _ = waiting.communicate(timeout=60)
    assert (waiting.returncode, "another tick" in said) == (0, False)
    assert world.where(task) == ["done"]


def test_a_tick_whose_reader_went_away_has_done_its_work(world: World) -> None:
    world.create()
    world.add("Told to nobody")
    read, write = os.pipe()
    os.close(read)
    words = [*harness.PYTHON, str(world.product), "tick"]
    try:
        done = subprocess.run(
            words, cwd=world.root, env=world.environment, stdout=write, stderr=subprocess.PIPE
        )
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")
    world.tick_until(lambda: len(world.places()["done"]) == 1)


def test_tick_wait_says_what_follows_from_the_runs_it_waited_for(world: World) -> None:
    reviewer = world.agent("rev-1", "reviewer")
    world.create(agents=[world.agent("impl-1"), reviewer])
    world.script("reviewer", {"steps": [["wait", "go"]]})
    world.add("Is reviewed")
    done = world.ok("tick", "--wait", "60")
    [review] = [run["task"] for run in world.status()["running"]]
    assert f"next: {review} is claimed by rev-1\n" in done.out
    assert f"orchestrator logs {review}" in done.out
    world.add("Told to a script")
    assert set(world.json("tick", "--wait", "60")) == {"actions", "problems"}
    world.configure(agents=[world.agent("impl-1"), {**reviewer, "paused": True}])
    world.add("Waits for its review")
    said = world.ok("tick", "--wait", "60").out
    assert "is not claimed: paused (rev-1 is paused)" in said
    assert " delivered pull request " in said
    world.script("impl-1", {"report": {"outcome": "needs_human", "summary": "", "question": "A?"}})
    asking = world.add("Asks")
    assert f"next: {asking} waits for a person: A?\n" in world.ok("tick", "--wait", "60").out
    world.script("impl-1", {"steps": [["wait", "go"]]})
    long = world.add("Takes long")
    assert f"still running: impl-1 {long}\n" in world.ok("tick", "--wait", "0.5").out


def test_tick_wait_says_how_to_end_the_system_fault_that_its_run_met(world: World) -> None:
    world.create(claude={"command": ["no-such-client"]})
    world.add("Never started")
    said = world.ok("tick", "--wait", "60").out
    assert "\nsystem_fault: client_missing: " in f"\n{said}"
    assert "  install Claude Code" in said


def test_tick_wait_asks_for_the_approval_that_a_review_led_to(world: World) -> None:
    world.create(agents=[world.agent("impl-1"), world.agent("rev-1", "reviewer", paused=True)])
    world.git("remote", "remove", "origin")
    task = world.add("Is approved")
    world.ok("tick", "--wait", "60")
    world.configure(agents=[world.agent("impl-1"), world.agent("rev-1", "reviewer")])
    said = world.ok("tick", "--wait", "60").out
    [item] = [item for item in world.json("inbox") if item["task"] == task]
    assert f"next: {task} is done, and its pull request waits for your approval\n" in said
    assert f"orchestrator inbox approve {item['id']}\n" in said


def test_a_finished_run_starts_the_next_work_without_another_tick(world: World) -> None:
    """Another agent is due and was held by max_claimed only: nobody has to wait for the minute."""
    limits = {"max_claimed": 1}
    agents = [world.agent(f"impl-{n}", interval_seconds=ONCE) for n in range(3)]
    world.create(agents=agents, queue_limits=limits)
    tasks = [world.add(f"Task {n}") for n in range(3)]
    world.ok("tick")
    wait_until(lambda: len(world.places()["done"]) == len(tasks), "all done after one tick")
    world.assert_never_at_once(most=1)


@pytest.mark.files_only("it holds the lock file of the queue")
def test_behind_a_tick_at_work_one_tick_after_a_run_waits_and_sees_what_the_others_would(
    world: World,
) -> None:
    """Each of them is the end of a run: what a waiting tick has not looked at yet, it will see."""
    world.create(agents=[world.agent("impl-1")])
    world.ok("tick")
    task = world.add("Ready when the look begins")
    waiting = world.home_folder / "cache" / "waiting.lock"

    def after_run() -> subprocess.Popen[str]:
        return world.start("_after_run", str(world.root))

    with locks.Lock(str(world.queue / ".lock")):
        with locks.Lock(str(world.home_folder / "scheduler.lock")):
            first = after_run()
            wait_until(lambda: locks.is_locked(str(waiting)), "the first one to wait")
            for other in [after_run() for _ in range(2)]:
                assert other.communicate(timeout=60) == ("", "")
            assert first.poll() is None
        # The first one has its lock now, and waits for the queue. It may have looked at the runs.
        wait_until(lambda: not locks.is_locked(str(waiting)), "the first one to begin")
        late = after_run()
        wait_until(lambda: locks.is_locked(str(waiting)), "the late one to wait")
        assert (first.poll(), late.poll()) == (None, None)
    for each in (first, late):
        assert each.communicate(timeout=60) == ("", "")
    wait_until(lambda: world.where(task) == ["done"], "the task that the first one started")


@pytest.mark.files_only("a folder is in the place of a task's file")
def test_a_claim_that_fails_stops_no_other_run_of_its_tick(world: World) -> None:
    """The actions are in the order of the agents, although the claims come before all starts."""
    agents = [world.agent(f"impl-{n}") for n in range(3)]
    world.create(agents=agents)
    tasks = [world.add(f"Task {n}") for n in range(3)]
    world.drop("poison.md", "# [poison] P\n\nROLE: implement\nPRIORITY: P0\n\n")
    (world.queue / "claimed").mkdir(exist_ok=True)
    (world.queue / "claimed" / "poison.md").mkdir()
    done = world.tick()["actions"]
    assert [each["agent"] for each in done] == ["impl-0", "impl-1", "impl-2"]
    wait_until(lambda: len(world.places()["done"]) == len(tasks), "the others done")


def test_failure_14_one_poisoned_item_stops_no_other(world: World) -> None:
    """Failures 14: names, branches, bodies, state files, folders: each fails alone."""
    agents = [world.agent(name) for name in ("impl-1", "impl-2", "impl-3")]
    world.create(agents=agents, retry={"max_attempts": 1, "backoff_seconds": 0})
    world.drop("poison-1.md", "# [poison-1] P\n\nROLE: implement\nBRANCH: -rf\nPRIORITY: P0\n\n")
    world.drop("poison-2.md", b"# [poison-2] \xff\n\nROLE: implement\nPRIORITY: P0\n\n")
    world.drop("poison-3.md", "# [poison-3] \u202e\x1b[31m\n\nROLE: implement\nPRIORITY: P0\n\n")
    world.drop(
        "poison-4.md", "# [poison-4] P\n\nROLE: implement\nDEPENDS_ON: ,,;\nPRIORITY: P0\n\n"
    )
    (world.home_folder / "agents" / "impl-2").mkdir(parents=True)
    (world.home_folder / "agents" / "impl-2" / "state.json").write_text('{"run": 5, "last_')
    (world.home_folder / "agents" / "impl-3").mkdir()
    (world.home_folder / "agents" / "impl-3" / "worktree").write_text("a file, not a folder")
    world.git("branch", "agent/good-2-good", "main")
    for n in range(3):
        world.drop(f"good-{n}.md", f"# [good-{n}] Good\n\nROLE: implement\n\n")
    world.tick_until_in("done", "good-0", "good-1", "good-2")
    world.assert_never_at_once()


def test_each_execution_has_a_run_folder_of_its_own(world: World) -> None:
    world.create(retry={"max_attempts": 3, "backoff_seconds": 0})
    world.script("default", {"steps": [], "report": {"outcome": "failed", "summary": "No."}})
    task = world.add("Three attempts")
    world.tick_until_in("failed", task)
    runs = {path.name for path in (world.home_folder / "agents" / "impl-1" / "runs").iterdir()}
    assert runs == {start["run"] for start in world.starts(task)}
    assert len(runs) == 3


def test_another_agent_takes_a_retry_up_with_its_commits(world: World) -> None:
    agents = [world.agent("impl-1", interval_seconds=ONCE), world.agent("impl-2", paused=True)]
    world.create(agents=agents)
    half = {
        "steps": [["write", "half.txt"], ["commit", "half"]],
        "report": {"outcome": "failed", "summary": "No."},
    }
    world.script("default", half, {"steps": [["work"]]})
    task = world.add("Handed over")
    world.tick_until(lambda: world.ledger("end") and world.where(task) == ["incoming"])
    world.ok("agent", "resume", "impl-2")
    world.tick_until_in("done", task)
    first, second = world.starts(task)
    assert (first["agent"], second["agent"]) == ("impl-1", "impl-2")
    assert first["branch"] == second["branch"]
    log = world.git("log", "--format=%s", f"main..{world.prs()[0]['branch']}").splitlines()
    assert log == [f"work on {task}", "half"]


def test_an_agent_removed_from_the_configuration_is_looked_after_to_its_end(world: World) -> None:
    world.create(agents=[world.agent("impl-1"), world.agent("impl-2")])
    world.script("default", {"steps": [["work_once"], ["wait", "go"]]})
    task = world.add("Its agent goes away")
    world.tick_until(lambda: world.running(task))
    gone = world.running(task)[0]["agent"]
    world.configure(agents=[world.agent("impl-9")])
    world.ok("tick")
    assert world.running(task)
    world.open("go")
    world.tick_until_in("done", task)
    assert {start["agent"] for start in world.starts(task)} == {gone}


def test_clean_drops_what_is_safe_and_its_dry_run_says_the_same(world: World) -> None:
    world.create(retry={"max_attempts": 1, "backoff_seconds": 0})
    merged, kept = world.add("Merged"), world.add("Still open")
    world.tick_until_in("done", merged, kept)
    dirty = {"steps": [["write", "p.txt"]], "report": {"outcome": "failed", "summary": "No."}}
    world.script("default", dirty)
    failed = world.add("Failed with changes")
    world.tick_until_in("failed", failed)
    [pr] = [pr for pr in world.prs() if pr["task"] == merged]
    world.ok("pr", "merge", str(pr["id"]))
    world.quiet()
    branches = {start["task"]: start["branch"] for start in world.starts()}
    planned = world.ok("clean", "--dry-run").out
    assert all(world.sha(branches[task]) for task in (merged, kept))
    world.ok("clean")
    assert branches[merged] in planned
    [open_one] = [pr["id"] for pr in world.prs() if pr["task"] == kept]
    assert f"pull request {open_one} is open" in " ".join(planned.split())
    assert world.sha(branches[merged]) == "", "merged and still there"
    assert world.sha(branches[kept]), "an open pull request lost its branch"
    rescue = f"refs/orchestrator/rescue/{world.starts(failed)[0]['run']}"
    worktree = world.home_folder / "agents" / "impl-1" / "worktree" / "p.txt"
    assert worktree.exists() or world.git("show", f"{rescue}:p.txt") == "text"
    again = world.add("After cleaning")
    world.script("default", {"steps": [["work"]]})
    world.tick_until_in("done", again)


def test_a_tick_has_claimed_every_task_when_its_first_run_begins(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that begins competes with the tick, which holds its lock, for the processors."""
    names = ["beta", "alpha", "gamma"]
    world.create(agents=[world.agent(name) for name in names])
    tasks = {world.add(f"Task {name}") for name in names}
    claimed = []

    def start(folder: str, *_: object) -> int:
        claimed.append({name.removesuffix(".md") for name in world.places()["claimed"]})
        return os.getpid()

    monkeypatch.setattr(supervisor, "start", start)
    report = run_tick(layout_of(world), time.time())
    assert claimed == [tasks] * 3
    assert [(a.action, a.agent) for a in report.actions] == [("start", name) for name in names]


def test_a_tick_asks_the_remote_before_it_takes_its_lock(
    delivered: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow remote keeps no other process waiting: neither a run's end nor a command."""
    held: list[bool] = []
    real = remote_pair.fetch

    def fetch(*words: Any, **named: Any) -> dict[str, str]:
        held.append(locks.is_locked(layout_of(delivered).scheduler_lock))
        return real(*words, **named)

    monkeypatch.setattr(remote_pair, "fetch", fetch)
    assert run_tick(layout_of(delivered), time.time()).good
    assert held == [False]


def test_a_tick_beside_a_process_that_asks_the_remote_works_with_what_is_known(
    delivered: World,
) -> None:
    head = delivered.prs()[0]["head"]
    delivered.git("push", "--quiet", "origin", f"{head}:main")
    with locks.Lock(layout_of(delivered).look_lock):
        task = delivered.add("Second task")
        delivered.ok("tick")
        delivered.tick_until(lambda: delivered.where(task) == ["done"], "the second task")
    delivered.ok("tick")
    assert [pr["state"] for pr in delivered.prs()] == ["merged", "open"]


def test_no_tick_looks_while_the_project_is_uninstalled(
    delivered: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uninstall, "_TICK_WAIT", 0.1)
    with locks.Lock(layout_of(delivered).look_lock), pytest.raises(locks.LockHeld):
        uninstall.carry_out(layout_of(delivered))
    assert mark.is_initialised(layout_of(delivered))
    uninstall.carry_out(layout_of(delivered))
    assert run_tick(layout_of(delivered), time.time()).held
    assert not os.path.exists(layout_of(delivered).look_lock)


def layout_of(world: World) -> Layout:
    return Layout(str(world.root))


@pytest.fixture
def delivered(world: World) -> World:
    """A project with a remote and an open pull request."""
    world.create(agents=[world.agent("impl-1", interval_seconds=0)])
    task = world.add("First task")
    world.tick_until(lambda: world.where(task) == ["done"], "the first task")
    world.quiet()
    return world
