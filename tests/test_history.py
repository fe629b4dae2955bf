"""The history: from events to days and lanes, and their pictures, without a browser."""

from __future__ import annotations

import json
import re
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import Done
from test_cli_tasks import add
from test_page import HOSTILE, opened

from orchestrator.account import history, ledger
from orchestrator.account.facts import Facts
from orchestrator.layout import Layout
from orchestrator.model.times import iso
from orchestrator.page import history as region
from orchestrator.page import lanes, plots
from orchestrator.page.plots import Series

Cli = Callable[..., Done]
HOUR = 3600
#: Noon of a local day, whatever the zone of the machine.
NOON = time.mktime((2026, 3, 10, 12, 0, 0, 0, 0, -1))


def told(at: float, event: str, **fields: Any) -> dict[str, object]:
    return {"at": iso(at), "event": event, **fields}


def ended(at: float, run: str, verdict: str = "done", **fields: Any) -> dict[str, object]:
    word = {"failed": "requeue", "needs_human": "block"}.get(verdict, "finish")
    more = {"agent": "impl-1", "task": "T-1", "started": iso(at - 600), "cost_usd": 0.5, **fields}
    return told(at, word, run=run, verdict=verdict, **more)


class Collected(NamedTuple):
    """The history of a period: a row per day, and the runs by agent."""

    days: list[history.Row]
    spans: dict[str, list[history.Span]]


def of_day(*events: dict[str, object], at_work: tuple[str, ...] = ()) -> Collected:
    return collected(events, NOON - 6 * HOUR, NOON + 6 * HOUR, at_work)


def collected(
    told: Collection[dict[str, object]],
    start: float,
    end: float,
    at_work: tuple[str, ...] = (),
    begins: float | None = None,
    now: float | None = None,
) -> Collected:
    runs, begun = ledger.collect(told, start), history.begun(told, at_work)
    days = history.rows(runs, Facts(told), start, end, now or end, begins)
    return Collected(days, history.lanes(runs, begun, end))


# --- days --------------------------------------------------------------------------------------


def test_a_day_counts_tasks_once_with_their_times_since_they_were_added() -> None:
    found = of_day(
        told(NOON, "added", task="T-1"),
        told(NOON, "start", task="T-1", run="R1", agent="impl-1"),
        ended(NOON + 600, "R1", pr="1"),
        told(NOON + 600, "review_wanted", task="T-1", review="REVIEW-1", pr="1"),
        ended(NOON + 700, "R2", "changes_requested", agent="rev-1", task="REVIEW-1", pr="1"),
        ended(NOON + 1200, "R3", pr="1"),
        ended(NOON + 1200, "R3", pr="1"),  # a tick that was killed writes it again
        ended(NOON + 1300, "R4", "approved", agent="rev-1", task="REVIEW-2", pr="1"),
        told(NOON + 1800, "followed", task="T-1", state="done", reason="merged"),
    )
    [day] = found.days
    assert day == {
        "day": "2026-03-10",
        "added": 1,
        "done": 1,  # reviews are no tasks that somebody asked for
        "merged": 1,
        "failed": 0,
        "runs": 4,
        "success": 1.0,
        "cost_usd": 2.0,
        "seconds_to_done": 1200.0,
        "seconds_to_merged": 1800.0,
        "review_rounds": 2.0,
    }


@pytest.mark.parametrize(
    ("verdicts", "success"),
    [
        (("done", "failed"), 0.5),
        (("done", "needs_human", "approved", "no_change"), 0.75),
        # Runs that a person, a limit or a fault ended say nothing about success.
        (("stopped", "interrupted", "usage_limit", "system_fault", "moved"), None),
        (("done", "stopped"), 1.0),
        ((), None),
    ],
)
def test_the_success_rate_is_of_runs_that_had_their_chance(
    verdicts: tuple[str, ...], success: float | None
) -> None:
    found = of_day(*(ended(NOON, f"R{place}", each) for place, each in enumerate(verdicts)))
    assert found.days[0]["success"] == success
    assert found.days[0]["runs"] == len(verdicts)


