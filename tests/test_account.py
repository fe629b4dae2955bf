"""`runs`, `costs`, `report`, `audit` and `metrics`: what happened, and what it cost, once each."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import time
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import harness
import pytest
from harness import World

from orchestrator import idle
from orchestrator.account import costs, ledger, narrative, ticks
from orchestrator.account.facts import Facts
from orchestrator.account.totals import Totals
from orchestrator.cli import metrics, period
from orchestrator.client.claude import tokens
from orchestrator.layout import Layout
from orchestrator.model.errors import UsageError
from orchestrator.model.snapshot import ModelUse

world = harness.world
DAY = 86_400.0


def end(run: str, at: str = "2026-01-02T12:00:00Z", **fields: Any) -> dict[str, object]:
    told = {"event": "finish", "agent": "impl-1", "task": "T-1", "role": "implementer"}
    return {"at": at, **told, "run": run, "verdict": "done", "seconds": 60.0, **fields}


def collected(*told: dict[str, object], since: float = 0.0) -> list[ledger.EndedRun]:
    return ledger.collect(told, since)


def keys(rows: Iterable[dict[str, Any]]) -> dict[str, tuple[int, float]]:
    return {row["key"]: (row["runs"], row["cost_usd"]) for row in rows}


def test_a_run_whose_end_was_written_twice_counts_once() -> None:
    found = collected(end("R1", cost_usd=1.0), end("R2", cost_usd=2.0), end("R1", cost_usd=1.5))
    assert costs.total(found)["cost_usd"] == 3.5
    assert [run.told.run for run in found] == ["R1", "R2"]


def test_only_ends_of_runs_count_and_damaged_lines_are_left_out() -> None:
    told = (
        {"at": "2026-01-01T00:00:00Z", "event": "start", "run": "R1", "agent": "a"},
        {"at": "2026-01-01T00:00:00Z", "event": "fail", "task": "T", "reason": "no agent"},
        end("R1", at="no time"),
        end("R2", cost_usd=float("nan"), input_tokens="many"),
        end("R3", models={"m": {"cost_usd": "x"}, "n": 3}),
    )
    found = collected(*told)
    assert [run.told.run for run in found] == ["R2", "R3"]
    assert (found[0].told.cost_usd, found[0].told.input_tokens) == (None, None)
    assert costs.total(found)["unknown"] == 2


def test_tokens_that_no_run_reports_are_not_known() -> None:
    found = collected(end("R1", cost_usd=1.0), end("R2", task="T-2", input_tokens=7))
    rows = {row["key"]: row for row in costs.rows(found, "task", NOW)}
    assert (rows["T-1"]["input_tokens"], rows["T-1"]["output_tokens"]) == (None, None)
    assert (rows["T-2"]["input_tokens"], rows["T-2"]["output_tokens"]) == (7, None)
    assert costs.total(found)["input_tokens"] == 7


def test_a_run_of_an_older_version_has_its_start_from_its_seconds() -> None:
    [run] = collected({"at": "2026-01-02T12:01:00Z", "event": "requeue", "run": "R", "agent": "a",
                       "seconds": 60, "cost_usd": 0.5})  # fmt: skip
    assert run.row()["started"] == "2026-01-02T12:00:00Z"
    assert costs.rows([run], "role", NOW)[0]["key"] == costs.UNKNOWN


def test_each_key_adds_up_to_the_same_total() -> None:
    found = collected(
        end("R1", cost_usd=1.0, model="big"),
        end("R2", cost_usd=2.0, agent="test-1", role="tester", model="small"),
        end("R3", cost_usd=4.0, task=None, at="2026-01-05T12:00:00Z", models={
            "big": {"cost_usd": 3.0, "input_tokens": 5, "output_tokens": 1},
            "small": {"cost_usd": 1.0, "input_tokens": 2, "output_tokens": 1},
        }),
    )  # fmt: skip
    for by in costs.KEYS:
        assert sum(row["cost_usd"] for row in costs.rows(found, by, NOW)) == 7.0
    assert keys(costs.rows(found, "model", NOW)) == {"big": (2, 4.0), "small": (2, 3.0)}
    assert keys(costs.rows(found, "task", NOW)) == {"T-1": (2, 3.0), "-": (1, 4.0)}
    assert keys(costs.rows(found, "role", NOW)) == {"implementer": (2, 5.0), "tester": (1, 2.0)}


def test_a_day_is_a_local_day(monkeypatch: pytest.MonkeyPatch) -> None:
    found = collected(end("R1", at="2026-01-02T23:30:00Z", cost_usd=1.0))
    for zone, day in (("UTC", "2026-01-02"), ("Asia/Tokyo", "2026-01-03")):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        assert [row["key"] for row in costs.rows(found, "day", NOW)] == [day]
    monkeypatch.undo()
    time.tzset()


def test_a_day_ahead_of_the_clock_counts_as_today_and_no_amount_is_lost() -> None:
    """The clock jumped forward for some runs, and back: `costs` listed days in the future."""
    found = collected(
        end("R1", at="2026-01-02T12:00:00Z", cost_usd=1.0),
        end("R2", at="2026-02-11T12:00:00Z", cost_usd=2.0),
        end("R3", at="2026-01-03T11:00:00Z", cost_usd=4.0),
    )
    now = datetime.fromisoformat("2026-01-03T12:00:00Z").timestamp()
    days = {row["key"]: row["cost_usd"] for row in costs.rows(found, "day", now)}
    assert days == {"2026-01-02": 1.0, "2026-01-03": 6.0}
    assert costs.total(found)["cost_usd"] == 7.0


def test_a_forecast_is_the_median_of_finished_tasks_of_the_role_with_its_quartiles() -> None:
    told = [end(f"R{n}", task=f"T-{n}", cost_usd=float(n)) for n in (1, 2, 9)]
    before = {"task": "T-1", "cost_usd": 2.0, "event": "requeue", "verdict": "interrupted"}
    told.insert(0, end("before", at="2026-01-01T12:00:00Z", **before))
    found = collected(*told)
    guess = costs.forecast(Totals(found).finished, ["implementer", "implementer", "tester"])
    assert guess[:5] == (2, 3, 6.0, 5.0, 12.0)
    assert guess.roles == [
        {"role": "implementer", "waiting": 2, "finished": 3, "median_usd": 3.0},
        {"role": "tester", "waiting": 1, "finished": 0, "median_usd": None},
    ]


@pytest.mark.parametrize(
    "last",
    [
        {"cost_usd": 1.0, "event": "requeue"},  # it is tried again
        {"cost_usd": 1.0, "event": "block"},  # a person answers, and it goes on
        {"cost_usd": 1.0, "verdict": "stopped"},  # a person cancelled it meanwhile
        {"cost_usd": None},  # killed: the cost is not known
        {"cost_usd": 1.0, "role": None},
        {"cost_usd": 1.0, "role": "tester"},
    ],
)
def test_a_forecast_needs_three_finished_tasks_of_known_cost(last: dict[str, Any]) -> None:
    told = [end(f"R{n}", task=f"T-{n}", cost_usd=float(n)) for n in (1, 2)]
    finished = Totals(collected(*told, end("R3", task="T-3", **last))).finished
    assert costs.forecast(finished, ["implementer"])[:5] == (0, 1, None, None, None)
    assert costs.forecast(finished, [])[:3] == (0, 0, None)


def test_the_costliest_run_and_task_are_named() -> None:
    told = (end("R1", cost_usd=1.0), end("R2", cost_usd=1.5), end("R3", task="T-2", cost_usd=2.0))
    found = collected(*told, end("R4", task=None, cost_usd=9.0))
    assert costs.costliest(found) == {"run": "R4", "cost_usd": 9.0}
    assert Totals(found).costliest_task() == {"task": "T-1", "cost_usd": 2.5}
    assert costs.costliest([]) is None
    unknown = collected(end("R1", cost_usd=0.0), end("R2"))
    assert costs.costliest(unknown) is None
    assert Totals(unknown).costliest_task() is None


def test_the_cost_by_model_is_of_the_run_alone() -> None:
    use = {"m": {"inputTokens": 3, "cacheReadInputTokens": 2, "outputTokens": 1, "costUSD": 0.5}}
    once = tokens.by_model(use, {})
    assert once == {"m": ModelUse(0.5, 5, 1)}
    assert tokens.by_model(use, once) == {"m": ModelUse(1.0, 10, 2)}
    assert tokens.by_model({"m": "x", "n": {"costUSD": -1}}, {}) == {
        "m": ModelUse(), "n": ModelUse(),
    }  # fmt: skip


NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("text", "ago"), [("2h", 7200.0), ("3d", 3 * DAY), ("1 w", 7 * DAY), ("30m", 1800.0)]
)
def test_a_period_may_be_a_length(text: str, ago: float) -> None:
    assert period.start(text, NOW) == NOW - ago


def test_a_period_may_be_a_day_or_a_time() -> None:
    midnight = datetime.fromtimestamp(NOW).astimezone().replace(tzinfo=None)
    midnight = midnight.replace(hour=0, minute=0, second=0, microsecond=0)
    assert period.start("today", NOW) == midnight.timestamp()
    assert period.start("Yesterday", NOW) == (midnight - timedelta(days=1)).timestamp()
    assert period.start("2026-11-01T10:00:00Z", NOW) == 1793527200.0
    assert period.start("2026-11-01", NOW) == datetime(2026, 11, 1).timestamp()  # noqa: DTZ001
    assert period.start("999999w", NOW) == 0.0
    for text in ("", "soon", "2026-13-01", "-3d", "0001-01-01"):
        with pytest.raises(UsageError, match="not a time"):
            period.start(text, NOW)


def test_runs_and_costs_show_what_a_run_cost(world: World) -> None:
    world.create()
    task = world.add("Any work")
    world.tick_until_in("done", task)
    world.quiet()  # the event follows the move of the task
    [run] = world.json("runs")
    assert (run["task"], run["outcome"], run["cost_usd"]) == (task, "done", 0.25)
    assert run["seconds"] is not None
    found = world.json("costs", "--by", "agent")
    assert found["total"]["cost_usd"] == 0.25
    assert found["budgets"]["spent_today_usd"] == 0.25
    for by in costs.KEYS:
        assert [row["cost_usd"] for row in world.json("costs", "--by", by)["rows"]] == [0.25], by
    plain = world.ok("costs").out
    assert "spent today: 0.25" in plain
    assert f"costliest task: {task} cost 0.25 USD; " in plain
    assert "forecast: no task waits" in plain
    world.add("More work")
    said = (
        "forecast: not known for 1 waiting task (it takes 3 finished tasks of a role; implementer: "
    )
    assert said in world.ok("costs").out
    rows = list(csv.reader(io.StringIO(world.ok("costs", "--by", "task", "--csv").out)))
    assert rows[0][0] == "task"
    assert rows[1][:2] == [task, "1"]
    assert "impl-1" in world.refused("runs", "--agent", "impl-2").err
    assert "did you mean 'TASK-" in world.refused("runs", "--task", task[:-1]).err
    assert world.json("runs", "--task", task, "--since", "2099-01-01") == []
    assert "no run has ended" in world.ok("runs", "--since", "2099-01-01").out
    assert world.refused("runs", "--outcome", "dne", code=2).err.count("did you mean 'done'")


# --- whether the scheduler ran -------------------------------------------------------------------

START = 1_800_000_000 // 60 * 60


def minutes(*numbers: int, tick: bytes = idle.WHOLE) -> dict[int, bytes]:
    return {START + 60 * number: tick for number in numbers}


def judged(noted: dict[int, bytes], length: int, booted: float = 0.0) -> ticks.Ticks:
    return ticks.judge(noted, START, START + 60 * length + 30, scheduled=True, booted=booted)


def test_each_minute_has_a_tick_or_is_missed() -> None:
    assert judged(minutes(*range(10)), 10)[:4] == (10, 10, 0, 0)
    found = judged(minutes(0, 1, 2, 6, 9), 10)
    assert found[:4] == (10, 5, 0, 5)
    assert [(gap.start - START, gap.end - START) for gap in found.gaps] == [(180, 360), (420, 540)]
    # The schedule died: the minutes until now are missed, but for the one that is not over.
    assert judged(minutes(0, 1), 60).missed == 58
    assert judged(minutes(0) | minutes(1, tick=idle.HELD), 2)[:4] == (2, 1, 1, 0)


def test_a_gap_in_which_the_machine_was_started_says_so() -> None:
    found = judged(minutes(0, 30), 31, booted=START + 29 * 60 + 5)
    assert [gap.why for gap in found.gaps] == ["the machine was off"]
    assert "slept" in judged(minutes(0, 30), 31, booted=START - 1).gaps[0].why


@pytest.mark.parametrize(
    ("ran", "expected", "missed", "gaps"),
    [
        # The machine was asleep when the period began, or all the time.
        ((-700, 100, 101), 179, 177, [(1, 100), (102, 180)]),
        ((-700,), 179, 179, [(1, 180)]),
        # It was awake; or its first tick ever is in the period; or it never had one.
        ((-1, 0, *range(1, 180)), 180, 0, []),
        (range(100, 180), 80, 0, []),
        ((), 0, 0, []),
    ],
)
def test_a_period_that_begins_in_a_gap_misses_its_ticks(
    tmp_path: Path, ran: Iterable[int], expected: int, missed: int, gaps: list[tuple[int, int]]
) -> None:
    layout = Layout(str(tmp_path))
    os.makedirs(layout.ticks)
    for number in ran:
        idle.note_tick(layout.ticks, START + 60 * number, idle.WHOLE)
    os.makedirs(tmp_path / ".git")
    (tmp_path / ".git" / "orchestrator.json").write_text('{"schedule": {}}')
    os.utime(tmp_path / ".git" / "orchestrator.json", (START - 90_000,) * 2)
    found = ticks.look(layout, START, START + 180 * 60)
    assert (found.expected, found.missed) == (expected, missed)
    assert [((g.start - START) // 60, (g.end - START) // 60) for g in found.gaps] == gaps


def test_no_tick_is_expected_before_the_schedule_was_installed(tmp_path: Path) -> None:
    layout = Layout(str(tmp_path))
    os.makedirs(layout.ticks)
    idle.note_tick(layout.ticks, START - 60 * 999, idle.WHOLE)  # by hand
    os.makedirs(tmp_path / ".git")
    (tmp_path / ".git" / "orchestrator.json").write_text('{"schedule": {}}')
    os.utime(tmp_path / ".git" / "orchestrator.json", (START + 60 * 170,) * 2)
    found = ticks.look(layout, START, START + 180 * 60)
    assert (found.expected, found.missed, found.begins) == (9, 9, START + 60 * 171)


def test_without_a_schedule_no_tick_is_expected() -> None:
    found = ticks.judge(minutes(0, 5), START, START + 600, scheduled=False, booted=0.0)
    assert (found.expected, found.missed, found.executed) == (None, None, 2)
    assert judged({}, 10)[:4] == (0, 0, 0, 0)


def test_the_diary_is_read_back_over_midnight_and_hides_no_fault(tmp_path: Path) -> None:
    layout = Layout(str(tmp_path))
    midnight = START // 86_400 * 86_400
    idle.note_tick(layout.ticks, midnight - 30, idle.IDLE)  # without a folder, nothing is noted
    os.makedirs(layout.ticks)
    for at in (midnight - 30, midnight + 59.9, midnight + 60, midnight + 60.5):
        idle.note_tick(layout.ticks, at, idle.IDLE)
    (tmp_path / ".orchestrator" / "ticks" / "2026-01-01").mkdir()
    noted = ticks.read(layout, midnight - 86_400, midnight + 300)
    assert noted == dict.fromkeys((midnight - 60, midnight, midnight + 60), idle.IDLE)
    assert max(len(f.read_bytes()) for f in Path(layout.ticks).iterdir() if f.is_file()) <= 1440


def test_a_tick_that_was_held_up_hides_no_tick_of_the_same_minute(tmp_path: Path) -> None:
    layout = Layout(str(tmp_path))
    os.makedirs(layout.ticks)
    for minute, noted in enumerate(
        ((idle.WHOLE, idle.HELD), (idle.HELD, idle.WHOLE), (idle.HELD, idle.IDLE), (idle.HELD,))
    ):
        for tick in noted:
            idle.note_tick(layout.ticks, START + 60 * minute, tick)
    noted_there = ticks.read(layout, START - 60, START + 300)
    expected = (idle.WHOLE, idle.WHOLE, idle.IDLE, idle.HELD)
    assert [noted_there[minute] for minute in sorted(noted_there)] == [*expected]


# --- the account of a period ---------------------------------------------------------------------


def test_a_task_that_was_delivered_again_is_told_once_and_a_retried_one_has_not_failed() -> None:
    told = [
        end("R1", pr="3", head="a" * 40, base="b" * 40, checks=["make"]),
        end("R2", pr="3", head="c" * 40, base="b" * 40, checks=["make", "lint"]),
        end("R3", task="T-2", event="fail", verdict="failed", reason="no_commits"),
        end("R4", task="T-3", event="fail", verdict="failed", reason="stalled"),
        {"at": "2026-01-02T13:00:00Z", "event": "retried", "task": "T-2"},
        {"at": "2026-01-02T13:00:00Z", "event": "followed", "task": "T-1", "state": "done",
         "reason": "merged"},
        {"at": "2026-01-02T13:00:00Z", "event": "merged", "task": "T-9", "pr": "9"},
        {"at": "2026-01-02T13:01:00Z", "event": "not_merged", "task": "T-9", "pr": "9"},
        {"at": "2025-01-02T13:00:00Z", "event": "merged", "task": "T-0", "pr": "1"},
    ]  # fmt: skip
    since = 1_760_000_000.0
    found = narrative.ends(collected(*told), told, since, {"T-1": "3"})
    assert [(row["task"], row["head"][0], row["checks"]) for row in found.delivered] == [
        ("T-1", "c", ["make", "lint"])
    ]
    assert found.merged == [{"task": "T-1", "pr": "3"}]
    assert found.failed == [{"task": "T-3", "reason": "stalled"}]


@pytest.mark.parametrize(
    ("then", "has_failed"),
    [
        ([], True),
        ([("moved", {"state": "incoming"})], False),
        ([("moved", {"state": "done"})], False),
        ([("followed", {"state": "incoming", "reason": "changes"})], False),
        ([("moved", {"state": "failed"}), ("finish", {"run": "R2", "verdict": "stopped"})], True),
    ],
)
def test_report_and_history_agree_about_a_task_that_failed(
    then: list[tuple[str, dict[str, Any]]], has_failed: bool
) -> None:
    told = [end("R1", event="fail", verdict="failed", reason="stalled")]
    more = {"at": "2026-01-02T13:00:00Z", "task": "T-1", "agent": "impl-1"}
    told += [{**more, "event": word, **fields} for word, fields in then]
    assert bool(narrative.ends(collected(*told), told, 1.0, {}).failed) is has_failed
    assert bool(Facts(told).times("failed", 1.0)) is has_failed


@pytest.mark.parametrize(
    ("told", "title", "commits"),
    [
        ({}, None, None),
        ({"title": "A b", "commits": []}, "A b", []),
        ({"commits": [{"commit": "c", "subject": "s"}] * 2}, None, [("c", "s")] * 2),
        ({"title": 3, "commits": [{"commit": "c"}]}, None, None),
        ({"commits": [{"commit": "c", "subject": None}]}, None, None),
        ({"commits": ["c"]}, None, None),
        ({"commits": 3}, None, None),
    ],
)
def test_a_delivery_has_the_title_and_the_commits_that_its_event_lists(
    told: dict[str, object], title: str | None, commits: object
) -> None:
    events = [end("R1", pr="3", head="a" * 40, base="b" * 40, **told)]
    [found] = narrative.ends(collected(*events), events, 1_760_000_000.0, {}).delivered
    assert (found["title"], found["commits"]) == (title, commits)


def test_metrics_are_prometheus_text() -> None:
    family = metrics.Family("tasks", "gauge", "Tasks.", [({"state": 'a"b\\c\nd'}, 2), ({}, 0.5)])
    empty = metrics.Family("open", "gauge", "Open.", [])
    assert list(metrics.exposition([family, empty])) == [
        "# HELP orchestrator_tasks Tasks.",
        "# TYPE orchestrator_tasks gauge",
        'orchestrator_tasks{state="a\\"b\\\\c\\nd"} 2',
        "orchestrator_tasks 0.5",
    ]


def test_report_and_metrics_tell_what_the_whole_did(world: World) -> None:
    world.create(checks=["true"])
    task = world.add("Any <b>work</b>")
    world.tick_until_in("done", task)
    world.quiet()  # the event follows the move of the task
    found = world.json("report")
    [delivered] = found["delivered"]
    assert (delivered["task"], delivered["checks"]) == (task, ["true"])
    assert [each["subject"] for each in delivered["commits"]] == [f"work on {task}"]
    assert found["cost_usd"] == 0.25
    assert found["ticks"]["expected"] is None
    assert found["ticks"]["executed"] >= 1
    [waiting] = found["waiting"]
    assert waiting["kind"] == "approval"
    text = world.ok("report").out
    assert f"- {task}, pull request {delivered['pr']}: `Any <b>work</b>`" in text
    assert f"orchestrator inbox approve {waiting['id']}" in text
    # The event lists what git says.
    log = (world.home_folder / "events.jsonl").read_text()
    [event] = [each for each in map(json.loads, log.splitlines()) if each["event"] == "finish"]
    assert (event["title"], event["commits"]) == ("Any <b>work</b>", delivered["commits"])
    base, head = event["base"], event["head"]
    said = world.git("log", "--format=%H %s", f"{base}..{head}").splitlines()
    assert [" ".join(each.values()) for each in event["commits"]] == said
    world.ok("pr", "merge", delivered["pr"])
    world.ok("tick")
    assert world.json("report")["merged"] == [{"task": task, "pr": delivered["pr"]}]
    (world.home_folder / "events.jsonl").unlink()  # as two rotations do: a counter does not fall
    lines = world.ok("metrics").out.splitlines()
    assert 'orchestrator_tasks{state="done"} 1' in lines
    assert 'orchestrator_runs_total{agent="impl-1",outcome="done"} 1' in lines
    assert 'orchestrator_cost_usd_total{agent="impl-1"} 0.25' in lines
    assert world.json("report", "--since", "2099-01-01")["delivered"] == []


def test_audit_finds_what_is_on_no_branch_in_any_worktree(world: World) -> None:
    world.create()
    world.git("add", "--all")
    world.git("commit", "-q", "-m", "set up")
    assert "everything is on a branch" in world.ok("audit").out
    landing = world.home_folder / "cache" / "landing"
    world.git("worktree", "add", "-q", "--detach", str(landing))
    (landing / "left-by-checks.txt").write_text("no work")
    foreign = world.root / ".claude" / "worktrees" / "a b"
    world.git("worktree", "add", "-q", "--detach", str(foreign))
    (foreign / "app.py").write_text("changed")
    (foreign / "new.txt").write_text("new")
    left = world.git("commit-tree", "-m", "left", "-p", "HEAD", "HEAD^{tree}")
    world.git("update-ref", "refs/orchestrator/rescue/R1", left)
    world.git("checkout", "-q", "--detach", cwd=foreign)
    world.git("commit", "-q", "--allow-empty", "-m", "stray", cwd=foreign)
    stray = world.sha("HEAD", cwd=foreign)
    world.git("checkout", "-q", "--detach", "main", cwd=foreign)
    before = harness.fingerprint(world.root)
    listed = world.json("audit")
    found = {finding["kind"]: finding for finding in listed}
    assert str(landing) not in {finding["worktree"] for finding in listed}
    assert harness.fingerprint(world.root) == before
    assert set(found) == {"uncommitted", "stray_commit", "rescue"}
    assert sorted(found["uncommitted"]["files"]) == ["app.py", "new.txt"]
    assert found["uncommitted"]["worktree"] == str(foreign)
    assert not found["uncommitted"]["ours"]
    assert found["stray_commit"]["commit"] == stray
    # Each command gets back what it says.
    for finding in found.values():
        subprocess.run(["sh", "-c", finding["command"]], env=world.environment, check=True)
    assert world.sha(f"found-{stray[:12]}") == stray
    assert world.sha("rescued-R1") == left
    assert "new.txt" in world.git("stash", "show", "--include-untracked", "--name-only")
    assert (foreign / "new.txt").read_text() == "new"


def test_audit_shows_the_changes_of_your_own_checkout_also_files_that_git_does_not_track(
    world: World,
) -> None:
    world.create()
    world.git("add", "--all")
    world.git("commit", "-q", "-m", "set up")
    (world.root / "app.py").write_text("edited")
    (world.root / "new.txt").write_text("new")
    [found] = world.json("audit")
    before = harness.fingerprint(world.root)
    shown = subprocess.run(
        ["sh", "-c", found["command"]], env=world.environment, check=True, capture_output=True
    ).stdout.decode()
    assert "+edited" in shown
    assert "new.txt" in shown
    assert harness.fingerprint(world.root) == before
