"""Recorded pull requests of another repository: the address of the remote was changed.

There, their numbers are free, or those of other people's pull requests.
"""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.model.annotations import Any
from orchestrator.model.errors import SystemFault
from orchestrator.model.work import PullRequest
from orchestrator.pulls.book import Book


def is_of(row: Any, pr: PullRequest) -> bool:
    """Whether a row of gh is of a recorded one: the branch of a pull request never changes."""
    return row is not None and row.get("headRefName") == pr.branch


def fault(repository: str, missing: Sequence[PullRequest]) -> SystemFault:
    """Return the fault that a repository does not have these pull requests."""
    listed = ", ".join(f"{pr.id} ({pr.task or pr.branch})" for pr in missing)
    first = missing[0]
    steps = f"orchestrator pr close {first.id} (closes only its record)"
    steps += f", then: orchestrator task retry {first.task}" if first.task else ""
    return SystemFault(
        f"{repository} does not have these pull requests of the product: {listed}",
        f"set the address of the remote back; or deliver to this repository, for each: {steps}",
        code="remote_moved",
    )


def make_room(book: Book, repository: str, pr_id: str, branch: str) -> None:
    """Remove the record whose number the repository has given to a pull request of this branch.

    Raises SystemFault if the recorded one, of another branch, is open: nothing is removed.
    """
    old = book.get(pr_id)
    if old is None or old.branch == branch:
        return
    if old.state == "open":
        raise fault(repository, [old])
    book.forget(pr_id)
