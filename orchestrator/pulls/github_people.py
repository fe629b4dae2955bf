"""Who may write to a repository on GitHub, in the words of its REST interface."""

from __future__ import annotations

from orchestrator.pulls import github_rows
from orchestrator.pulls.gh import TICK_TIMEOUT, Gh, Refusal

#: `permission` has the base role of a custom role. Some servers name `maintain` there, others call
#: it `write`; `triage` may not write.
_WRITERS = ("admin", "maintain", "write")


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

    def counts(self, login: str) -> bool:
        """Return whether a review of an account counts (reference 9.1). Raises SystemFault."""
        try:
            return self.may_write(login)
        except Refusal:
            # The account of gh may not ask. What GitHub calls the author has to do.
            return True

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
