"""A text on the whole screen of `watch`: scrolled by keys, and followed while it grows."""

from __future__ import annotations

from orchestrator.cli import screen
from orchestrator.cli.screen import Line, Mood

#: Lines that are kept; of a longer text, the end.
MOST = 20_000
KEYS = "↑↓ scroll  Space next page  G end  q back"


class Page:
    """A text, and which part of it is shown."""

    def __init__(self, title: str, text: str = "", *, at_end: bool = False) -> None:
        self._title = title
        self._lines: list[str] = []
        self._rest = ""
        #: The first line that is shown; None shows the end, whatever is added.
        self._top: int | None = None if at_end else 0
        #: The lines that the last drawing showed: from the first to before the second.
        self._seen = (0, 0)
        self.add(text)

    def add(self, text: str) -> None:
        """Add to the end of the text."""
        *whole, self._rest = (self._rest + text).split("\n")
        self._lines += whole
        if len(self._lines) > MOST:
            # More than is needed, so that this does not happen with each line.
            gone = len(self._lines) - MOST * 3 // 4
            del self._lines[:gone]
            self._top = None if self._top is None else max(self._top - gone, 0)

    def press(self, key: str) -> bool:
        """Scroll; return whether the key leaves the text."""
        first, after = self._seen
        match key:
            case "q" | "escape" | "backspace":
                return True
            case "down" | "j" | "enter":
                self._go(first + 1)
            case "up" | "k":
                self._go(first - 1)
            case "pagedown" | " ":
                self._go(max(after - 1, first + 1))
            case "pageup" | "b":
                self._go(first - max(after - first - 1, 1))
            case "home" | "g":
                self._go(0)
            case "end" | "G":
                self._top = None
        return False

    def _go(self, top: int) -> None:
        # At the end already: further down is nothing.
        is_past = top > self._seen[0] and self._seen[1] >= len(self._all())
        self._top = None if is_past else max(top, 0)

    def _all(self) -> list[str]:
        return [*self._lines, self._rest] if self._rest else self._lines

    def drawn(self, width: int, height: int) -> list[Line]:
        """Return the lines of the screen, `height` of them."""
        lines, room = self._all(), max(height - 2, 1)
        top = self._top
        if top is None:
            top, used = len(lines), 0
            while top > 0 and (used := used + len(screen.of_line(lines[top - 1], width))) <= room:
                top -= 1
            # A line that is longer than the screen.
            top = min(top, max(len(lines) - 1, 0))
        body: list[Line] = []
        after = top
        while after < len(lines) and len(body) < room:
            mood = _mood(lines[after])
            body += [Line(text, mood) for text in screen.of_line(lines[after], width)]
            after += 1
        self._seen = (top, after - (len(body) > room and after > top + 1))
        body = body[:room]
        where = f"{self._title}  (lines {top + 1} to {after} of {len(lines)})"
        blanks = [Line("")] * (room - len(body))
        bottom = Line(screen.clipped(KEYS, width), "quiet")
        return [Line(screen.clipped(where, width), "title"), *body, *blanks, bottom][:height]


def _mood(line: str) -> Mood:
    """Return the colour of a line of a difference; the sign alone tells it, too."""
    if line.startswith(("+++", "---", "@@", "diff ")):
        return "title"
    signs: dict[str, Mood] = {"+": "good", "-": "bad"}
    return signs.get(line[:1], "plain")
