"""`watch` on a terminal: looks again and again, and acts on keys through the commands.

A thread looks at the project, so that a key never waits for git. Commands are processes of their
own: what they do, refuse and print is the same as in a shell, and a command that is at work when
`watch` ends goes on to its end.
"""

from __future__ import annotations

import codecs
import functools
import os
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence

from orchestrator.cli import board, output, screen, status
from orchestrator.cli.board import Act, Ask, Confirm, Effect, Open, Quit, Show
from orchestrator.cli.overview import Overview
from orchestrator.cli.pager import Page
from orchestrator.cli.screen import Line, Mood, Part
from orchestrator.cli.terminal import Terminal
from orchestrator.layout import Layout
from orchestrator.system import process, waits

#: Seconds between two looks at what commands and the thread have new.
POLL = 0.2
#: Lines of a command's answer that are shown at the bottom.
MOST_SAID = 4

Looks = Iterator[Overview]


class Looker(threading.Thread):
    """Looks at the project; `newest` is the newest picture, or the error that ended the thread."""

    def __init__(self, looks: Looks) -> None:
        super().__init__(daemon=True)
        self._looks = looks
        self.newest: tuple[Overview, list[Part]] | BaseException = self._next()

    def _next(self) -> tuple[Overview, list[Part]]:
        seen = next(self._looks)
        return seen, status.picture(seen)

    def run(self) -> None:
        try:
            while True:
                self.newest = self._next()
        except BaseException as error:
            self.newest = error


class Child:
    """A command at work; its output goes through a file, so it never waits for a reader."""

    def __init__(self, layout: Layout, words: Sequence[str], text: str = "") -> None:
        self.words = words
        self._out = tempfile.TemporaryFile()  # noqa: SIM115 (until `end`)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._place = 0
        with tempfile.TemporaryFile() as given:
            given.write(text.encode(errors="replace"))
            given.seek(0)
            self._process = subprocess.Popen(
                [*process.own_program(), "--project", layout.root, *words],
                stdin=given,
                stdout=self._out,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONIOENCODING": "utf-8"},
                start_new_session=True,
            )

    def code(self) -> int | None:
        """Return the exit code; None while the command is at work."""
        return self._process.poll()

    def more(self) -> str:
        """Return what the command wrote since the last call."""
        # The descriptor is the command's, too: reading must not move its place.
        data = os.pread(self._out.fileno(), 1 << 20, self._place)
        self._place += len(data)
        return self._decoder.decode(data)

    def end(self) -> None:
        """End a command that only reads."""
        if self.code() is None:
            self._process.terminate()
        self._process.wait()
        self._out.close()


