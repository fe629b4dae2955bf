"""`status`, `watch` and `explain`: what they say in whatever state, changing nothing."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import re
import select
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import runs
from conftest import git, set_up_long_ago

from orchestrator.cli import explain, overview, watch
from orchestrator.config import load
from orchestrator.layout import Layout
from orchestrator.model.snapshot import Hold, UsageWindow
from orchestrator.model.times import parse_time
from orchestrator.model.work import Entry
from orchestrator.plan import rules
from orchestrator.project import agent_memory, events, mark, usage
from orchestrator.project.mark import record_schedule
from orchestrator.pulls import look
from orchestrator.pulls.movers import Move
from orchestrator.schedule.entry import Entry as Schedule
from orchestrator.system import files, locks, process
from orchestrator.tasks import history, stored_file, stores, task_file
from orchestrator.text.words import local, span

CHECKOUT = Path(__file__).resolve().parent.parent
RUN = "20260101T000000Z-aaaaaa"
Cli = Callable[..., Any]


def put(
    layout: Layout, task_id: str, state: str = "incoming", *events: Entry, **header: str
) -> Path:
    """Put a task with this history into a state."""
    fields = {"role": "implement", "depends_on": "", **header}
    file = task_file.new(
        task_id,
        fields.pop("title", f"Do {task_id}"),
        fields.pop("role"),
        None,
        None,
        "2026-01-01T00:00:00Z",
        None,
        fields.pop("depends_on").split(),
        "",
    )
    data = file.raw
    for event in events:
        data += history.append(data, event)
    path = Path(layout.state(state), f"{task_id}.md")
    path.write_bytes(data)
    return path


def event(word: str, **fields: object) -> Entry:
    return Entry("2026-01-01T00:00:00Z", word, fields)


def ticked(layout: Layout, age: float = 1.0) -> None:
    """Leave the trace of a tick."""
    Path(layout.scheduler_lock).write_text(f"1 gone {time.time() - age:.3f}\n")
    os.utime(layout.scheduler_lock, (time.time() - age,) * 2)


def running(layout: Layout, agent: str = "impl-agent-1", task: str = "TASK-1") -> process.ProcessId:
    """Fake a run at work, whose supervisor is this very process."""
    me = process.known(os.getpid())
    state = agent_memory.AgentState(last_started=time.time() - 90, run=RUN, supervisor=me)
    agent_memory.write(layout, agent, state)
    runs.lay_out(
        layout,
        agent,
        RUN,
        task=task,
        status="running",
        created=time.time() - 90,
        supervisor=me._asdict(),
        branch=f"agent/{task}-x",
        key=mark.key(layout),
    )
    put(layout, task, "claimed", event("claimed", agent=agent, run=RUN, branch=f"agent/{task}-x"))
    return me


# --- status ------------------------------------------------------------------------------------


def test_the_status_of_a_fresh_project_counts_nothing(project: Layout, cli: Cli) -> None:
    ticked(project)
    found = cli("status", "--json").json
    # `tests/test_contract_json.py` holds which keys there are.
    expected = {
        "queue": {"incoming": 0, "claimed": 0, "blocked": 0, "done": 0, "failed": 0},
        "limits": {"max_incoming": 20, "max_claimed": 5, "max_open_prs": 10},
        "open_prs": 0,
        "open_prs_age_seconds": None,
        "waiting_for_you": 0,
        "agents": [
            agent_row("impl-agent-1", "implementer", "waiting", "no_matching_task"),
            agent_row("test-agent", "tester", "waiting", "no_matching_task"),
            agent_row("pm-agent", "product_manager", "ready", None),
        ],
        "running": [],
        "retrying": [],
        "blocked": [],
        "totals": {
            "runs": 0,
            "input_tokens": 0,
            "output_tokens": 0,
            "cost_usd": 0.0,
            "seconds_running": 0.0,
        },
        "scheduler": {**found["scheduler"], "stale": False},
        "problems": [],
        "fault": None,
        "notes": [],
        "cannot_start": [],
        "overlaps": [],
    }
    assert {key: found[key] for key in expected} == expected
    assert set(found["scheduler"]) == {"last_tick", "age_seconds", "stale"}
    assert found["scheduler"]["last_tick"].endswith("Z")


def agent_row(name: str, role: str, state: str, reason: str | None) -> dict[str, Any]:
    row = {"name": name, "role": role, "state": state, "reason": reason, "due_in_seconds": 0}
    return {**row, "run": None, "task": None, "last_outcome": None}


def test_a_run_at_work_is_shown_with_its_supervisor(project: Layout, cli: Cli) -> None:
    running(project)
    found = cli("status", "--json").json
    (row,) = found["running"]
    assert 85 <= row.pop("age_seconds") <= 120
    assert row.pop("started").endswith("Z")
    assert row == {
        "run": RUN,
        "agent": "impl-agent-1",
        "task": "TASK-1",
        "pid": os.getpid(),
        "branch": "agent/TASK-1-x",
        "worktree": project.worktree("impl-agent-1"),
        "cost_usd": None,
    }
    assert found["agents"][0]["state"] == "running"
    assert found["totals"]["seconds_running"] >= 85


def test_totals_are_the_sum_over_all_agents(project: Layout, cli: Cli) -> None:
    for name, count in (("impl-agent-1", 2), ("gone-agent", 3)):
        totals = agent_memory.Totals(count, 10, 5, 0.25, 60.0)
        agent_memory.write(project, name, agent_memory.AgentState(totals=totals))
    assert cli("status", "--json").json["totals"] == {
        "runs": 5,
        "input_tokens": 20,
        "output_tokens": 10,
        "cost_usd": 0.5,
        "seconds_running": 120.0,
    }


def test_tasks_that_are_tried_again_and_those_that_wait_for_a_person_are_listed(
    project: Layout, cli: Cli
) -> None:
    charged = {"charged": True, "reason": "checks_failed", "error": "checks_failed: no\nmore"}
    put(project, "TASK-1", "incoming", event("requeued", run="r1", delay=10,
        not_before="2026-01-01T00:00:10Z", **charged))  # fmt: skip
    put(project, "TASK-2", "incoming", event("requeued", run="r2", interrupted=True))
    put(project, "TASK-3", "blocked", event("blocked", run="r3", question="Which format?"))
    found = cli("status", "--json").json
    assert found["retrying"] == [
        {
            "task": "TASK-1",
            "attempt": 2,
            "not_before": "2026-01-01T00:00:10Z",
            "error": "checks_failed: no\nmore",
        }
    ]
    assert found["blocked"] == [
        {"task": "TASK-3", "title": "Do TASK-3", "question": "Which format?", "reason": None}
    ]
    plain = cli("status").out
    # A person reads local times.
    at = local(parse_time("2026-01-01T00:00:10Z"))
    assert f"attempt 2 of 3, not before {at}; last error: checks_failed: no" in plain
    assert "Which format?" in plain


def test_files_that_are_no_tasks_are_reported_and_count_nowhere(project: Layout, cli: Cli) -> None:
    for state in ("incoming", "claimed", "blocked"):
        Path(project.state(state), "bad.md").write_bytes(b"\xff\xfe")
    Path(project.state("incoming"), "link.md").symlink_to("/etc/hostname")
    Path(project.state("incoming"), "folder.md").mkdir()
    found = cli("status", "--json").json
    assert found["queue"] == {"incoming": 0, "claimed": 0, "blocked": 0, "done": 0, "failed": 0}
    problems = [p for p in found["problems"] if p["code"] == "task_malformed"]
    messages = [p["message"] for p in problems]
    assert len(messages) == 5
    assert any(project.state("blocked") in message for message in messages)
    hints = {p["message"].rpartition(": ")[2]: p["hint"] for p in problems}
    assert hints["it is a symbolic link"] == "fix or move that file"
    assert hints["it is not UTF-8 text (byte 0)"] == "save it as UTF-8; or move that file"


def test_a_broken_configuration_is_the_first_thing_shown_and_its_agents_stay(
    project: Layout, cli: Cli
) -> None:
    cli("tick", "--dry-run")
    good = Path(project.config).read_text()
    Path(project.config).write_text(good.replace("interval_seconds: 60", "intervall_seconds: 60"))
    done = cli("status", "--json")
    problem = done.json["problems"][0]
    assert done.code == 0
    assert problem["code"] == "config_error"
    assert "interval_seconds" in problem["message"]
    assert re.match(r"\d+ problems?\. ", cli("status").out)


def test_a_clone_that_nobody_set_up_says_so(repo: Path, cli: Cli) -> None:
    done = cli("status", "--json")
    assert done.code == 0
    problems = done.json["problems"]
    assert [problem["code"] for problem in problems] == ["not_initialised", "config_error"]
    assert {problem["hint"] for problem in problems} == {"run: orchestrator init"}
    assert done.json["agents"] == []
    for words in (("pr", "list"), ("pr", "show", "1"), ("logs", "x"), ("explain", "x")):
        refused = cli(*words)
        assert (refused.code, "is not set up" in refused.err) == (1, True), words


def test_a_repository_without_a_commit_is_told_to_make_one_first(
    tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    monkeypatch.chdir(tmp_path)
    first = "make a first commit, then: orchestrator init"
    for words in (("status",), ("doctor",), ("task", "list"), ("tick",), ("explain", "x")):
        done = cli(*words)
        assert "run: orchestrator init" not in done.out + done.err, done
    assert {problem["hint"] for problem in cli("status", "--json").json["problems"]} == {first}
    assert first in cli("tick").err


@pytest.mark.parametrize(
    ("age", "stale"), [(None, True), (1.0, False), (299.0, False), (4000.0, True), (-5000.0, False)]
)
def test_a_scheduler_that_stopped_is_reported(
    project: Layout, cli: Cli, age: float | None, stale: bool
) -> None:
    set_up_long_ago(project.root)
    if age is not None:
        ticked(project, age)
    found = cli("status", "--json").json
    assert found["scheduler"]["stale"] is stale
    assert ("tick_stale" in [p["code"] for p in found["problems"]]) is stale
    assert found["scheduler"]["age_seconds"] is None or found["scheduler"]["age_seconds"] >= 0


@pytest.mark.parametrize(
    ("kind", "said"),
    [(None, "run: orchestrator tick"), ("cron", "cron starts one within a minute")],
)
def test_a_project_that_was_just_set_up_is_well_before_its_first_tick(
    project: Layout, cli: Cli, kind: str | None, said: str
) -> None:
    if kind is not None:
        record_schedule(project, Schedule(kind, project.root, "/bin", "/launcher"))
    found = cli("status", "--json").json
    assert found["scheduler"] == {"last_tick": None, "age_seconds": None, "stale": False}
    assert found["problems"] == []
    assert cli("status").out.startswith("All is well.")
    for words in (("status",), ("doctor",), ("explain", "pm-agent")):
        assert f"no tick yet; {said}\n" in cli(*words).out
    assert not re.search("(FAIL|warn) +tick_stale", cli("doctor").out)
    assert cli("_news").out == ""
    set_up_long_ago(project.root)
    assert cli("status").out.startswith("1 problem.")
    assert re.search("FAIL +tick_stale", cli("doctor").out)


def test_a_tick_that_hangs_is_reported_with_its_process(project: Layout, cli: Cli) -> None:
    lock = locks.Lock(project.scheduler_lock)
    with lock:
        me = f"{os.getpid()} {process.identity(os.getpid())} {time.monotonic() - 600:.3f}\n"
        Path(project.scheduler_lock).write_text(me)
        problems = {p["code"]: p["message"] for p in cli("status", "--json").json["problems"]}
    lock.close()
    assert f"process {os.getpid()}) has held the lock for 10 min" in problems["tick_hung"]
    assert "tick_hung" not in [p["code"] for p in cli("status", "--json").json["problems"]]


def test_the_first_line_says_whether_all_is_well(project: Layout, cli: Cli) -> None:
    set_up_long_ago(project.root)
    assert cli("status").out.startswith("1 problem. 0 running, 0 waiting.\n")
    ticked(project)
    assert cli("status").out.startswith("All is well. 0 running, 0 waiting.\n")
    put(project, "TASK-1", "blocked", event("blocked", question="?"))
    blocked = "1 thing waits for you: orchestrator inbox\n0 running, 0 waiting.\n"
    assert cli("status").out.startswith(blocked)
    text = Path(project.config).read_text()
    Path(project.config).write_text(text.replace("paused: false", "paused: true", 1))
    paused = "Paused; no agent starts until `orchestrator agent resume --all`. "
    assert cli("status").out.splitlines()[1].startswith(paused)


def test_control_characters_of_a_title_are_made_visible(project: Layout, cli: Cli) -> None:
    put(project, "TASK-1", "blocked", event("blocked", question="\x1b[2J\x9b31m\rboo"))
    out = cli("status").out
    assert not set(out) & set("\x1b\x9b\r")


def test_done_tasks_are_counted_without_being_read(
    project: Layout, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(300):
        Path(project.state("done"), f"TASK-{number}.md").touch()

    def read(path: str) -> None:
        raise AssertionError(path)

    monkeypatch.setattr(stored_file, "content", read)
    assert cli("status", "--json").json["queue"]["done"] == 300


# --- what it costs -----------------------------------------------------------------------------


def open_pull_requests(layout: Layout, count: int) -> None:
    for number in range(1, count + 1):
        branch = f"agent/TASK-{number}-x"
        tree = subprocess.run(
            ("git", "commit-tree", "HEAD^{tree}", "-p", "HEAD", "-m", f"work {number}"),
            capture_output=True, text=True, check=True,
        ).stdout.strip()  # fmt: skip
        subprocess.run(("git", "update-ref", f"refs/heads/{branch}", tree), check=True)
        record = {"id": str(number), "task": f"TASK-{number}", "branch": branch, "base": "main"}
        record |= {"head": tree, "title": "x", "state": "open"}
        Path(layout.prs, f"{number}.json").write_text(json.dumps(record))


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Count the calls of git and gh: each goes through a program that notes it."""
    folder, log = tmp_path / "noting", tmp_path / "calls"
    folder.mkdir()
    log.touch()
    rows = '[{"number":1,"headRefName":"agent/a","baseRefName":"main","headRefOid":"0","title":"t"'
    rows += ',"state":"OPEN","url":"u","reviewDecision":"","body":""}]'
    real = subprocess.run(
        ("which", "git"), capture_output=True, text=True, check=True
    ).stdout.strip()
    note = f'#!/bin/sh\necho "$(basename "$0") $*" >> {log}\n'
    (folder / "git").write_text(f'{note}exec {real} "$@"\n')
    (folder / "gh").write_text(f"{note}echo '{rows}'\n")
    for program in folder.iterdir():
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def taken() -> list[str]:
        lines = log.read_text().splitlines()
        log.write_text("")
        return lines

    return taken


