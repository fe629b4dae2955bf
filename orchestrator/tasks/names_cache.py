"""The files of the cache of what the names of finished tasks' files say (`names`)."""

import os
from collections.abc import Mapping

from orchestrator.system import files
from orchestrator.tasks import task_file

#: What is known of a file, as a line of the cache has it, because tens of thousands are read: the
#: file's time (nanoseconds since the epoch; 0 if nobody asked for it), the title's key
#: (`task_file.title_key`), and the task's PARENT; with tabs between them.
Row = str
#: The tabs in a line of the cache: one follows the file's name.
TABS = 3
#: What follows the time where only the whole file says of which task it is.
OTHER = "\t"
#: How a row ends of which only the first line of the file was read.
UNKNOWN = "\t?"


def said(title: str, parent: str) -> str:
    """Return what follows the time in the row of a task whose file is named for it."""
    return f"{task_file.title_key(title)}\t{parent}"


def is_other(row: Row) -> bool:
    """Return whether only the whole file says of which task it is."""
    return "\t\t" in row


def names(path: str) -> list[str]:
    """Return the file names in a cache, the oldest file first.

    They are also in a file of their own: to find them among the rows takes ten times as long.
    """
    return (files.content(f"{path}-list") or b"").decode(errors="replace").split("\n")[:-1]


def read(path: str) -> Mapping[str, Row]:
    """Return what a cache says: rows by file name, the oldest file first; {} without a cache."""
    text = (files.content(path) or b"").decode(errors="replace")
    lines = (line.partition("\t") for line in text.split("\n"))
    return {name: row for name, _, row in lines if row.count("\t") == TABS - 1}


def write(path: str, rows: Mapping[str, Row]) -> None:
    """Write a cache. Raises OSError."""
    by_time = sorted(rows.items(), key=lambda each: int(each[1].partition("\t")[0]))
    kept = [(name, row) for name, row in by_time if name.isprintable()]
    files.make_folder(os.path.dirname(path))
    # The names come second: after a kill in between, they lack files of which the rows tell.
    written = (
        (path, "".join(f"{name}\t{row}\n" for name, row in kept)),
        (f"{path}-list", "".join(f"{name}\n" for name, _ in kept)),
    )
    for where, text in written:
        files.write_atomic(where, text.encode(errors="replace"), flush=False)
