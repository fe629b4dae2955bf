"""A diff as HTML: one table per file, with the colours of its language."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from markupsafe import Markup
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexer import Lexer
from pygments.lexers import TextLexer, get_lexer_for_filename
from pygments.util import ClassNotFound

from orchestrator.model.fields import NamedTuple
from orchestrator.text.quoting import visible

#: Lines that are shown of one diff; the rest is left to the command line.
MOST_LINES = 4000
#: Characters of a hunk that get colours, and of one line that are shown.
MOST_COLOURED, MOST_CHARACTERS = 60_000, 2000
_HUNK = re.compile(r"@@+ -(\d+)(?:,\d+)? \+(\d+)(?:,\d+)? @@")


class Line(NamedTuple):
    """One line of a hunk."""

    #: add, del, same or hunk.
    kind: str
    old: int | None
    new: int | None
    html: Markup


class File(NamedTuple):
    """What a diff says of one file."""

    name: str
    #: Remarks of git, such as "new file mode 100644" or "Binary files differ".
    notes: list[str]
    lines: list[Line]
    added: int = 0
    removed: int = 0


def files(text: str) -> tuple[list[File], int]:
    """Return the files of `git diff`, and how many lines are left out."""
    lines = text.removesuffix("\n").split("\n")
    parts = re.split(r"\n(?=diff --git |Submodule )", "\n".join(lines[:MOST_LINES]))
    left_out = max(len(lines) - MOST_LINES, 0)
    return [_file(part.split("\n")) for part in parts if part], left_out


def _file(part: list[str]) -> File:
    start = next((n for n, line in enumerate(part) if line.startswith("@@")), len(part))
    head, rest = part[:start], part[start:]
    name = _name(head)
    found: list[Line] = []
    lexer = _lexer(name)
    begins = [n for n, line in enumerate(rest) if line.startswith("@@")]
    for begin, end in pairwise([*begins, len(rest)]):
        found += _hunk(rest[begin:end], lexer)
    plain = ("diff --git ", "index ", "--- ", "+++ ")
    notes = [visible(line) for line in head if not line.startswith(plain)]
    kinds = [line.kind for line in found]
    return File(visible(name), notes, found, kinds.count("add"), kinds.count("del"))


def _name(head: list[str]) -> str:
    """Return the name of a file after the change, or before it if the change removes it."""
    for mark in ("+++ b/", "--- a/", "rename to ", "Submodule "):
        for line in head:
            if line.startswith(mark):
                return line.removeprefix(mark).rstrip("\t")
    return head[0].removeprefix("diff --git ") if head else ""


def _lexer(name: str) -> Lexer:
    try:
        found: Lexer = get_lexer_for_filename(name, stripnl=False, ensurenl=False)
    except ClassNotFound:
        found = TextLexer(stripnl=False, ensurenl=False)
    return found


def _hunk(lines: list[str], lexer: Lexer) -> Iterator[Line]:
    yield Line("hunk", None, None, Markup("{}").format(visible(lines[0])))
    found = _HUNK.match(lines[0])
    old, new = (int(found[1]), int(found[2])) if found else (0, 0)
    body = [visible(line)[:MOST_CHARACTERS] for line in lines[1:]]
    # Each side is read as a whole, so that a comment or text of several lines has its colours.
    before = iter(_coloured([line[1:] for line in body if line[:1] in (" ", "-")], lexer))
    after = iter(_coloured([line[1:] for line in body if line[:1] in (" ", "+")], lexer))
    for line in body:
        if line[:1] == "+":
            yield Line("add", None, new, next(after))
            new += 1
        elif line[:1] == "-":
            yield Line("del", old, None, next(before))
            old += 1
        elif line[:1] == " ":
            next(before)
            yield Line("same", old, new, next(after))
            old, new = old + 1, new + 1
        else:
            yield Line("hunk", None, None, Markup("{}").format(line))


def _coloured(lines: list[str], lexer: Lexer) -> list[Markup]:
    text = "\n".join(lines)
    if len(text) <= MOST_COLOURED and not isinstance(lexer, TextLexer):
        # Its markup is closed and opened again at each line's end.
        html = highlight(text, lexer, HtmlFormatter(nowrap=True)).removesuffix("\n").split("\n")
        if len(html) == len(lines):
            return list(map(Markup, html))
    return [Markup("{}").format(line) for line in lines]