def test_status_says_that_the_configured_remote_is_gone_and_others_are_there(
    project: Layout, cli: Cli
) -> None:
    root = Path(project.root)
    git(root, "remote", "add", "origin", "/nowhere")
    assert cli("status", "--json").json["notes"] == []
    git(root, "remote", "rename", "origin", "upstream")
    (said,) = cli("status", "--json").json["notes"]
    assert "there is no remote 'origin', but 'upstream': branches stay in this repository" in said
    assert "write `remote: upstream` into" in said
    git(root, "remote", "remove", "upstream")
    assert cli("status", "--json").json["notes"] == []


def test_status_asks_git_a_bounded_number_of_times(
    project: Layout, cli: Cli, calls: Callable[[], list[str]]
) -> None:
    open_pull_requests(project, 10)
    cli("tick", "--dry-run")
    calls()
    assert cli("status", "--json").json["open_prs"] == 10
    assert len(calls()) <= 3 * 10 + 5


def test_status_and_watch_do_not_ask_a_forge_elsewhere(
    project: Layout, cli: Cli, calls: Callable[[], list[str]]
) -> None:
    text = Path(project.config).read_text()
    Path(project.config).write_text(text.replace("forge: local", "forge: github"))
    head = git(Path(project.root), "rev-parse", "HEAD")
    record = {"id": "1", "task": "TASK-1", "branch": "agent/a", "base": "main", "head": head}
    Path(project.prs, "github").mkdir()
    record |= {"title": "t", "state": "open"}
    Path(project.prs, "github", "1.json").write_text(json.dumps(record))
    assert cli("status", "--json").json["open_prs_age_seconds"] is None
    asked = Path(project.cache, look.ASKED)
    asked.touch()
    os.utime(asked, (time.time() - 90,) * 2)
    found = cli("status", "--json").json
    assert (found["open_prs"], found["open_prs_age_seconds"] // 10) == (1, 9)
    seconds = range(0, 120, 20)
    views = watch.views(project, 0.0, clock=map(float, seconds).__next__)
    for _, seen in zip(seconds, views, strict=False):
        assert seen.status["open_prs"] == 1
    assert [call for call in calls() if call.startswith("gh ")] == []


def test_report_asks_git_only_for_commits_that_no_event_lists(
    project: Layout, cli: Cli, calls: Callable[[], list[str]]
) -> None:
    base = git(Path(project.root), "rev-parse", "HEAD")
    head = git(Path(project.root), "commit-tree", "HEAD^{tree}", "-p", base, "-m", "work")
    told: dict[str, Any] = {"agent": "a", "task": "T", "pr": "1", "verdict": "done", "seconds": 1}
    told |= {"cost_usd": None, "base": base, "head": head, "title": "A task"}
    listed = [{"commit": head, "subject": "work"}]
    events.append(project, time.time(), "finish", run="R1", **told, commits=listed)
    calls()
    [delivered] = cli("report", "--json").json["delivered"]
    assert delivered["commits"] == listed
    assert "- T, pull request 1: `A task`" in cli("report").out
    assert calls() == []
    # An older version lists no commits.
    events.append(project, time.time(), "finish", run="R2", **told)
    [delivered] = cli("report", "--json").json["delivered"]
    assert delivered["commits"] == listed
    assert len(calls()) == 1


# --- watch -------------------------------------------------------------------------------------


def command(*words: str) -> tuple[list[str], dict[str, str]]:
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "TERM": "xterm", "COLUMNS": "120"}
    return [sys.executable, "-m", "orchestrator", *words], environment


