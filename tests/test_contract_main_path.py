"""Reference 7: a task file becomes a pull request, and what a run is given on the way."""

from __future__ import annotations

import both_stores
from harness import World

world = both_stores.world


def test_a_task_becomes_a_pushed_branch_with_a_pull_request(world: World) -> None:
    world.create(kept_today=False)
    task = world.add("Add input validation")
    world.tick_until_in("done", task)
    [pr] = world.prs()
    assert pr["task"] == task
    assert pr["state"] == "open"
    assert pr["base"] == "main"
    assert pr["branch"] == f"agent/{task}-add-input-validation"
    [item] = world.json("inbox")
    assert "://" not in item["text"], "the record of a pull request is no address to open"
    assert pr["head"] == world.sha(pr["branch"]) == world.remote_sha(pr["branch"])
    assert len(world.commits_about(task)) == 1
    assert world.git("log", "-1", "--format=%s", "main") == "first"
    assert len(world.starts(task)) == 1
    # A supervisor that fails is started again, which hides the failure; its log tells.
    world.quiet()
    [log] = world.home_folder.glob("agents/*/runs/*/supervisor.log")
    assert log.read_text() == ""
