"""Records of pull requests on GitHub, made again from the tasks that name them.

Needed if the folder of the records is gone, but not the queue.
"""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.layout import Layout
from orchestrator.model.annotations import Any
from orchestrator.model.work import STATES
from orchestrator.pulls import github_rows
from orchestrator.pulls.book import Book
from orchestrator.tasks import stores


def adopt(layout: Layout, book: Book, view: Callable[[str], Any]) -> None:
    """Write the records, and the book's folder. Raises SystemFault.

    `view` returns a pull request's row by its number, or None. A failure writes no record: the
    next call begins again.
    """
    store = stores.of_project(layout)
    tasks = [task for state in STATES for task in store.list(state).tasks]
    branches = {task.pr: task.work_branch for task in tasks if task.pr and task.reviews is None}
    found = []
    for number, branch in branches.items():
        row = view(number)
        ours = row is not None and not github_rows.owner(row)
        pr = github_rows.pull_request(row) if ours else None
        if pr is not None and pr.task is not None and pr.branch == branch:
            # The reviews come with the next look, which asks who may write.
            found.append(pr._replace(reviews=()))
    book.begin()
    for pr in found:
        book.write(pr)
