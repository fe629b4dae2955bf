"""`runs` and `costs`: what has ended, and what it cost, each run once."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import harness
import pytest
from harness import World

from orchestrator.account import costs, ledger
from orchestrator.cli import period
from orchestrator.client.claude import tokens
from orchestrator.errors import UsageError
from orchestrator.model import ModelUse

world = harness.world
DAY = 86_400.0


def end(run: str, at: str = "2026-01-02T12:00:00Z", **fields: Any) -> dict[str, object]:
    told = {"event": "finish", "agent": "impl-1", "task": "T-1", "role": "implementer"}
    return {"at": at, **told, "run": run, "verdict": "done", "seconds": 60.0, **fields}


def collected(*told: dict[str, object], since: float = 0.0) -> list[ledger.EndedRun]:
    return ledger.collect(told, since).runs


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


def test_a_run_of_an_older_version_has_its_start_from_its_seconds() -> None:
    [run] = collected({"at": "2026-01-02T12:01:00Z", "event": "requeue", "run": "R", "agent": "a",
                       "seconds": 60, "cost_usd": 0.5})  # fmt: skip
    assert run.row()["started"] == "2026-01-02T12:00:00Z"
    assert costs.rows([run], "role")[0]["key"] == costs.UNKNOWN


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
        assert sum(row["cost_usd"] for row in costs.rows(found, by)) == 7.0
    assert keys(costs.rows(found, "model")) == {"big": (2, 4.0), "small": (2, 3.0)}
    assert keys(costs.rows(found, "task")) == {"T-1": (2, 3.0), "-": (1, 4.0)}
    assert keys(costs.rows(found, "role")) == {"implementer": (2, 5.0), "tester": (1, 2.0)}


def test_a_day_is_a_local_day(monkeypatch: pytest.MonkeyPatch) -> None:
    found = collected(end("R1", at="2026-01-02T23:30:00Z", cost_usd=1.0))
    for zone, day in (("UTC", "2026-01-02"), ("Asia/Tokyo", "2026-01-03")):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        assert [row["key"] for row in costs.rows(found, "day")] == [day]
    monkeypatch.undo()
    time.tzset()


def test_a_forecast_is_the_median_of_finished_tasks_of_the_role() -> None:
    told = [end(f"R{n}", task=f"T-{n}", cost_usd=float(n)) for n in (1, 2, 9)]
    told.append(end("again", task="T-1", cost_usd=2.0, verdict="interrupted"))
    found = collected(*told)
    assert costs.forecast(found, ["implementer", "implementer", "tester"]) == (2, 3, 6.0)
    assert costs.forecast(found[:2], ["implementer"]).cost_usd is None


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
        with pytest.raises(UsageError, match="no time"):
            period.start(text, NOW)


def test_runs_and_costs_show_what_a_run_cost(world: World) -> None:
    world.create()
    task = world.add("Any work")
    world.tick_until_in("done", task)
    [run] = world.json("runs")
    assert (run["task"], run["outcome"], run["cost_usd"]) == (task, "done", 0.25)
    assert run["seconds"] is not None
    found = world.json("costs", "--by", "agent")
    assert found["total"]["cost_usd"] == 0.25
    assert found["budgets"]["spent_today_usd"] == 0.25
    rows = list(csv.reader(io.StringIO(world.ok("costs", "--by", "task", "--csv").out)))
    assert rows[0][0] == "task"
    assert rows[1][:2] == [task, "1"]
    assert world.json("runs", "--agent", "nobody") == []
    assert "no run has ended" in world.ok("runs", "--since", "2099-01-01").out
    assert world.refused("runs", "--outcome", "dne", code=2).err.count("did you mean 'done'")
