"""`init --uninstall`: nothing of ours is left, and nothing of the user's is lost."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import time
from pathlib import Path

import harness
import psutil
import pytest
from harness import World

from orchestrator.project import agent_memory

world = harness.world
DIRTY = {
    "steps": [["work"], ["write", "precious.txt", "kept\n"]],
    "report": {"outcome": "failed", "summary": "No"},
}


def below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_only_the_queue_its_history_and_the_configuration_are_left(world: World) -> None:
    world.create(retry={"max_attempts": 1})
    tasks = [world.add("One"), world.add("Two")]
    world.script(tasks[1], DIRTY)
    world.tick_until_in("done", tasks[0])
    world.tick_until_in("failed", tasks[1])
    world.quiet()
    done = world.ok("init", "--uninstall")
    assert below(world.home_folder) == [
        "agents.yaml",
        "agents/impl-1/state.json",  # what today has cost
        "events.jsonl",
        "shared/prs/1.json",
        f"shared/queue/done/{tasks[0]}.md",
        f"shared/queue/failed/{tasks[1]}.md",
    ]
    assert f"stay in {world.home_folder}" in done.out
    assert "the transcripts and records of 2 runs of impl-1" in done.out
    assert world.git("worktree", "list").count("\n") == 0
    # What an agent had not committed is where the output says, and its branches are still there.
    assert "branches: 2, rescue refs: 1" in done.out
    [rescued] = world.git("for-each-ref", "--format=%(refname)", "refs/orchestrator").split()
    assert world.git("show", f"{rescued}:precious.txt") == "kept"
    assert world.git("status", "--porcelain") == "?? .orchestrator/"


def test_what_a_worktree_alone_holds_is_rescued_before_it_goes(world: World) -> None:
    world.create()
    world.tick_until_in("done", world.add("One"))
    world.quiet()
    worktree = world.home_folder / "agents" / "impl-1" / "worktree"
    (worktree / "by-hand.txt").write_text("mine\n")
    world.ok("init", "--uninstall")
    assert not worktree.exists()
    [rescued] = world.git("for-each-ref", "--format=%(refname)", "refs/orchestrator").split()
    shown = world.git("ls-tree", "-r", "--name-only", rescued).split()
    assert "by-hand.txt" in shown
    assert not [name for name in shown if "orchestrator" in name or "agent-instructions" in name]


def test_a_project_where_nothing_happened_is_as_it_was(world: World) -> None:
    world.create(init=False)
    before = below(world.root)
    world.ok("init")
    world.ok("tick")
    done = world.ok("init", "--uninstall")
    assert [path for path in below(world.root) if ".git/" not in path] == [
        path for path in before if ".git/" not in path
    ]
    assert not world.home_folder.exists()
    assert "stay in" not in done.out
    assert world.git("status", "--porcelain") == ""
    assert "nothing to remove" in world.ok("init", "--uninstall").out


@pytest.mark.parametrize("is_committed", [True, False])
def test_a_configuration_that_is_somebodys_stays(world: World, is_committed: bool) -> None:
    world.create(init=False)
    world.ok("init")
    config = world.home_folder / "agents.yaml"
    if is_committed:
        world.git("add", str(config))
        world.git("commit", "-q", "-m", "Ours")
    else:
        config.write_text(f"{config.read_text()}# mine\n")
    text = config.read_text()
    world.ok("init", "--uninstall")
    assert config.read_text() == text
    assert below(world.home_folder) == ["agents.yaml"]


def test_while_an_agent_is_at_work_nothing_is_taken_out(world: World) -> None:
    world.create()
    task = world.add("Long")
    world.script(task, {"steps": [["wait", "go"], ["work"]], "report": {"outcome": "done"}})
    world.tick()
    harness.wait_until(lambda: world.running(task), "the run")
    refused = world.refused("init", "--uninstall")
    assert "impl-1" in refused.err
    assert "orchestrator stop --all" in refused.err
    assert (world.root / ".git" / "orchestrator.json").exists()
    world.ok("stop", "--all")
    world.ok("init", "--uninstall")
    assert world.where(task) == ["incoming"]
    assert not (world.home_folder / "agents").exists()


@pytest.mark.parametrize("why", ["the hook objects", "git cannot read it"])
def test_a_worktree_that_cannot_go_stays_with_a_warning(world: World, why: str) -> None:
    hooks = {"before_remove": "exit 1"} if why == "the hook objects" else {}
    world.create(hooks=hooks)
    world.tick_until_in("done", world.add("One"))
    world.quiet()
    worktree = world.home_folder / "agents" / "impl-1" / "worktree"
    if not hooks:
        (worktree / ".git").write_text("nonsense\n")
    (worktree / "precious.txt").write_text("kept\n")
    done = world.ok("init", "--uninstall")
    assert (worktree / "precious.txt").read_text() == "kept\n"
    assert str(worktree) in done.err
    assert not (world.root / ".git" / "orchestrator.json").exists()


def test_set_up_again_it_goes_on_where_it_was(world: World) -> None:
    world.create()
    first = world.add("One")
    world.tick_until_in("done", first)
    world.quiet()
    waiting = world.add("Two")
    world.ok("init", "--uninstall")
    world.ok("init", "--no-commands", "--start")
    world.tick_until_in("done", waiting)
    assert world.where(first) == ["done"]
    assert len(world.starts(first)) == 1


def test_set_up_again_on_the_same_day_it_has_only_what_is_left_of_the_days_money(
    world: World,
) -> None:
    world.create(budgets={"daily_usd": 0.25})
    world.tick_until_in("done", world.add("One"))
    world.quiet()
    world.add("Two")
    for _ in range(2):
        world.ok("init", "--uninstall")
        # Nothing of the agent's but the spending: neither its worktree nor its last run.
        assert [path.name for path in (world.home_folder / "agents").glob("*/*")] == ["state.json"]
    world.ok("init", "--no-commands", "--start")
    assert [(a["action"], a["reason"]) for a in world.tick()["actions"]] == [
        ("skip", "budget_exhausted")
    ]
    # On another day it is nothing that anybody needs.
    state = world.home_folder / "agents" / "impl-1" / "state.json"
    state.write_text(state.read_text().replace(time.strftime("%Y-%m-%d"), "2024-01-15"))
    world.ok("init", "--uninstall")
    assert not (world.home_folder / "agents").exists()


def test_what_stays_of_the_program_itself_is_named_with_its_command(world: World) -> None:
    world.create()
    data = world.home / ".local" / "share" / "orchestrator"
    (data / "0.1.0" / "venv").mkdir(parents=True)
    command = world.ok("init", "--uninstall").out.rpartition("uses it: ")[2]
    subprocess.run(("sh", "-c", command), check=True)
    assert not data.exists()


def test_a_tick_that_waited_through_an_uninstall_makes_and_begins_nothing(world: World) -> None:
    world.create()
    world.ok("tick")
    world.quiet()
    world.add("Must not begin")
    for name in ("agents", "cache", "ticks"):
        shutil.rmtree(world.home_folder / name)
    lock = world.home_folder / "scheduler.lock"
    with lock.open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        waiting = world.start("_after_run", str(world.root))
        opened = lambda: str(lock) in [f.path for f in psutil.Process(waiting.pid).open_files()]  # noqa: E731
        harness.wait_until(opened, "it to wait for the lock")
        # What an uninstall does under the lock.
        (world.root / ".git" / "orchestrator.json").unlink()
        shutil.rmtree(world.home_folder / "cache", ignore_errors=True)
        lock.unlink()
    _, err = waiting.communicate(timeout=60)
    assert (waiting.returncode, err) == (0, "")
    assert world.starts() == []
    assert below(world.home_folder) == ["agents.yaml", "shared/queue/incoming/TASK-00000001.md"]


def test_an_agents_facts_about_a_day_are_kept_alone_and_only_for_that_day() -> None:
    totals = agent_memory.Totals(runs=3)
    memory = agent_memory.AgentState(last_outcome="done", totals=totals, spend={"2026-01-01": 1.5})
    assert memory.of_day("2026-01-01") == agent_memory.AgentState(spend={"2026-01-01": 1.5})
    assert memory.of_day("2026-01-02") is None
    assert memory._replace(spend={"2026-01-01": 0.0}).of_day("2026-01-01") is None