@pytest.mark.parametrize(
    ("then", "counts"),
    [
        ((), {"failed": 1}),
        ((("retried", {}),), {"failed": 0}),
        ((("retried", {}), ("finish", {"run": "R9"})), {"failed": 0, "done": 1}),
        ((("moved", {"state": "done"}),), {"failed": 0, "done": 1}),
        # The run ended because a person cancelled its task, or moved it.
        ((("cancelled", {}), ("finish", {"run": "R9", "verdict": "stopped"})), {"done": 0}),
        ((("merged", {}),), {"merged": 1}),
        ((("merged", {}), ("not_merged", {})), {"merged": 0}),
        ((("followed", {"state": "incoming", "reason": "changes"}),), {"failed": 0}),
    ],
)
def test_a_later_event_about_a_task_corrects_the_count(
    then: tuple[tuple[str, dict[str, Any]], ...], counts: dict[str, int]
) -> None:
    more = [told(NOON + 10, word, task="T-1", **fields) for word, fields in then]
    day = of_day(told(NOON, "fail", task="T-1", reason="checks_failed"), *more).days[0]
    assert {name: day[name] for name in counts} == counts


def test_days_before_the_history_begins_are_left_out_because_nothing_is_known_of_them() -> None:
    told, start, end = [ended(NOON, "R1")], NOON - 72 * HOUR, NOON + 24 * HOUR
    begin = NOON - 20 * HOUR
    assert [day["runs"] for day in collected(told, start, end, begins=NOON).days] == [1, 0]
    assert [day["runs"] for day in collected(told, start, end, begins=begin).days] == [0, 1, 0]
    # Without any event, no day is known to be without one.
    assert [day["runs"] for day in collected([], start, end).days] == [0] * 5


def test_what_is_recorded_ahead_of_the_clock_counts_on_the_day_of_now() -> None:
    ahead = NOON + 40 * 86_400
    events = [told(NOON, "added", task="T-1"), ended(NOON, "R1"), ended(ahead, "R2", pr="1")]
    [day] = collected(events, NOON - HOUR, NOON + HOUR).days
    assert (day["runs"], day["cost_usd"], day["done"]) == (2, 1.0, 1)
    # A period that has ended has only what was recorded in it.
    [day] = collected(events, NOON - HOUR, NOON + HOUR, now=NOON + 3 * HOUR).days
    assert (day["runs"], day["cost_usd"]) == (1, 0.5)


@pytest.mark.parametrize(
    ("age", "zoom"),
    [(None, "week"), (-5.0, "week"), (60.0, "hour"), (3 * HOUR, "day"), (40 * 24 * HOUR, "week")],
)
def test_the_lanes_of_a_young_project_are_wide_enough_to_see_a_run(
    age: float | None, zoom: str
) -> None:
    assert region.fitting(age) == zoom


