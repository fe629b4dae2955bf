"""The picture of `status` and `watch`: what it says, and that it fits a terminal."""

from __future__ import annotations

import doctest
import re
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from rows import each_row
from test_cli_reports import event, open_pull_requests, put, running, ticked

from orchestrator import idle
from orchestrator.account.ticks import Gap, Ticks
from orchestrator.cli import overview, screen, shown, shown_work, status, summary
from orchestrator.cli.screen import Entry, Line, Part
from orchestrator.config import load
from orchestrator.layout import Layout
from orchestrator.project import agent_memory
from orchestrator.project.mark import record_schedule
from orchestrator.pulls import states
from orchestrator.schedule.entry import Entry as Schedule

Cli = Callable[..., Any]


def texts(lines: list[Line]) -> list[str]:
    return [line.text for line in lines]


# --- screen ------------------------------------------------------------------------------------

LONG = [
    Entry(f"item {n} " + "word " * 30, f"orchestrator inbox answer T{n} 'TEXT'") for n in range(30)
]
LISTS = [
    Part([Entry("headline")]),
    Part(LONG, "waiting", "orchestrator inbox"),
    Part([Entry(f"agent {n}") for n in range(50)], "agents", "orchestrator agent list", least=2),
    Part([Entry("queue"), Entry("cost")]),
]


@pytest.mark.parametrize("height", [9, 12, 23, 50, 80])
def test_a_picture_fits_a_terminal_and_says_how_much_is_left_out(height: int) -> None:
    lines = texts(screen.fit(LISTS, 80, height))
    assert len(lines) <= height
    assert all(len(line) <= 80 for line in lines)
    assert lines[0] == "headline"
    assert lines[-2:] == ["queue", "cost"]
    agents = sum(line.startswith("agent ") for line in lines)
    answers = sum("inbox answer" in line for line in lines)
    assert (agents, answers) >= (2, 1)
    agents_left = f" … and {50 - agents} more: orchestrator agent list" if agents < 50 else ""
    assert f"agents{agents_left}" in lines
    answers_left = f" … and {30 - answers} more: orchestrator inbox" if answers < 30 else ""
    assert f"waiting{answers_left}" in lines
    assert height - len(lines) < 3, "room is left, and entries are left out"


def test_where_not_even_that_fits_the_last_lists_are_their_titles_and_counts() -> None:
    lines = texts(screen.fit(LISTS, 80, 7))
    assert lines[1] == "waiting … and 29 more: orchestrator inbox"
    assert lines[4:] == ["agents … 50: orchestrator agent list", "queue", "cost"]


def test_a_picture_that_fits_is_whole_and_has_blank_lines() -> None:
    parts = [
        Part([Entry("a")]),
        Part([Entry("b " * 60, "step")], "title", "whole"),
        Part([], "none"),
    ]
    lines = texts(screen.fit(parts, 80, 24))
    assert lines[:3] == ["a", "", "title"]
    assert "".join(lines[3:-1]).split() == ["b"] * 60
    assert lines[-1] == "    step"


def test_each_of_several_commands_has_a_line_of_its_own_where_both_do_not_fit() -> None:
    parts = [Part([Entry("  T1", "orchestrator task retry T1; or: orchestrator inbox dismiss T1")])]
    assert [line.text for line in screen.fit(parts, 50, 24)][1:] == [
        "    orchestrator task retry T1",
        "    or: orchestrator inbox dismiss T1",
    ]
    assert len(screen.fit(parts, 80, 24)) == 2


def test_a_step_that_is_wider_than_the_terminal_is_wrapped_and_stays_whole() -> None:
    step = "orchestrator task retry " + " ".join(f"TASK-{n}" for n in range(30)) + " /a" + "x" * 99
    for height in (20, 200):
        lines = texts(screen.fit([Part([Entry("text " * 99, step)] * 9, "t", "all")], 40, height))
        assert "".join(" ".join(lines).split()).count("".join(step.split())) >= 1
        assert all(len(line) <= 40 for line in lines)


def test_wide_characters_and_escapes_are_counted_as_a_terminal_shows_them() -> None:
    from rich.cells import cell_len

    text = "修正ログイン" * 20 + "\x1b[2J\u202e"
    for height in (1, 99):
        for line in texts(screen.fit([Part([Entry(text)])], 31, height)):
            assert cell_len(line) <= 31
            assert line.isprintable()
    assert screen.clipped("修正ログイン", 5) == "修正…"