def test_watch_into_a_pipe_prints_once_per_change_and_ends_on_sigterm(project: Layout) -> None:
    ticked(project)
    words, environment = command("watch", "--interval", "0.2", "--json")
    child = subprocess.Popen(
        words, env=environment, stdout=subprocess.PIPE, text=True, cwd=project.root
    )
    assert child.stdout is not None
    assert json.loads(child.stdout.readline())["queue"]["incoming"] == 0
    time.sleep(1.2)
    put(project, "TASK-1")
    assert json.loads(child.stdout.readline())["queue"]["incoming"] == 1
    child.send_signal(signal.SIGTERM)
    rest, _ = child.communicate(timeout=10)
    assert (child.returncode, rest) == (0, "")


def test_watch_on_a_terminal_repaints_and_leaves_it_as_it_was(project: Layout) -> None:
    ticked(project)
    words, environment = command("watch", "--interval", "0.2")
    master, slave = pty.openpty()
    child = subprocess.Popen(
        words, env=environment, stdin=slave, stdout=slave, stderr=slave, cwd=project.root
    )
    os.close(slave)
    shown = read_until(master, b"All is well")
    put(project, "TASK-1")
    shown += read_until(master, b"1 waiting")
    child.send_signal(signal.SIGINT)
    shown += read_until(master, b"\x1b[?1049l")
    assert child.wait(10) == 0
    os.close(master)
    assert b"\x1b[?1049h" in shown
    assert b"impl-agent-1" in shown


