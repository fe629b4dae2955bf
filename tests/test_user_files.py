"""The user's own text files that `init` adds to: what is added comes out again, in any file."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import harness
import pytest
from conftest import git
from harness import World, shadow

from orchestrator.layout import Layout
from orchestrator.setup import user_files

#: The files of a repository that `put` adds to.
NAMES = (".git/info/exclude", ".gitignore", "CLAUDE.md")

world = harness.world


def contents(root: Path) -> dict[str, bytes]:
    return {name: (root / name).read_bytes() for name in NAMES if (root / name).exists()}


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("text", ["*.o\n", "*.o", "*.o\n\n# no end"])
def test_what_is_added_has_the_files_line_ends_and_comes_out_again(
    repo: Path, text: str, newline: str
) -> None:
    before = text.replace("\n", newline).encode()
    for name in NAMES:
        (repo / name).write_bytes(before)
    layout = Layout(str(repo))
    assert len(user_files.put(layout)) == len(NAMES)
    for data in contents(repo).values():
        is_crlf = newline == "\r\n" and "\n" in text
        assert data.count(b"\r\n") == (data.count(b"\n") if is_crlf else 0)
    assert user_files.put(layout) == []
    user_files.take(layout)
    for data in contents(repo).values():
        assert data.rstrip() == before.rstrip()


def test_a_checkout_that_converts_line_ends_gets_no_second_block(repo: Path) -> None:
    """As `core.autocrlf` does when the committed files are checked out anew."""
    layout = Layout(str(repo))
    user_files.put(layout)
    git(repo, "add", ".gitignore", "CLAUDE.md")
    git(repo, "config", "core.autocrlf", "true")
    for name in (".gitignore", "CLAUDE.md"):
        (repo / name).unlink()
        git(repo, "checkout", "--", name)
    before = contents(repo)
    assert b"\r\n" in before[".gitignore"]
    assert user_files.put(layout) == []
    assert contents(repo) == before
    user_files.take(layout)
    assert not {".gitignore", "CLAUDE.md"} & contents(repo).keys()


PLACES = [*NAMES, ".git/orchestrator.json", ".claude/commands/costs.md"]


@pytest.mark.parametrize("what", [("init",), ("init", "--uninstall")], ids=" ".join)
@pytest.mark.parametrize("name", PLACES)
def test_what_a_killed_init_left_is_removed_and_nothing_else(
    world: World, name: str, what: tuple[str, ...]
) -> None:
    world.create(init=False)
    edge = (
        "import os, signal\nactual = os.replace\n"
        "def killed(source, target, **more):\n"
        f"    if target.endswith({name!r}):\n        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return actual(source, target, **more)\n"
        "os.replace = killed\n"
    )
    path = world.root / name
    product, world.product = world.product, shadow(world.folder / "shadow", edge, forked=True)
    assert world.run("init", "--schedule", "none").code == -9
    world.product = product
    [left] = path.parent.glob(f".{path.name}.*.tmp")
    # Of a living writer, of another program, and of other files.
    others = (f".{path.name}.{os.getpid()}.tmp", f".{path.name}.old.tmp", f".x{path.name}.1.tmp")
    for other in others:
        (path.parent / other).write_text("kept\n")
    done = world.ok(*what)
    assert f"removed: {left.relative_to(world.root)}" in done.out
    assert not left.exists()
    assert all((path.parent / other).exists() for other in others)


def test_init_says_which_folders_it_made_again(world: World) -> None:
    world.create()
    words = ("init", "--schedule", "none", "--no-commands")
    assert "nothing to change" in world.ok(*words).out
    shutil.rmtree(world.queue / "done")
    shutil.rmtree(world.home_folder / "agents", ignore_errors=True)
    said = world.ok(*words).out
    assert ".orchestrator/shared/queue/done/ (it was missing)" in said
    assert ".orchestrator/agents/ (it was missing)" in said
    assert "nothing to change" not in said
    assert "nothing to change" in world.ok(*words).out