@each_row("height", [8, 9, 23, 40])
@each_row("place", [0, 1, 7, 28, 29])
def test_what_is_selected_is_on_the_screen(height: int, place: int) -> None:
    parts = [
        part._replace(entries=[e._replace(about=(str(n), e.text)) for e in part.entries])
        for n, part in enumerate(LISTS)
    ]
    for part in parts:
        about = part.entries[min(place, len(part.entries) - 1)].about
        lines = screen.fit(parts, 80, height, about)
        assert [line for line in lines if line.about == about]
        assert len(lines) <= max(height, 9)


def test_without_a_height_lists_have_twenty_entries_and_nothing_is_cut() -> None:
    lines = texts(screen.fit(LISTS))
    assert LONG[0].text in lines
    assert "  … and 10 more: orchestrator inbox" in lines
    assert "  … and 30 more: orchestrator agent list" in lines


# --- the picture -------------------------------------------------------------------------------


def busy(layout: Layout, agents: int) -> None:
    """Fill a project with much of everything."""
    text = Path(layout.config).read_text() + "".join(
        f"  - {{name: impl-agent-{n}, role: implementer}}\n" for n in range(2, agents - 1)
    )
    Path(layout.config).write_text(text + "budgets: {daily_usd: 50}\n")
    ticked(layout)
    running(layout)
    open_pull_requests(layout, 6)
    charged = {"charged": True, "reason": "checks_failed", "error": "checks_failed: no\nmore"}
    for n in range(20, 34):
        put(
            layout, f"TASK-{n}", "blocked", event("blocked", question=f"Which of {n} formats? " * 9)
        )
        put(layout, f"FAIL-{n}", "failed", event("failed", reason="stalled", error="stalled: x"))
        put(layout, f"WAIT-{n}", "incoming", event("requeued", run="r", delay=10, **charged))
        put(layout, f"STUCK-{n}", "incoming", role=f"paint{n}")
        Path(layout.state("incoming"), f"bad{n}.md").write_bytes(b"\xff")
        put(layout, f"DONE-{n}", "done", event("done"))


def drawn(layout: Layout, width: int, height: int) -> list[str]:
    loaded = load.settings(layout, write_cache=False)
    prs = states.counted(layout, loaded.config)
    seen = overview.overview(layout, loaded, time.time(), prs)
    return texts(screen.fit(status.picture(seen), width, height))


@pytest.mark.parametrize(("width", "height"), [(80, 23), (200, 49)])
@pytest.mark.parametrize("agents", [4, 50])
def test_the_picture_of_a_busy_project_fits_with_everything_that_matters(
    project: Layout, width: int, height: int, agents: int
) -> None:
    busy(project, agents)
    lines = drawn(project, width, height)
    shown = "\n".join(lines)
    assert len(lines) <= height
    assert lines[0] == "33 things wait for you: orchestrator inbox"
    assert lines[1].startswith("14 problems. 14 tasks cannot start. 1 running, 28 waiting.")
    assert lines[2].startswith("14 questions, 5 approvals, 14 escalations … and ")
    assert "    orchestrator inbox answer TASK-20 'TEXT'" in lines
    assert "  impl-agent-1  " in shown.replace("impl-agent-1 ", "impl-agent-1  ")
    for command in ("inbox", "doctor", "task list", "pr list"):
        assert re.search(f"… (and )?[0-9]+( more)?: orchestrator {command}", shown), command
    assert ("more: orchestrator agent list" in shown) == (agents > 4 or height < 30)
    figures = lines[lines.index("queue  28 incoming, 1 claimed, 14 blocked, 14 done, 14 failed") :]
    used = "incoming + claimed 29 of 20 (full), claimed 1 of 5, pull requests 6 of 10"
    assert f"limits {used}" in figures
    assert any(line.startswith("cost   today 0.00 of 50 USD; total: ") for line in figures)
    assert figures[-1].startswith("ticks  last tick: ")