class Live:
    """The state of `watch` between two keys."""

    def __init__(self, layout: Layout, looks: Looks, look_now: Callable[[], None]) -> None:
        self._layout, self._look_now = layout, look_now
        self._looker = Looker(looks)
        self._about: board.About | None = None
        #: A text on the whole screen, and the command that writes it.
        self._page: Page | None = None
        self._reader: Child | None = None
        #: The command that changes something, and what the last one said.
        self._at_work: Child | None = None
        self._said: list[Line] = []
        self._asked: Ask | Confirm | None = None
        self._typed = ""
        self._seen, self._parts = self._newest()

    def _newest(self) -> tuple[Overview, list[Part]]:
        found = self._looker.newest
        if isinstance(found, BaseException):
            raise found
        return found

    def run(self) -> None:
        """Show the project until a person leaves. Raises KeyboardInterrupt for signals."""
        waits.tell = waits.nobody  # a line would stay in the painted screen
        self._looker.start()
        size = (0, 0)
        try:
            with Terminal() as terminal:
                while True:
                    self._collect()
                    if size != (size := output.size()):
                        terminal.clear()
                    terminal.draw([_painted(line) for line in self._frame(*size)])
                    for key in terminal.keys(POLL):
                        if self._press(key):
                            return
        finally:
            if self._reader:
                self._reader.end()

    def _collect(self) -> None:
        """Take what is new: a picture, lines of a text, the end of a command."""
        self._seen, self._parts = self._newest()
        if self._about not in board.things(self._parts):
            # Another thing is not selected instead: a key pressed twice must not act on it.
            self._about = None
        if self._reader and self._page:
            self._page.add(self._reader.more())
        if self._at_work and (code := self._at_work.code()) is not None:
            lines = self._at_work.more().strip().splitlines()
            mood: Mood = "good" if code == 0 else "bad"
            self._said = [Line(line, mood) for line in lines[:MOST_SAID]] or [Line("done", mood)]
            if lines[MOST_SAID:]:
                self._said.append(Line(f"… and {len(lines[MOST_SAID:])} more lines", "quiet"))
            self._at_work.end()
            self._at_work = None
            self._look_now()

    def _frame(self, width: int, height: int) -> list[Line]:
        if self._page:
            return self._page.drawn(width, height)
        bottom = [
            Line(text, line.mood)
            for line in self._bottom()
            for text in screen.of_line(line.text, width)
        ]
        return board.drawn(self._parts, self._about, bottom[-(height // 2) :], width, height)

    def _bottom(self) -> Iterator[Line]:
        yield from self._said
        if isinstance(self._asked, Ask):
            yield Line(f"{self._asked.label} (Enter sends, Escape cancels):", "yours")
            yield Line(f"  {self._typed}_")
        elif self._asked:
            yield Line(f"{self._asked.label} y or n", "yours")
        elif self._at_work:
            yield Line(f"at work: orchestrator {' '.join(self._at_work.words)}", "quiet")
        else:
            yield Line(board.keys_line(self._about, self._seen), "quiet")

    def _press(self, key: str) -> bool:
        """Act on a key; return whether it ends `watch`."""
        if self._page:
            if self._page.press(key):
                self._close()
        elif isinstance(self._asked, Ask):
            self._type(self._asked, key)
        elif self._asked:
            asked, self._asked = self._asked, None
            if key == "y":
                self._do(Act(asked.words))
        elif key in ("up", "k", "down", "j"):
            step = -1 if key in ("up", "k") else 1
            self._about, self._said = board.moved(self._parts, self._about, step), []
        elif not key.startswith("paste:"):
            found = board.effect(key, self._about, self._seen, self._parts)
            if isinstance(found, Quit):
                return True
            self._do(found)
        return False

    def _type(self, asked: Ask, key: str) -> None:
        match key:
            case "enter":
                self._asked = None
                self._do(Act(asked.words, self._typed))
            case "escape":
                self._asked = None
            case "backspace":
                self._typed = self._typed[:-1]
            case "clear":
                self._typed = ""
            case _:
                text = key.removeprefix("paste:")
                self._typed += text if len(key) == 1 or text != key else ""

    def _do(self, found: Effect) -> None:
        match found:
            case Act() if self._at_work:
                self._said = [Line("wait: another command is at work", "bad")]
            case Act(words, text):
                self._said, self._at_work = [], Child(self._layout, words, text)
            case Open(words):
                self._reader = Child(self._layout, words)
                title = f"orchestrator {' '.join(words)}"
                self._page = Page(title, at_end=words[0] == "logs")
            case Show(title, text):
                self._page = Page(title, f"{text}\n")
            case Ask() | Confirm():
                self._asked, self._typed, self._said = found, "", []
            case str():
                self._said = [Line(found, "yours")]

    def _close(self) -> None:
        if self._reader:
            self._reader.end()
        self._reader = self._page = None


_console = functools.cache(output.console)


@functools.lru_cache(maxsize=1024)
def _painted(line: Line) -> str:
    """Return a line with the terminal's codes for its colour."""
    from rich.text import Text

    console = _console()
    with console.capture() as capture:
        text = Text(line.text, status.STYLES[line.mood])
        console.print(text, end="", soft_wrap=True)
    return str(capture.get())
