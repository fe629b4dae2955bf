"""The daily report: when it is due, that it is sent once per day, and what it says."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from conftest import AGENTS_YAML
from test_people import program

from orchestrator.config import load
from orchestrator.layout import Layout
from orchestrator.system import files
from orchestrator.tick import daily, tick
from orchestrator.tick.daily import Sent

Cli = Callable[..., Any]
DAY = 86_400.0


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Set the time zone of this process."""

    def change(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield change
    monkeypatch.undo()
    time.tzset()


def at(text: str, name: str = "UTC") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(name)).timestamp()


DUE: list[tuple[str, str, str, str | None, str | None]] = [
    ("UTC", "2026-11-30T07:59:59", "08:00", None, None),
    ("UTC", "2026-11-30T08:00:00", "08:00", None, "2026-11-30"),
    ("UTC", "2026-11-30T23:59:59", "08:00", "2026-11-29", "2026-11-30"),
    ("UTC", "2026-11-30T23:59:59", "08:00", "2026-11-30", None),
    ("UTC", "2026-12-01T07:00:00", "08:00", "2026-11-28", None),
    ("UTC", "2026-11-30T00:00:00", "00:00", "2026-11-29", "2026-11-30"),
    # The machine slept from before 08:00 until the evening.
    ("Europe/Berlin", "2026-11-30T21:00:00", "08:00", "2026-11-29", "2026-11-30"),
    # Sent in Berlin; the person flies to New York, where it is 02:00, then 08:00 of the same day.
    ("America/New_York", "2026-11-30T08:00:00", "08:00", "2026-11-30", None),
    ("America/New_York", "2026-12-01T08:00:00", "08:00", "2026-11-30", "2026-12-01"),
    # Sent in Tokyo on the next date; then west over the date line.
    ("America/New_York", "2026-11-30T19:00:00", "08:00", "2026-12-01", None),
    # 02:30 does not exist on this day, and exists twice on the other.
    ("Europe/Berlin", "2026-03-29T03:00:00", "02:30", "2026-03-28", "2026-03-29"),
    ("Europe/Berlin", "2026-10-25T02:30:00", "02:30", "2026-10-24", "2026-10-25"),
    # The clock was in 2031 when a report was sent.
    ("UTC", "2026-11-30T08:00:00", "08:00", "2031-01-01", "2026-11-30"),
]


@pytest.mark.parametrize(("name", "now", "wanted", "last", "day"), DUE)
def test_a_report_is_due_once_per_local_day(
    zone: Callable[[str], None], name: str, now: str, wanted: str, last: str | None, day: str | None
) -> None:
    zone(name)
    assert daily.due(wanted, Sent(last, 0.0) if last else None, at(now, name)) == day
    assert daily.due(None, None, at(now, name)) is None


def test_the_second_hour_of_autumn_sends_nothing_again(zone: Callable[[str], None]) -> None:
    zone("Europe/Berlin")
    first = datetime(2026, 10, 25, 0, 45, tzinfo=UTC).timestamp()  # 02:45 in summer time
    assert daily.due("02:30", Sent("2026-10-24", 0.0), first) == "2026-10-25"
    assert daily.due("02:30", Sent("2026-10-25", first), first + 3600) is None


@pytest.mark.parametrize(
    ("now", "wanted", "next_time"),
    [
        ("2026-11-30T07:00:00", "08:00", "2026-11-30T08:00:00"),
        ("2026-11-30T08:00:00", "08:00", "2026-12-01T08:00:00"),
        ("2026-03-28T22:00:00", "08:00", "2026-03-29T08:00:00"),  # summer time begins at night
        ("2026-10-24T22:00:00", "08:00", "2026-10-25T08:00:00"),
    ],
)
def test_an_idle_tick_wakes_at_the_time_of_the_report(
    zone: Callable[[str], None], now: str, wanted: str, next_time: str
) -> None:
    zone("Europe/Berlin")
    found = daily.next_time(wanted, at(now, "Europe/Berlin"))
    assert found == at(next_time, "Europe/Berlin")


def test_a_tick_without_work_sleeps_until_the_report_is_due_at_most(project: Layout) -> None:
    soon = time.time() + 200
    at = time.strftime("%H:%M", time.localtime(soon))
    text = f"notify: {{command: ['true'], on: [], report: '{at}'}}\n" + AGENTS_YAML
    Path(project.config).write_text(text.replace("paused: false", "paused: true", 1))

    def is_idle() -> bool:
        tick.run_tick(project, time.time())
        return os.path.exists(project.idle_stamp)

    wait_until(is_idle)
    wake = float(Path(project.idle_stamp).read_bytes().split(b"\0")[2])
    assert wake == daily.next_time(at, soon - 200)


@pytest.fixture
def told(project: Layout, tmp_path: Path) -> Callable[[], list[dict[str, Any]]]:
    """Let the project send a report each day from 00:00 on; the function returns what was sent."""
    out = tmp_path / "out"
    out.touch()
    path = program(tmp_path, f"cat >> {out}; echo >> {out}")
    text = f"notify: {{command: [{path}], on: [], report: '00:00'}}\n" + AGENTS_YAML
    Path(project.config).write_text(text.replace("paused: false", "paused: true", 1))
    return lambda: [json.loads(line) for line in out.read_text().splitlines()]


