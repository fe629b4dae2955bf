"""The client's output of a run, line by line: whole, its end only, or as it is written."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Iterator

from orchestrator.cli.find_run import Run
from orchestrator.model.annotations import IO
from orchestrator.project import run_record

#: Seconds between two looks at a run that is followed.
POLL_SECONDS = 0.2
#: Bytes that are read at once when the end of a file is looked at.
BLOCK = 65_536


def seek_end(stream: IO[bytes], most: int, size: Callable[[bytes], int]) -> int:
    """Move a stream to a line after which at least `most` entries follow, or to its start.

    `size` says how many entries a line has. Returns how many of the entries that follow are before
    the last `most`. Of a plain file only the end is read, whatever its size.
    """
    lines = most
    while True:
        start = _start_of_last(stream, lines) if isinstance(stream, io.BufferedReader) else 0
        stream.seek(start)
        found = sum(map(size, stream))
        stream.seek(start)
        if found >= most or start == 0:
            return max(found - most, 0)
        lines *= 4


def _start_of_last(stream: IO[bytes], lines: int) -> int:
    """Return where the last `lines` lines of a plain file begin."""
    place = stream.seek(0, os.SEEK_END)
    left = lines + 1  # the last line ends with a line break, too
    while place > 0:
        size = min(BLOCK, place)
        place = stream.seek(place - size)
        block = stream.read(size)
        here = block.count(b"\n")
        if here < left:
            left -= here
            continue
        at = len(block)
        for _ in range(left):
            at = block.rindex(b"\n", 0, at)
        return place + at + 1
    return 0


def followed(run: Run, stream: IO[bytes]) -> Iterator[bytes]:
    """Yield the stream's lines as they come, until the run has ended."""
    rest = b""
    while True:
        # Asked before reading, so that everything written until the end is read after it.
        over = _is_over(run)
        if stream.name == os.devnull:
            stream = run_record.open_file(run.folder, run_record.STREAM) or stream
        for piece in stream:
            rest += piece
            if rest.endswith(b"\n"):
                yield rest
                rest = b""
        if over:
            if rest:
                yield rest
            return
        time.sleep(POLL_SECONDS)


def _is_over(run: Run) -> bool:
    """Return whether a run has ended, or has lost its supervisor: then only a tick continues it."""
    record = run.record()
    if record is None or record.status == "finished":
        return True
    return record.supervisor is not None and not record.supervisor.is_alive()
