"""The files of the cache of what the names of finished tasks' files say (`names`)."""

import contextlib
import os
from collections.abc import Mapping

from orchestrator.model.fields import NamedTuple
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


class Sum(NamedTuple):
    """What is remembered of a state with many files, so that nobody lists its folder."""

    number: int
    #: The files that changed last, the newest first, each after its time (ns since the epoch).
    newest: list[tuple[int, str]]
    #: The files that the cache lacked.
    new: list[str]


#: The state of a folder (`idle.mark`).
Mark = tuple[int, int, int]


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
    known, gone = _lines(f"{path}-list"), left(path)
    return [name for name in known if name not in gone] if gone else known


def read(path: str) -> Mapping[str, Row]:
    """Return what a cache says: rows by file name, the oldest file first; {} without a cache."""
    lines, gone = (line.partition("\t") for line in _lines(path)), left(path)
    return {n: row for n, _, row in lines if row.count("\t") == TABS - 1 and n not in gone}


def left(path: str) -> frozenset[str]:
    """Return the names of the files that have left the folder since the cache was written.

    If such a file is there again, it is a new one: its time, its title and its PARENT may differ.
    """
    return frozenset(_lines(f"{path}-left"))


def note_left(path: str, name: str) -> None:
    """Note that a file leaves the folder, if there is a cache."""
    # On a full disk the file would be listed where it was, until the cache is written again.
    with contextlib.suppress(OSError):
        if os.path.exists(path):
            files.append_line(f"{path}-left", name)


def _lines(path: str) -> list[str]:
    return (files.content(path) or b"").decode(errors="replace").split("\n")[:-1]


def write(path: str, rows: Mapping[str, Row], gone: frozenset[str]) -> None:
    """Write a cache. `gone` are the files that had left before the look. Raises OSError."""
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
    later = "".join(f"{name}\n" for name in left(path) - gone)
    files.write_atomic(f"{path}-left", later.encode(errors="replace"), flush=False)


def read_sum(path: str, mark: Mark | None) -> Sum | None:
    """Return what was remembered of a folder when it had this mark; None if it had another."""
    if mark is None:
        return None
    match files.read_json(f"{path}-sum"):
        case {"mark": [*was], "count": int() as number, "newest": [*rows], "new": [*new]}:
            if tuple(was) == mark:
                return Sum(number, [(at, name) for at, name in rows], new)
    return None


def write_sum(path: str, mark: Mark, found: Sum) -> None:
    """Remember what was found in a folder with this mark. Raises OSError."""
    value = {"mark": mark, "count": found.number, "newest": found.newest, "new": found.new}
    files.write_json(f"{path}-sum", value)
