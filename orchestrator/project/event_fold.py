"""The file that keeps what the events came to, up to a place in the history.

A long history changes only at its end, so a command reads what is kept and the events after the
place. What is kept is a hint: it counts only in the clone that wrote it, while the newer file of
events is the same file with the same bytes directly before the place, and the older file has not
changed. An edit in place of earlier lines that changes no length is not seen. `account.fold` says
what is kept; here are the file, the place, and the proof.
"""

# No `from __future__ import annotations`: `records.build` reads the types of the fields.

import contextlib
import os
from collections.abc import Iterator
from itertools import accumulate, pairwise

from orchestrator import __version__, idle
from orchestrator.layout import Layout
from orchestrator.model.annotations import IO
from orchestrator.model.fields import NamedTuple
from orchestrator.project import events, mark
from orchestrator.system import files, json_codec, records

#: Bytes of events that commands read again and again, before they are added to what is kept.
MANY = 128 << 10
#: Bytes before the place that are compared.
_COMPARED = 256
#: What wrote the file: the program's version, and the form of what is kept.
_WRITER = f"{__version__}, form 5"


class Place(NamedTuple):
    """The end of a line of `events.jsonl`, and what shows that the lines before it are the same."""

    inode: int
    offset: int
    #: The last bytes before the place, as Latin-1.
    before: str
    #: The state of the older file (`idle.mark`); empty without it.
    older: tuple[int, ...]
    #: The clone that wrote this, and what wrote it.
    key: str
    version: str = _WRITER


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
        (place.key, place.version) == (mark.key(layout) or None, _WRITER)
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
        with read(layout) as found:
            return (
                found is None
                or size - found[0].offset >= MANY
                or not is_same(layout, found[0], file)
            )


class Damaged(Exception):
    """What is kept is not what this program wrote."""


class Part(NamedTuple):
    """A part of what is kept: bytes of the file, which are read when they are asked for."""

    file: IO[bytes]
    start: int
    size: int

    def read(self, begin: int = 0) -> bytes:
        """Return the part from a place in it to its end. Raises Damaged."""
        self.file.seek(self.start + begin)
        return _whole(self.file.read(max(self.size - begin, 0)))

    def line(self, begin: int) -> bytes:
        """Return the line at a place in the part. Raises Damaged."""
        self.file.seek(self.start + begin)
        return _whole(self.file.readline())


def _whole(found: bytes) -> bytes:
    # A power cut can leave zeros in the place of what was written.
    if b"\0" in found:
        raise Damaged
    return found


@contextlib.contextmanager
def read(layout: Layout) -> Iterator[tuple[Place, list[Part]] | None]:
    """Open what is kept: yield the place, and the parts; None if it is missing or damaged.

    The caller compares the place with `is_same`.
    """
    try:
        file = files.open_regular(layout.events_fold)
    except OSError:
        yield None
        return
    with file:
        yield _parts(file)


def _parts(file: IO[bytes]) -> tuple[Place, list[Part]] | None:
    try:
        first = json_codec.loads(file.readline())
        ends = [*accumulate(first["sizes"], initial=file.tell())]
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return None
    place = records.build(Place, first)
    # A power cut can cut the file.
    if place is None or ends[-1] != os.fstat(file.fileno()).st_size:
        return None
    return place, [Part(file, start, end - start) for start, end in pairwise(ends)]


def write(layout: Layout, place: Place, *parts: bytes) -> None:
    """Keep what the events before a place came to, without a zero byte. Raises OSError."""
    first = json_codec.compact({**place._asdict(), "sizes": [*map(len, parts)]})
    # It can be lost: `Part` and `_parts` notice what a power cut left.
    files.write_atomic(layout.events_fold, b"".join((first.encode(), b"\n", *parts)), flush=False)
