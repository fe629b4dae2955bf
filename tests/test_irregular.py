"""Pipes and other odd entries that an agent leaves where git reads hang no git, lose nothing."""

from __future__ import annotations

import os
import shutil
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import git as sh
from test_worktree import BRANCH, Agent, agent, commit, ignored, kept_text  # noqa: F401 (fixtures)

from orchestrator.git import (
    aside,
    call,
    irregular,
    repository,
    task_branch,
    whole_state,
    worktree,
    worktree_commands,
    worktree_list,
)
from orchestrator.git.repository import RESCUE
from orchestrator.model.errors import SystemFault
from orchestrator.system.commands import Finished


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail, instead of starting again after minutes, when a git waits for a pipe."""
    monkeypatch.setitem(call.run.__kwdefaults__, "timeout", 20.0)
    monkeypatch.setitem(call.ask.__kwdefaults__, "timeout", 20.0)


def conclude(agent: Agent) -> str | None:  # noqa: F811
    """Leave the worktree as a run does at its end; return the rescue ref."""
    worktree.clear_shared(str(agent.repo), folders=False)
    if worktree_commands.is_worktree(str(agent.path)):
        return agent.end()
    worktree.ensure(str(agent.repo), str(agent.path), "main")
    return None


def pipe(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.mkdir()
    (path / "in-it.txt").write_text("put there by an agent\n")


def bound_socket(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)  # a socket's path is at most 108 bytes long
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)


def odd(top: Path) -> list[Path]:
    """Return what is neither file, folder nor link."""
    found = (Path(where, name) for where, _, names in os.walk(top) for name in names)
    return [path for path in found if not (path.is_file() or path.is_symlink())]


def test_failure_39_pipes_under_the_names_that_git_reads_hang_no_run_and_lose_nothing(
    agent: Agent,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = agent.path
    commit(path)
    (path / "new").mkdir()
    (path / "new" / "draft.txt").write_text("precious\n")
    for name in (".gitignore", ".gitattributes", ".gitmodules", ".mailmap", ".lfsconfig"):
        pipe(path / name)
        pipe(path / "new" / name)
    pipe(path / "work.txt")  # a tracked file: `git add` refuses it
    bound_socket(path / "socket", monkeypatch)
    pipe(path / os.fsdecode(b"\xff.pipe"))  # git gets only names that are text
    (path / "ignored").mkdir()
    (path / "ignored" / ".gitignore").write_text("*\n")
    bound_socket(path / "ignored" / "database", monkeypatch)
    ref = conclude(agent)
    assert ref == f"{RESCUE}R1"
    assert sh(agent.repo, "show", f"{ref}:new/draft.txt") == "precious"
    # A program that works may have them.
    assert {each.name for each in odd(path)} == {"database", os.fsdecode(b"\xff.pipe")}
    agent.begin("agent/T2-next")
    assert worktree_commands.state(str(path))[1:] == ("agent/T2-next", False)
    assert not list(path.parent.glob("*set-aside*"))


@pytest.mark.parametrize("put", [pipe, folder])
@pytest.mark.parametrize(
    "names",
    [
        ("COMMIT_EDITMSG", "MERGE_MSG", "MERGE_HEAD", "CHERRY_PICK_HEAD", "AUTO_MERGE", "locked"),
        ("logs/HEAD", "index.lock", "orchestrator-log-read", "ORIG_HEAD", "info/sparse-checkout"),
        ("index",),
        ("HEAD",),
        ("commondir",),
        ("gitdir",),
    ],
    ids="-".join,
)
def test_nothing_odd_in_a_worktrees_git_folder_reaches_the_next_task(
    agent: Agent,  # noqa: F811
    put: Callable[[Path], None],
    names: tuple[str, ...],
) -> None:
    commit(agent.path)
    (agent.path / "draft.txt").write_text("precious\n")
    of_git = agent.git_folder
    for name in names:
        put(of_git / name)
    conclude(agent)
    agent.begin("agent/T2-next")
    assert kept_text(agent.repo, "precious")
    assert kept_text(agent.repo, "work\n")
    commit(agent.path, "next.txt", "next\n")  # the next agent's own git
    assert worktree_list.listed(str(agent.repo))[1:] == [str(agent.path)]
    assert odd(agent.repo) == []


def test_a_pipe_in_the_folder_of_another_agents_worktree_holds_up_nobody(
    agent: Agent,  # noqa: F811
) -> None:
    other = Agent(agent.repo, "other")
    of_git = agent.git_folder
    for name in ("commondir", "locked"):
        pipe(of_git / name)
    pipe(agent.repo / ".git" / "refs" / "heads" / "pipe")
    pipe(agent.repo / ".git" / "info" / "attributes")
    other.begin("agent/T2-next")
    commit(other.path)
    # The agent whose git folder it was can go on.
    assert worktree_commands.is_worktree(str(agent.path))
    commit(agent.path, "more.txt")
    assert odd(agent.repo) == []


def test_a_git_that_waits_for_a_pipe_is_started_again_without_the_pipe(
    agent: Agent,  # noqa: F811
) -> None:
    pipe(agent.path / ".gitignore")
    done = call.run(str(agent.path), "status", "--porcelain", timeout=1.0)
    assert (done.code, done.out) == (0, "")
    pipe(agent.repo / ".git" / "worktrees" / "worktree" / "locked")
    assert call.run(str(agent.repo), "worktree", "list", timeout=1.0).code == 0


def test_what_leads_out_of_a_worktree_is_not_cleared(tmp_path: Path) -> None:
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    inside.mkdir()
    pipe(outside / ".gitignore")
    (inside / "link").symlink_to(outside)
    (tmp_path / "top").symlink_to(outside)
    for top in (inside, tmp_path / "top"):
        assert irregular.clear(str(top)) == ([], [])
    assert odd(outside) == [outside / ".gitignore"]


def test_what_git_cannot_remove_is_set_aside_with_its_worktree(
    agent: Agent,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (agent.path / "draft.txt").write_text("precious\n")
    monkeypatch.chdir(agent.path)
    name = "longer-and-longer-" * 10
    for _ in range(50):  # a path that is longer than the system allows
        os.mkdir(name)
        os.chdir(name)
    kept = worktree.preserve(str(agent.path), BRANCH, "R1")
    assert kept.ref is not None
    assert sh(agent.repo, "show", f"{kept.ref}:draft.txt") == "precious"
    worktree.clean(str(agent.path))
    assert not (agent.path / name).exists()
    agent.begin("agent/T2-next")
    commit(agent.path, "next.txt")


def test_work_that_git_cannot_save_within_its_time_is_set_aside(
    agent: Agent,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def hung(*_: object) -> str:
        raise SystemFault("git add did not end within 120 s", code="git_hung")

    (agent.path / "large.bin").write_text("precious\n")
    monkeypatch.setattr(whole_state, "commit_all", hung)
    assert conclude(agent) is None
    assert kept_text(agent.repo, "precious")
    agent.begin("agent/T2-next")
    assert not (agent.path / "large.bin").exists()


def test_closed_folders_hide_no_work_and_stop_no_later_task(
    agent: Agent,  # noqa: F811
) -> None:
    (agent.path / "tracked").mkdir()
    commit(agent.path, "tracked/work.txt")
    (agent.path / "new").mkdir()
    (agent.path / "new" / "draft.txt").write_text("precious\n")
    for name, mode in (("tracked", 0o555), ("new", 0), (".", 0o555)):
        (agent.path / name).chmod(mode)
    agent.git_folder.chmod(0o555)
    ref = agent.end()
    assert ref is not None
    assert sh(agent.repo, "show", f"{ref}:new/draft.txt") == "precious"
    assert not (agent.path / "new").exists()
    agent.begin("agent/T2-next")
    assert not list(agent.path.parent.glob("*set-aside*"))


@pytest.mark.parametrize("is_new", [False, True])
def test_a_worktree_in_which_git_can_check_nothing_out_is_set_aside(
    agent: Agent,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    is_new: bool,
) -> None:
    branch = "agent/T2-next" if is_new else BRANCH
    commit(agent.path)
    agent.end()
    worktree_commands.lock(str(agent.path), "R2", "impl")
    worktree.preserve(str(agent.path), None, "R2-before")
    tip = repository.resolve(str(agent.repo), f"refs/heads/{branch}")
    run = call.run

    def refused(cwd: str, *words: str, **more: Any) -> Finished:
        if words[0] == "checkout" and not list(agent.path.parent.glob("*set-aside*")):
            run(cwd, *words, **more)  # git changes HEAD all the same
            said = "error: unable to unlink old 'work.txt': Permission denied"
            return Finished(1, "", said)
        return run(cwd, *words, **more)

    monkeypatch.setattr(call, "run", refused)
    task_branch.take_up(str(agent.repo), str(agent.path), branch, "main", tip, None)
    assert worktree_commands.state(str(agent.path))[1:] == (branch, False)
    assert list(agent.path.parent.glob("worktree.set-aside-1"))
    # The new worktree is locked for the same run.
    assert (agent.git_folder / "locked").read_text() == "orchestrator: run R2 of impl\n"


def test_a_folder_in_the_place_of_the_instructions_is_set_aside(agent: Agent) -> None:  # noqa: F811
    folder(agent.path / ".agent-instructions.md")
    aside.make_way(str(agent.path), ".agent-instructions.md")
    assert not (agent.path / ".agent-instructions.md").exists()
    assert kept_text(agent.repo, "put there by an agent")


def test_no_pipe_is_left_under_a_name_that_git_or_the_product_reads(tmp_path: Path) -> None:
    names = [".git", ".gitignore", ".gitattributes", ".gitmodules", ".lfsconfig", ".mailmap"]
    names += [".worktreeinclude", ".agent-instructions.md"]
    (tmp_path / "deep").mkdir()
    for name in (*names, "their-own"):
        os.mkfifo(tmp_path / "deep" / name)
    cleared = irregular.clear(str(tmp_path))
    assert sorted(map(os.path.basename, cleared.removed)) == sorted(names)
    assert os.listdir(tmp_path / "deep") == ["their-own"]
    assert cleared.left == [str(tmp_path / "deep" / "their-own")]


def test_a_closed_folder_is_opened_for_its_owner_and_nobody_else(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    closed.chmod(0o010)
    irregular.clear(str(tmp_path))
    assert stat.S_IMODE(closed.stat().st_mode) == 0o710


def test_the_folders_that_all_worktrees_share_are_cleared_with_all_below_refs(
    tmp_path: Path,
) -> None:
    shared = ("info", "objects/info", "objects/pack", "refs/heads/a", "logs/refs/heads/a")
    for name in shared:
        (tmp_path / name).mkdir(parents=True)
        os.mkfifo(tmp_path / name / "pipe")
    (tmp_path / "hooks").mkdir()
    os.mkfifo(tmp_path / "hooks" / "pipe")
    found = irregular.clear_shared(str(tmp_path))
    assert sorted(found) == sorted(str(tmp_path / name / "pipe") for name in shared)
    assert (tmp_path / "hooks" / "pipe").exists(), "the person's own"
