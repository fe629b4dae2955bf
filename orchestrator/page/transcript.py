"""A run's transcript from a byte offset: a page of a stream of any size, and what was added to it.

Nothing reads a whole stream, except a packed one, which can be read only from its beginning.
"""

from __future__ import annotations

import os

from orchestrator.client import registry
from orchestrator.client.protocol import Line
from orchestrator.guard import secret_shapes
from orchestrator.model.annotations import IO
from orchestrator.model.fields import NamedTuple
from orchestrator.project import run_record
from orchestrator.system import files

#: Bytes of the stream that one page shows.
PAGE_BYTES = 192 << 10
#: Lines that fill a screen, and pages that are read at most to fill it at first.
SCREEN, MOST_PAGES = 30, 8
#: Characters of one line of the transcript that are shown.
MOST_CHARACTERS = 4000


class Part(NamedTuple):
    """A part of a transcript, between two offsets in the stream (bytes, at ends of lines)."""

    begin: int
    end: int
    lines: tuple[Line, ...]
    #: The size of the stream in bytes.
    size: int


def read(folder: str, *, after: int | None = None, before: int | None = None) -> Part:
    """Return the page of a run's transcript that begins, or that ends, at an offset.

    Without an offset, return the end: about a screen full, also behind a huge result.
    """
    with run_record.opened_stream(folder) as stream:
        size = stream.seek(0, os.SEEK_END)
        if after is not None:
            begin = min(max(after, 0), size)
            return _part(folder, stream, begin, min(begin + PAGE_BYTES, size), size)
        end = size if before is None else min(max(before, 0), size)
        part = _part(folder, stream, max(end - PAGE_BYTES, 0), end, size)
        for _ in range(MOST_PAGES - 1 if before is None else 0):
            if len(part.lines) >= SCREEN or part.begin == 0:
                break
            begin = max(part.begin - PAGE_BYTES, 0)
            more = _part(folder, stream, begin, part.begin, size)
            part = part._replace(begin=more.begin, lines=more.lines + part.lines)
        return part


def _part(folder: str, stream: IO[bytes], begin: int, end: int, size: int) -> Part:
    """Read the whole lines between two offsets; of a line longer than a page, only its length."""
    first = max(begin - 1, 0)
    stream.seek(first)
    data = stream.read(end - first)
    # The offset is at the end of a line if the byte before it ends one.
    cut = data.find(b"\n") + 1 if begin > 0 else 0
    whole = data.rfind(b"\n") + 1
    is_inside = begin > 0 and cut == 0
    if end - begin >= PAGE_BYTES and (is_inside or whole <= cut):
        return Part(begin, end, (Line("noise", f"[{end - begin:,} bytes of one line]"),), size)
    if is_inside:
        return Part(end, end, (), size)
    launch = files.read_json(os.path.join(folder, run_record.LAUNCH)) or {}
    client = registry.named(launch.get("client"))
    lines = (
        line._replace(text=_clipped(line.text))
        for raw in data[cut : max(whole, cut)].splitlines()
        for line in client.translate(secret_shapes.withheld(raw.decode(errors="replace")))
    )
    return Part(first + cut, first + max(whole, cut), tuple(lines), size)


def _clipped(text: str) -> str:
    more = len(text) - MOST_CHARACTERS
    return f"{text[:MOST_CHARACTERS]}\n[{more:,} more characters]" if more > 0 else text
