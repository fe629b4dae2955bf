"""What is remembered of issues between two ticks: which became tasks, and who may write."""

# No `from __future__ import annotations`: `records.build` reads the types of the fields.

import os
from collections.abc import Mapping

from orchestrator.layout import Layout
from orchestrator.model.annotations import Any
from orchestrator.model.fields import NamedTuple
from orchestrator.system import files, records


class Known(NamedTuple):
    """Whether a login may write to the repository, and when that was asked."""

    may_write: bool
    asked: float


class Kept(NamedTuple):
    """The file of a `Memory`."""

    #: When issues were last asked for.
    asked: float = 0.0
    #: By the number of an issue that became a task: what the issue was told.
    made: Mapping[str, tuple[str, ...]] = {}
    authors: Mapping[str, Known] = {}


class Memory:
    """What outlasts a tick. A task whose file a person removed is not made again."""

    def __init__(self, layout: Layout) -> None:
        self._path = os.path.join(layout.shared, "issues.json")
        self.kept = records.build(Kept, files.read_json(self._path) or {}) or Kept()

    def change(self, **changes: Any) -> None:
        self.kept = self.kept._replace(**changes)
        files.make_folder(os.path.dirname(self._path))
        files.write_json(self._path, records.plain(self.kept))

    def tell(self, number: int, *what: str) -> None:
        """Note that an issue became a task, and what the issue was told of it."""
        told = (*self.kept.made.get(str(number), ()), *what)
        self.change(made={**self.kept.made, str(number): told})
