"""`doctor` and `init` in repositories that use more of git than branches."""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import git
from test_submodules import add_submodule, library
from test_worktree import Agent

from orchestrator.config import load
from orchestrator.git import project_root, work_branch
from orchestrator.layout import Layout
from orchestrator.model.errors import OrchestratorError
from orchestrator.model.finding import Finding
from orchestrator.setup import repository_probe
from orchestrator.setup.probes import Subject

Cli = Callable[..., Any]


def look(project: Layout, code: str) -> list[Finding]:
    loaded = load.settings(project, write_cache=False)
    subject = Subject(project, loaded, os.environ, time.time())
    return [found for found in repository_probe.look(subject) if found.code == code]


def test_an_ordinary_repository_has_no_finding(project: Layout) -> None:
    loaded = load.settings(project, write_cache=False)
    assert list(repository_probe.look(Subject(project, loaded, os.environ, 0.0))) == []


def test_git_hooks_that_a_worktree_lacks_are_named(project: Layout) -> None:
    root = Path(project.root)
    git(root, "config", "core.hooksPath", ".husky/_")
    [found] = look(project, "hooks_path")
    assert found.level == "warn"
    assert "a new worktree has no such folder" in found.message
    config = Path(project.config)
    before = config.read_text()
    config.write_text(before + "\nsetup: {command: npm ci}\n")
    assert [found.level for found in look(project, "hooks_path")] == ["ok"], "it may make it"
    made = Agent(root, "impl-agent-1")
    made.begin()
    [found] = look(project, "hooks_path")
    assert str(made.path) in found.message
    (made.path / ".husky" / "_").mkdir(parents=True)
    assert [found.level for found in look(project, "hooks_path")] == ["ok"]
    git(root, "config", "core.hooksPath", "/somewhere")
    assert look(project, "hooks_path") == []


def test_git_hooks_in_a_commit_are_in_every_worktree(project: Layout) -> None:
    root = Path(project.root)
    (root / "hooks").mkdir()
    (root / "hooks" / "pre-commit").write_text("#!/bin/sh\n")
    git(root, "add", "hooks")
    git(root, "config", "core.hooksPath", "hooks")
    assert [found.level for found in look(project, "hooks_path")] == ["ok"]


def test_which_submodules_agents_get_is_said(project: Layout, tmp_path: Path) -> None:
    root = Path(project.root)
    for name in ("lib", "docs"):
        add_submodule(root, library(tmp_path, name), name)
    [found] = look(project, "submodules")
    assert found.message == "agents get the submodules: lib, docs"
    git(root, "submodule", "--quiet", "deinit", "--force", "docs")
    [found] = look(project, "submodules")
    assert "do not get these submodules, as in your checkout: docs (" in found.message
    assert "git submodule update --init docs" in found.message


def test_init_in_a_submodule_says_which_project_it_sets_up(
    project: Layout, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(project.root)
    add_submodule(root, library(tmp_path))
    monkeypatch.chdir(root / "lib")
    said = cli("init").err
    assert f"{root / 'lib'} is a submodule: the project is the repository around it, {root}" in said
    monkeypatch.chdir(root)
    assert "submodule" not in cli("init").err


@pytest.mark.parametrize("layout", ["hidden", "beside"])
def test_a_bare_repository_with_worktrees_is_refused_with_a_way_to_go_on(
    repo: Path, tmp_path: Path, layout: str
) -> None:
    bare = tmp_path / ("own/.bare" if layout == "hidden" else "own.git")
    bare.parent.mkdir(exist_ok=True)
    git(repo, "clone", "--quiet", "--bare", str(repo), str(bare))
    git(bare, "worktree", "add", "--quiet", str(tmp_path / "own-main"), "main")
    with pytest.raises(OrchestratorError, match="linked worktrees do not count") as caught:
        project_root.find(str(tmp_path / "own-main"))
    _, _, command = (caught.value.hint or "").partition("of its own: ")
    clone, *_ = command.split(" && ")
    git(tmp_path, *shlex.split(clone)[1:])
    assert project_root.find(str(tmp_path / "own-agents")) == str(tmp_path / "own-agents")


def test_a_branch_in_the_way_comes_with_the_command_that_renames_it(repo: Path) -> None:
    git(repo, "branch", "agent")
    fault = work_branch.in_the_way("agent/", "agent/ID", "agent")
    _, _, command = (fault.hint or "").partition("rename the branch: ")
    git(repo, *shlex.split(command)[1:])
    git(repo, "branch", "agent/ID")


def test_a_branch_in_the_way_at_a_remote_is_renamed_there(repo: Path, tmp_path: Path) -> None:
    remote = tmp_path / "remote.git"
    git(tmp_path, "init", "-q", "--bare", str(remote))
    git(repo, "remote", "add", "origin", str(remote))
    git(repo, "push", "-q", "origin", "main:refs/heads/agent")
    tip = git(remote, "rev-parse", "agent")
    fault = work_branch.in_the_way("agent/", "agent/ID", "agent", "origin")
    _, _, command = (fault.hint or "").partition("rename the branch: ")
    subprocess.run(("sh", "-ec", command), cwd=repo, check=True, capture_output=True)
    git(repo, "push", "-q", "origin", "main:refs/heads/agent/ID")
    assert git(remote, "rev-parse", "agent-old") == tip


def test_init_in_a_sparse_checkout_says_how_its_files_become_a_part_of_it(
    repo: Path, cli: Cli
) -> None:
    (repo / "docs").mkdir()
    (repo / "docs" / "a.md").write_text("a\n")
    git(repo, "add", "docs")
    git(repo, "commit", "--quiet", "-m", "docs")
    git(repo, "sparse-checkout", "set", "docs")
    said = cli("init").out
    commands = [line.strip() for line in said.splitlines() if line.startswith("    git ")]
    assert len(commands) == 3, said
    for command in commands:
        git(repo, *shlex.split(command)[1:])
    assert git(repo, "status", "--porcelain") == ""
    assert "sparse-checkout" not in cli("init").out
    committed = (repo / ".orchestrator" / "agents.yaml").read_text() + "# ours\n"
    (repo / ".orchestrator" / "agents.yaml").write_text(committed)
    git(repo, "commit", "--quiet", "-a", "-m", "ours")
    # As in a clone that somebody made with `git clone --sparse`.
    git(repo, "sparse-checkout", "set", "docs")
    assert not (repo / ".orchestrator" / "agents.yaml").exists()
    done = cli("init")
    assert (done.code, "git sparse-checkout add" in done.err) == (1, True)
    git(repo, "sparse-checkout", "add", ".claude/commands", ".orchestrator")
    assert cli("init").code == 0
    assert (repo / ".orchestrator" / "agents.yaml").read_text() == committed


def test_the_commands_that_init_prints_work_where_init_was_called(
    repo: Path, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a worktree of the person's own, for example: the project is the main checkout."""
    git(repo, "worktree", "add", "--quiet", "-b", "mine", str(tmp_path / "mine"))
    monkeypatch.chdir(tmp_path / "mine")
    said = cli("init").out
    lines = [line.strip() for line in said.splitlines() if line.startswith("    ")]
    subprocess.run(["sh", "-ec", "\n".join(lines)], check=True, capture_output=True)
    assert git(repo, "status", "--porcelain") == ""
    assert ".orchestrator/agents.yaml" in git(repo, "ls-files")