def test_a_task_whose_begin_is_not_known_has_no_lead_time() -> None:
    day = of_day(ended(NOON, "R1")).days[0]
    assert (day["done"], day["seconds_to_done"], day["review_rounds"]) == (1, None, None)


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", (2026, 3, 29), 23),
        ("Europe/Berlin", (2026, 10, 25), 25),
        ("America/Sao_Paulo", (2018, 11, 4), 23),  # this day begins at one o'clock
        ("Asia/Kathmandu", (2026, 3, 29), 24),
    ],
)
def test_days_are_local_days_also_when_the_clock_changes(
    zone: str, day: tuple[int, int, int], hours: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        noon = time.mktime((*day, 12, 0, 0, 0, 0, -1))
        edges = history.days(noon - 24 * HOUR, noon + 24 * HOUR)
        assert len(edges) == 4
        assert (edges[2] - edges[1]) / HOUR == hours
        names = [time.strftime("%Y-%m-%d", time.localtime(edge)) for edge in edges]
        assert names == sorted(set(names))
        assert time.localtime(edges[1])[:3] == day
    finally:
        monkeypatch.undo()
        time.tzset()


# --- lanes -------------------------------------------------------------------------------------


def test_a_lane_has_the_runs_of_the_period_and_those_at_work() -> None:
    begin = {"agent": "impl-1", "task": "T-2"}
    found = of_day(
        ended(NOON - 7 * HOUR, "before"),
        ended(NOON - 6 * HOUR + 60, "across"),  # began before the period
        told(NOON, "start", run="lost", **begin),  # its end is not written yet
        told(NOON + 60, "start", run="now", **begin),
        told(NOON + 60, "start", run="alone", agent="pm-1"),
        told(NOON, "start", run="later", agent=None),
        at_work=("now", "alone"),
    )
    shown = {name: [(s.run, s.outcome) for s in spans] for name, spans in found.spans.items()}
    assert shown == {"impl-1": [("across", "done"), ("now", None)], "pm-1": [("alone", None)]}
    assert found.spans["impl-1"][-1].row()["ended"] is None


def test_lanes_are_in_the_order_of_their_numbers() -> None:
    names = ["impl-10", "impl-2", "", "7", "a", "impl-2b", "²"]
    found = of_day(*(ended(NOON, name, agent=name) for name in names))
    assert list(found.spans) == ["", "7", "a", "impl-2", "impl-2b", "impl-10", "²"]


def runs(*outcomes: str | None, every: float = HOUR) -> list[dict[str, Any]]:
    return [
        {"run": f"R{n}", "task": f"T-{n}", "outcome": outcome, "started": iso(NOON + n * every),
         "ended": iso(NOON + n * every + 300) if outcome else None, "cost_usd": None}
        for n, outcome in enumerate(outcomes)
    ]  # fmt: skip


def test_an_outcome_is_told_by_colour_and_by_shape() -> None:
    looks = [(kind.colour, kind.shape) for kind in lanes.KINDS]
    assert len({colour for colour, _ in looks}) == len({shape for _, shape in looks}) == len(looks)
    from orchestrator.model.snapshot import VERDICTS

    assert sorted(v for kind in lanes.KINDS for v in kind.verdicts) == sorted(VERDICTS)
    drawn = lanes.bars([{"agent": "a", "runs": runs("done", None)}], NOON, NOON + 4 * HOUR)
    assert [bar.kind.shape for bar in drawn] == ["circle", "chevron"]
    # It works until now, and its sign is not cut off.
    assert drawn[1].end == lanes.LEFT + lanes.LANE < lanes.WIDTH - 5


def test_many_runs_share_bars_and_no_run_gets_lost() -> None:
    agents = [
        {"agent": f"a{n}", "runs": runs(*["done", "failed"] * 1000, every=60.0)} for n in range(3)
    ]
    drawn = lanes.bars(agents, NOON, NOON + 2000 * 60, most=300)
    assert len(drawn) <= 300
    assert sum(len(bar.runs) for bar in drawn) == 6000
    for bar in drawn:
        assert {run["outcome"] for run in bar.runs} <= set(bar.kind.verdicts)


# --- pictures ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("most", "steps", "top", "step"),
    [
        (0.0, (), 1.0, 1.0),
        (1.0, (), 1.0, 0.5),
        (7, (), 8.0, 2.0),
        (0.0042, (), 0.006, 0.002),
        (1234, (), 1500.0, 500.0),
        (100, plots.TIME_STEPS, 120.0, 30.0),
        (400 * 86_400, plots.TIME_STEPS, 400 * 86_400, 100 * 86_400),
    ],
)
def test_an_axis_holds_the_largest_value_in_few_round_steps(
    most: float, steps: tuple[int, ...], top: float, step: float
) -> None:
    found = plots.axis(most, steps)
    assert found == pytest.approx((top, step))
    assert top >= most
    assert top / step <= plots.MOST_STEPS + 1


def test_a_picture_is_well_formed_and_says_what_it_shows() -> None:
    series = [
        Series("a<b", [1.0, None, 3.0], "good", "circle"),
        Series("c", [None] * 3, "bad", "cross"),
    ]
    drawn = plots.plot("p", "Title & more", ["2026-03-01", "2026-03-02", "2026-03-03"], series, str)
    root = ET.fromstring(drawn)
    ids = {each.get("id"): each.text for each in root.iter() if each.get("id")}
    names = (root.get("aria-labelledby") or "").split()
    assert [ids[name] for name in names] == [
        "Title & more", "a<b: last 3.0, most 3.0. The table below has every figure.",
    ]  # fmt: skip
    lines = [each.get("d") for each in root.iter() if each.get("class") == "line good"]
    assert lines[0] is not None
    assert lines[0].count("M") == 2  # a gap where the value is not known
    assert "style=" not in drawn  # the page's policy forbids styles in attributes


def test_hostile_names_in_a_lane_are_text() -> None:
    run = {**runs("done")[0], "task": HOSTILE}
    drawn = lanes.lanes([{"agent": HOSTILE, "runs": [run]}], NOON, NOON + HOUR)
    ET.fromstring(drawn)
    assert "<img" not in drawn
    assert "\u202e" not in drawn
    assert "\x1b" not in drawn


@pytest.mark.parametrize("hours", [1, 24, 48, 7 * 24, 28 * 24, 84 * 24])
def test_the_time_axis_has_a_few_round_moments(hours: int) -> None:
    found = list(lanes.moments(NOON - hours * HOUR, NOON))
    assert 3 <= len(found) <= 16
    assert all(time.localtime(at).tm_min % 10 == 0 for at, _ in found)
    assert [at for at, _ in found] == sorted({at for at, _ in found})


# --- the command and the regions -----------------------------------------------------------------


