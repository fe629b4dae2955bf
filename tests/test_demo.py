"""The demonstration as a user runs it: one whole run, and many questions to what it left behind.

Its environment is cron's, but for a home whose git configuration would spoil everything if it had
an effect: no identity, signing with a program that fails, a hook that refuses every commit.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
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

from orchestrator.cli import context, demo
from orchestrator.demo import play

PROGRAM = (sys.executable, "-I", "-S", str(CHECKOUT / "orchestrator" / "__main__.py"))
#: Seconds: what the help text says, and what a slow, busy machine may take.
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
    seconds: float
    out: str
    err: str

    @property
    def project(self) -> Path:
        return self.folder / "shop"

    @property
    def remote(self) -> Path:
        return self.folder / "shop.git"

    @property
    def state(self) -> Path:
        return self.project / ".orchestrator"

    @property
    def events(self) -> list[dict[str, Any]]:
        return list(map(json.loads, (self.state / "events.jsonl").read_text().splitlines()))

    def history(self, task: str) -> list[tuple[str, dict[str, Any]]]:
        """The events in a task's file, in order."""
        text = (self.state / "shared" / "queue" / "done" / f"{task}.md").read_text()
        found = re.findall(r"^- \S+ (\w+) (\{.*\})$", text, re.MULTILINE)
        return [(word, json.loads(fields)) for word, fields in found]

    def told(self, task: str) -> list[str]:
        """What each run of a task was told, oldest first: instructions and prompt."""
        claims = [fields for word, fields in self.history(task) if word == "claimed"]
        folders = [self.state / "agents" / c["agent"] / "runs" / c["run"] for c in claims]
        names = ("instructions.md", "prompt.md")
        return ["\n".join((folder / name).read_text() for name in names) for folder in folders]


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
    return [
        f"{one.pid} {one.info['cmdline']}"
        for one in psutil.process_iter(["environ", "cmdline"])
        if (one.info["environ"] or {}).get("ORCHESTRATOR_DEMO") == str(folder)
    ]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Run:
    """A whole demonstration, one for all workers of pytest-xdist."""
    base = tmp_path_factory.getbasetemp()
    scratch = (base if worker_id == "master" else base.parent) / "demo"
    scratch.mkdir(exist_ok=True)
    kept = scratch / "result.json"
    with (scratch / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            kept.write_text(json.dumps(whole_demonstration(scratch)))
    return Run(scratch / "a folder's name", **json.loads(kept.read_text()))


def whole_demonstration(scratch: Path) -> dict[str, Any]:
    began = time.monotonic()
    done = subprocess.run(
        (*PROGRAM, "demo", "--dir", "a folder's name"),
        cwd=scratch,
        env=environment(scratch / "home"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=ALLOWED,
    )
    seconds = time.monotonic() - began
    return {"code": done.returncode, "seconds": seconds, "out": done.stdout, "err": done.stderr}


def test_it_succeeds_in_under_a_minute_and_complains_of_nothing(run: Run) -> None:
    assert (run.code, run.err) == (0, ""), run.out
    assert run.seconds < PROMISED


def test_it_shows_each_tasks_outcome_its_commit_the_status_and_the_cost(run: Run) -> None:
    assert "5 of 5 tasks merged" in run.out
    for row in play.rows(run.events):
        cells = (row["id"], "merged", row["runs"], row["reviews"], row["pr"], row["commit"])
        assert f"{' '.join(map(str, cells))} {row['title']}" in " ".join(run.out.split())
    assert "$ orchestrator status\nAll is well." in run.out
    assert "0.00 USD" in run.out
    assert "Your checkout, which has unfinished work in it, did not change." in run.out
    assert f"cd {shlex.quote(str(run.project))}" in run.out


def test_at_least_five_tasks_of_the_three_kinds_are_done(run: Run) -> None:
    queue = run.state / "shared" / "queue"
    tasks = list(queue.glob("*/*.md"))
    assert {path.parent.name for path in tasks} == {"done"}
    roles = [re.findall(r"^ROLE: (\w+)$", path.read_text(), re.MULTILINE)[0] for path in tasks]
    assert set(roles) == {"implement", "test", "review"}
    assert sum(role != "review" for role in roles) >= 5


def test_four_agents_took_part(run: Run) -> None:
    agents = {event.get("agent") for event in run.events if event["event"] == "start"}
    assert agents == {"pm-agent", "impl-agent-1", "test-agent", "review-agent"}


def test_the_product_manager_found_what_the_readme_promises(run: Run) -> None:
    added = {(e["by"], e["title"]) for e in run.events if e["event"] == "added"}
    assert added == {
        ("pm-agent", "Test parse_price(), which the README promises"),
        ("pm-agent", "Test total(), which the README promises"),
    }


def test_a_task_waits_until_the_task_that_it_depends_on_is_merged(run: Run) -> None:
    pr = next(row["pr"] for row in play.rows(run.events) if row["id"] == "SHOP-1")
    happened = [(e["event"], e.get("task"), e.get("reason", "")) for e in run.events]
    [merged] = [n for n, e in enumerate(happened) if e[2].startswith(f"merged {pr} as ")]
    assert merged < happened.index(("start", "SHOP-2", ""))


def test_one_task_failed_its_checks_first_and_passed_after_reading_why(run: Run) -> None:
    charged = {
        row["id"]: fields["reason"]
        for row in play.rows(run.events)
        for word, fields in run.history(row["id"])
        if word == "requeued" and fields["charged"]
    }
    assert charged == {"SHOP-3": "checks_failed"}
    first, second = run.told("SHOP-3")
    name = "test_every_line_is_as_wide_as_the_paper"
    assert name not in first
    assert name in second


def test_a_review_asked_for_changes_by_file_and_line_and_got_them(run: Run) -> None:
    reviews = {
        row["id"]: [fields for word, fields in run.history(row["id"]) if word == "review"]
        for row in play.rows(run.events)
    }
    verdicts = {task: [fields["verdict"] for fields in found] for task, found in reviews.items()}
    assert verdicts.pop("SHOP-1") == ["changes_requested", "approved"]
    assert set(map(tuple, verdicts.values())) == {("approved",)}
    assert "`vouchers.py:1`" in reviews["SHOP-1"][0]["feedback"]
    first, second = run.told("SHOP-1")
    assert "vouchers.py:1" not in first
    assert "vouchers.py:1" in second
    assert "ValueError" in git(run.remote, "show", "main:vouchers.py")


def test_every_pull_request_is_merged_into_the_remotes_main(run: Run) -> None:
    prs = [json.loads(p.read_text()) for p in (run.state / "shared" / "prs").glob("*.json")]
    rows = play.rows(run.events)
    assert {pr["id"] for pr in prs} == {row["pr"] for row in rows}
    for pr in prs:
        assert (pr["state"], pr["verdict"]) == ("merged", "approved")
        assert pr["reviewed"] == pr["head"]
        git(run.remote, "merge-base", "--is-ancestor", pr["head"], "main")
    for row in rows:
        git(run.remote, "merge-base", "--is-ancestor", row["commit"], "main")


def test_the_tests_of_the_merged_main_pass(run: Run, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", str(run.remote), "merged")
    command = (sys.executable, "-E", "-B", "-m", "unittest")
    done = subprocess.run(command, cwd=tmp_path / "merged", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Ran 8 tests" in done.stderr


def test_the_doctor_finds_nothing_wrong_with_the_kept_project(run: Run, tmp_path: Path) -> None:
    asked = (*PROGRAM, "doctor", "--json", "--project", str(run.project))
    said = subprocess.run(asked, env=environment(tmp_path), capture_output=True, text=True)
    findings = {each["code"]: each for each in json.loads(said.stdout)["findings"]}
    assert findings["client"]["level"] == "ok", findings["client"]
    assert not [each for each in findings.values() if each["level"] == "fail"]


def test_your_checkout_is_as_it_was(run: Run) -> None:
    assert git(run.project, "branch", "--show-current") == "main"
    assert git(run.project, "log", "-1", "--format=%s") == "Set up orchestrator"
    assert git(run.project, "status", "--porcelain").split("\n") == ["M README.md", "?? notes.txt"]
    assert (run.project / "notes.txt").read_text() == "paper\n"
    assert git(run.project, "diff").splitlines()[-1] == "+To do: gift ca"


def test_nothing_but_the_project_was_committed(run: Run) -> None:
    names = git(run.remote, "ls-tree", "-r", "--name-only", "main").split()
    assert ".agent-instructions.md" not in names
    assert not [name for name in names if "__pycache__" in name]


def test_no_process_is_left(run: Run) -> None:
    assert left_alive(run.folder) == []


def test_every_line_that_the_agent_wrote_is_json_of_the_clients_kinds(run: Run) -> None:
    streams = list((run.state / "agents").glob("*/runs/*/stream.jsonl"))
    assert len(streams) == sum(event["event"] == "start" for event in run.events)
    assert f"total: {len(streams)} runs" in run.out
    for stream in streams:
        lines = [json.loads(line) for line in stream.read_text().splitlines()]
        assert {line["type"] for line in lines} == {"system", "assistant", "user", "result"}
        assert (lines[0]["type"], lines[0]["subtype"]) == ("system", "init")
        assert lines[-1]["type"] == "result"
        assert lines[-1]["structured_output"]["summary"]
        assert len({line["session_id"] for line in lines}) == 1


# --- short ones --------------------------------------------------------------------------------


def test_a_folder_with_something_in_it_is_refused(
    cli: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    done = cli("demo", "--dir", "mine")
    assert done.code == 1
    assert "mine is not empty" in done.err
    assert os.listdir(tmp_path / "mine") == ["letter.txt"]
    done = cli("demo", "--dir", "mine/letter.txt")
    assert done.code == 1
    assert done.err.splitlines() == [
        "orchestrator: mine/letter.txt is not a folder",
        "  name a new folder: orchestrator demo --dir DIR",
    ]


def test_without_git_a_demonstration_says_what_to_install_and_leaves_no_folder(
    cli: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # this process keeps its own handlers
    monkeypatch.setenv("PATH", str(tmp_path))
    done = cli("demo", "--dir", str(tmp_path / "demo"), "--json")
    assert (done.code, done.json["error"]["code"]) == (1, "git_missing")
    assert "install git" in done.err
    assert not (tmp_path / "demo").exists()


def test_inside_a_run_no_demonstration_starts(
    cli: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ORCHESTRATOR_RUN_ID", "a-run")
    assert cli("demo", "--dir", "new").code == 1
    assert os.listdir(tmp_path) == []


@pytest.fixture
def unfinished(
    cli: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Done]:
    """Runs a demonstration that has no time at all, and is to keep nothing."""
    monkeypatch.setattr(play, "LIMIT", 0.0)
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # this process keeps its own handlers
    return lambda *words: cli("demo", "--no-keep", "--dir", str(tmp_path / "demo"), *words)


def test_an_unfinished_demonstration_says_why_and_what_is_not_to_be_kept_goes(
    unfinished: Callable[..., Done], tmp_path: Path
) -> None:
    done = unfinished()
    assert done.code == 1
    assert "0 of 3 tasks merged" in done.out
    assert "$ orchestrator explain SHOP-2\n" in done.out
    assert "blocked_by_dependency  SHOP-1 (waiting: it is in incoming)" in done.out
    steps = done.out.partition("In a project of your own")[2].splitlines()[1:]
    assert len(steps) == 4
    assert all(step.startswith(f"  {context.program()} ") for step in steps)
    assert os.listdir(tmp_path) == []


def test_scripts_get_json(unfinished: Callable[..., Done], tmp_path: Path) -> None:
    found = unfinished("--json").json
    assert (found["ok"], found["checkout_untouched"]) == (False, True)
    assert {row["id"]: row["outcome"] for row in found["tasks"]} == {
        f"SHOP-{number}": "waiting" for number in (1, 2, 3)
    }
    assert found["status"]["queue"]["incoming"] == 3
    assert found["project"] == str(tmp_path / "demo" / "shop")


@pytest.mark.parametrize("on_the_path", [True, False])
def test_the_program_in_a_hint_can_be_called_as_it_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_the_path: bool
) -> None:
    folders = os.environ["PATH"].split(os.pathsep)
    folders = [f for f in folders if not os.path.exists(os.path.join(f, "orchestrator"))]
    if on_the_path:
        (tmp_path / "orchestrator").symlink_to(CHECKOUT / "bin" / "orchestrator")
        folders.append(str(tmp_path))
    monkeypatch.setenv("PATH", os.pathsep.join(folders))
    name = "orchestrator" if on_the_path else str(CHECKOUT / "bin" / "orchestrator")
    assert shlex.split(context.program()) == [name]
    assert shutil.which(name)


@pytest.fixture
def started(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A demonstration whose first runs are in progress."""
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
        if "impl-agent-1 starts" in line:
            break
    yield child
    child.kill()
    child.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demonstration_stops_every_run_that_it_started(
    started: subprocess.Popen[str], tmp_path: Path, number: int
) -> None:
    started.send_signal(number)
    _, said = started.communicate(timeout=60)
    assert started.returncode == 130
    assert "every run was stopped" in said
    assert left_alive(tmp_path / "demo") == []
    queue = tmp_path / "demo" / "shop" / ".orchestrator" / "shared" / "queue"
    assert os.listdir(queue / "claimed") == []
    names = {path.name for path in queue.glob("*/SHOP-*.md")}
    assert names == {f"SHOP-{number}.md" for number in (1, 2, 3)}


def test_closing_a_demonstration_stops_runs_until_there_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers, asked = [["impl-1"], ["impl-2"], []], []

    class Told:
        folder = str(tmp_path)

        def orchestrator(self, *words: str) -> str:
            asked.append(words)
            return json.dumps({"stopped": answers.pop(0)})

    monkeypatch.setattr(play, "LAST_STEPS", 0.0)
    left = subprocess.Popen(["sleep", "600"], env={**os.environ, play.MARK: str(tmp_path)})
    project: Any = Told()
    play.Play(project).close()
    assert asked == [("--json", "stop", "--all")] * 3
    assert left.wait(60) == -signal.SIGKILL


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_each_signal_that_ends_a_demonstration_interrupts_it(
    cli: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def interrupted(*_: object, **__: object) -> int:
        os.kill(os.getpid(), number)
        time.sleep(60)
        return 0

    monkeypatch.setattr(demo, "_demonstrate", interrupted)

    def missed(*_: object) -> None:
        pytest.fail("this signal would end the process, and no run would be stopped")

    ends = (signal.SIGTERM, signal.SIGHUP)
    before = {each: signal.signal(each, missed) for each in ends}
    try:
        done = cli("demo", "--dir", str(tmp_path / "demo"))
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    assert done.code == 130
    assert "interrupted; every run was stopped" in done.err