def read_until(descriptor: int, wanted: bytes) -> bytes:
    found, deadline = b"", time.monotonic() + 20
    while wanted not in found:
        assert time.monotonic() < deadline, found[-1000:]
        if select.select([descriptor], [], [], 0.2)[0]:
            found += os.read(descriptor, 65536)
    return found


@pytest.mark.parametrize("interval", ["0", "-1", "nan", "1e9"])
def test_watch_refuses_an_interval_that_makes_no_sense(
    project: Layout, cli: Cli, interval: str
) -> None:
    assert cli("watch", f"--interval={interval}").code == 2


def test_only_what_does_not_change_by_itself_counts_as_a_change() -> None:
    def value(age: int, outcome: str) -> dict[str, Any]:
        agents = [{"name": "a", "due_in_seconds": age, "last_outcome": outcome}]
        problems = [{"code": "tick_stale", "message": f"{age} min ago", "hint": None}]
        running = [{"run": "r", "age_seconds": age}]
        found = {"agents": agents, "problems": problems, "running": running, "queue": {}}
        return {**found, "totals": {"seconds_running": age}, "scheduler": {"age_seconds": age}}

    assert watch.lasting(value(1, "done")) == watch.lasting(value(2, "done"))
    assert watch.lasting(value(1, "done")) != watch.lasting(value(1, "failed"))