def wait_until(is_so: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def send(layout: Layout, now: float) -> None:
    """Do what a tick and the process of the notifications do."""
    loaded = load.settings(layout, write_cache=False)
    if daily.note(layout, loaded.config.notify, now):
        daily.tell(layout, loaded, now)


def test_ticks_send_the_report_once(project: Layout, told: Callable[[], list[Any]]) -> None:
    for _ in range(2):
        tick.run_tick(project, time.time())
        wait_until(told)
    [found] = told()
    assert found["kind"] == "report"
    assert found["id"] == time.strftime("%Y-%m-%d")
    assert found["text"].startswith("# What the agents did from ")
    assert found["hint"].startswith("orchestrator report --since '20")
    assert found["project"] == project.root
    send(project, time.time())
    assert len(told()) == 1


def test_a_report_begins_where_the_last_one_ended(
    project: Layout, told: Callable[[], list[Any]]
) -> None:
    now = at("2026-11-30T12:00:00")
    for later in (0.0, 0.2 * DAY, DAY, 3 * DAY, 30 * DAY):
        send(project, now + later)
    hints = [each["hint"] for each in told()]
    times = [now - DAY, now, now + DAY, now + 29 * DAY]
    assert hints == [
        time.strftime("orchestrator report --since '%Y-%m-%d %H:%M'", time.localtime(each))
        for each in times
    ]


@pytest.mark.parametrize("place", ["the day is written", "the request is taken"])
def test_a_crash_never_sends_a_report_twice_and_the_next_day_has_its_own(
    project: Layout, told: Callable[[], list[Any]], place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    wanted = load.settings(project, write_cache=False).config.notify
    assert daily.note(project, wanted, now)
    with monkeypatch.context() as patch:
        if place == "the day is written":
            patch.setattr(os, "unlink", lambda path: 1 / 0)
        else:
            patch.setattr(daily, "send", lambda *given: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            send(project, now)
    send(project, now)
    assert told() == []
    send(project, now + DAY)
    assert [each["id"] for each in told()] == [day_of(now + DAY)]


def day_of(now: float) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(now))


def test_two_processes_send_one_report(project: Layout, told: Callable[[], list[Any]]) -> None:
    now = time.time()
    loaded = load.settings(project, write_cache=False)
    daily.note(project, loaded.config.notify, now)
    daily.tell(project, loaded, now)
    # A tick that looked before the report was sent leaves its request after it.
    files.write_json(daily._request(project), {"day": day_of(now)})
    daily.tell(project, loaded, now)
    assert len(told()) == 1
    assert not os.path.exists(daily._request(project))


def test_a_program_that_cannot_be_started_gets_the_report_when_it_can(
    project: Layout, told: Callable[[], list[Any]], tmp_path: Path
) -> None:
    os.chmod(tmp_path / "told.sh", 0o644)
    for _ in range(2):
        send(project, time.time())
    assert os.path.exists(project.notify_fault)
    os.chmod(tmp_path / "told.sh", 0o755)
    for _ in range(2):
        send(project, time.time())
    assert len(told()) == 1
    assert not os.path.exists(project.notify_fault)


def test_a_report_that_is_not_wanted_any_more_is_not_sent(
    project: Layout, told: Callable[[], list[Any]]
) -> None:
    wanted = load.settings(project, write_cache=False).config.notify
    assert daily.note(project, wanted, time.time())
    assert not daily.note(project, wanted._replace(report=None), time.time())
    assert not os.path.exists(daily._request(project))


def test_a_long_report_is_cut_at_a_line_and_says_how_to_see_the_rest(
    project: Layout, told: Callable[[], list[Any]]
) -> None:
    wanted = load.settings(project, write_cache=False).config.notify
    assert daily.send(project, wanted, "a line\n" * 9999, 0.0, time.time()) is None
    [found] = told()
    assert len(found["text"]) < daily.KEPT + 200
    assert found["text"].endswith(f"a line\n\n(The rest: {found['hint']})\n")


def test_a_person_can_try_it_and_is_told_what_is_wrong(
    project: Layout, told: Callable[[], list[Any]], tmp_path: Path, cli: Cli
) -> None:
    assert cli("report", "--notify", "--since", "7d").out.endswith("told.sh took the report\n")
    assert [each["kind"] for each in told()] == ["report"]
    send(project, time.time())
    assert len(told()) == 2, "the day's report is sent all the same"
    program(tmp_path, "exit 3")
    refused = cli("report", "--notify", "--json")
    assert (refused.code, refused.json["error"]["code"]) == (1, "notify_failed")
    Path(project.config).write_text(AGENTS_YAML)
    assert "notify.command is not set" in cli("report", "--notify").err


def test_an_agent_cannot_start_the_persons_program(
    project: Layout, told: Callable[[], list[Any]], cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_RUN_ID", "r")
    assert cli("report", "--notify", "--json").json["error"]["code"] == "refused_in_run"
    assert told() == []
