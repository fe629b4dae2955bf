"""Events for the other hosts: what is new in this host's `events.jsonl` is copied to the database.

The file stays the original. How far it is copied is written in the transaction that copies, so each
line is copied once, whichever process is killed.
"""

import json
import os
from collections.abc import Iterator, Sequence

from orchestrator.database.session import Session
from orchestrator.layout import Layout
from orchestrator.model.annotations import IO
from orchestrator.system import files

#: Days for which the other hosts see an event; `ticks/` is kept as long.
KEPT_DAYS = 62


def publish(session: Session, layout: Layout, host: str) -> None:
    """Copy the complete lines that are new since the last call. Raises StoreFault and OSError."""
    query = "SELECT published FROM orchestrator_hosts WHERE name = %s"
    known = next((row[0] or "" for row in session.rows(query, host)), None)
    if known is None:
        return
    lines, reached = _new(layout, known)
    if reached == known:
        return
    with session.transaction():
        for line in lines:
            text = line.decode(errors="replace").rstrip("\n").replace("\0", "\ufffd")
            insert = "INSERT INTO orchestrator_events (host, line) VALUES (%s, %s)"
            session.later(insert, (host, text))
        update = "UPDATE orchestrator_hosts SET published = %s WHERE name = %s"
        session.later(update, (reached, host))
        old = "DELETE FROM orchestrator_events WHERE at < now() - %s * interval '1 day'"
        session.later(old, (KEPT_DAYS,))


def _new(layout: Layout, known: str) -> tuple[list[bytes], str]:
    """Return the new lines, and how far they reach: `INODE:OFFSET` of the current file."""
    inode, _, offset = known.partition(":")
    try:
        current = files.open_regular(layout.events)
    except FileNotFoundError:
        return [], known
    with current:
        found: list[bytes] = []
        own = str(os.fstat(current.fileno()).st_ino)
        start = int(offset) if own == inode else 0
        if own != inode and inode:
            # The history was rotated: first the rest of the file before.
            try:
                with files.open_regular(layout.events_before) as older:
                    same = str(os.fstat(older.fileno()).st_ino) == inode
                    found += _complete(older, int(offset) if same else 0)[0]
            except FileNotFoundError:
                found = []
        more, end = _complete(current, start)
        return [*found, *more], f"{own}:{end}"


def _complete(file: IO[bytes], start: int) -> tuple[list[bytes], int]:
    """Return the complete lines from an offset on, and the offset behind them."""
    file.seek(start)
    lines = []
    for line in file:
        if not line.endswith(b"\n"):
            break
        lines.append(line)
        start += len(line)
    return lines, start


def elsewhere(session: Session, host: str, most: int) -> Iterator[bytes]:
    """Yield the events of the other hosts, oldest first, of the newest `most` bytes.

    Each line is as that host wrote it, with the key `host` added.
    """
    rows: Sequence[tuple[str, str]] = session.rows(
        "SELECT host, line FROM (SELECT id, host, line, sum(length(line)) OVER (ORDER BY id DESC)"
        " AS behind FROM orchestrator_events WHERE host <> %s) AS told WHERE behind <= %s"
        " ORDER BY id",
        *(host, most),
    )
    for name, line in rows:
        if line.endswith("}"):
            yield f'{line[:-1]}, "host": {json.dumps(name)}}}\n'.encode()