def test_no_key_of_the_real_status_changes_by_itself_but_those_that_watch_leaves_out(
    project: Layout,
) -> None:
    ticked(project)
    running(project)
    agent_memory.write(project, "pm-agent", agent_memory.AgentState(last_started=time.time()))
    loaded, now = load.settings(project, write_cache=False), time.time()
    found = [overview.overview(project, loaded, now + later, []).status for later in (0, 7)]
    assert [row["run"] for row in found[0]["running"]] == [RUN]
    assert found[0] != found[1]
    assert watch.lasting(found[0]) == watch.lasting(found[1])


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "?"),
        (0, "0 s"),
        (119, "119 s"),
        (120, "2 min"),
        (7199, "119 min"),
        (7500, "2 h 05 min"),
        (172_800, "2 d 0 h"),
    ],
)
def test_time_spans_are_for_people(seconds: int | None, text: str) -> None:
    assert span(seconds) == text


# --- explain -----------------------------------------------------------------------------------

#: The rules that judge every agent that takes tasks. The others judge agents that take no tasks, a
#: broken file, a setting or a header field.
RULED = [
    *("system_paused", "paused", "running", "not_due", "usage_limit", "pace", "system_fault"),
    *("budget_exhausted", "max_claimed", "open_prs_unknown", "max_open_prs"),
    *("blocked_by_dependency", "backoff", "no_matching_task", "max_starts"),
]


def test_an_agent_is_explained_by_every_rule_in_the_order_of_the_rules(
    project: Layout, cli: Cli
) -> None:
    found = cli("explain", "impl-agent-1", "--json").json
    assert set(found) == {"subject", "verdict", "rules"}
    codes = [rule["code"] for rule in found["rules"]]
    assert codes == RULED == [r.code for r in rules.RULES if r.kind != "task" and r.code in codes]
    assert all(set(rule) == {"code", "ok", "detail", "until", "hint"} for rule in found["rules"])
    assert [rule["code"] for rule in found["rules"] if not rule["ok"]] == ["no_matching_task"]
    assert found["verdict"].startswith("does not start: no_matching_task")


def test_the_plain_form_shows_the_same_codes_and_the_next_step(project: Layout, cli: Cli) -> None:
    out = cli("explain", "impl-agent-1").out
    lines = [line.split() for line in out.splitlines() if line.startswith(("  ok", "  NO"))]
    assert [line[1] for line in lines] == RULED
    assert [line[1] for line in lines if line[0] == "NO"] == ["no_matching_task"]
    assert "orchestrator task add --title '...' --role implement" in out


def test_agents_are_judged_after_those_before_them_as_a_tick_does(
    project: Layout, cli: Cli
) -> None:
    text = Path(project.config).read_text()
    more = "  - name: impl-agent-2\n    role: implementer\n    interval_seconds: 60\n"
    Path(project.config).write_text(text + more)
    put(project, "TASK-1")
    for agent in ("impl-agent-1", "impl-agent-2"):
        actions = cli("tick", "--dry-run", "--json").json["actions"]
        (planned,) = [action for action in actions if action["agent"] == agent]
        verdict = cli("explain", agent, "--json").json["verdict"]
        if planned["action"] == "start":
            assert verdict == "takes TASK-1 at the next tick"
        else:
            assert verdict.startswith(f"does not start: {planned['reason']}")


STATES: list[tuple[str, tuple[Entry, ...], str, str]] = [
    ("claimed", (event("claimed", agent="a", run="r"),), "is claimed by a", "orchestrator logs"),
    ("blocked", (event("blocked", question="Why?"),), "waits for a person: Why?", "inbox answer"),
    ("failed", (event("failed", reason="stalled", error="stalled: x\nmore"),), "failed: stalled: x",
     "task retry TASK-1"),
    ("failed", (event("cancelled"),), "was cancelled", "task retry TASK-1"),
    ("done", (event("done", pr="3"),),
     "is done, but there is no record of pull request 3 of TASK-1", "task move TASK-1 incoming"),
    ("done", (event("done", pr="3"), event("merged", pr="3")),
     "is done; pull request 3 is merged", "pr show 3"),
    ("blocked", (event("moved"),), "was moved to blocked by hand", "task move TASK-1 incoming"),
    ("failed", (event("moved"),), "was moved to failed by hand", "task move TASK-1 incoming"),
    ("done", (), "is done, without a pull request", ""),
]  # fmt: skip


