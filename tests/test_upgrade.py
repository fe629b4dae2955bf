"""An upgrade while runs are at work loses nothing, and does nothing twice.

The runs are in each stage when the program is replaced under them: by a link that is moved to
another copy, so that what an old process imports later comes from there, and the old copy is gone.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import harness
import pytest
from harness import World, wait_until

world = harness.world

#: A command that waits, in one agent's worktree, until the test opens a gate.
WAIT = 'case "$ORCHESTRATOR_WORKTREE" in */{agent}/*) touch {here}; until [ -e {gate} ]; do sleep 0.05; done;; esac'  # noqa: E501
STAGES = ("preparing", "waiting", "concluding")


@pytest.fixture
def program(world: World, tmp_path: Path) -> Path:
    """The link through which the world's product is started: to a copy of it."""
    harness.shadow(tmp_path / "old", "")
    link = world.folder / "program"
    link.symlink_to(tmp_path / "old")
    world.product = link / "orchestrator" / "__main__.py"
    return link


def stage_of(world: World) -> dict[str, str]:
    """Return the task that each agent, named after its stage, has."""
    return {run["agent"]: run["task"] for run in world.status()["running"]}


def test_runs_of_the_old_copy_are_finished_by_the_new_one(
    world: World, program: Path, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    here = {stage: tmp_path / stage for stage in STAGES}
    hook, check = (
        WAIT.format(agent=stage, here=here[stage], gate=gate) for stage in (STAGES[0], STAGES[2])
    )
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
    harness.shadow(tmp_path / "new", "")
    aside.symlink_to(tmp_path / "new")
    aside.replace(program)
    shutil.rmtree(tmp_path / "old")
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
