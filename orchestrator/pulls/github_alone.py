"""The open pull requests of which a list of GitHub's says too little: each is asked for alone.

A list has the newest open pull requests, and of each its first reviews and checks.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from orchestrator.layout import Layout
from orchestrator.model.work import PullRequest
from orchestrator.system import files

#: Seconds after which such a pull request is asked for again.
ASK_AGAIN = 600.0


class Alone:
    """What is remembered of them between ticks."""

    def __init__(self, layout: Layout, prs: Iterable[PullRequest]) -> None:
        """`prs` are the records: what is no longer open is forgotten."""
        self._path = os.path.join(layout.cache, "github-asked.json")
        self._kept = files.read_json(self._path) or {}
        still = {pr.id for pr in prs if pr.state == "open"}
        #: When each was asked for, in epoch seconds, by its id.
        self.asked = {
            pr_id: at
            for pr_id, at in self._kept.items()
            if pr_id in still and isinstance(at, float)
        }

    def due(self, now: float) -> str | None:
        """Return the pull request to be asked for again, if any; the oldest answer is first."""
        due = [pr_id for pr_id, asked in self.asked.items() if not 0 <= now - asked < ASK_AGAIN]
        return min(due, key=lambda pr_id: self.asked[pr_id], default=None)

    def remember(self, asked: Mapping[str, float]) -> None:
        """Write down when each was asked for. Raises OSError."""
        if asked != self._kept:
            files.make_folder(os.path.dirname(self._path))
            files.write_json(self._path, asked)