@pytest.mark.parametrize(("state", "events", "verdict", "step"), STATES)
def test_a_task_that_does_not_wait_is_explained_by_its_state(
    project: Layout, cli: Cli, state: str, events: tuple[Entry, ...], verdict: str, step: str
) -> None:
    put(project, "TASK-1", state, *events)
    found = cli("explain", "TASK-1", "--json").json
    assert found["verdict"] == verdict
    [rule] = found["rules"]
    hint = rule.pop("hint") or ""
    assert rule == {
        "code": "waiting", "ok": False, "detail": f"the task is in {state}", "until": None
    }  # fmt: skip
    assert step in hint
    assert hint in cli("explain", "TASK-1").out


def test_a_review_that_ended_meanwhile_is_not_said_to_go_on(project: Layout) -> None:
    put(project, "REVIEW-1", "done", event("done"), role="review")
    store = stores.of_project(project)
    task = store.find("REVIEW-1")._replace(reviews="TASK-1", pr="9")
    move = Move("reviewer", "review-agent reviews it (REVIEW-1)")
    found = explain.elsewhere(store, task, move, task.pr)
    assert found == ("is done; it reviewed pull request 9", "orchestrator pr show 9")


def test_a_task_whose_agents_are_all_on_a_host_that_is_not_there_cannot_start(
    project: Layout, cli: Cli
) -> None:
    put(project, "TASK-1")
    assert cli("status", "--json").json["cannot_start"] == []
    assert cli("agent", "set", "impl-agent-1", "host=build-2").code == 0
    [row] = cli("status", "--json").json["cannot_start"]
    assert (row["task"], row["reason"]) == ("TASK-1", "other_host")
    assert "orchestrator agent set impl-agent-1 host=null" in cli("status").out


def test_a_folder_in_which_nothing_can_be_written_is_told_also_where_no_tick_has_failed_yet(
    project: Layout, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(project, "TASK-1")
    assert "permissions" not in [row["code"] for row in cli("status", "--json").json["problems"]]
    closed = project.state("claimed")
    monkeypatch.setattr(os, "access", lambda path, *_: path != closed)  # root may write anywhere
    problems = {row["code"]: row for row in cli("status", "--json").json["problems"]}
    assert "shared/queue/claimed cannot be written" in problems["permissions"]["message"]
    for name in ("TASK-1", "impl-agent-1"):
        assert "shared/queue/claimed cannot be written" in cli("explain", name).out


def test_a_waiting_task_is_explained(project: Layout, cli: Cli) -> None:
    put(project, "TASK-1")
    put(project, "TASK-2", depends_on="TASK-9")
    put(project, "TASK-3", role="paint")
    later = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 200))
    put(project, "TASK-4", "incoming", event("requeued", delay=300, not_before=later))
    names = ("TASK-1", "TASK-2", "TASK-3", "TASK-4")
    verdicts = {name: cli("explain", name, "--json").json["verdict"] for name in names}
    assert verdicts["TASK-1"] == "waits: impl-agent-1 takes it at the next tick"
    assert verdicts["TASK-2"].startswith("is not claimed: blocked_by_dependency (TASK-9 (broken")
    assert verdicts["TASK-3"].startswith("is not claimed: no_matching_agent")
    assert verdicts["TASK-4"].startswith("is not claimed: backoff (TASK-4 is retried in ")
    assert "orchestrator task set TASK-2 depends_on=" in cli("explain", "TASK-2").out
    said = cli("explain", "TASK-3").out
    assert "no role takes ROLE paint" in said
    assert "roles take implement, review, test): orchestrator task set TASK-3 role=ROLE" in said
    put(project, "TASK-5", role="implemnt")
    assert "(did you mean 'implement'?)" in cli("explain", "TASK-5").out
    stuck = [row["task"] for row in cli("status", "--json").json["cannot_start"]]
    assert stuck == ["TASK-2", "TASK-3", "TASK-5"]
    put(project, "TASK-7", depends_on="TASK-9 TASK-1 TASK-8")
    assert "orchestrator task set TASK-7 depends_on=TASK-1\n" in cli("explain", "TASK-7").out
    cli("task", "cancel", "TASK-7")
    put(project, "TASK-6", depends_on="TASK-1")
    assert "orchestrator explain TASK-1" in cli("explain", "TASK-6").out
    assert len(cli("status", "--json").json["cannot_start"]) == 3, "TASK-1 can still finish"


def test_a_pause_outweighs_a_delay_in_what_a_person_is_told_to_do(
    project: Layout, cli: Cli
) -> None:
    later = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 200))
    put(project, "TASK-1", "incoming", event("requeued", delay=300, not_before=later))
    assert "no action needed: it is retried automatically" in cli("explain", "TASK-1").out
    cli("agent", "pause", "impl-agent-1")
    assert "orchestrator agent resume impl-agent-1" in cli("explain", "TASK-1").out.splitlines()[1]
    refused = cli("run", "impl-agent-1", "--json").json["error"]
    assert (refused["code"], "agent resume impl-agent-1" in refused["hint"]) == ("paused", True)


