"""The project's events, one JSON line per event. The file is rotated; one old file is kept.

`docs/events.md` is the schema: each event with its fields.
"""

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping

from orchestrator.layout import Layout
from orchestrator.model.annotations import IO
from orchestrator.model.times import iso
from orchestrator.system import files, json_codec
from orchestrator.tasks import stores

#: The version of the schema, in each line: it tells a reader what the line's fields mean. It is
#: raised when an event or a field is removed or changes its meaning, not when something is added.
VERSION = 1
#: Measurements: null when they are not known. Other fields that are None are left out.
MEASURED = ("cost_usd", "seconds")
#: A line has the time at which its tick began, and other processes write meanwhile; clocks are
#: corrected. So lines are not quite in the order of their times: the lines of a period begin after
#: a whole block (bytes) of lines that are all older than the period by this (seconds). An event
#: from the future, written before that by a clock that was wrong, does not belong to the period.
LATE, BLOCK = 3600.0, 64 << 10
#: A line as `append` writes it begins with `_FORM`, its time, `_BEFORE_KIND` and its event.
_FORM, _BEFORE_KIND = b'{"at": "', b'Z", "event": "'
_TIME, _PLACE, _KIND = slice(8, 28), slice(27, 41), slice(40, 45)

#: Bytes of the newest events that are read: both files at the default of `retention.events_mb`.
MOST_READ = 64 << 20
#: Lines that are read at once: the first, and the following.
_FIRST, _SEVERAL = 1, 500


def append(layout: Layout, at: float, word: str, **fields: object) -> None:
    """Append an event at the time `at` (seconds since the epoch)."""
    kept = {name: value for name, value in fields.items() if value is not None or name in MEASURED}
    line = json_codec.dumps({"at": iso(at), "event": word, **kept, "v": VERSION})
    # A lone surrogate (for example, from a file name that is not UTF-8) could not be written.
    files.append_line(layout.events, line.encode("utf-8", "replace").decode())


def rotate(layout: Layout, limit: float) -> bool:
    """Rotate a history of more than `limit` bytes; return if it did. Needs the scheduler's lock."""
    return files.put_aside(layout.events, layout.events_before, limit)


def lines(layout: Layout, most: int, since: float = 0.0) -> Iterator[bytes]:
    """Return the lines of both files, oldest first; of a long history the newest `most` bytes.

    `since` (seconds since the epoch): lines before it can be left out, see `LATE`.
    """
    return itertools.chain.from_iterable(_of_files(layout, most, since))


def _of_files(layout: Layout, most: int, since: float) -> Iterator[Iterable[bytes]]:
    """Yield the lines of each of the two files."""
    # The newer file is opened first: after a rotation meanwhile, lines are read twice, not lost.
    with opened(layout.events) as newer, opened(layout.events_before) as older:
        left = most - newer.seek(0, os.SEEK_END)
        if left > 0 and not os.path.sameopenfile(newer.fileno(), older.fileno()):
            yield _newest(older, left, since)
        yield _newest(newer, most, since)


def everywhere(layout: Layout, most: int, since: float = 0.0) -> Iterator[bytes]:
    """Return the lines of every host that shares the queue, by time; the newest `most` bytes each.

    Lines of other hosts have the key `host`. `since`: as for `lines`. Raises StoreFault.
    """
    own, others = lines(layout, most, since), iter(stores.of_project(layout).events(most))
    first = next(others, None)
    if first is None:  # the usual project has one host
        return own
    import heapq

    return heapq.merge(own, itertools.chain([first], others), key=_at)


def _at(line: bytes) -> bytes:
    at, end, _ = line.partition(b'"at": "')[2].partition(b'"')
    return at if end else b""


def read(
    layout: Layout,
    most: int,
    word: str = "",
    *,
    of_all_hosts: bool = False,
    kinds: Iterable[str] = (),
    since: float = 0.0,
) -> Iterator[Mapping[str, object]]:
    """Yield the events that can be read, as `lines` does; only those whose line contains `word`.

    `of_all_hosts`: as `everywhere` does; in a shared queue each event then has the key `host`.
    `kinds`: other events can be left out, to save time.
    `since` (seconds since the epoch): earlier events can be left out, too.
    """
    found = everywhere(layout, most, since) if of_all_hosts else lines(layout, most, since)
    own = stores.of_project(layout).host if of_all_hosts else None
    told = parsed(found, word, kinds)
    yield from told if own is None else ({"host": own, **event} for event in told)


def parsed(
    found: Iterable[bytes], word: str = "", kinds: Iterable[str] = ()
) -> Iterator[Mapping[str, object]]:
    """Yield the events in some lines that can be read; `word` and `kinds` are those of `read`."""
    # A lone surrogate is in no line.
    needle = word.encode(errors="surrogatepass")
    # Enough of a kind to leave most others out.
    starts = {f'"{kind}", '[:5].encode() for kind in kinds}
    left = iter(found)
    # The first lines at once: a reader of a few lines need not wait for many.
    number = _FIRST
    while several := list(itertools.islice(left, number)):
        if starts:
            several = [x for x in several if x[_KIND] in starts or x[_PLACE] != _BEFORE_KIND]
        if wanted := [line for line in several if needle in line]:
            yield from (event for event in _events(wanted) if isinstance(event, dict))
        number = _SEVERAL


def _events(several: list[bytes]) -> Iterable[object]:
    """Read some lines: at once, which is twice as fast, or one by one if one cannot be read."""
    try:
        found: list[object] = json_codec.loads(f"[{b','.join(several).decode()}]")
        if len(found) == len(several) and all(line.endswith(b"}\n") for line in several):
            return found
    except (ValueError, RecursionError):
        pass
    return map(_event, several)


def _event(line: bytes) -> object:
    """Read a line; None if it cannot be read."""
    try:
        return json_codec.loads(line)
    except (ValueError, RecursionError):
        return None


def opened(path: str) -> IO[bytes]:
    """Open a file to read; a missing file reads as an empty file."""
    try:
        return files.open_regular(path, BLOCK)
    except FileNotFoundError:
        return open(os.devnull, "rb")


def _newest(file: IO[bytes], most: int, since: float) -> Iterable[bytes]:
    """Return the complete lines of a file's last `most` bytes; earlier ones can be left out."""
    start = file.seek(max(file.seek(0, os.SEEK_END) - most, 0))
    if start:
        file.readline()
    if since > 0:
        file.seek(_beginning(file, file.tell(), since - LATE))
    return file


def _beginning(file: IO[bytes], first: int, limit: float) -> int:
    """Return where a line begins, at or after `first`, that has no line since `limit` before it."""
    oldest, end = (iso(limit) or "").encode(), file.seek(0, os.SEEK_END)
    while end > first:
        start = max(end - BLOCK, first)
        file.seek(start)
        block = file.read(end - start)
        # Most blocks of a period end with a line of it; the first can begin in the block before.
        if _is_before(block[block.rfind(b"\n", 0, -1) + 1 :], oldest) and all(
            _is_before(line, oldest) for line in block.split(b"\n", 1)[-1].splitlines()
        ):
            return start + block.rstrip(b"\n").rfind(b"\n") + 1
        end = start
    return first


def _is_before(line: bytes, time: bytes) -> bool:
    """Return whether a line is known to be older; a line of another form is not."""
    return line.startswith(_FORM) and line[_PLACE] == _BEFORE_KIND and line[_TIME] < time
