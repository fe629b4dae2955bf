"""The project's events, one JSON line per event. The file is rotated; one old file is kept.

`docs/events.md` is the schema: each event with its fields.
"""

import heapq
import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import IO

from orchestrator.layout import Layout
from orchestrator.model import iso
from orchestrator.system import files
from orchestrator.tasks import stores

#: The version of the schema, in each line: it tells a reader what the line's fields mean. It is
#: raised when an event or a field is removed or changes its meaning, not when something is added.
VERSION = 1
#: Measurements: null when they are not known. Other fields that are None are left out.
MEASURED = ("cost_usd", "seconds")


def append(layout: Layout, at: float, word: str, **fields: object) -> None:
    """Append an event at the time `at` (seconds since the epoch)."""
    kept = {name: value for name, value in fields.items() if value is not None or name in MEASURED}
    line = json.dumps({"at": iso(at), "event": word, **kept, "v": VERSION}, ensure_ascii=False)
    # A lone surrogate (for example, from a file name that is not UTF-8) could not be written.
    files.append_line(layout.events, line.encode("utf-8", "replace").decode())


def rotate(layout: Layout, limit: float) -> bool:
    """Rotate a history of more than `limit` bytes; return if it did. Needs the scheduler's lock."""
    return files.put_aside(layout.events, layout.events_before, limit)


def lines(layout: Layout, most: int) -> Iterator[bytes]:
    """Yield the lines of both files, oldest first; of a long history the newest `most` bytes."""
    # The newer file is opened first: after a rotation meanwhile, lines are read twice, not lost.
    with _open(layout.events) as newer, _open(layout.events_before) as older:
        left = most - newer.seek(0, os.SEEK_END)
        if left > 0 and not os.path.sameopenfile(newer.fileno(), older.fileno()):
            yield from _newest(older, left)
        yield from _newest(newer, most)


def everywhere(layout: Layout, most: int) -> Iterator[bytes]:
    """Yield the lines of every host that shares the queue, by time; the newest `most` bytes each.

    Lines of other hosts have the key `host`. Raises StoreFault.
    """
    others = stores.of_project(layout).events(most)
    yield from heapq.merge(lines(layout, most), others, key=_at)


def _at(line: bytes) -> bytes:
    found = re.search(rb'"at": "([^"]*)"', line)
    return found[1] if found else b""


def read(
    layout: Layout, most: int, word: str = "", *, of_all_hosts: bool = False
) -> Iterator[Mapping[str, object]]:
    """Yield the events that can be read, as `lines` does; only those whose line contains `word`.

    `of_all_hosts`: as `everywhere` does.
    """
    for line in everywhere(layout, most) if of_all_hosts else lines(layout, most):
        if word.encode() in line:
            try:
                event = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(event, dict):
                yield event


def _open(path: str) -> IO[bytes]:
    """Open a file to read; a missing file reads as an empty file."""
    try:
        return files.open_regular(path)
    except FileNotFoundError:
        return open(os.devnull, "rb")


def _newest(file: IO[bytes], most: int) -> Iterator[bytes]:
    """Yield the complete lines of a file's last `most` bytes."""
    start = file.seek(max(file.seek(0, os.SEEK_END) - most, 0))
    if start:
        file.readline()
    yield from file
