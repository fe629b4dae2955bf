"""What the failure of a person's check says: of the work, of the machine, or of the set-up."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from harness import is_alive, wait_until
from rows import each_row

from orchestrator.guard import user_commands
from orchestrator.guard.user_commands import Checker, Failure


@each_row(
    ("code", "is_killed"),
    [
        *((code, True) for code in (-9, -15, 137, 143)),
        # A crash of the program itself (SIGSEGV, SIGABRT), a time limit, and any other failure.
        *((code, False) for code in (-11, -6, 139, 134, None, 1, 127)),
    ],
)
def test_a_check_that_something_killed_says_nothing_about_the_work(
    code: int | None, is_killed: bool
) -> None:
    assert Failure("make test", code, "").was_killed is is_killed


@each_row(
    "said",
    [
        "sh: 1: vitest: not found",
        "zsh: command not found: ruff",
        "ModuleNotFoundError: No module named 'django'",
        "Error: Cannot find module 'express'",
        "error TS2307: Cannot find module 'x' or its corresponding type declarations.",
        "code: 'ERR_MODULE_NOT_FOUND'",
        "Could not find gem 'rails' in locally installed gems. (Bundler::GemNotFound)",
        "main.go:4:2: no required module provides package example.com/x",
        "Failed opening required '/app/vendor/autoload.php'",
        "Unchecked dependencies for environment test:",
        "/bin/sh: 1: .venv/bin/pytest: No such file or directory .venv",
        "node_modules/.bin/jest: No such file or directory",
    ],
)
def test_a_check_that_lacks_a_dependency_names_the_set_up(said: str) -> None:
    told = str(Failure("make test", 1, f"first\n{said}\nlast"))
    assert "`setup` in agents.yaml names the command that prepares a worktree" in told
    assert told.startswith("'make test' exited 1\nfirst\n")


@pytest.mark.parametrize("said", ["", "AssertionError: not found in the list", "FAIL: test_x"])
def test_a_check_that_fails_by_itself_does_not_name_the_set_up(said: str) -> None:
    assert "`setup`" not in str(Failure("make test", 1, said))
    assert str(Failure("make test", None, said)).startswith("'make test' took too long")


def test_each_agent_of_each_project_has_containers_of_its_own(tmp_path: Path) -> None:
    root = str(tmp_path / ("Long Name " * 9))
    names = {user_commands.compose_project(root, f"impl-agent-{number}") for number in range(30)}
    names |= {user_commands.compose_project(f"{root}x", "impl-agent-1")}
    assert len(names) == 31
    assert max(map(len, names)) == 60
    assert all(name.replace("-", "").replace("_", "").isalnum() for name in names)
    assert not any(name != name.lower() for name in names)


def test_no_process_of_a_check_is_left_though_it_has_a_session_of_its_own(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    checker = Checker(dict(os.environ), str(tmp_path / "checks.log"), 60.0, f"R-{tmp_path}")
    apart = f"setsid sh -c 'echo $$ > {pid}.new; mv {pid}.new {pid}; exec sleep 600' &"
    assert checker.run(f"{apart} until [ -e {pid} ]; do sleep 0.01; done", str(tmp_path)) is None
    wait_until(lambda: not is_alive(int(pid.read_text())), "the end of what the check left")
