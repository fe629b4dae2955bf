"""What the events say about tasks, as lines in the order of the tasks' last changes.

A period needs the last lines only; another task is looked up by its id. A line is the time of the
last change, a tab, the task's id, a tab, a colon and the facts; what is after the first tab is a
member of a JSON object.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from orchestrator.account.facts import TaskFacts
from orchestrator.model.annotations import Any
from orchestrator.model.times import iso
from orchestrator.project.event_fold import Damaged, Part

#: What stands for the time of a task that has no time.
_NEVER = "0000-00-00T00:00:00Z"
#: The part of a time that is its day.
_DAY = slice(len("2026-01-31"))


class TaskLines:
    """Lines about tasks, which are read when they are asked for."""

    def __init__(self, part: Part | None = None, days: Mapping[str, int] | None = None) -> None:
        """`days` has the place at which the lines of each day (UTC) begin, see `replaced`."""
        self._part, self._days = part, days or {}
        self._lines: dict[bytes, bytes] | None = None

    def since(self, start: float) -> dict[str, TaskFacts]:
        """Return the facts about each task with a time since then (epoch seconds). Raises Damaged.

        Other tasks can be among them.
        """
        first = (iso(start) or _NEVER)[_DAY]
        begin = min((place for day, place in self._days.items() if day >= first), default=None)
        return {} if begin is None else _facts(self._read(begin))

    def find(self, task: str) -> TaskFacts | None:
        """Return the facts about a task; None for an unknown task. Raises Damaged."""
        line = self._by_id().get(_id(task))
        return None if line is None else _facts([line])[task]

    def replaced(self, tasks: Mapping[str, TaskFacts]) -> tuple[bytes, dict[str, int]]:
        """Return the lines, with those of some tasks replaced or added, and the days' places.

        Raises Damaged.
        """
        new = {_id(task): _line(task, facts) for task, facts in tasks.items()}
        days: dict[bytes, int] = {}
        lines, place = sorted((self._by_id() | new).values()), 0
        for line in lines:
            days.setdefault(line[_DAY], place)
            place += len(line)
        return b"".join(lines), {day.decode(): place for day, place in days.items()}

    def _by_id(self) -> dict[bytes, bytes]:
        if self._lines is None:
            try:
                self._lines = {line.split(b"\t", 2)[1]: line for line in self._read(0)}
            except IndexError:
                raise Damaged from None
        return self._lines

    def _read(self, begin: int) -> list[bytes]:
        return self._part.read(begin).splitlines(keepends=True) if self._part else []


def _id(task: str) -> bytes:
    return json.dumps(task).encode()


def _line(task: str, facts: TaskFacts) -> bytes:
    values = json.dumps(facts.values(), separators=(",", ":")).encode()
    return b"%b\t%b\t:%b\n" % ((facts.last() or _NEVER).encode(), _id(task), values)


def _facts(lines: list[bytes]) -> dict[str, TaskFacts]:
    """Read lines. Raises Damaged."""
    members = b",".join(line.partition(b"\t")[2] for line in lines)
    try:
        found: dict[str, Any] = json.loads(b"{%b}" % members)
        return {task: TaskFacts(*values) for task, values in found.items()}
    except (ValueError, TypeError, RecursionError):
        raise Damaged from None
