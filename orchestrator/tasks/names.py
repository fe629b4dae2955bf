"""What the names of a folder's files say about its tasks, and what only their contents say.

The product names the file of a task for its id. A person may drop `fix login.md` whose title has
another id, so only a look into every file proves that no task has an id, or a title. For finished
tasks, of which there can be tens of thousands, this look is remembered in the cache; of many
waiting tasks, what `waiting_index` keeps is used.

What is remembered is a hint. A task that it names is confirmed by its file. A task that it lacks,
because a person gave a finished task another id or title in place, is found when the cache is next
checked against the files' times: once a day, and at once by the commands that say "no such task".
"""

import itertools
import math
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from orchestrator import idle
from orchestrator.model.fields import NamedTuple
from orchestrator.system import files
from orchestrator.system.remembered import CLEAR
from orchestrator.tasks import header, names_cache, task_file
from orchestrator.tasks.names_cache import OTHER, UNKNOWN, Row, Sum, is_other

#: Seconds for which one process believes its last look at a folder.
BELIEVED = 1.0
#: Bytes of a file that are read for its title line.
_HEAD = 1024
#: New files from which it pays to write the cache again.
MANY = 200
#: Files that one call of `Index.keep` reads.
MOST = 2_000
#: Files that a `Sum` names.
NEWEST = 100
DAY = 86_400.0
#: The states of which the cache remembers the names.
REMEMBERED = ("done", "failed")


class Seen(NamedTuple):
    """The files of one state."""

    #: By file name.
    rows: Mapping[str, Row]
    #: The names of the files with such a row (`is_other`).
    others: tuple[str, ...]


#: Returns what follows the time in a row, from the path and the name of a file.
SaidBy = Callable[[str, str], str]


def listed(folder: str) -> list[str]:
    """Return the names of the files in a folder that could be tasks, in any order."""
    try:
        found = os.listdir(folder)
    except FileNotFoundError:
        return []
    return [name for name in found if name.endswith(".md") and not name.startswith(".")]


def look(
    folder: str,
    known: Mapping[str, Row],
    said_by: SaidBy | None = None,
    *,
    verify: bool = False,
    believed: Collection[str] = (),
    most: float = math.inf,
) -> Mapping[str, Row]:
    """Return a row for each file in a folder; `known` are the rows of earlier looks.

    `said_by` reads a file; by default only the first line is read. `verify`: a row counts only if
    its file has the time that the row says, or is named in `believed`; the new rows have one. After
    `most` files were read, new files are left out.
    """
    rows: dict[str, Row] = {}
    for name in listed(folder):
        row = known.get(name)
        if row is not None and (not verify or name in believed):
            rows[name] = row
            continue
        changed = mtime(f"{folder}/{name}") if verify else 0
        if row is None or not row.startswith(f"{changed}\t"):
            if most <= 0:
                continue
            most -= 1
            row = f"{changed}\t{(said_by or _first_line)(f'{folder}/{name}', name)}"
        rows[name] = row
    return rows


def mtime(path: str) -> int:
    """Return when a file or a folder was changed, in nanoseconds; 0 if it is missing."""
    try:
        return os.lstat(path).st_mtime_ns
    except FileNotFoundError:
        return 0


def _first_line(path: str, name: str) -> str:
    """Return what the first line says of a task that the file is named for."""
    try:
        line, end, _ = files.read_regular(path, _HEAD).partition(b"\n")
        task_id, title = header.title_line(line.decode("utf-8-sig")) if end else (None, "")
    except (OSError, UnicodeDecodeError):
        return OTHER
    is_named = (task_id or task_file.id_of_name(name)) == name[:-3]
    return f"{task_file.title_key(title)}{UNKNOWN}" if title and is_named else OTHER


def _seen(rows: Mapping[str, Row]) -> Seen:
    return Seen(rows, tuple(sorted(name for name, row in rows.items() if is_other(row))))


