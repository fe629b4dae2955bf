"""`pace`: the hours and the shares of usage windows in which runs may start."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rows import each_row

from orchestrator.config import keys
from orchestrator.layout import Layout
from orchestrator.model.config import Pace
from orchestrator.model.errors import ConfigError
from orchestrator.model.snapshot import UsageWindow
from orchestrator.plan.pace import is_open, judge, next_change
from orchestrator.project import usage

ZONE = "Europe/Berlin"
NOW = datetime(2026, 7, 1, 12, 0, tzinfo=ZoneInfo(ZONE)).timestamp()


@pytest.fixture(autouse=True)
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patched:
        patched.setenv("TZ", ZONE)
        time.tzset()
        yield
    time.tzset()


def at(text: str, fold: int = 0) -> float:
    """A local time, as `2026-07-01 12:00`; `fold` 1 is the second of a repeated hour."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(ZONE), fold=fold).timestamp()


@each_row(
    ("hours", "now", "is_allowed", "until"),
    [
        ("22:00-07:00", "2026-07-01 12:00", False, "2026-07-01 22:00"),
        ("22:00-07:00", "2026-07-01 22:00", True, "2026-07-02 07:00"),
        ("22:00-07:00", "2026-07-02 06:59", True, "2026-07-02 07:00"),
        ("22:00-07:00", "2026-07-02 07:00", False, "2026-07-02 22:00"),
        ("09:00-17:30", "2026-07-01 12:00", True, "2026-07-01 17:30"),
        ("09:00-17:30", "2026-07-01 17:30", False, "2026-07-02 09:00"),
        ("18:00-24:00", "2026-07-01 23:59", True, "2026-07-02 00:00"),
        ("00:00-06:00", "2026-07-01 23:59", False, "2026-07-02 00:00"),
        # In the night to 29 March 2026, the hour from 02:00 to 03:00 is skipped.
        ("22:00-07:00", "2026-03-28 23:00", True, "2026-03-29 07:00"),
        ("02:30-05:00", "2026-03-29 01:00", False, "2026-03-29 03:00"),
        ("02:10-02:50", "2026-03-29 01:00", False, "2026-03-30 02:10"),
        ("02:10-02:50", "2026-03-28 02:50", False, "2026-03-30 02:10"),
        # In the night to 25 October 2026, the hour from 02:00 to 03:00 is repeated.
        ("22:00-07:00", "2026-10-24 23:00", True, "2026-10-25 07:00"),
        ("03:00-05:00", "2026-10-25 01:00", False, "2026-10-25 03:00"),
    ],
)
def test_hours_are_local_and_survive_clock_changes(
    hours: str, now: str, is_allowed: bool, until: str
) -> None:
    assert is_open(hours, at(now)) is is_allowed
    assert next_change(hours, at(now)) == at(until)
    assert next_change(hours, at(now) + 0.25) == at(until)


def test_hours_within_a_repeated_hour_come_twice() -> None:
    hours = "02:15-02:45"
    first, again = (at("2026-10-25 02:15", fold) for fold in (0, 1))
    assert next_change(hours, first - 60) == first
    assert next_change(hours, at("2026-10-25 02:45")) == again
    assert next_change(hours, again) == at("2026-10-25 02:45", 1)


TIMES = st.tuples(st.integers(0, 23), st.integers(0, 59)).map(lambda t: "{:02}:{:02}".format(*t))


@given(TIMES, TIMES, st.floats(at("2026-01-01 00:00"), at("2026-12-31 00:00")))
def test_nothing_changes_before_the_time_that_is_named(first: str, last: str, now: float) -> None:
    if first == last:
        return
    hours = f"{first}-{last}"
    until = next_change(hours, now)
    assert now < until <= now + 26 * 3600 + 86_400
    was = is_open(hours, now)
    assert is_open(hours, until) is not was
    for part in (0.3, 0.6, 0.9):
        assert is_open(hours, now + part * (until - now)) is was


FULL = UsageWindow(0.81, NOW + 600)


