"""The completion of shells: made from the parser, and asked in a real bash."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import commits
import pytest
from conftest import CHECKOUT, Done
from test_cli_tasks import add

from orchestrator.config import load
from orchestrator.layout import Layout
from orchestrator.model.work import STATES, PullRequest
from orchestrator.pulls import forges
from orchestrator.tasks import stores, task_file

Cli = Callable[..., Done]
ASK = """
source {script}
COMP_WORDS=({words})
COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_shtab_orchestrator
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture
def ask(cli: Cli, project: Layout, tmp_path: Path) -> Callable[..., list[str]]:
    """Return what a bash with the printed script proposes for the last of some words."""
    script = tmp_path / "script"
    script.write_text(cli("completion", "bash").out)
    launcher = tmp_path / "bin" / "orchestrator"
    launcher.parent.mkdir()
    main = CHECKOUT / "orchestrator" / "__main__.py"
    launcher.write_text(f'#!/bin/sh\nexec {sys.executable} {main} "$@"\n')
    launcher.chmod(0o755)
    path = f"{launcher.parent}:{os.environ['PATH']}"

    def asked(*words: str) -> list[str]:
        text = ASK.format(script=script, words=" ".join(f"'{word}'" for word in words))
        done = subprocess.run(
            ("bash", "--norc", "-c", text),
            cwd=project.root,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.stderr == ""
        return done.stdout.split()

    return asked


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_commands_options_and_names(
    ask: Callable[..., list[str]], cli: Cli, project: Layout
) -> None:
    task_id = add(cli)
    assert ask("orchestrator", "ta") == ["task"]
    assert ask("orchestrator", "_") == []
    assert ask("orchestrator", "task", "se") == ["set"]
    assert ask("orchestrator", "task", "add", "--pri") == ["--priority"]
    assert ask("orchestrator", "task", "show", "TA") == [task_id]
    assert ask("orchestrator", "agent", "pause", "test") == ["test-agent"]
    assert set(ask("orchestrator", "explain", "")) >= {task_id, "pm-agent"}


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_proposes_only_what_the_command_accepts(
    ask: Callable[..., list[str]], cli: Cli, project: Layout
) -> None:
    tasks = {state: add(cli, f"Is {state}") for state in STATES}
    for state, task_id in tasks.items():
        if state not in ("incoming", "claimed"):
            cli("task", "move", task_id, state)
    store = stores.of_project(project)
    store.claim(store.find(tasks["claimed"]), task_file.entry(0.0, "claimed", run="R1"), 1)
    book = forges.of_project(project, load.settings(project, write_cache=False).config).book
    root, ref = Path(project.root), "refs/heads/agent/a"
    head = commits.commit(root, ref, {"a": "work"}, base="main", message="Work")
    for number, branch in (("4", "agent/a"), ("6", "agent/gone")):
        book.write(PullRequest(number, tasks["done"], branch, "main", head, "One", "open"))

    def offered(*words: str) -> set[str]:
        return set(ask("orchestrator", *words, ""))

    assert offered("task", "retry") == {tasks["blocked"], tasks["failed"]}
    assert offered("task", "cancel") == {*tasks.values()} - {tasks["done"]}
    assert offered("task", "show") == {*tasks.values()}
    assert offered("runs", "--task") == {*tasks.values()}
    assert offered("run", "test-agent", "--task") == {tasks["incoming"]}
    assert offered("inbox", "answer") == {tasks["blocked"]}
    assert offered("task", "move", tasks["done"]) == {*STATES} - {"claimed"}
    assert (offered("pr", "merge"), offered("pr", "show")) == ({"4"}, {"4", "6"})
    assert offered("inbox", "reject") <= {"pr:4"}
    for words in (("hosts", "remove"), ("init", "--host"), ("agent", "add")):
        assert offered(*words) == set(), words
    (root / "page.html").touch()
    assert "page.html" in offered("dashboard", "--export")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell_has_every_command_and_no_hidden_one(cli: Cli, shell: str) -> None:
    said = cli("completion", shell).out
    for word in ("request-changes", "completion", "orchestrator _words agents"):
        assert word in said
    assert "_probe" not in said


def test_another_shell_is_refused_with_the_known_ones(cli: Cli) -> None:
    done = cli("completion", "bsh")
    assert (done.code, "did you mean 'bash'?" in done.err) == (2, True)


def test_outside_a_project_there_are_no_names(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = cli("_words", "agents", "tasks", "inbox", "pull_requests")
    assert (done.code, done.out, done.err) == (0, "", "")