def test_the_headline_says_that_no_agent_starts(project: Layout, cli: Cli) -> None:
    ticked(project)
    names = ("impl-agent-1", "test-agent", "pm-agent")
    today = time.strftime("%Y-%m-%d")
    agent_memory.write(project, "pm-agent", agent_memory.AgentState(spend={today: 3.5}))
    text = Path(project.config).read_text()
    Path(project.config).write_text(f"budgets: {{daily_usd: 3}}\n{text}")
    assert cli("status").out.startswith("Today's budget of 3 USD (budgets.daily_usd) is used up")
    codes = {f["code"]: f["level"] for f in cli("doctor", "--json").json["findings"]}
    assert codes["budget_exhausted"] == "warn"
    cli("agent", "pause", *names)
    resume = f"`orchestrator agent resume {' '.join(names)}`"
    assert cli("status").out.startswith(f"Every agent is paused; to resume them: {resume}.")
    codes = {f["code"]: f["level"] for f in cli("doctor", "--json").json["findings"]}
    assert codes["paused"] == "warn"


def test_a_pace_that_holds_runs_is_in_the_headline_and_explained_with_its_end(
    project: Layout, cli: Cli
) -> None:
    ticked(project)
    text = Path(project.config).read_text()
    Path(project.config).write_text(f"pace: {{five_hour: 0.5}}\n{text}")
    usage.keep(project, {"five_hour": UsageWindow(0.9, time.time() + 3600)}, time.time())
    assert cli("status").out.startswith("`pace` in agents.yaml holds new runs; until when: ")
    verdict = cli("explain", "impl-agent-1").out.splitlines()[0]
    assert re.search(r"pace \(five_hour: 90%.*; until 20\d\d-\d\d-\d\dT\d\d:\d\d[+-]", verdict)


def test_a_task_whose_agent_is_held_says_which_and_how_to_go_on(project: Layout, cli: Cli) -> None:
    put(project, "TASK-1")
    agent_memory.write(project, "impl-agent-1", agent_memory.AgentState(last_started=time.time()))
    done = cli("explain", "TASK-1")
    assert "is not claimed: not_due (impl-agent-1 is due in" in done.out
    assert "start it now: orchestrator run impl-agent-1" in done.out


@pytest.mark.parametrize("subject", ["bad file", "bad file.md", "path"])
def test_a_file_that_is_no_task_is_explained_by_name_and_by_path(
    project: Layout, cli: Cli, subject: str
) -> None:
    path = Path(project.state("incoming"), "bad file.md")
    path.write_text("# A title, and no role\n")
    found = cli("explain", str(path) if subject == "path" else subject, "--json").json
    assert found["verdict"] == "is not a task: it has no ROLE in its header"
    assert found["rules"][0]["code"] == "task_malformed"
    assert "write `ROLE: implement` under the title" in found["rules"][0]["hint"]


def test_a_task_dropped_by_hand_is_explained_by_its_files_name(project: Layout, cli: Cli) -> None:
    path = Path(project.state("incoming"), "fix login bug.md")
    path.write_text("# Fix it\n\nROLE: implement\n")
    for subject in ("fix login bug.md", "fix-login-bug", str(path)):
        assert cli("explain", subject, "--json").json["subject"] == "fix-login-bug"


def test_an_unknown_subject_is_refused_with_a_near_miss(project: Layout, cli: Cli) -> None:
    done = cli("explain", "impl-agent-11")
    assert done.code == 1
    assert "did you mean 'impl-agent-1'?" in done.err


def test_a_scheduler_that_nobody_drives_is_named_in_every_explanation(
    project: Layout, cli: Cli
) -> None:
    set_up_long_ago(project.root)
    assert "The scheduler does not run: no tick has run yet" in cli("explain", "pm-agent").out


# --- read commands change nothing --------------------------------------------------------------


def fresh(layout: Layout) -> None:
    pass


def broken_config(layout: Layout) -> None:
    Path(layout.config).write_text("agents: [}\n")


def run_at_work(layout: Layout) -> None:
    running(layout)
    Path(layout.run("impl-agent-1", RUN), "stream.jsonl").write_text('{"type": "result"}\n')


def malformed(layout: Layout) -> None:
    for state in ("incoming", "claimed", "blocked", "done", "failed"):
        Path(layout.state(state), "bad.md").write_bytes(b"\0\xff")
    Path(layout.state("incoming"), ".left.md.1.tmp").write_text("x")


def links(layout: Layout) -> None:
    Path(layout.state("incoming"), "link.md").symlink_to(layout.config)
    Path(layout.state("done"), "loop.md").symlink_to("loop.md")
    os.mkfifo(Path(layout.state("incoming"), "pipe.md"))
    Path(layout.agents, "stray").symlink_to(layout.root)


def damaged(layout: Layout) -> None:
    Path(layout.agent("impl-agent-1")).mkdir()
    Path(layout.agent_state("impl-agent-1")).write_text("{")
    Path(layout.hold).write_text("[]")
    Path(layout.prs, "1.json").write_text("{}")