@each_row(
    ("pace", "windows", "is_allowed", "until"),
    [
        (Pace(five_hour=0.8), {}, True, None),
        (Pace(five_hour=0.8), {"five_hour": FULL}, False, NOW + 600),
        (Pace(five_hour=0.81), {"five_hour": FULL}, True, None),
        (Pace(seven_day=0.8), {"five_hour": FULL}, True, None),
        # A window that has reset is not known.
        (Pace(five_hour=0.8), {"five_hour": UsageWindow(1, NOW)}, True, None),
        (
            Pace(five_hour=0.8, seven_day=0.5),
            {"five_hour": FULL, "seven_day": UsageWindow(0.6, NOW + 9000)},
            False,
            NOW + 9000,
        ),
        (Pace(five_hour=0.8, hours="09:00-17:00"), {"five_hour": FULL}, False, NOW + 600),
        (Pace(0.8, None, "13:00-17:00"), {"five_hour": FULL}, False, NOW + 3600),
        (Pace(0.8, None, "09:00-17:00"), {}, True, NOW + 5 * 3600),
    ],
)
def test_every_limit_must_allow_a_start(
    pace: Pace, windows: dict[str, UsageWindow], is_allowed: bool, until: float | None
) -> None:
    found = judge(pace, windows, NOW)
    assert found is not None
    assert (found.ok, found.until) == (is_allowed, until)


def test_the_detail_names_each_limit_that_refuses() -> None:
    found = judge(Pace(0.8, 0.5, "13:00-17:00"), {"five_hour": FULL}, NOW)
    assert found is not None
    said = "five_hour: 81% of the window is used, the limit is 80%; outside the hours 13:00-17:00"
    assert found.detail == f"{said}; until 2026-07-01T13:00+02:00"
    odd = judge(Pace(0.8), {"five_hour": UsageWindow(1, 1e30)}, NOW)
    assert odd is not None
    assert odd.detail.endswith("; until an unknown time")


def test_without_a_limit_nothing_is_judged() -> None:
    assert judge(Pace(), {"five_hour": FULL}, NOW) is None


@each_row(
    "text", ["hours: 22-7", "hours: 25:00-07:00", "hours: 07:00-07:00", "hours: 00:00-24:00",
             "hours: '7:00-9:00'", "five_hour: 80", "five_hour: -1", "seven_days: 0.5"],
)  # fmt: skip
def test_a_pace_that_makes_no_sense_is_refused_with_its_line(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        keys.parse(f"agents: []\npace:\n  {text}\n")
    assert [problem.partition(": pace.")[0] for problem in caught.value.problems] == [
        ".orchestrator/agents.yaml:3"
    ]


def test_the_windows_of_the_last_run_are_kept(tmp_path: Path) -> None:
    layout = Layout(str(tmp_path))
    (tmp_path / ".orchestrator" / "shared").mkdir(parents=True)
    assert usage.read(layout) == {}
    usage.keep(layout, {"five_hour": FULL, "seven_day": FULL}, NOW)
    usage.keep(layout, {"five_hour": FULL._replace(share=0.9)}, NOW)
    usage.keep(layout, {}, NOW)
    assert usage.read(layout) == {"five_hour": FULL._replace(share=0.9), "seven_day": FULL}
    Path(layout.usage).write_text(json.dumps({"five_hour": {"share": "x"}, "seven_day": [1, 2]}))
    assert usage.read(layout) == {"seven_day": UsageWindow(1, 2)}
    Path(layout.usage).write_text("[]")
    assert usage.read(layout) == {}


def test_a_window_whose_reset_cannot_be_right_does_not_hold_runs_back_forever(
    tmp_path: Path,
) -> None:
    layout = Layout(str(tmp_path))
    (tmp_path / ".orchestrator" / "shared").mkdir(parents=True)
    usage.keep(layout, {"five_hour": UsageWindow(0.9, NOW * 1000)}, NOW)
    judged = judge(Pace(five_hour=0.5), usage.read(layout), NOW)
    assert judged is not None
    assert (judged.ok, judged.until) == (False, NOW + usage.LONGEST_LIMIT)
