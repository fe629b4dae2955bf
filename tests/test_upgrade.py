"""An upgrade while runs are at work loses nothing, and does nothing twice.

The last released version comes from git history. Its runs are in each stage when the program is
replaced under them: by a link that is moved, so that even what an old process imports later, by the
old names of the modules, is no longer there.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import harness
import needs
import pytest
from conftest import CHECKOUT
from harness import World, wait_until

world = harness.world

#: The last commit of version 0.1.0, in which all modules lay in one folder.
RELEASED = "e4792ae328faeaa4e532b490af2d673fcbede2d9"
#: A command that waits, in one agent's worktree, until the test opens a gate.
WAIT = 'case "$ORCHESTRATOR_WORKTREE" in */{agent}/*) touch {here}; until [ -e {gate} ]; do sleep 0.05; done;; esac'  # noqa: E501
STAGES = ("preparing", "waiting", "concluding")


def released(folder: Path) -> Path:
    """Put the released version into a folder, or end the test where git does not have it."""
    done = subprocess.run(("git", "archive", RELEASED), cwd=CHECKOUT, capture_output=True)
    if done.returncode:
        needs.missing(f"this clone has no commit {RELEASED[:12]}: git fetch --unshallow")
    folder.mkdir()
    # The first releases of Python 3.11 cannot extract safely with their own library.
    subprocess.run(("tar", "-x", "-f", "-"), cwd=folder, input=done.stdout, check=True)
    return folder


@pytest.fixture
def program(world: World, tmp_path: Path) -> Path:
    """The link through which the world's product is started: to the released version."""
    link = world.folder / "program"
    link.symlink_to(released(tmp_path / "released"))
    world.product = link / "orchestrator" / "__main__.py"
    return link


def stage_of(world: World) -> dict[str, str]:
    """Return the task that each agent, named after its stage, has."""
    return {run["agent"]: run["task"] for run in world.status()["running"]}


def test_runs_of_the_released_version_are_finished_by_this_one(
    world: World, program: Path, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    here = {stage: tmp_path / stage for stage in STAGES}
    hook, check = (
        WAIT.format(agent=stage, here=here[stage], gate=gate) for stage in (STAGES[0], STAGES[2])
    )
    world.templates = tmp_path / "templates"  # made by the released version, for this test only
    world.create(
        hooks={"after_create": hook},
        checks=[check],
        retry={"max_attempts": 1, "backoff_seconds": 0},
        agents=[world.agent(stage, interval_seconds=harness.ONCE) for stage in STAGES],
    )
    world.script("waiting", {"steps": [["work_once"], ["wait", "go"]]})
    tasks = [world.add(f"Task {number}") for number in range(3)]
    world.ok("tick")
    wait_until(here["preparing"].exists, "a run to prepare")
    wait_until(here["concluding"].exists, "a run to conclude")
    has = stage_of(world)
    wait_until(lambda: world.ledger("commit", task=has["waiting"]), "a client to wait")

    aside = world.folder / "program.aside"
    aside.symlink_to(CHECKOUT)
    aside.replace(program)
    world.ok("tick")
    assert stage_of(world) == has
    gate.touch()
    world.open("go")
    world.tick_until_in("done", *tasks)

    world.quiet()
    world.assert_never_at_once()
    for task in tasks:
        assert len(world.starts(task)) == 1, "no client was started twice"
        assert len(world.commits_about(task)) == 1
        [pr] = [pr for pr in world.prs() if pr["task"] == task]
        assert pr["head"] == world.remote_sha(pr["branch"])
        charged = [each for each in world.task(task)["history"] if each.get("charged")]
        assert charged == []


def test_what_the_released_version_left_is_read_by_this_one(
    world: World, program: Path, tmp_path: Path
) -> None:
    world.templates = tmp_path / "templates"
    world.create()
    task = world.add("Finished before the upgrade")
    world.tick_until_in("done", task)
    world.quiet()
    commands = ("status", "task list", "agent list", "pr list")
    before = {words: world.json(*words.split()) for words in commands}

    program.unlink()
    program.symlink_to(CHECKOUT)
    for words in commands:
        after = world.json(*words.split())
        if words == "status":
            assert after["queue"] == before[words]["queue"]
            assert after["totals"] == before[words]["totals"]
        elif words == "agent list":
            assert [a["last_outcome"] for a in after] == [a["last_outcome"] for a in before[words]]
        else:
            assert after == before[words], words
    # The released version did not tell that a pull request without a reviewer waits for a person.
    [item] = world.json("inbox")
    assert (item["id"], item["kind"]) == ("pr:1", "approval")
    [run] = {entry["run"] for entry in world.task(task)["history"] if entry.get("run")}
    assert f"run {run} of impl-1, task {task}" in world.ok("logs", task).out
