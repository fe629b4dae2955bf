"""One damaged branch, object or ref stops only its own task, and is named with a command."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import harness
import pytest
import runs
from conftest import git as sh
from harness import World
from test_repository_probe import look

from orchestrator.layout import Layout
from orchestrator.model.config import Config
from orchestrator.model.errors import GitError, OrchestratorError, SystemFault
from orchestrator.project.run_record import RunRecord
from orchestrator.run import attribution
from orchestrator.system import records
from orchestrator.upkeep import clean

world = harness.world


def lose(world: World, name: str) -> None:
    """Remove the object that a name means, as a bad disk does."""
    found = world.git("rev-parse", name)
    (world.root / ".git" / "objects" / found[:2] / found[2:]).unlink()


def ref_file(world: World, branch: str) -> Path:
    return world.root / ".git" / "refs" / "heads" / branch


def into_directory(world: World, branch: str) -> None:
    ref_file(world, branch).unlink()
    ref_file(world, branch).mkdir()
    (ref_file(world, branch) / "junk").write_text("junk\n")


#: What happens to the branch of a task, by the kind of damage.
BRANCH: dict[str, Any] = {
    "the commit is missing": lambda w, b: lose(w, b),
    "a tree is missing": lambda w, b: lose(w, f"{b}^{{tree}}"),
    "a blob is missing": lambda w, b: lose(w, f"{b}:bad.txt"),
    "the ref is full of zeros": lambda w, b: ref_file(w, b).write_bytes(b"\0" * 41),
    "the ref is garbage": lambda w, b: ref_file(w, b).write_text("garbage\n"),
    "the ref is empty": lambda w, b: ref_file(w, b).write_text(""),
    "the ref names a tree": lambda w, b: ref_file(w, b).write_text(
        w.git("rev-parse", f"{b}^{{tree}}") + "\n"
    ),
    "a directory is in the ref's place": into_directory,
}


def problems(world: World) -> list[str]:
    return [f"{each['code']}: {each['message']}" for each in world.status()["problems"]]


def test_failure_29_one_damaged_branch_stops_only_its_own_task(world: World) -> None:
    """Every kind at once: each task asks, the others are delivered, nobody is charged."""
    retry = {"max_attempts": 1, "backoff_seconds": 0, "max_backoff_seconds": 1}
    names = [world.agent(f"impl-{number}") for number in range(3)]
    world.create(retry=retry, agents=names, queue_limits={"max_open_prs": 50, "max_claimed": 9})
    asks = {"outcome": "needs_human", "summary": "?", "question": "Which one?"}
    bad = {world.add(kind): kind for kind in BRANCH}
    for task, kind in bad.items():
        steps = [["write", "bad.txt", kind], ["commit"]]
        world.script(task, {"steps": steps, "report": asks}, {"steps": [["work"]]})
    world.tick_until_in("blocked", *bad)
    world.quiet()
    for task, kind in bad.items():
        BRANCH[kind](world, world.task(task)["work_branch"])
    # The base moves, as it does: every run has something to fetch.
    other = world.folder / "other"
    world.git("clone", "-q", str(world.remote), str(other))
    world.git("commit", "-q", "--allow-empty", "-m", "a person's", cwd=other)
    world.git("push", "-q", "origin", "HEAD:main", cwd=other)
    for task in bad:
        world.ok("inbox", "answer", task, "The first.")
    good = [world.add(f"Good {number}") for number in range(3)]
    world.tick_until_in("done", *good)
    world.tick_until_in("blocked", *bad)
    world.quiet()
    assert [each["code"] for each in world.status()["problems"]] == ["ref_broken"] * len(bad)
    found = {row["name"]: row["why"] for row in world.json("clean", "--dry-run")["kept"]}
    doctor = world.run("doctor", "--json").json["findings"]
    for task, kind in bad.items():
        shown = world.task(task)
        question = shown["history"][-1]["question"]
        branch = f"refs/heads/{shown['work_branch']}"
        assert branch in question, (kind, question)
        assert shown["attempts"] == 0, kind
        [named] = [why for name, why in found.items() if name.startswith(branch)]
        [finding] = [row for row in doctor if branch in row["message"]]
        step = named.partition("to remove it: ")[2]
        assert finding["hint"].endswith(step)
        assert step in question
        # The command works, and then the task continues.
        words = shlex.split(step)
        assert words[0] in ("git", "rm")
        if words[0] == "git":
            world.git(*words[1:])
        else:
            os.remove(words[1])
        world.ok("inbox", "answer", task, "Removed.")
    world.tick_until_in("done", *bad)
    world.quiet()
    assert problems(world) == []


def test_damage_elsewhere_in_the_repository_stops_nobody(world: World) -> None:
    """A person's branches, copies of the remote's, rescue refs, and agents' worktrees."""
    retry = {"max_attempts": 1, "backoff_seconds": 0, "max_backoff_seconds": 1}
    names = [world.agent(f"impl-{number}") for number in range(3)]
    world.create(retry=retry, agents=names)
    first = [world.add(f"First {number}") for number in range(3)]
    world.script("default", {"steps": [["work"], ["sleep", 0.3]]})
    world.tick_until_in("done", *first)
    world.quiet()
    common = world.root / ".git"
    refs = {
        "refs/heads/person": "1234567890" * 4,
        "refs/heads/zeros": "\0" * 41,
        "refs/orchestrator/rescue/old": "2345678901" * 4,
        "refs/orchestrator/rescue/older": "garbage",
        "refs/remotes/origin/main": "garbage",
    }
    for ref, value in refs.items():
        (common / ref).parent.mkdir(parents=True, exist_ok=True)
        (common / ref).write_text(value)
    # One agent's worktree is at a missing commit, one has lost its `.git`, one its own git folder.
    trees = [world.home_folder / "agents" / each["name"] / "worktree" for each in names]
    owns = [Path(re.sub("gitdir: ", "", (t / ".git").read_text().strip())) for t in trees]
    (owns[0] / "HEAD").write_text("3456789012" * 4 + "\n")
    (trees[1] / ".git").unlink()
    (owns[1] / "commondir").write_text("")
    (owns[2] / "HEAD").write_text("garbage\n")
    second = [world.add(f"Second {number}") for number in range(3)]
    world.tick_until_in("done", *second)
    world.quiet()
    assert problems(world) == []
    assert all(world.task(task)["attempts"] <= 1 for task in second)
    named = {row["name"]: row["why"] for row in world.json("clean", "--dry-run")["kept"]}
    for ref, value in refs.items():
        if "remotes" not in ref:
            assert (common / ref).read_text() == value, "nothing of it is removed"
            assert (value[:7] if value[0] != "\0" else r"\x00") in named[ref]
    shutil.rmtree(common / "refs" / "orchestrator")


