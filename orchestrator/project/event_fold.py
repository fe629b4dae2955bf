"""The file that keeps what the events came to, up to a place in the history.

A long history changes only at its end, so a command reads what is kept and the events after the
place. What is kept is a hint: it counts only in the clone that wrote it, while the newer file of
events is the same file with the same bytes directly before the place, and the older file has not
changed. An edit in place of earlier lines that changes no length is not seen. `account.fold` says
what is kept; here are the file, the place, and the proof.
"""

# No `from __future__ import annotations`: `records.build` reads the types of the fields.

import contextlib
import json
import os
from collections.abc import Iterator
from itertools import islice

from orchestrator import __version__, idle
from orchestrator.layout import Layout
from orchestrator.model.annotations import IO, Any
from orchestrator.model.fields import NamedTuple
from orchestrator.project import events, mark
from orchestrator.system import files, records

#: Bytes of events that commands read again and again, before they are added to what is kept.
MANY = 128 << 10
#: Bytes before the place that are compared.
_COMPARED = 256


class Place(NamedTuple):
    """The end of a line of `events.jsonl`, and what shows that the lines before it are the same."""

    inode: int
    offset: int
    #: The last bytes before the place, as Latin-1.
    before: str
    #: The state of the older file (`idle.mark`); empty without it.
    older: tuple[int, ...]
    #: The clone that wrote this, and the version of the program.
    key: str
    version: str = __version__


@contextlib.contextmanager
def opened(layout: Layout) -> Iterator[tuple[Place, IO[bytes]]]:
    """Open the newer file of events; yield the end of its last complete line, and the file."""
    with events.opened(layout.events) as file:
        # After `file` was opened: a rotation meanwhile shows in the older file.
        older = idle.mark(layout.events_before) or ()
        offset = file.seek(0, os.SEEK_END)
        while offset > 0:
            start = max(offset - events.BLOCK, 0)
            file.seek(start)
            if (end := file.read(offset - start).rfind(b"\n")) >= 0:
                offset = start + end + 1
                break
            offset = start
        inode = os.fstat(file.fileno()).st_ino
        yield Place(inode, offset, _before(file, offset), older, mark.key(layout)), file


def is_same(layout: Layout, place: Place, file: IO[bytes]) -> bool:
    """Return whether the events before a place are those that it was made from."""
    return (
        (place.key, place.version) == (mark.key(layout) or None, __version__)
        and place.inode == os.fstat(file.fileno()).st_ino
        and place.older == (idle.mark(layout.events_before) or ())
        and place.before == _before(file, place.offset)
    )


def _before(file: IO[bytes], offset: int) -> str:
    start = max(offset - _COMPARED, 0)
    file.seek(start)
    return file.read(offset - start).decode("latin-1")


def is_due(layout: Layout) -> bool:
    """Return whether so many events are after what is kept that it is to be written again."""
    with events.opened(layout.events) as file:
        size = os.fstat(file.fileno()).st_size
        older = idle.mark(layout.events_before)
        if not MANY <= size + (older[2] if older else 0) <= events.MOST_READ:
            return False
        found = read(layout, 0)
        return (
            found is None or size - found[0].offset >= MANY or not is_same(layout, found[0], file)
        )


def read(layout: Layout, part: int) -> tuple[Place, Any] | None:
    """Return the place, and a part of what is kept (from 1; 0 is no part). None if it is damaged.

    The caller compares the place with `is_same`.
    """
    try:
        with files.open_regular(layout.events_fold) as file:
            first = file.readline()
            wanted = next(islice(file, part - 1, None), b"") if part else b"null\n"
        place = records.build(Place, json.loads(first))
        return None if place is None else (place, json.loads(wanted))
    except (OSError, ValueError, RecursionError):
        return None


def write(layout: Layout, place: Place, *parts: object) -> None:
    """Keep what the events before a place came to. Raises OSError."""
    lines = (json.dumps(each, separators=(",", ":")) for each in (place._asdict(), *parts))
    data = "".join(f"{line}\n" for line in lines).encode()
    # It can be lost: a power cut may leave a file that does not end.
    files.write_atomic(layout.events_fold, data, flush=False)
