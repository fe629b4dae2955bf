"""GitHub as a forge, through its own `gh` program and the user's sign-in.

It looks for a pull request of the same head before it opens one, so that a step repeated after a
crash opens no second one (failures 2). Each call names the repository of the configured remote: on
its own, gh prefers a remote named `upstream`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from functools import cached_property

from orchestrator.layout import Layout
from orchestrator.model.annotations import TYPE_CHECKING, Any, ClassVar
from orchestrator.model.config import Config
from orchestrator.model.errors import NotFound, OrchestratorError, SystemFault
from orchestrator.model.snapshot import Problem
from orchestrator.model.work import Feedback, Given, PullRequest
from orchestrator.pulls import shared_book
from orchestrator.system import files
from orchestrator.system.later import Later

if TYPE_CHECKING:
    from orchestrator.pulls import (
        gh,
        github_moved,
        github_people,
        github_posting,
        github_repo,
        github_rows,
    )
    from orchestrator.pulls.gh import Gh, Repository
    from orchestrator.pulls.github_people import People
else:
    gh = Later("pulls.gh")
    github_moved = Later("pulls.github_moved")
    github_people = Later("pulls.github_people")
    github_posting = Later("pulls.github_posting")
    github_repo = Later("pulls.github_repo")
    github_rows = Later("pulls.github_rows")

#: The open pull requests that one request lists: the newest, and of each its first reviews and
#: checks.
LISTED = 100
#: Seconds after which a pull request of which the list says too little is asked for alone again.
ASK_AGAIN = 600.0


class GitHub:
    """Pull requests on GitHub, through its own `gh` program and the user's sign-in."""

    name = "github"
    program: ClassVar[str | None] = "gh"
    hints: ClassVar[Mapping[str, str]] = {"forge_failed": "try: gh auth status"}
    is_elsewhere = True

    def __init__(self, layout: Layout, config: Config) -> None:
        self._layout, self._config = layout, config
        self.book = shared_book.of_project(layout, self.name)

    @staticmethod
    def takes(layout: Layout, addresses: list[str], remember: bool) -> bool:
        return github_repo.find(layout, addresses, remember=remember).known

    @cached_property
    def _repository(self) -> Repository:
        """The repository of the configured remote. Raises SystemFault if it is not GitHub's."""
        found = github_repo.of_remote(self._layout, self._config.remote)
        if found is None:
            raise SystemFault(
                f"the forge is github, but the remote {self._config.remote!r} is not on GitHub",
                "set `remote`, or `forge: local`, in .orchestrator/agents.yaml",
                code="forge_failed",
            )
        return found

    @cached_property
    def _fork(self) -> str | None:
        """The owner of the other repository that branches are pushed to, if it is another."""
        remote = self._config.push_remote or self._config.remote
        pushed = github_repo.of_remote(self._layout, remote, push=True)
        if pushed is None or _same(pushed, self._repository):
            return None
        return pushed.owner

    @cached_property
    def _gh(self) -> Gh:
        return gh.Gh(self._layout, self._repository)

    # --- which there are ---------------------------------------------------------------------

    def refresh(self) -> list[PullRequest]:
        if self.book.is_new():
            from orchestrator.pulls import github_adoption

            github_adoption.adopt(self._layout, self.book, self._view)
        now = time.time()
        open_ones = (pr for pr in self.book.list() if pr.state == "open")
        asked = {pr.id: pr.asked for pr in open_ones if pr.asked is not None}
        due = [pr_id for pr_id, at in asked.items() if not 0 <= now - at < ASK_AGAIN]
        if due:
            # Instead of the list, so that a tick makes one request (reference 9.9).
            oldest = min(due, key=asked.__getitem__)
            self._keep(oldest, self._view(oldest))
            self.book.record(oldest, asked=now)
            return self.book.list()
        words = ("pr", "list", "--state", "open", "--limit", str(LISTED))
        wanted = ("--json", github_rows.FIELDS)
        rows = github_rows.listed(self._gh.json(*words, *wanted, timeout=gh.TICK_TIMEOUT))
        by_number = {str(row.get("number")): row for row in rows}
        missing = []
        for old in self.book.list():
            row = by_number.get(old.id)
            row = row if github_moved.is_of(row, old) else None
            cut_off = row is not None and github_rows.is_cut_off(row)
            # It is no longer open, unless there are more open ones than one request lists.
            unlisted = row is None and old.state == "open"
            is_partial = cut_off or (unlisted and len(rows) >= LISTED)
            has_changed = cut_off and github_rows.has_changed(old, row)
            if is_partial and old.id in asked and not has_changed:
                continue
            row = self._view(old.id) if cut_off or unlisted else row
            if unlisted and row is None:
                missing.append(old)
            self._keep(old.id, row)
            if is_partial or old.asked is not None:
                self.book.record(old.id, asked=now if is_partial else None)
        if missing:
            raise github_moved.fault(self._repository.words, missing)
        return self.book.list()

    def _keep(self, pr_id: str, row: Any) -> None:
        """Bring a record up to date with a row of gh, if both are the same pull request."""
        if row is None:
            return
        # Whoever has to be asked about is asked about without the lock.
        self._read(self.book.find(pr_id), row)
        with self.book.locked():
            old = self.book.find(pr_id)
            new = self._read(old, row)
            if new != old and self._is_ours(row) and new.branch == old.branch:
                self.book.write(new)

    def _read(self, old: PullRequest, row: Any) -> PullRequest:
        """Return what a row of gh says now, with the reviews of people who may write (9.1)."""
        new = github_rows.updated(old, github_rows.pull_request(row))
        fresh = [each for each in new.reviews if each not in old.reviews]
        marks = {each: f"{each.by} {each.verdict} {each.at}" for each in fresh}
        refused = [
            mark
            for each, mark in marks.items()
            if mark in old.refused or not self._people.counts(each.by)
        ]
        reviews = tuple(each for each in new.reviews if marks.get(each) not in refused)
        return new._replace(reviews=reviews, refused=tuple(refused))

    @cached_property
    def _people(self) -> People:
        return github_people.People(self._gh)

    def _view(self, pr_id: str, more: str = "") -> Any:
        """Return the row of one pull request; None if GitHub has no such pull request.

        After a change of the remote's address, another pull request can have its number.
        """
        try:
            row = self._gh.json("pr", "view", pr_id, "--json", github_rows.FIELDS + more)
        except NotFound:
            return None
        row, known = github_rows.listed([row])[0], self.book.get(pr_id)
        return row if known is None or github_moved.is_of(row, known) else None

    def _is_ours(self, row: Mapping[str, object]) -> bool:
        """Return whether a row's branch is in the repository that the product pushes to."""
        return github_rows.owner(row) == (self._fork.lower() if self._fork else None)

    def show(self, pr_id: str) -> PullRequest:
        old = self.book.find(pr_id)
        row = self._view(pr_id)
        if row is None:
            raise github_moved.fault(self._repository.words, [old])
        return self._read(old, row)

    # --- changes -----------------------------------------------------------------------------

    def open(self, wanted: PullRequest, body: str) -> PullRequest:
        row = self._open_one(wanted)
        if row is None:
            text = f"{body}\n\n{github_rows.TASK_MARK}{wanted.task}\n"
            head = f"{self._fork}:{wanted.branch}" if self._fork else wanted.branch
            names = ("--head", head, "--base", wanted.base, "--title", wanted.title)
            try:
                said = self._gh.run("pr", "create", *names, "--body-file", "-", stdin=text)
            except SystemFault as error:
                # GitHub may have it all the same.
                row = self._open_one(wanted)
                if row is None:
                    raise self._judged(wanted, error) from error
            else:
                import re

                made = re.search(r"/pull/(\d+)\s*\Z", said)
                if made:
                    where = self._repository.words
                    github_moved.make_room(self.book, where, made[1], wanted.branch)
                row = self._view(made[1]) if made else self._open_one(wanted)
        if row is None:
            raise SystemFault("gh does not show the pull request it opened", code="forge_failed")
        found = github_rows.pull_request(row)
        with self.book.locked():
            old = self.book.get(found.id) or found._replace(task=wanted.task, reviews=())
            found = self._read(old, {**row, "headRefOid": wanted.head})._replace(task=wanted.task)
            self.book.write(found, body)
        files.remove(self._refused)
        return found

    def _judged(self, wanted: PullRequest, error: SystemFault) -> OrchestratorError:
        """Return why GitHub opened no pull request: of this one, or of the system."""
        if not isinstance(error, gh.Refusal):
            return error
        from orchestrator.pulls import github_refusals

        is_fork = self._fork is not None
        return github_refusals.judged(self._gh, self._refused, wanted, error, may_only_read=is_fork)

    @property
    def _refused(self) -> str:
        """The file with the refusal that was met since the last pull request was opened."""
        return os.path.join(self._layout.cache, "github-refused.json")

    def _open_one(self, wanted: PullRequest) -> Any:
        """Return the row of the open pull request with the wanted branch, if there is one."""
        for old in self.book.list():
            if old.branch == wanted.branch and old.state == "open":
                row = self._view(old.id)
                if row is not None and row.get("state") == "OPEN" and self._is_ours(row):
                    return row
        words = ("pr", "list", "--head", wanted.branch, "--state", "open", "--limit", str(LISTED))
        rows = github_rows.listed(self._gh.json(*words, "--json", github_rows.FIELDS))
        ours = [row for row in rows if self._is_ours(row) and row.get("baseRefName") == wanted.base]
        return ours[0] if ours else None

    def post(self, pr: PullRequest, review: Given) -> str | None:
        return github_posting.post(self._gh, pr, review)

    def retarget(self, pr: PullRequest, base: str) -> None:
        # `gh pr edit` of earlier versions also asks for classic projects, which fails.
        self.show(pr.id)
        path = f"{self._repository.path}/pulls/{pr.id}"
        self._gh.run("api", "--method", "PATCH", path, "--raw-field", f"base={base}")
        self.book.record(pr.id, base=base)

    def close(self, pr_id: str) -> None:
        if self._view(pr_id) is not None:
            self._gh.run("pr", "close", pr_id)
        if self.book.get(pr_id) is not None:
            self.book.record(pr_id, state="closed")

    def feedback(self, pr: PullRequest) -> list[Feedback]:
        from orchestrator.pulls import github_feedback

        return github_feedback.find(self._gh, self._people, pr)

    # --- merging -----------------------------------------------------------------------------

    def methods(self) -> tuple[str, ...]:
        from orchestrator.pulls import github_merging

        return github_merging.methods(self._layout, self._gh)

    def merge(
        self, pr: PullRequest, commit: str, method: str, land: Callable[[], str]
    ) -> str | None:
        from orchestrator.pulls import github_merging

        row = github_merging.merge(self._layout, self._gh, self._view, pr.id, commit, method)
        merged = row.get("state") == "MERGED"
        self._read(self.book.get(pr.id) or pr, row)
        with self.book.locked():
            old = self.book.get(pr.id) or pr
            self.book.write(self._read(old, row)._replace(queued=not merged))
        return (github_rows.at(row, "mergeCommit", "oid") or commit) if merged else None

    # --- doctor ------------------------------------------------------------------------------

    def probe(self, variables: Mapping[str, str], timeout: float) -> Problem | None:
        try:
            return self._gh.probe(variables, timeout)
        except SystemFault as error:
            return Problem(error.code, error.message, error.hint)


def _same(one: Repository, other: Repository) -> bool:
    return [each.lower() for each in one] == [each.lower() for each in other]
