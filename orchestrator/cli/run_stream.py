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
#: Bytes of the end of a file that are looked at first.
BLOCK = 65_536


def seek_end(stream: IO[bytes], most: int, size: Callable[[bytes], int]) -> int:
    """Move a stream to a line after which at least `most` entries follow, or to its start.

    `size` says how many entries a line has. Returns how many of the entries that follow are before
    the last `most`. Of a plain file only the end is read, whatever its size.
    """
    end = stream.seek(0, os.SEEK_END) if isinstance(stream, io.BufferedReader) else 0
    block = BLOCK
    while True:
        start = max(end - block, 0)
        stream.seek(start)
        if start > 0:
            stream.readline()  # perhaps only the rest of a line
        start = stream.tell()
        found = sum(map(size, stream))
        stream.seek(start)
        if found >= most or block >= end:
            return max(found - most, 0)
        block *= 4


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
