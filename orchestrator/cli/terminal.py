"""A terminal that a program has for itself: keys one by one, and a screen of its own.

Only lines that changed are written, so that nothing flickers. Whatever ends the program, the
terminal is put back as it was: also after SIGTERM, SIGHUP and Ctrl-Z.
"""

from __future__ import annotations

import codecs
import os
import re
import select
import signal
import sys
import termios
import tty
from collections.abc import Iterator, Sequence
from types import FrameType

from orchestrator.model.annotations import Any

#: The alternate screen, no cursor, and marks around pasted text (xterm's control sequences).
_ENTER, _LEAVE = "\x1b[?1049h\x1b[2J\x1b[?25l\x1b[?2004h", "\x1b[?2004l\x1b[?25h\x1b[?1049l"
_PASTED = re.compile("\x1b\\[200~(.*?)(?:\x1b\\[201~|$)", re.DOTALL)
_SEQUENCE = re.compile("\x1b(?:\\[[0-9;]*[A-Za-z~]|O[A-Za-z])")
_NAMES = {
    **dict.fromkeys(("\x1b[A", "\x1bOA"), "up"),
    **dict.fromkeys(("\x1b[B", "\x1bOB"), "down"),
    **dict.fromkeys(("\x1b[H", "\x1bOH", "\x1b[1~"), "home"),
    **dict.fromkeys(("\x1b[F", "\x1bOF", "\x1b[4~"), "end"),
    "\x1b[5~": "pageup",
    "\x1b[6~": "pagedown",
    **dict.fromkeys("\r\n", "enter"),
    **dict.fromkeys("\x7f\b", "backspace"),
    "\x15": "clear",
    "\x1b": "escape",
    "\x04": "escape",
}
#: Seconds for the rest of a key's sequence.
_REST = 0.05


class Terminal:
    """The terminal of this process, as a context manager. Raises KeyboardInterrupt to end."""

    def __init__(self) -> None:
        self._keys = sys.stdin.fileno() if sys.stdin and sys.stdin.isatty() else None
        self._before: list[Any] = []
        self._shown: list[str] = []
        self._is_asked_to_stop = False
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def __enter__(self) -> Terminal:
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.default_int_handler)
        signal.signal(signal.SIGTSTP, self._stop)
        self._take()
        return self

    def __exit__(self, *_: object) -> None:
        self._give_back()

    def _take(self) -> None:
        if self._keys is not None:
            self._before = termios.tcgetattr(self._keys)
            tty.setcbreak(self._keys)
        self._shown = []
        self._write(_ENTER)

    def _give_back(self) -> None:
        self._write(_LEAVE)
        if self._keys is not None:
            termios.tcsetattr(self._keys, termios.TCSADRAIN, self._before)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        # A signal can come while a line is written: the stop waits for the next look at the keys.
        self._is_asked_to_stop = True

    def _stopped(self) -> None:
        """Let the shell have the terminal while this process is stopped (Ctrl-Z)."""
        self._is_asked_to_stop = False
        self._give_back()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._take()

    def draw(self, lines: Sequence[str]) -> None:
        """Show lines, which may have colours; each must fit the terminal."""
        old = self._shown
        changed = [
            f"\x1b[{row};1H{line}\x1b[0m\x1b[K"
            for row, line in enumerate(lines, 1)
            if row > len(old) or old[row - 1] != line
        ]
        changed += [f"\x1b[{row};1H\x1b[K" for row in range(len(lines) + 1, len(old) + 1)]
        if changed:
            self._write("".join(changed))
        self._shown = list(lines)

    def clear(self) -> None:
        """Draw all lines again the next time: the terminal has another size."""
        self._shown = []
        self._write("\x1b[2J")

    def keys(self, seconds: float) -> list[str]:
        """Return the keys that are pressed within some seconds, or the first of them at once.

        A character is itself; other keys have names. A pasted text is one key, `paste:` and the
        text. Raises KeyboardInterrupt if the terminal is gone.
        """
        if self._is_asked_to_stop:
            self._stopped()
            return []
        if self._keys is None:
            select.select([], [], [], seconds)
            return []
        if not select.select([self._keys], [], [], seconds)[0]:
            return []
        text = self._read(self._keys)
        while re.search("\x1b[\\[O]?[0-9;]*$", text) or text.rfind("\x1b[200~") > text.rfind(
            "\x1b[201~"
        ):
            if not select.select([self._keys], [], [], _REST)[0]:
                break
            text += self._read(self._keys)
        return list(named(text))

    def _read(self, descriptor: int) -> str:
        try:
            data = os.read(descriptor, 65_536)
        except OSError:
            data = b""
        if not data:
            raise KeyboardInterrupt
        return self._decoder.decode(data)

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


def named(text: str) -> Iterator[str]:
    """Yield the keys whose characters a terminal sent. Pure."""
    while text:
        if pasted := _PASTED.match(text):
            words = " ".join(pasted[1].split())
            yield "paste:" + "".join(filter(str.isprintable, words))
            text = text[pasted.end() :]
        elif found := _SEQUENCE.match(text):
            if name := _NAMES.get(found[0]):
                yield name
            text = text[found.end() :]
        else:
            name = _NAMES.get(text[0], text[0])
            if len(name) > 1 or name.isprintable():
                yield name
            text = text[1:]
