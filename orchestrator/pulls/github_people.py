"""Who may write to a repository on GitHub, in the words of its REST interface."""

from __future__ import annotations

import os

from orchestrator.layout import Layout
from orchestrator.model.work import Given, PullRequest
from orchestrator.pulls import github_rows
from orchestrator.pulls.gh import TICK_TIMEOUT, Gh, Refusal
from orchestrator.system import files

#: `permission` has the base role of a custom role. Some servers name `maintain` there, others call
#: it `write`; `triage` may not write.
_WRITERS = ("admin", "maintain", "write")
#: Reviews of people who may not write that are remembered.
REFUSED = 500


class People:
    """The people of one repository; each is asked for once in a process."""

    def __init__(self, gh: Gh) -> None:
        self._gh = gh
        self._known: dict[str, bool] = {}

    def may_write(self, login: str) -> bool:
        """Return whether an account may write, also as a member of an organization or a team.

        Raises Refusal if the account of gh may not ask, and SystemFault.
        """
        if login not in self._known:
            self._known[login] = self._asked(login)
        return self._known[login]

    def _asked(self, login: str) -> bool:
        path = f"{self._gh.repository.path}/collaborators/{login}/permission"
        try:
            answer = self._gh.json("api", path, timeout=TICK_TIMEOUT)
        except Refusal as error:
            # The repository itself was just asked: it is the account that does not exist.
            if "HTTP 404" not in error.said:
                raise
            return False
        return github_rows.at(answer, "permission") in _WRITERS


class Reviewers:
    """Whose reviews count (reference 9.1). A review that does not is asked about once."""

    def __init__(self, layout: Layout, people: People) -> None:
        self._path = os.path.join(layout.cache, "github-reviews.json")
        self._people = people

    def count(self, pr: PullRequest, review: Given) -> bool:
        """Return whether the author of a review that is new here may write. Raises SystemFault."""
        refused = (files.read_json(self._path) or {}).get("refused")
        refused = refused if isinstance(refused, list) else []
        key = f"{pr.id} {review.by} {review.verdict} {review.at}"
        if key in refused:
            return False
        try:
            counts = self._people.may_write(review.by)
        except Refusal:
            # The account of gh may not ask. What GitHub calls the author has to do.
            counts = True
        if not counts:
            files.make_folder(os.path.dirname(self._path))
            files.write_json(self._path, {"refused": [*refused[-REFUSED:], key]})
        return counts
