"""The demonstration as a user runs it: one long run, and many questions to what it left behind.

Its environment is cron's, but for a home whose git configuration would spoil everything if it were
heard: no identity, signing with a program that fails, a hook that refuses every commit.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import CHECKOUT, Done, git

from orchestrator.demo import play

PROGRAM = (sys.executable, "-I", "-S", str(CHECKOUT / "orchestrator" / "__main__.py"))
#: What the README says: under a minute; and what a slow, busy machine may take.
PROMISED, ALLOWED = 60, 110

HOSTILE_GITCONFIG = """\
[commit]
    gpgSign = true
[gpg]
    program = false
[core]
    hooksPath = {hooks}
    excludesFile = {ignored}
[init]
    defaultBranch = trunk
"""


@dataclass(frozen=True)
class Run:
    """One finished demonstration."""

    folder: Path
    code: int
    said: str
    found: dict[str, Any]

    @property
    def project(self) -> Path:
        return self.folder / "shop"

    @property
    def events(self) -> list[dict[str, Any]]:
        text = (self.project / ".orchestrator" / "events.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]

    def row(self, title: str) -> dict[str, Any]:
        [row] = [row for row in self.found["tasks"] if row["title"].startswith(title)]
        return dict(row)

    def history(self, row: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
        """The events that stand in a task's file, in order."""
        lines = (line.split(" ", 3) for line in Path(row["path"]).read_text().splitlines())
        entries = [w for w in lines if len(w) == 4 and w[0] == "-" and w[3].startswith("{")]
        return [(word, json.loads(fields)) for _, _, word, fields in entries]

    def instructions(self, run: str) -> str:
        return (self.project / ".orchestrator" / "agents" / run / "instructions.md").read_text()

    def prompt(self, run: str) -> str:
        return (self.project / ".orchestrator" / "agents" / run / "prompt.md").read_text()


def environment(home: Path) -> dict[str, str]:
    """What cron gives, with a home whose git configuration is of no help."""
    hooks = home / "hooks"
    hooks.mkdir(parents=True)
    (hooks / "pre-commit").write_text("#!/bin/sh\nexit 1\n")
    (hooks / "pre-commit").chmod(0o755)
    (home / "ignored").write_text("*.py\n")
    text = HOSTILE_GITCONFIG.format(hooks=hooks, ignored=home / "ignored")
    (home / ".gitconfig").write_text(text)
    return {"HOME": str(home), "PATH": os.environ["PATH"], "SHELL": "/bin/sh"}