def test_a_damaged_branch_without_a_remote_closes_no_pull_request(world: World) -> None:
    world.create(remote=False)
    task = world.add("Add a thing")
    world.tick_until_in("done", task)
    world.quiet()
    ref_file(world, world.task(task)["work_branch"]).write_bytes(b"\0" * 41)
    world.ok("tick")
    assert [pr["state"] for pr in world.prs()] == ["open"]
    assert world.where(task) == ["done"]


def test_a_missing_folder_of_borrowed_objects_is_named(project: Layout) -> None:
    (Path(project.root) / ".git/objects/info/alternates").write_text("/nowhere/objects\n")
    [item] = clean.damaged(project, Config())
    assert item.name == "/nowhere/objects"
    assert not item.drop
    [finding] = look(project, "ref_broken")
    assert "/nowhere/objects" in finding.message


def packed_garbage(world: World) -> None:
    world.git("pack-refs", "--all")
    path = world.root / ".git" / "packed-refs"
    path.write_text(path.read_text() + "garbage\n")


def bad_index_of_packs(world: World) -> None:
    world.git("gc", "-q")
    path = world.root / ".git" / "objects" / "pack" / "multi-pack-index"
    path.write_text("garbage of more than a header, " * 9)


def bad_replacement(world: World) -> None:
    head = world.git("rev-parse", "HEAD")
    path = world.root / ".git" / "refs" / "replace" / head
    path.parent.mkdir()
    path.write_text("1" * 40 + "\n")


