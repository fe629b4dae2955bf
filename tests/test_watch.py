"""`watch` on a terminal: its keys, its texts, and that it leaves the terminal as it was."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rows import each_row
from test_cli_reports import RUN, event, open_pull_requests, put, running, seal, ticked

from orchestrator.cli import board, overview, status
from orchestrator.cli.board import Act, Ask, Confirm, Open, Quit, Show
from orchestrator.cli.overview import Overview
from orchestrator.cli.pager import Page
from orchestrator.cli.screen import Part
from orchestrator.cli.terminal import named
from orchestrator.config import load
from orchestrator.layout import Layout
from orchestrator.pulls import states
from orchestrator.tasks import stores

CHECKOUT = Path(__file__).resolve().parent.parent

# --- keys --------------------------------------------------------------------------------------


@each_row(
    ("sent", "keys"),
    [
        ("aB?é", ["a", "B", "?", "é"]),
        (
            "\x1b[A\x1bOB\x1b[5~\x1b[6~\x1b[H\x1b[4~",
            ["up", "down", "pageup", "pagedown", "home", "end"],
        ),
        ("\r\n\x7f\x15", ["enter", "enter", "backspace", "clear"]),
        ("\x1b", ["escape"]),
        ("\x1bq", ["escape", "q"]),
        ("\x1b[1;5C\x1b[15~x", ["x"]),
        ("\x00\x01\x9b", []),
        ("\x1b[200~y\nq\x1b[A\x1b[201~z", ["paste:y q[A", "z"]),
        ("\x1b[200~y\nq", ["paste:y q"]),
    ],
)
def test_what_a_terminal_sends_are_keys(sent: str, keys: list[str]) -> None:
    assert list(named(sent)) == keys


# --- what keys mean ----------------------------------------------------------------------------


@pytest.fixture
def seen(project: Layout) -> tuple[Overview, list[Part]]:
    ticked(project)
    running(project, task="TASK-9")
    open_pull_requests(project, 1)
    put(project, "TASK-1", "done", event("done", pr="1"))
    put(project, "TASK-2", "blocked", event("blocked", question="Which " + "format " * 99 + "end?"))
    put(project, "TASK-3", "failed", event("failed", reason="stalled", error="stalled: x"))
    loaded = load.settings(project, write_cache=False)
    found = overview.overview(project, loaded, time.time(), states.counted(project, loaded.config))
    return found, status.picture(found)


EFFECTS: list[tuple[str, tuple[str, str] | None, Any]] = [
    ("a", ("item", "TASK-2"), Ask("answer TASK-2", ("inbox", "answer", "TASK-2", "-"))),
    ("r", ("item", "TASK-3"), Act(("task", "retry", "TASK-3"))),
    ("x", ("item", "TASK-3"), Confirm),
    ("l", ("item", "TASK-3"), Open(("logs", "TASK-3", "--lines", "1000"))),
    ("y", ("item", "pr:1"), Confirm("approve pr:1, and merge it?", ("inbox", "approve", "pr:1"))),
    ("n", ("item", "pr:1"), Ask("changes of pr:1", ("inbox", "reject", "pr:1", "-"))),
    ("d", ("item", "pr:1"), Open(("pr", "diff", "1"))),
    ("enter", ("item", "pr:1"), Open(("pr", "show", "1"))),
    ("y", ("pr", "1"), Confirm),
    ("n", ("pr", "1"), Ask("changes of pull request 1", ("pr", "request-changes", "1", "-"))),
    ("l", ("pr", "1"), Open(("logs", "TASK-1", "--lines", "1000"))),
    ("p", ("agent", "pm-agent"), Act(("agent", "pause", "pm-agent"))),
    ("f", ("agent", "pm-agent"), Open(("logs", "pm-agent", "--lines", "1000", "--follow"))),
    ("e", ("agent", "pm-agent"), Open(("explain", "pm-agent"))),
    ("enter", ("agent", "pm-agent"), Open(("agent", "show", "pm-agent"))),
    ("enter", ("task", "TASK-9"), Open(("task", "show", "TASK-9"))),
    ("enter", ("queue", "queue"), Open(("task", "list"))),
    ("P", None, Confirm("pause all agents?", ("agent", "pause", "--all"))),
    ("i", None, Open(("inbox",))),
    ("q", None, Quit()),
    ("?", None, Show("keys", board.HELP)),
    ("a", None, "select something first (↑ ↓)"),
    ("a", ("agent", "pm-agent"), "a does nothing here; what the keys do: ?"),
    ("a", ("item", "GONE"), "GONE does not wait any more"),
    ("Z", ("item", "TASK-2"), None),
    ("escape", None, None),
]


def test_each_key_means_a_command(seen: tuple[Overview, list[Part]]) -> None:
    for key, about, wanted in EFFECTS:
        found = board.effect(key, about, *seen)
        assert isinstance(found, wanted) if isinstance(wanted, type) else found == wanted, (
            key,
            about,
        )


def test_an_item_is_opened_with_its_whole_text_and_its_command(
    seen: tuple[Overview, list[Part]],
) -> None:
    found = board.effect("enter", ("item", "TASK-2"), *seen)
    assert isinstance(found, Show)
    assert found.text.startswith("Which format ")
    assert "format end?\n\norchestrator inbox answer TASK-2 'TEXT'" in found.text


def test_the_selection_goes_through_everything_and_stops_at_the_ends(
    seen: tuple[Overview, list[Part]],
) -> None:
    _, parts = seen
    about, passed = board.moved(parts, None, 1), []
    while about not in passed:
        passed.append(about)
        about = board.moved(parts, about, 1)
    assert passed == board.things(parts)
    assert [kind for kind, _ in passed[:3]] == ["item"] * 3
    assert board.moved(parts, passed[0], -1) == passed[0]
    assert board.moved(parts, ("item", "GONE"), 1) == passed[0]


def test_the_keys_fit_a_line_of_80(seen: tuple[Overview, list[Part]]) -> None:
    overview, parts = seen
    for about in board.things(parts):
        assert len(board.keys_line(about, overview)) <= 80
    assert max(map(len, board.HELP.splitlines())) <= 79
    assert len(board.HELP.splitlines()) <= 22


def test_the_keys_of_an_item_are_those_of_its_kind(seen: tuple[Overview, list[Part]]) -> None:
    overview, _ = seen
    kinds = {item.kind: item.id for item in overview.looked.waiting.items}
    found = {kind: board.keys_line(("item", name), overview) for kind, name in kinds.items()}
    assert "a answer" in found["question"]
    assert "y approve" in found["approval"]
    assert "r retry" in found["escalation"]
    assert "a answer" not in found["escalation"]


# --- texts -------------------------------------------------------------------------------------


def body(page: Page, height: int = 12, width: int = 20) -> list[str]:
    lines = page.drawn(width, height)
    assert len(lines) == height
    return [line.text for line in lines[1:-1] if line.text]


def test_a_text_is_scrolled_and_its_end_is_followed() -> None:
    page = Page("t", "".join(f"{n}\n" for n in range(100)))
    assert body(page) == [str(n) for n in range(10)]
    page.press("pagedown")
    assert body(page)[0] == "9"
    page.press("up")
    assert body(page)[0] == "8"
    page.press("G")
    assert body(page)[-1] == "99"
    page.add("100\nhal")
    assert body(page)[-2:] == ["100", "hal"]
    page.add("f\n")
    assert body(page)[-1] == "half"
    page.press("up")
    page.add("more\n")
    assert body(page)[-1] == "100", "who has scrolled up stays there"
    page.press("g")
    assert body(page)[0] == "0"
    assert not page.press("x")
    assert page.press("q")


def test_lines_that_are_too_long_are_wrapped_and_control_characters_are_shown() -> None:
    page = Page("t", "word " * 50 + "\x1b[2J\u202eabc\tx\n" + "end\n", at_end=True)
    lines = body(page, 30)
    assert all(len(line) <= 20 and line.isprintable() for line in lines)
    assert lines[-1] == "end"
    assert "\\x1b[2J\\u202eabc" in "".join("".join(lines).split())
    tiny = body(page, 4)
    assert tiny[-1] == "end"


def test_a_text_without_end_does_not_fill_the_memory() -> None:
    page = Page("t", at_end=True)
    for n in range(50):
        page.add(f"{n}\n" * 1000)
    assert body(page)[-1] == "49"
    assert len(page._all()) <= 20_000


# --- on a terminal -----------------------------------------------------------------------------


class Screen:
    """`watch` in a pseudo-terminal, and what it wrote there."""

    def __init__(self, layout: Layout, **variables: str) -> None:
        self.master, self.slave = pty.openpty()
        self.resize(24, 80)
        self.before = termios.tcgetattr(self.slave)
        environment = {
            **os.environ,
            "PYTHONPATH": str(CHECKOUT),
            "TERM": "xterm-256color",
            **variables,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "orchestrator", "watch", "--interval", "0.2"],
            env=environment,
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            cwd=layout.root,
            start_new_session=True,
        )
        self.whole = b""

    def resize(self, lines: int, columns: int) -> None:
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def until(self, wanted: str, start: int | None = None) -> str:
        """Wait until a text was written, from now or from a place in `whole`; return what was."""
        start = len(self.whole) if start is None else start
        deadline = time.monotonic() + 30
        while wanted.encode() not in self.whole[start:]:
            assert time.monotonic() < deadline, (wanted, self.whole[-2000:])
            if select.select([self.master], [], [], 0.2)[0]:
                self.whole += os.read(self.master, 65_536)
        return self.whole[start:].decode(errors="replace")

    def press(self, keys: str, *wanted: str) -> str:
        start = len(self.whole)
        os.write(self.master, keys.encode())
        return [self.until(each, start) for each in wanted][-1]

    def rows(self, height: int) -> list[str]:
        """Return what the terminal shows, from all that was written."""
        found, row = [""] * height, 0
        sequence = r"\x1b\[([0-9;?]*)([A-Za-z])"
        pieces = re.split(sequence, self.whole.decode(errors="replace"))
        codes = ([*pieces[1::3], ""], [*pieces[2::3], ""])
        for text, arguments, kind in zip(pieces[::3], *codes, strict=True):
            found[row] += text
            if kind == "H":
                row = min(int(arguments.partition(";")[0]), height) - 1
                found[row] = ""
            elif kind == "J":
                found = found[: 0 if arguments == "2" else row] + [""] * height
                found = found[:height]
        return found

    def is_as_before(self) -> bool:
        return termios.tcgetattr(self.slave) == self.before

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for descriptor in (self.master, self.slave):
            os.close(descriptor)


@pytest.fixture
def screens() -> Iterator[list[Screen]]:
    found: list[Screen] = []
    yield found
    for each in found:
        each.close()


def test_a_person_answers_pauses_retries_and_follows_with_keys(
    project: Layout, screens: list[Screen]
) -> None:
    ticked(project)
    running(project)
    stream = Path(project.run("impl-agent-1", RUN), "stream.jsonl")
    stream.write_text('{"type": "user", "message": {"content": "First."}}\n')
    put(project, "TASK-2", "blocked", event("blocked", question="Which format?"))
    put(project, "TASK-3", "failed", event("failed", reason="stalled", error="stalled: x"))
    screens.append(screen := Screen(project))
    screen.until("q quit")
    screen.press("j", "> TASK-2")
    # A refusal is shown, with its next step.
    screen.press("y", "approve TASK-2, and merge it?")
    assert "TASK-2 is not a pull request" in screen.press("y", "inbox answer TASK-2")
    screen.press("a", "answer TASK-2 (Enter sends, Escape cancels)")
    screen.press("\x1b[200~Keep\nthe old one\x1b[201~", "  Keep the old one_")
    screen.press("!\r", "TASK-2 is in incoming again, with your answer", "1 escalation\x1b")
    found = stores.with_history(stores.of_project(project), "TASK-2")
    assert found is not None
    assert found[1][-1].fields["text"] == "Keep the old one!"
    screen.press("r", "select something first")  # what was selected is answered
    screen.press("j", "> TASK-3")
    screen.press("r", "TASK-3 is in incoming again", "All is well.")
    screen.press("j", "> impl-agent-1")
    screen.press("f", "First.")
    with open(stream, "a") as file:
        file.write('{"type": "user", "message": {"content": "Second."}}\n')
    screen.until("Second.")
    screen.press("q", "q quit")
    screen.press("p", "paused: impl-agent-1")
    assert "paused: true" in Path(project.config).read_text()
    screen.press("?", "approve the selected pull request")
    screen.press("q", "q quit")
    start = len(screen.whole)
    screen.resize(50, 200)
    screen.until("\x1b[2J", start)
    screen.until("\x1b[50;1H", start)
    os.write(screen.master, b"q")
    screen.until("\x1b[?1049l")
    assert screen.process.wait(20) == 0
    assert screen.is_as_before()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_leaves_the_terminal_as_it_was(
    project: Layout, screens: list[Screen], number: signal.Signals
) -> None:
    screens.append(screen := Screen(project, NO_COLOR="1"))
    screen.until("q quit")
    assert not screen.is_as_before()
    screen.process.send_signal(number)
    screen.until("\x1b[?25h\x1b[?1049l")
    assert screen.process.wait(20) == 0
    assert screen.is_as_before()
    colours = re.findall(rb"\x1b\[[0-9;]*m", screen.whole)
    assert not [code for code in colours if re.search(rb"[34][0-7]", code)]


def test_while_it_is_stopped_the_shell_has_the_terminal(
    project: Layout, screens: list[Screen]
) -> None:
    screens.append(screen := Screen(project))
    screen.until("q quit")
    screen.process.send_signal(signal.SIGTSTP)
    screen.until("\x1b[?1049l")
    os.waitpid(screen.process.pid, os.WUNTRACED)
    assert screen.is_as_before()
    screen.process.send_signal(signal.SIGCONT)
    screen.until("q quit")
    screen.press("?", "leave `watch`")


def test_a_terminal_that_cannot_move_its_cursor_gets_plain_lines(
    project: Layout, screens: list[Screen]
) -> None:
    ticked(project)
    screens.append(screen := Screen(project, TERM="dumb"))
    screen.until("All is well.")
    put(project, "TASK-1")
    screen.until("1 waiting.")
    assert b"\x1b" not in screen.whole


def test_the_last_line_of_the_terminal_names_the_keys(
    project: Layout, screens: list[Screen]
) -> None:
    ticked(project)
    before = seal(project.root)
    screens.append(screen := Screen(project))
    screen.until("q quit")
    assert "q quit" in screen.rows(24)[-1]
    assert screen.rows(24)[0] == "All is well. 0 running, 0 waiting."
    screen.press("?", "q back")
    assert "q back" in screen.rows(24)[-1]
    start = len(screen.whole)
    screen.resize(12, 60)
    screen.until("q back", start)
    assert "q back" in screen.rows(12)[-1]
    assert seal(project.root) == before, "who only looks changes nothing"


def test_an_unchanged_project_is_not_painted_again(project: Layout, screens: list[Screen]) -> None:
    screens.append(screen := Screen(project))
    screen.until("q quit")
    assert select.select([screen.master], [], [], 1.5)[0] == []