def test_agents_say_in_words_why_they_do_not_start_and_when_they_are_due(
    project: Layout, cli: Cli
) -> None:
    ticked(project)
    cli("agent", "pause", "test-agent")
    started = agent_memory.AgentState(last_started=time.time() - 10, last_outcome="done")
    agent_memory.write(project, "pm-agent", started)
    suspended = agent_memory.AgentState(suspended="3 runs failed in a row")
    agent_memory.write(project, "impl-agent-1", suspended)
    lines = [line.strip() for line in cli("status").out.splitlines()]
    assert "impl-agent-1  paused   impl-agent-1: 3 runs failed in a row" in lines
    assert "test-agent    paused   orchestrator agent resume test-agent" in lines
    assert any(re.fullmatch("pm-agent +waiting +due in 9 min; last run: done", e) for e in lines)


def test_an_agent_at_work_is_shown_with_the_title_of_its_task(project: Layout, cli: Cli) -> None:
    ticked(project)
    running(project)
    put(project, "TASK-1", "claimed", title="Sort the list")
    [line] = [each for each in cli("status").out.splitlines() if "impl-agent-1" in each]
    assert re.fullmatch(r"  impl-agent-1 +running +TASK-1, for \d+ s: Sort the list", line)


def test_open_pull_requests_are_shown_with_verdict_and_next_move(project: Layout, cli: Cli) -> None:
    open_pull_requests(project, 1)
    put(project, "TASK-1", "done", event("done", pr="1"))
    out = cli("status").out
    assert "\n  1  no verdict: x; " in out
    assert re.search("  1  no verdict: x; .*no agent reviews", out)
    assert "\n1 approval\n" in out


def test_every_thing_that_status_shows_has_its_place_in_the_picture(project: Layout) -> None:
    loaded = load.settings(project, write_cache=False)
    seen = overview.overview(project, loaded, time.time(), None)
    titles = {part.title for part in status.picture(seen)} | {"figures"}
    assert {each.part for each in overview.SHOWN if each.part} <= titles
    assert len({each.key for each in overview.SHOWN}) == len(overview.SHOWN)


@pytest.mark.parametrize("module", [shown, shown_work])
def test_the_examples_in_docstrings_say_how_a_value_is_shown(module: ModuleType) -> None:
    found = doctest.testmod(module)
    assert not found.failed
    assert found.attempted


# --- the ticks ---------------------------------------------------------------------------------


def at(clock: str) -> int:
    return int(time.mktime(time.strptime(f"2026-11-30 {clock}", "%Y-%m-%d %H:%M")))


@pytest.mark.parametrize(
    ("ran", "said"),
    [
        (Ticks(0, 0, 0, 0), ""),
        (
            Ticks(1440, 1430, 10, 0, (), at("08:00")),
            "; ran 1,440 of 1,440 expected ticks since 08:00",
        ),
        (
            Ticks(1440, 1430, 8, 2, (Gap(at("03:10"), at("03:12"), "off"),), at("08:00")),
            "; ran 1,438 of 1,440 expected ticks since 08:00; 2 missed (off, 03:10-03:12)",
        ),
        (
            Ticks(9, 2, 0, 7, (Gap(60, 120, "x"), Gap(at("03:10"), at("03:12"), "y")), at("01:00")),
            "; ran 2 of 9 expected ticks since 01:00; 7 missed (y, 03:10-03:12; 1 other gap: "
            "orchestrator report)",
        ),
        (
            Ticks(None, 3, 0, None, (), at("08:00")),
            "; no schedule is installed; ran in 3 minutes since 08:00",
        ),
    ],
)
def test_the_ticks_of_a_day_are_one_sentence(ran: Ticks, said: str) -> None:
    assert summary.ticked(12, "never", ran) == f"last tick: 12 s ago{said}"
    assert summary.ticked(None, "never", ran) == "never"


def test_status_counts_the_ticks_of_the_diary(project: Layout, cli: Cli) -> None:
    record_schedule(project, Schedule("cron", project.root, "/bin", "/launcher"))
    ticked(project)
    Path(project.ticks).mkdir(exist_ok=True)
    for minutes in (6, 5, 2, 1):
        idle.note_tick(project.ticks, time.time() - minutes * 60, idle.IDLE)
    assert re.search(r"ran 4 of 6 expected ticks since \d\d:\d\d; 2 missed \(", cli("status").out)