def left_alive(folder: Path) -> list[str]:
    """The processes that a demonstration in this folder left behind."""
    found = []
    for one in psutil.process_iter():
        try:
            if one.environ().get("ORCHESTRATOR_DEMO") == str(folder):
                found.append(f"{one.pid} {one.cmdline()}")
        except (psutil.Error, OSError):
            continue
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    scratch = tmp_path_factory.mktemp("demo")
    folder = scratch / "a folder's name"
    began = time.monotonic()
    done = subprocess.run(
        (*PROGRAM, "demo", "--json", "--dir", str(folder)),
        cwd=scratch,
        env=environment(scratch / "home"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=ALLOWED,
    )
    print(f"{time.monotonic() - began:.1f} s; stderr: {done.stderr}")
    return Run(folder, done.returncode, done.stderr, json.loads(done.stdout))


def test_it_succeeds_in_under_a_minute_and_complains_of_nothing(run: Run) -> None:
    assert (run.code, run.said) == (0, ""), run.found["stuck"]
    assert run.found["ok"] is True
    assert run.found["stuck"] == []
    assert run.found["seconds"] < PROMISED


def test_at_least_five_tasks_of_the_three_kinds_are_done(run: Run) -> None:
    rows = run.found["tasks"] + run.found["review_tasks"]
    assert len(run.found["tasks"]) >= 5
    assert {row["state"] for row in rows} == {"done"}
    assert {row["role"] for row in rows} == {"implement", "test", "review"}
    assert {row["reviews"] for row in run.found["review_tasks"]} == {
        row["id"] for row in run.found["tasks"]
    }


def test_four_agents_took_part(run: Run) -> None:
    agents = {event.get("agent") for event in run.events if event["event"] == "start"}
    assert agents == {"pm-agent", "impl-agent-1", "test-agent", "review-agent"}


def test_the_product_manager_found_what_the_readme_promises(run: Run) -> None:
    added = {row["title"]: row["role"] for row in run.found["tasks"] if row["created_by"]}
    assert added == {
        "Add count(), which the README promises": "implement",
        "Test parse_price(), which the README promises": "test",
    }
    assert {row["created_by"] for row in run.found["tasks"] if row["created_by"]} == {"pm-agent"}


def test_a_task_waits_until_the_one_that_it_depends_on_is_merged(run: Run) -> None:
    row = run.row("Test discounts at their edges")
    [needed] = row["depends_on"]
    pr = run.row("Add discounts in percent")["pr"]
    merged = [
        number
        for number, event in enumerate(run.events)
        if event["event"] == "landing" and f"merged {pr} " in event["reason"]
    ]
    started = [
        number
        for number, event in enumerate(run.events)
        if event["event"] == "start" and event.get("task") == row["id"]
    ]
    assert needed == "SHOP-2"
    assert merged[0] < started[0]


def test_one_task_failed_its_checks_first_and_passed_after_reading_why(run: Run) -> None:
    failed = {
        row["id"]: fields
        for row in run.found["tasks"]
        for word, fields in run.history(row)
        if word == "requeued" and fields["charged"]
    }
    assert list(failed) == ["SHOP-4"]
    assert failed["SHOP-4"]["reason"] == "checks_failed"
    row = run.row("Show the currency in prices")
    first = next(r for r in row["runs"] if r.endswith(failed["SHOP-4"]["run"]))
    name = "test_every_line_is_as_wide_as_the_paper"
    assert name not in run.prompt(first)
    assert row["runs"].index(first) < len(row["runs"]) - 1
    assert name in run.prompt(row["runs"][-1])


def test_a_review_asked_for_changes_by_file_and_line_and_got_them(run: Run) -> None:
    asked = {
        row["id"]: fields
        for row in run.found["tasks"]
        for word, fields in run.history(row)
        if (word, fields.get("reviewer")) == ("review", "review-agent")
        and fields["verdict"] == "changes_requested"
    }
    assert list(asked) == ["SHOP-2"]
    assert "`shop/vouchers.py:4`" in asked["SHOP-2"]["feedback"]
    row = run.row("Add discounts in percent")
    verdicts = [fields["verdict"] for word, fields in run.history(row) if word == "review"]
    assert verdicts == ["changes_requested", "approved"]
    assert "shop/vouchers.py:4" in run.instructions(row["runs"][-1])
    assert "ValueError" in git(run.folder / "shop.git", "show", "main:shop/vouchers.py")


def test_every_pull_request_is_merged_into_the_remotes_main(run: Run) -> None:
    remote = run.folder / "shop.git"
    records = (run.project / ".orchestrator" / "shared" / "prs").glob("*.json")
    prs = [json.loads(path.read_text()) for path in records]
    assert len(prs) == len(run.found["tasks"])
    for pr in prs:
        assert (pr["state"], pr["verdict"]) == ("merged", "approved")
        assert pr["reviewed"] == pr["head"]
        git(remote, "merge-base", "--is-ancestor", pr["head"], "main")
    for row in run.found["tasks"]:
        git(remote, "merge-base", "--is-ancestor", row["merged_commit"], "main")


def test_the_tests_of_the_merged_main_pass(run: Run, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", str(run.folder / "shop.git"), "merged")
    command = (sys.executable, "-E", "-B", "-m", "unittest")
    done = subprocess.run(command, cwd=tmp_path / "merged", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Ran 12 tests" in done.stderr


def test_the_persons_checkout_is_as_it_was(run: Run) -> None:
    assert run.found["checkout_untouched"] is True
    assert git(run.project, "branch", "--show-current") == "main"
    assert git(run.project, "log", "-1", "--format=%s") == "Set up orchestrator"
    assert git(run.project, "status", "--porcelain").split("\n") == ["M IDEAS.md", "?? notes.txt"]


def test_nothing_but_the_project_was_committed(run: Run) -> None:
    names = git(run.folder / "shop.git", "ls-tree", "-r", "--name-only", "main").split()
    assert ".agent-instructions.md" not in names
    assert not [name for name in names if "__pycache__" in name]


def test_no_process_is_left(run: Run) -> None:
    assert left_alive(run.folder) == []


def test_every_line_that_the_agent_wrote_is_json_of_the_clients_kinds(run: Run) -> None:
    streams = list((run.project / ".orchestrator" / "agents").glob("*/runs/*/stream.jsonl"))
    assert len(streams) == run.found["totals"]["runs"]
    for stream in streams:
        lines = [json.loads(line) for line in stream.read_text().splitlines()]
        assert {line["type"] for line in lines} == {"system", "assistant", "user", "result"}
        assert (lines[0]["type"], lines[0]["subtype"]) == ("system", "init")
        assert lines[-1]["type"] == "result"
        assert lines[-1]["structured_output"]["summary"]
        assert len({line["session_id"] for line in lines}) == 1


# --- short ones --------------------------------------------------------------------------------


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    done = subprocess.run(
        (*PROGRAM, "demo", "--dir", "mine"), cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "mine is not empty" in done.stderr
    assert os.listdir(tmp_path / "mine") == ["letter.txt"]
    done = subprocess.run(
        (*PROGRAM, "demo", "--dir", "mine/letter.txt"), cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stderr.splitlines() == [
        "orchestrator: mine/letter.txt is no folder",
        "  name a new folder: orchestrator demo --dir DIR",
    ]


def test_inside_a_run_no_demonstration_starts(tmp_path: Path) -> None:
    variables = {**os.environ, "ORCHESTRATOR_RUN_ID": "a-run", "ORCHESTRATOR_AGENT": "impl"}
    done = subprocess.run(
        (*PROGRAM, "demo", "--dir", "new"),
        cwd=tmp_path,
        env=variables,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, os.listdir(tmp_path)) == (1, [])


def test_what_is_stuck_when_time_is_over_is_told(
    cli: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(play, "LIMIT", 1.0)
    done = cli("demo", "--dir", str(tmp_path / "demo"))
    assert done.code == 1
    assert "Not settled after" in done.out
    assert "stuck: SHOP-3 is in incoming: SHOP-2 (waiting: it is in " in done.err
    assert left_alive(tmp_path / "demo") == []


def test_nothing_is_left_where_nothing_is_to_be_kept(
    cli: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(play, "LIMIT", 0.0)
    assert cli("demo", "--no-keep", "--dir", str(tmp_path / "demo")).code == 1
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("on_the_path", [True, False])
def test_what_to_do_next_is_a_command_that_can_be_called_as_it_is_printed(
    cli: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_the_path: bool
) -> None:
    monkeypatch.setattr(play, "LIMIT", 0.0)
    folders = os.environ["PATH"].split(os.pathsep)
    folders = [f for f in folders if not os.path.exists(os.path.join(f, "orchestrator"))]
    if on_the_path:
        (tmp_path / "orchestrator").symlink_to(CHECKOUT / "bin" / "orchestrator")
        folders.append(str(tmp_path))
    monkeypatch.setenv("PATH", os.pathsep.join(folders))
    said = cli("demo", "--no-keep", "--dir", str(tmp_path / "demo")).out
    name = "orchestrator" if on_the_path else str(CHECKOUT / "bin" / "orchestrator")
    steps = said.partition("In a project of your own")[2].splitlines()[1:]
    assert len(steps) == 4
    assert all(step.startswith(f"  {name} ") for step in steps)
    assert shutil.which(shlex.split(steps[0])[0])


@pytest.fixture
def started(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A demonstration whose first runs are under way."""
    child = subprocess.Popen(
        (*PROGRAM, "demo", "--dir", str(tmp_path / "demo")),
        env=environment(tmp_path / "home"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert child.stdout is not None
    for line in child.stdout:
        if "impl-agent-1 starts on" in line:
            break
    yield child
    child.kill()
    child.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demonstration_ends_every_run_that_it_started(
    started: subprocess.Popen[str], tmp_path: Path, number: int
) -> None:
    started.send_signal(number)
    _, said = started.communicate(timeout=60)
    assert started.returncode == 130
    assert "every run is ended" in said
    assert left_alive(tmp_path / "demo") == []
    queue = tmp_path / "demo" / "shop" / ".orchestrator" / "shared" / "queue"
    assert os.listdir(queue / "claimed") == []
    assert {path.name for path in queue.glob("*/SHOP-*.md")} == {
        f"SHOP-{number}.md" for number in (1, 2, 3, 4)
    }
