"""Lines in the order of their times, of which a period needs the last; a line is found by its key.

A line is a time, a tab, the key, a tab, a colon and a list of values. What is after the first tab
is a member of a JSON object.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter

from orchestrator.model.annotations import Any
from orchestrator.model.fields import NamedTuple
from orchestrator.model.times import iso
from orchestrator.project.event_fold import Damaged, Part
from orchestrator.system.json_codec import compact, loads

#: What stands for a time that is not known.
_NEVER = "0000-00-00T00:00:00Z"
#: The part of a time that is its day.
_DAY = slice(len("2026-01-31"))

#: The values of a line.
Values = list[Any]
#: Where the lines of each day (UTC) begin.
Days = Mapping[str, int]


class Written(NamedTuple):
    """Lines as they are written: their text, where days begin, and where each key's line begins."""

    text: bytes
    days: Days
    places: bytes


class DatedLines:
    """Lines with their keys, which are read when they are asked for."""

    def __init__(
        self, part: Part | None = None, days: Days | None = None, places: Part | None = None
    ) -> None:
        """Take what was written; without it, there is no line. Only `find` needs the places."""
        self._part, self._days, self._places = part, days or {}, places
        self._index: bytes | None = None

    def since(self, start: float) -> dict[str, Values]:
        """Return the lines since then (epoch seconds), and others of that day. Raises Damaged."""
        first = (iso(start) or _NEVER)[_DAY]
        begin = min((place for day, place in self._days.items() if day >= first), default=None)
        return {} if begin is None else _values(self._read(begin))

    def find(self, key: str) -> Values | None:
        """Return the values of a line; None for an unknown key. Raises Damaged."""
        if self._part is None or self._places is None:
            return None
        if self._index is None:
            self._index = self._places.read()
        before = b"\n%b\t" % _key(key)
        begin = self._index.find(before) + len(before)
        if begin < len(before):
            return None
        place = self._index[begin : self._index.find(b"\n", begin)]
        try:
            return _values([self._part.line(int(place))])[key]
        except (ValueError, KeyError):
            raise Damaged from None

    def replaced(self, new: Mapping[str, tuple[float | None, Values]]) -> Written:
        """Return the lines with some replaced or added, each with its time. Raises Damaged."""
        try:
            found = {line.split(b"\t", 2)[1]: line for line in self._read(0)}
        except IndexError:
            raise Damaged from None
        found |= {_key(key): _line(key, at, values) for key, (at, values) in new.items()}
        lines, days, places, place = [], dict[str, int](), [b"\n"], 0
        for key, line in sorted(found.items(), key=itemgetter(1)):
            days.setdefault(line[_DAY].decode(), place)
            places.append(b"%b\t%d\n" % (key, place))
            lines.append(line)
            place += len(line)
        return Written(b"".join(lines), days, b"".join(places))

    def _read(self, begin: int) -> list[bytes]:
        return self._part.read(begin).splitlines(keepends=True) if self._part else []


def _key(key: str) -> bytes:
    return compact(key).encode()


def _line(key: str, at: float | None, values: Values) -> bytes:
    told = compact(values).encode()
    return b"%b\t%b\t:%b\n" % ((iso(at) or _NEVER).encode(), _key(key), told)


def _values(lines: list[bytes]) -> dict[str, Values]:
    """Read lines. Raises Damaged."""
    members = b",".join(line.partition(b"\t")[2] for line in lines)
    try:
        found: dict[str, Values] = loads(f"{{{members.decode()}}}")
    except (ValueError, RecursionError):
        raise Damaged from None
    if not all(isinstance(values, list) for values in found.values()):
        raise Damaged
    return found
