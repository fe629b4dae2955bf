"""Lines in the order of their times, of which a period needs the last; a line is found by its key.

A line is a time, a tab, the key, a tab, a colon and a list of values. What is after the first tab
is a member of a JSON object.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from orchestrator.model.annotations import Any
from orchestrator.model.times import iso
from orchestrator.project.event_fold import Damaged, Part

#: What stands for a time that is not known.
_NEVER = "0000-00-00T00:00:00Z"
#: The part of a time that is its day.
_DAY = slice(len("2026-01-31"))

_encode = json.JSONEncoder(separators=(",", ":")).encode

#: The values of a line.
Values = list[Any]
#: Where the lines of each day (UTC) begin.
Days = Mapping[str, int]


class DatedLines:
    """Lines with their keys, which are read when they are asked for."""

    def __init__(self, part: Part | None = None, days: Days | None = None) -> None:
        """`part` and `days` have what `replaced` returned; without them, there is no line."""
        self._part, self._days = part, days or {}
        self._lines: dict[bytes, bytes] | None = None

    def since(self, start: float) -> dict[str, Values]:
        """Return the lines since then (epoch seconds), and others of that day. Raises Damaged."""
        first = (iso(start) or _NEVER)[_DAY]
        begin = min((place for day, place in self._days.items() if day >= first), default=None)
        return {} if begin is None else _values(self._read(begin))

    def find(self, key: str) -> Values | None:
        """Return the values of a line; None for an unknown key. Raises Damaged."""
        line = self._by_key().get(_key(key))
        return None if line is None else _values([line])[key]

    def replaced(self, new: Mapping[str, tuple[float | None, Values]]) -> tuple[bytes, Days]:
        """Return the lines with some replaced or added, each with its time, and their days.

        Raises Damaged.
        """
        lines = {_key(key): _line(key, at, values) for key, (at, values) in new.items()}
        days: dict[bytes, int] = {}
        found, place = sorted((self._by_key() | lines).values()), 0
        for line in found:
            days.setdefault(line[_DAY], place)
            place += len(line)
        return b"".join(found), {day.decode(): place for day, place in days.items()}

    def _by_key(self) -> dict[bytes, bytes]:
        if self._lines is None:
            try:
                self._lines = {line.split(b"\t", 2)[1]: line for line in self._read(0)}
            except IndexError:
                raise Damaged from None
        return self._lines

    def _read(self, begin: int) -> list[bytes]:
        return self._part.read(begin).splitlines(keepends=True) if self._part else []


def _key(key: str) -> bytes:
    return json.dumps(key).encode()


def _line(key: str, at: float | None, values: Values) -> bytes:
    told = _encode(values).encode()
    return b"%b\t%b\t:%b\n" % ((iso(at) or _NEVER).encode(), _key(key), told)


def _values(lines: list[bytes]) -> dict[str, Values]:
    """Read lines. Raises Damaged."""
    members = b",".join(line.partition(b"\t")[2] for line in lines)
    try:
        found: dict[str, Values] = json.loads(b"{%b}" % members)
    except (ValueError, RecursionError):
        raise Damaged from None
    if not all(isinstance(values, list) for values in found.values()):
        raise Damaged
    return found
