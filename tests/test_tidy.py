"""`clean` asks the user's own hook before a worktree goes, and keeps what it objects to."""

from __future__ import annotations

from pathlib import Path

import harness
import pytest
from harness import World

world = harness.world


@pytest.mark.parametrize(("ending", "stays"), [("", False), ("; exit 1", True)])
def test_before_remove_runs_in_the_worktree_and_may_object(
    world: World, tmp_path: Path, ending: str, stays: bool
) -> None:
    seen = tmp_path / "seen"
    hook = {"before_remove": f"pwd > '{seen}'{ending}"}
    world.create(hooks=hook)
    world.tick_until_in("done", world.add("Add a thing"))
    world.quiet()
    world.configure(hooks=hook, agents=[World.agent("other")])
    worktree = world.home_folder / "agents" / "impl-1" / "worktree"
    world.ok("clean", "--dry-run")
    assert not seen.exists()
    world.ok("clean")
    assert Path(seen.read_text().strip()) == worktree
    assert worktree.exists() is stays
