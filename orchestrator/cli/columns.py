"""Fits rows into aligned columns of a terminal: what a person copies stays whole. Pure.

Too wide rows are made narrower step by step: headings of several words take several lines, columns
without a value are left out, free texts are cut, then the first column gets a line of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

GAP = "  "
#: The columns whose text is free, so that its end can be cut, and how wide they stay (cells).
FREE = ("title", "branch", "reason", "problems", "counts")
LEAST_FREE = 16
#: How wide every other column stays where nothing else helps.
LEAST = 8
EMPTY = "-"

Table = Sequence[Sequence[str]]


def lines(headings: Sequence[str], rows: Table, width: int | None = None) -> tuple[list[str], int]:
    """Return the table as lines that fill at most `width` cells, and how many are headings.

    Without a width, as in a pipe, nothing is cut and the headings take one line.
    """
    names = [name.upper() for name in headings]
    widest = _widths([names, *rows], len(names))
    if width is None or _fits(widest, width):
        return [_line(row, widest) for row in (names, *rows)], 1
    shown = [n for n in range(len(names)) if n == 0 or any(row[n] != EMPTY for row in rows)]
    names, rows = [names[n] for n in shown], [[row[n] for n in shown] for row in rows]
    split = [name.split() for name in names]
    widest = _widths([*rows, [max(words, key=len) for words in split]], len(names))
    free = [n for n, name in enumerate(names) if name.lower() in FREE]
    if _shrink(widest, free, LEAST_FREE, width):
        heads = list(zip(*_high(split), strict=True))
        return [_line(row, widest) for row in (*heads, *rows)], len(heads)
    # The first column, which names the row, has a line of its own.
    rest = widest[1:]
    room = width - len(GAP)
    # Half of an id or of a time is of no use; the beginning of a name is.
    varied = [n for n in range(len(rest)) if len({cells(row[n + 1]) for row in rows}) > 1]
    for which, least in (
        ([n - 1 for n in free if n], LEAST_FREE),
        (varied, LEAST),
        (range(len(rest)), LEAST),
    ):
        if _shrink(rest, which, least, room):
            break
    heads = list(zip(*_high(split[1:]), strict=True))
    made = [names[0], *(GAP + _line(row, rest) for row in heads)]
    if len(heads) > 1 and made[1].startswith(" " * (len(names[0]) + 1)):
        made[:2] = [names[0] + made[1][len(names[0]) :]]
    number = len(made)
    made += [line for row in rows for line in (row[0], GAP + _line(row[1:], rest))]
    return [cut(line, width) for line in made], number


def _high(headings: list[list[str]]) -> list[list[str]]:
    """Return the words of headings, all with as many lines: shorter headings are at the bottom."""
    height = max(map(len, headings))
    return [[""] * (height - len(words)) + words for words in headings]


def _widths(rows: Table, number: int) -> list[int]:
    return [max((cells(row[n]) for row in rows), default=0) for n in range(number)]


def _fits(widths: Sequence[int], width: int) -> bool:
    return sum(widths) + len(GAP) * (len(widths) - 1) <= width


def _shrink(widths: list[int], which: Sequence[int], least: int, width: int) -> bool:
    """Make the widest of some columns narrower until all fit; return whether they do."""
    while not _fits(widths, width):
        widest = max(which, key=lambda n: widths[n], default=None)
        if widest is None or widths[widest] <= least:
            return False
        widths[widest] -= 1
    return True


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    fitted = ((cut(cell, wide), wide) for cell, wide in zip(row, widths, strict=True))
    return GAP.join(text + " " * (wide - cells(text)) for text, wide in fitted).rstrip()


def cells(text: str) -> int:
    """Return how many cells of a terminal a text fills."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def cut(text: str, width: int) -> str:
    """Return a text that fills at most `width` cells; an ellipsis shows a cut."""
    if cells(text) <= width:
        return text
    from rich.cells import set_cell_size

    return set_cell_size(text, width - 1).rstrip() + "…"
