"""Fits a picture into a terminal: what a person types stays whole, long lists are shortened. Pure.

A picture is a list of parts, and a part is a list of entries. On a large terminal everything is
shown. On a small one the texts of entries are cut to one line, then lists are shortened: each keeps
its first entries, and its title says how many are left out and which command shows them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from orchestrator.cli import columns
from orchestrator.cli.output import harmless
from orchestrator.model.annotations import Literal
from orchestrator.model.fields import NamedTuple

#: Entries of one list that are shown where the output has no height, as in a pipe.
MOST = 20
INDENT = "    "

Mood = Literal["plain", "title", "good", "bad", "yours", "quiet", "chosen"]


class Entry(NamedTuple):
    """One thing of a list."""

    #: On a small terminal, its end is cut.
    text: str
    #: What a person types about it: never cut.
    step: str = ""
    mood: Mood = "plain"
    #: What it is about, as `watch` acts on it, for example ("agent", "impl-agent-1").
    about: tuple[str, str] | None = None


class Part(NamedTuple):
    """A list of entries under a title, the most important entry first."""

    entries: Sequence[Entry]
    title: str = ""
    #: The command that shows the whole list; without it the list is never shortened.
    whole: str = ""
    #: Entries that are shown before another list gets more than its own.
    least: int = 1


class Line(NamedTuple):
    """One line of the terminal."""

    text: str
    mood: Mood = "plain"
    #: Of the entry that the line belongs to.
    about: tuple[str, str] | None = None


def fit(
    parts: Iterable[Part],
    width: int | None = None,
    height: int | None = None,
    focus: tuple[str, str] | None = None,
) -> list[Line]:
    """Return the lines of a picture, at most `height` of them if that is possible.

    `width` is in cells of the terminal and `height` in lines; None is no limit. Without a height,
    lists are shortened to `MOST` entries. The entry about `focus` is always among those shown.
    """
    found = [part for part in parts if part.entries]
    if height is None:
        return _lines(found, [_shown(part, MOST) for part in found], width, is_tight=False)
    every = [len(part.entries) for part in found]
    for is_tight in (False, True):
        lines = _lines(found, every, width, is_tight=is_tight)
        if len(lines) <= height:
            return lines
    lines, shown = _shortened(found, width, height, focus)
    if focus is None or any(line.about == focus for line in lines):
        return lines
    for index, part in enumerate(found):
        at = next((n for n, entry in enumerate(part.entries) if entry.about == focus), None)
        if at is None:
            continue
        # The window moves by as little as possible; entries can have different heights.
        for start in (at - max(shown[index] - 1, 0), at):
            turned = part._replace(entries=[*part.entries[start:], *part.entries[:start]])
            moved = [*found[:index], turned, *found[index + 1 :]]
            lines, _ = _shortened(moved, width, height, focus)
            if any(line.about == focus for line in lines):
                return lines
    return lines


def _shortened(
    parts: Sequence[Part], width: int | None, height: int, focus: tuple[str, str] | None
) -> tuple[list[Line], list[int]]:
    """Return the lines of parts that do not fit, and how many entries of each are shown."""
    shown, before = _least(parts, width, height, focus), None
    while shown != before:
        before = shown
        for index, part in enumerate(parts):
            more = [n + (place == index) for place, n in enumerate(shown)]
            fits = len(_lines(parts, more, width, is_tight=True)) <= height
            shown = more if fits and shown[index] < len(part.entries) else shown
    return _lines(parts, shown, width, is_tight=True), shown


def _least(
    parts: Sequence[Part], width: int | None, height: int, focus: tuple[str, str] | None
) -> list[int]:
    """Return how many entries each part has at least; of the last parts perhaps only the title."""
    shown = [_shown(part, part.least) for part in parts]
    for index, part in reversed(list(enumerate(parts))):
        if len(_lines(parts, shown, width, is_tight=True)) <= height:
            break
        if focus is None or all(entry.about != focus for entry in part.entries):
            shown[index] = _shown(part, 0)
    return shown


def _shown(part: Part, most: int) -> int:
    return min(len(part.entries), most) if part.whole else len(part.entries)


def _lines(
    parts: Sequence[Part], shown: Sequence[int], width: int | None, *, is_tight: bool
) -> list[Line]:
    """Return the lines of parts with so many entries of each; without `is_tight`, with blanks."""
    found: list[Line] = []
    for part, number in zip(parts, shown, strict=True):
        if found and not is_tight:
            found.append(Line(""))
        left = len(part.entries) - number
        more = f"… {f'and {left} more' if number else left}: {part.whole}" if left else ""
        title = " ".join(filter(None, (part.title, more if is_tight else "")))
        found += [Line(text, "title") for text in wrapped(title, width) if text]
        for entry in part.entries[:number]:
            found += _drawn(entry, width, is_cut=is_tight and bool(part.whole))
        if more and not is_tight:
            found.append(Line(f"  {more}", "quiet"))
    return found


def _drawn(entry: Entry, width: int | None, *, is_cut: bool) -> Iterable[Line]:
    text = harmless(entry.text).replace("\n", " ").replace("\t", " ")
    texts = [clipped(text, width)] if is_cut else wrapped(text, width)
    yield from (Line(each, entry.mood, entry.about) for each in texts)
    if entry.step:
        step = harmless(entry.step)
        is_long = width is not None and columns.cells(step) + len(INDENT) > width
        # Each of several commands is on a line of its own rather than broken.
        for way in step.replace("; or: ", "\nor: ").split("\n") if is_long else [step]:
            for each in wrapped(f"{INDENT}{way}", width):
                yield Line(each, "plain", entry.about)


def of_line(line: str, width: int) -> list[str]:
    """Return a line of a command's output as lines of at most `width` cells."""
    return wrapped(harmless(line.expandtabs(4)).replace("\n", " "), width)


def clipped(text: str, width: int | None) -> str:
    """Return a text that fills at most `width` cells of a terminal; an ellipsis shows a cut."""
    return text if width is None else columns.cut(text, width)


def wrapped(text: str, width: int | None) -> list[str]:
    """Return a text as lines of at most `width` cells; further lines are indented more."""
    if width is None or (text.isascii() and len(text) <= width):
        return [text]
    from rich.cells import cell_len, chop_cells

    indent = text[: len(text) - len(text.lstrip())] + INDENT
    if width < 3 * len(indent):
        indent = ""
    import re

    lines, line = [], ""
    for piece in re.findall(r"\s*\S+", text):
        if cell_len(line + piece) <= width:
            line += piece
            continue
        lines += [line] if line else []
        # A word that is wider than a line, such as a path, is broken.
        *whole, rest = chop_cells(piece.strip(), max(width - len(indent), 1))
        lines += [indent + each for each in whole]
        line = indent + rest
    return [*lines, line]