def without_folders(layout: Layout) -> None:
    for state in ("incoming", "claimed", "blocked", "done", "failed"):
        os.rmdir(layout.state(state))


PROJECT_STATES = [
    fresh, broken_config, run_at_work, malformed, links, damaged, without_folders,
]  # fmt: skip
READ_COMMANDS = [
    ("status",),
    ("doctor",),
    ("explain", "impl-agent-1"),
    ("explain", "TASK-7"),
    ("logs", "impl-agent-1"),
    ("logs", "TASK-7", "--raw"),
    ("task", "list"),
    ("task", "show", "TASK-7"),
    ("agent", "list"),
    ("agent", "show", "impl-agent-1"),
    ("limits",),
    ("inbox",),
    ("pr", "list"),
    ("clean", "--dry-run"),
    ("tick", "--dry-run"),
    ("runs",),
    ("costs",),
    ("report",),
    ("metrics",),
]


def seal(root: str) -> dict[str, tuple[object, ...]]:
    """Return every name below a folder, `.git` too, with its mode, times, size and contents."""
    found: dict[str, tuple[object, ...]] = {}
    for where, folders, names in os.walk(root):
        for path in (where, *(os.path.join(where, name) for name in (*folders, *names))):
            state = os.lstat(path)
            content = ""
            if os.path.isfile(path) and not os.path.islink(path):
                content = hashlib.sha256(Path(path).read_bytes()).hexdigest()
            found[path] = (state.st_mode, state.st_mtime_ns, state.st_size, state.st_ino, content)
    return found


@pytest.mark.parametrize("make", PROJECT_STATES)
def test_failure_13_read_commands_change_nothing_on_disk(
    project: Layout, cli: Cli, make: Callable[[Layout], None], scratch_home: Path
) -> None:
    put(project, "TASK-7", "blocked", event("blocked", question="?"))
    open_pull_requests(project, 1)
    if make is without_folders:
        os.unlink(os.path.join(project.state("blocked"), "TASK-7.md"))
    make(project)
    before, home = seal(project.root), seal(str(scratch_home))
    for words in READ_COMMANDS:
        for options in ((), ("--json",)):
            done = cli(*words, *options)
            assert done.code in (0, 1), (words, done)
            assert seal(project.root) == before, words
    assert seal(str(scratch_home)) == home


@pytest.mark.parametrize("make", PROJECT_STATES)
def test_reports_never_fail_whatever_the_project_looks_like(
    project: Layout, cli: Cli, make: Callable[[Layout], None]
) -> None:
    make(project)
    for words in (("status",), ("doctor",), ("explain", "impl-agent-1")):
        done = cli(*words, "--json")
        known = make is not broken_config or words[0] != "explain"
        assert done.code == (0 if known else 1), done
        assert cli(*words).code == done.code


def test_reading_a_clone_that_nobody_set_up_makes_no_folder(repo: Path, cli: Cli) -> None:
    before = seal(str(repo))
    for words in (("status",), ("doctor",), ("logs", "x"), ("explain", "x"), ("tick", "--dry-run")):
        cli(*words)
        cli(*words, "--json")
    assert seal(str(repo)) == before


@pytest.mark.parametrize("where", ["closed", "/dev/full", "a pipe that nobody reads"])
def test_an_output_that_takes_nothing_ends_a_command_without_a_bug(
    project: Layout, where: str
) -> None:
    words = shlex.join((*process.own_program(), "--project", project.root, "status"))
    text = {"closed": f"{words} >&-", "/dev/full": f"{words} >/dev/full"}.get(
        where, f"{words} | head -c 0; exit ${{PIPESTATUS[0]}}"
    )
    done = subprocess.run(("bash", "-c", text), capture_output=True, text=True, timeout=60)
    assert done.returncode == (1 if where == "/dev/full" else 0), done.stderr
    assert "Exception" not in done.stderr
    assert "bug" not in done.stderr


def test_a_fault_says_since_when_it_holds_and_which_run_tests_it_next(
    project: Layout, cli: Cli
) -> None:
    ticked(project)
    for name in ("TASK-1", "TASK-2"):
        put(project, name, "incoming")
    hold = Hold("system_fault", "remote_unreachable: no route", None, time.time() - 720)
    met = hold.met_by("pm-agent", None).met_by("test-agent", "TASK-1")
    files.write_json(project.hold, met._asdict())
    fault = cli("status", "--json").json["fault"]
    assert 720 <= fault["age_seconds"] < 800
    test = {"run": None, "agent": "impl-agent-1", "task": "TASK-2", "at": None}
    assert fault["test"] == test
    assert "fault for 12 min" in (said := cli("status").out)
    assert "impl-agent-1 with TASK-2 tests it next, at the next tick" in said
    running(project, "impl-agent-1", "TASK-3")
    fault = cli("status", "--json").json["fault"]
    assert fault["test"] == {**test, "run": RUN, "task": "TASK-3"}
    assert f"run {RUN} of impl-agent-1 with TASK-3 tests it now" in cli("status").out