class Index:
    """The files in the folders of a queue, by state."""

    def __init__(
        self,
        folders: Mapping[str, str],
        cache: str,
        said_by: SaidBy,
        waiting: Callable[[], Mapping[str, Row]],
    ) -> None:
        """`cache` is how the paths of the cache begin.

        `said_by` reads a whole file, and returns OTHER for a file that cannot be a task. `waiting`
        returns rows of waiting tasks, which the cache does not have.
        """
        self._folders, self._prefix, self._said_by, self._waiting = folders, cache, said_by, waiting

    def of(self, state: str, *, confirm: bool = False) -> Seen:
        """Return the files of a state, as this process saw them a moment ago.

        `confirm`: the cache counts only for files that have its times.
        """
        folder = self._folders[state]
        if confirm:
            return _seen(look(folder, self._cache(state), verify=True))
        at, mark, seen = _SEEN.get(folder, (-math.inf, None, Seen({}, ())))
        now = idle.mark(folder)
        if now != mark or time.monotonic() - at > BELIEVED:
            seen = _seen(look(folder, self._cache(state)))
            _SEEN[folder] = (time.monotonic(), now, seen)
        return seen

    def checked(self, state: str) -> Mapping[str, Row]:
        """Return the files of a state by name; all but the others are tasks.

        Of finished tasks, only the files whose times differ from the cache are read. The times of
        the newest MOST are compared; those of older files were compared within the last day.
        """
        folder, known = self._folders[state], self._cache(state)
        age = time.time() - mtime(self._path(state)) / 1e9
        older = max(len(known) - MOST, 0) if 0 <= age < DAY else 0
        believed = frozenset(itertools.islice(known, older))
        return look(folder, known, self._said_by, verify=True, believed=believed)

    def count(self, state: str) -> int:
        """Return the number of files in a state."""
        sum_ = self._sum(state)
        return len(listed(self._folders[state])) if sum_ is None else sum_.number

    def newest(self, most: int) -> list[tuple[str, str]]:
        """Return state and file name of the finished tasks whose files changed last, newest first.

        A change of an old file after the cache was written does not count.
        """
        found = []
        for state in REMEMBERED:
            sum_ = self._sum(state)
            rows = sum_ and sum_.newest
            if rows is None or len(rows) < most:
                rows = self._newest(state, listed(self._folders[state]), most)
            found += [(at, state, name) for at, name in rows]
        return [(state, name) for _, state, name in sorted(found, reverse=True)[:most]]

    def _newest(self, state: str, names: list[str], most: int) -> list[tuple[int, str]]:
        """Return the newest of a state's files, each with its time; `names` are all of them."""
        there, known = set(names), names_cache.names(self._path(state))
        # The list of names is sorted by time.
        last = itertools.islice(filter(there.__contains__, reversed(known)), most)
        folder = self._folders[state]
        rows = [(mtime(f"{folder}/{name}"), name) for name in (*last, *there.difference(known))]
        return sorted(rows, reverse=True)[:most]

    def with_parent(self, state: str, parent: str) -> Iterable[str]:
        """Return the names of the files of a state whose task may have this PARENT."""
        sum_ = self._sum(state)
        if sum_ is None:
            rows = self._whole(state).items()
            return [n for n, row in rows if row.endswith(f"\t{parent}") or is_other(row)]
        text, found = files.content(self._path(state)) or b"", {*sum_.new}
        for wanted in (f"\t{parent}\n", "\t\t"):  # no look at each of the lines
            at = text.find(wanted.encode())
            while at >= 0:
                start = text.rfind(b"\n", 0, at) + 1
                found.add(text[start : text.index(b"\t", start)].decode())
                at = text.find(wanted.encode(), at + 1)
        return found

    def _whole(self, state: str) -> Mapping[str, Row]:
        """Return the files of a state, by their whole contents.

        Each run asks. What a process has read of a file counts until the file changes.
        """
        folder = self._folders[state]
        if folder not in _WHOLE:
            cache = self._cache(state)
            _WHOLE[folder] = (cache, cache)
        believed, known = _WHOLE[folder]
        rows = look(folder, known, self._said_by, verify=True, believed=believed)
        _WHOLE[folder] = (believed, rows)
        return rows

    def newest_first(self, state: str) -> Iterator[str]:
        """Yield the names of a state's files, the file that changed last first.

        A change in place after the cache was written does not count.
        """
        folder, known = self._folders[state], names_cache.names(self._path(state))
        there = set(listed(folder))
        new = sorted((mtime(f"{folder}/{name}"), name) for name in there.difference(known))
        for name in filter(there.__contains__, reversed(known)):
            # The new files are the newest, unless an old one came back.
            while new and new[-1][0] >= mtime(f"{folder}/{name}"):
                yield new.pop()[1]
            yield name
        yield from (name for _, name in reversed(new))

    def note_left(self, state: str, name: str) -> None:
        """Note that a file has left its state."""
        names_cache.note_left(self._path(state), name)

    def found(self, state: str, search: str) -> list[str]:
        """Return the names of the files of a state that a search may find, newest first."""
        folder, found = self._folders[state], []
        wanted, part = task_file.title_key(search), search.strip().lower()
        # A process that asks again, the page's server, reads only the files that changed.
        known = _TIMED.get(folder) or self._cache(state)
        rows = _TIMED[folder] = look(folder, known, verify=True)
        for name, row in rows.items():
            time_text, title, _ = row.split("\t")
            if wanted in title or part in name[:-3].lower() or is_other(row):
                found.append((int(time_text), name))
        return [name for _, name in sorted(found, reverse=True)]

    def keep(self) -> bool:
        """Bring the cache up to date, if it lacks many files or is a day old. Raises OSError.

        One call reads at most MOST files, in some tenths of a second. Returns whether more files
        are left for the next call.
        """
        return any(self._keep(state) for state in REMEMBERED)

    def _keep(self, state: str) -> bool:
        folder, path = self._folders[state], self._path(state)
        before = idle.mark(folder)
        age = time.time() - mtime(path) / 1e9
        if before is None or (self._sum(state) is not None and 0 <= age < DAY):
            return False
        # File times advance only with the kernel's clock tick: a later change must show.
        time.sleep(min(max(before[1] / 1e9 + CLEAR - time.time(), 0.0), CLEAR))
        gone = names_cache.left(path)
        names, known = listed(folder), names_cache.names(path)
        if len(names) - len(known) >= MANY or (known and not 0 <= age < DAY):
            rows = look(folder, self._cache(state), self._said_by, verify=True, most=MOST)
            names_cache.write(path, rows, gone)
            if len(rows) < len(names):
                return True
        if len(names) >= MANY and idle.mark(folder) == before:
            newest = self._newest(state, names, NEWEST)
            new = sorted(set(names).difference(names_cache.names(path)))
            names_cache.write_sum(path, before, Sum(len(names), newest, new))
        return False

    def _sum(self, state: str) -> Sum | None:
        """Return what is remembered of a state; None if its folder has changed since then."""
        mark = idle.mark(self._folders[state]) if state in REMEMBERED else None
        return names_cache.read_sum(self._path(state), mark)

    def _path(self, state: str) -> str:
        return f"{self._prefix}-{state}"

    def _cache(self, state: str) -> Mapping[str, Row]:
        """Return what is kept of the files of a state."""
        if state == "incoming":
            return self._waiting()
        return names_cache.read(self._path(state)) if state in REMEMBERED else {}


#: What this process saw, by folder: when (seconds of the monotonic clock), its state then, and its
#: files.
_SEEN: dict[str, tuple[float, object, Seen]] = {}
#: The rows of a folder, with the files' times, as this process last saw them.
_TIMED: dict[str, Mapping[str, Row]] = {}
#: The names that the cache had, which are believed, and the rows of a folder by whole contents.
_WHOLE: dict[str, tuple[Mapping[str, Row], Mapping[str, Row]]] = {}