def bad_settings(world: World) -> None:
    path = world.root / ".git" / "config"
    path.write_text(path.read_text() + "[broken\n")


#: Damage that stops each git command, and what a hint names.
_ALL = {
    "packed-refs": packed_garbage,
    "multi-pack-index": bad_index_of_packs,
    "git replace": bad_replacement,
    "config": bad_settings,
}


#: Files without which the product's git works.
_HARMLESS = ("multi-pack-index", "git replace")


@pytest.mark.parametrize("named", _ALL)
def test_damage_that_stops_each_git_command_is_not_called_the_remotes(
    world: World, named: str
) -> None:
    world.create()
    world.add("Waits")
    _ALL[named](world)
    world.run("tick")
    world.quiet()
    told = " ".join(f"{each['message']} {each['hint']}" for each in world.status()["problems"])
    told += world.run("doctor").out
    assert "cannot be reached" not in told
    assert "remote_unreachable" not in told
    if named not in _HARMLESS:
        assert named in told


def test_an_attempt_without_a_commit_on_a_damaged_base_is_a_fault(world: World) -> None:
    """The agent's own `git commit` fails then, and nobody else says why."""
    retry = {"max_attempts": 1, "backoff_seconds": 0, "max_backoff_seconds": 1}
    world.create(retry=retry)
    task = world.add("Cannot commit")
    # The run that tries again waits, and the fault lasts until it ends.
    world.script(task, {"steps": [["wait", "go"]]}, {"steps": [["wait", "never"]]})
    world.tick_until(lambda: world.running(task), "the client")
    name = world.git("ls-tree", "--name-only", "HEAD").splitlines()[0]
    lose(world, f"HEAD:{name}")
    world.open("go")
    world.tick_until(lambda: world.status()["problems"], "the fault")
    [problem] = world.status()["problems"]
    assert "an object of the base commit" in problem["message"]
    assert world.task(task)["attempts"] == 0
    world.tick_until(lambda: len(world.starts(task)) == 2, "another client: no work is there")
    assert world.where(task) == ["claimed"]


def test_an_error_of_git_is_the_tasks_only_if_its_branch_is_damaged(project: Layout) -> None:
    root = Path(project.root)
    sh(root, "branch", "agent/whole")
    (root / ".git" / "refs" / "heads" / "agent" / "bad").write_text("garbage\n")

    def told(branch: str | None, error: OrchestratorError) -> str:
        found = records.build(RunRecord, runs.record(project, "impl", "R1", branch=branch))
        assert found is not None
        return attribution.outcome(found, error).verdict

    error = GitError("git checkout failed: fatal: bad object")
    assert told("agent/bad", error) == "needs_human"
    assert told("agent/whole", error) == "system_fault"
    assert told(None, error) == "system_fault"
    assert told("agent/bad", SystemFault("git is not installed")) == "system_fault"


@pytest.mark.parametrize("kind", ["garbage", "missing", "detached", "foreign"])
def test_a_repository_that_cannot_be_read_is_not_said_to_have_no_commit(
    world: World, kind: str
) -> None:
    """A person who is told to make a first commit could not make it."""
    world.create(init=False)
    head, git = world.root / ".git" / "HEAD", shutil.which("git")
    branch = world.root / ".git" / "refs" / "heads" / "main"
    missing = "0123456789" * 4
    if kind == "detached":
        head.write_text(f"{missing}\n")
    elif kind == "foreign":
        path = world.bin / "git"
        path.write_text(f'#!/bin/sh\nGIT_TEST_ASSUME_DIFFERENT_OWNER=1 exec {git} "$@"\n')
        path.chmod(0o755)
    else:
        branch.write_text({"garbage": "garbage\n", "missing": f"{missing}\n"}[kind])
    said = world.refused("init", "--schedule", "none", "--no-commands").err
    assert "no commit yet" not in said
    assert {
        "garbage": "refs/heads/main cannot be used: its file holds 'garbage\\n'",
        "missing": f"refs/heads/main cannot be used: it is at {missing}",
        "detached": "the commit that HEAD names is missing",
        "foreign": f"git config --global --add safe.directory {world.root}",
    }[kind] in said
    assert "first commit" not in world.refused("task", "add", "Early").err