def filled(layout: Layout, now: float) -> None:
    lines = [
        told(now - 3 * HOUR, "added", task="T-1"),
        told(now - 2 * HOUR, "start", task="T-1", run="R1", agent="impl-agent-1"),
        ended(now - HOUR, "R1", agent="impl-agent-1", pr="1", role="implementer"),
        told(now - HOUR / 2, "followed", task="T-1", state="done", reason="merged"),
    ]
    with open(layout.events, "w") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def test_the_command_shows_days_and_agents_and_refuses_a_period_that_ends_first(
    cli: Cli, project: Layout
) -> None:
    filled(project, time.time())
    found = json.loads(cli("history", "--since", "2d", "--json").out)
    assert set(found) == {"from", "to", "days", "agents", "history_begins"}
    assert sum(day["merged"] for day in found["days"]) == 1
    [agent] = found["agents"]
    assert agent["agent"] == "impl-agent-1"
    assert agent["runs"][0] == {
        "run": "R1", "task": "T-1", "outcome": "done", "cost_usd": 0.5,
        "started": agent["runs"][0]["started"], "ended": agent["runs"][0]["ended"],
    }  # fmt: skip
    text = cli("history", "--since", "2d").out
    assert "the history begins at " in text
    assert cli("history", "--since", "1d", "--until", "2d").code == 2
    assert cli("history", "--until", "tomorrowish").code == 2


def test_the_region_shows_each_picture_with_its_table(project: Layout) -> None:
    filled(project, time.time())
    with opened(project) as page:
        shown = page.get("/part/history?zoom=day").text
        assert shown.count('<svg class="plot"') == 1 + 5
        assert "Table of runs" in shown
        assert "Table of days" in shown
        assert "/runs/R1" in shown
        # Ids are unique, so that a screen reader finds the titles.
        ids = re.findall(r' id="([^"]+)"', shown)
        assert len(ids) == len(set(ids))
        # What cannot be understood is the usual view.
        for wrong in (
            "zoom=year&until=x",
            "until=9999-99-99",
            "until=1900-01-01",
            "until=9999-12-31",
        ):
            answer = page.get(f"/part/history?{wrong}")
            assert answer.status_code == 200
            assert "What each agent ran, " in answer.text
        past = page.get("/part/history?until=2025-01-01").text
        assert "until 2025-01-01" in past
        assert "No run in this period" in past
        assert page.get("/api/history?since=2d").json()["agents"][0]["agent"] == "impl-agent-1"


@pytest.mark.parametrize("by", region.BY)
def test_costs_are_shown_by_each_key(project: Layout, by: str) -> None:
    filled(project, time.time())
    with opened(project) as page:
        shown = page.get(f"/part/costs?by={by}&since=30d").text
    assert "$0.50" in shown
    assert f'<th scope="col">{by.capitalize()}</th>' in shown
    assert 'width="100.0"' in shown


def test_of_many_rows_the_dearest_are_shown_and_the_rest_are_counted() -> None:
    class Answer:
        def read(self, words: str, values: Any = None, subject: str | None = None) -> Any:
            rows = [{"key": f"T-{n}", "cost_usd": float(n)} for n in range(200)]
            return {"rows": rows, "asked": values}

        text = change = None

    found = region.costs(Answer(), {"by": "task", "since": "7d"})  # type: ignore[arg-type]
    assert [row["key"] for row in found["rows"][:2]] == ["T-199", "T-198"]
    assert (len(found["rows"]), found["more_rows"]) == (50, 150)
    assert found["costs"]["asked"] == {"by": "task", "since": "7d"}


def test_costs_show_the_use_of_the_budgets_and_the_forecast(cli: Cli, project: Layout) -> None:
    now = time.time()
    filled(project, now)
    text = Path(project.config).read_text()
    Path(project.config).write_text(text + "\nbudgets: {daily_usd: 4, run_usd: 1, task_usd: 2}\n")
    add(cli)
    with opened(project) as page:
        shown = page.get("/part/costs").text
        assert "of $4.00" in shown
        assert shown.count("<meter ") == 3
        assert '<a href="/runs/R1"><bdi>R1</bdi></a>: $0.50 of at most $1.00' in shown
        assert "No forecast for 1 waiting task; too few tasks are finished of:" in shown
        more = [ended(now - 60, f"F{n}", task=f"F-{n}", role="implementer") for n in range(8)]
        with open(project.events, "a") as file:
            file.writelines(json.dumps(event) + "\n" for event in more)
        shown = page.get("/part/costs").text
    assert "Forecast: about $0.50 (quartiles: $0.50 to $0.50) for 1 of 1 waiting task" in shown
