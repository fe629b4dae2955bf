"""The local forge: pull requests as records on this disk, beside real branches.

It looks for a pull request of the same head before it opens one, so that a step repeated after a
crash opens no second one (failures 2).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from orchestrator.layout import Layout
from orchestrator.model.annotations import ClassVar
from orchestrator.model.config import Config
from orchestrator.model.snapshot import Problem
from orchestrator.model.work import Feedback, Given, PullRequest
from orchestrator.pulls import shared_book


class Local:
    """Pull requests as JSON records in `.orchestrator/shared/prs/`, beside real branches."""

    name = "local"
    program: ClassVar[str | None] = None
    hints: ClassVar[Mapping[str, str]] = {}
    is_elsewhere = False

    def __init__(self, layout: Layout, config: Config) -> None:
        self.book = shared_book.of_project(layout, self.name)

    @staticmethod
    def takes(layout: Layout, addresses: list[str], remember: bool) -> bool:
        return True

    def refresh(self) -> list[PullRequest]:
        return self.book.list()

    def show(self, pr_id: str) -> PullRequest:
        return self.book.find(pr_id)

    def open(self, wanted: PullRequest, body: str) -> PullRequest:
        with self.book.locked():
            if (found := self.book.open_on(wanted.branch)) is not None:
                self.book.write(found._replace(head=wanted.head))
                return self.book.find(found.id)
            number = str(self.book.free_number())
            pr = wanted._replace(id=number, state="open", url=self.book.path(number))
            self.book.write(pr, body)
            return pr

    def post(self, pr: PullRequest, review: Given) -> None:
        """The task's history has the review; a person reads it there and in `pr show`."""

    def feedback(self, pr: PullRequest) -> list[Feedback]:
        return []

    def methods(self) -> tuple[str, ...]:
        return ("merge", "squash", "rebase")

    def merge(
        self, pr: PullRequest, commit: str, method: str, land: Callable[[], str]
    ) -> str | None:
        merged = land()
        with self.book.locked():
            self.book.write(pr._replace(state="merged"))
        return merged

    def retarget(self, pr: PullRequest, base: str) -> None:
        self.book.record(pr.id, base=base)

    def close(self, pr_id: str) -> None:
        self.book.record(pr_id, state="closed")

    def probe(self, variables: Mapping[str, str], timeout: float) -> Problem | None:
        return None
