"""GitHub as a forge, through its own `gh` program and the user's sign-in.

It looks for a pull request of the same head before it opens one, so that a step repeated after a
crash opens no second one (failures 2).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from orchestrator.errors import NotFound, SystemFault
from orchestrator.guard import client_environment
from orchestrator.layout import Layout
from orchestrator.model import Config, Feedback, Given, Problem, PullRequest
from orchestrator.pulls.book import Book, from_record
from orchestrator.pulls.forge import BRANCH_PREFIX
from orchestrator.system import commands

#: Time limit of a call of `gh`, in seconds; and the shorter limit inside a tick, because other
#: processes wait for the tick.
GH_TIMEOUT = 60.0
GH_TICK_TIMEOUT = 20.0

_FIELDS = "number,headRefName,baseRefName,headRefOid,title,state,url,reviewDecision,body"
_VERDICTS = {"APPROVED": "approved", "CHANGES_REQUESTED": "changes_requested"}
#: The line at the end of a pull request's text that names its task.
_TASK_MARK = "Orchestrator-Task: "


class GitHub:
    """Pull requests on GitHub, through its own `gh` program and the user's sign-in."""

    name = "github"
    program: ClassVar[str | None] = "gh"
    hints: ClassVar[Mapping[str, str]] = {"forge_failed": "try: gh auth status"}
    is_elsewhere = True

    def __init__(self, layout: Layout, config: Config) -> None:
        self._root = layout.root
        self.book = Book(os.path.join(layout.prs, "github"))

    @staticmethod
    def takes(layout: Layout, url: str) -> bool:
        import shutil

        on_github = re.match(r"(https://([^/@]*@)?|ssh://git@|git@)github\.com[:/]", url)
        return bool(on_github) and shutil.which("gh") is not None

    def refresh(self) -> list[PullRequest]:
        words = ("pr", "list", "--state", "all", "--limit", "500", "--json", _FIELDS)
        rows = self._json(*words, timeout=GH_TICK_TIMEOUT)
        for pr in map(_pull_request, _listed(rows)):
            if pr.branch.startswith(BRANCH_PREFIX) and pr != self.book.get(pr.id):
                self.book.write(pr)
        return self.book.list()

    def show(self, pr_id: str) -> PullRequest:
        if not re.fullmatch(r"[0-9]{1,9}", pr_id):
            raise NotFound("pull request", pr_id)
        return _pull_request(self._json("pr", "view", pr_id, "--json", _FIELDS))

    def open(self, wanted: PullRequest, body: str) -> PullRequest:
        found = self._of_branch(wanted.branch)
        if found is not None:
            return found
        text = f"{body}\n\n{_TASK_MARK}{wanted.task}\n"
        names = ("--head", wanted.branch, "--base", wanted.base, "--title", wanted.title)
        self._run("pr", "create", *names, "--body-file", "-", stdin=text)
        found = self._of_branch(wanted.branch)
        if found is None:
            raise SystemFault("gh does not list the pull request it opened", code="forge_failed")
        return found

    def _of_branch(self, branch: str) -> PullRequest | None:
        rows = self._json(
            "pr", "list", "--head", branch, "--state", "open", "--limit", "1", "--json", _FIELDS
        )
        return _pull_request(rows[0]) if _listed(rows) else None

    def post(self, pr: PullRequest, review: Given) -> None:
        # A comment, not a review: GitHub refuses reviews of one's own pull requests.
        commit, word = review.commit or pr.head, review.verdict.replace("_", " ")
        said = f"Review of {commit[:12]}: **{word}**\n\n{review.text}"
        found = self._json("pr", "view", pr.id, "--json", "comments")
        # A comment that was posted before a crash is not posted again.
        if not any(_same_text(each.get("body"), said) for each in found["comments"]):
            self._run("pr", "comment", pr.id, "--body-file", "-", stdin=said)

    def feedback(self, pr: PullRequest) -> list[Feedback]:
        return []

    def methods(self) -> tuple[str, ...]:
        return ("merge", "squash", "rebase")

    def merge(
        self, pr: PullRequest, commit: str, method: str, land: Callable[[], str]
    ) -> str | None:
        self._run("pr", "merge", pr.id, f"--{method}", "--match-head-commit", commit)
        return commit

    def close(self, pr_id: str) -> None:
        self._run("pr", "close", pr_id)

    def probe(self, variables: Mapping[str, str], timeout: float) -> Problem | None:
        login = "gh auth login; or set `forge: local` in .orchestrator/agents.yaml"
        try:
            done = self._gh(("auth", "status"), variables, timeout)
        except OSError:
            return Problem("forge_failed", "forge is github, but gh is not installed", login)
        if done.code is None:
            return Problem("forge_failed", "gh did not answer in time", "try: gh auth status")
        if done.code != 0:
            return Problem("forge_failed", "gh is not signed in", login)
        return None

    def _json(self, *arguments: str, timeout: float | None = None) -> Any:
        text = self._run(*arguments, timeout=timeout)
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise SystemFault("the answer of gh is not JSON", code="forge_failed") from error

    def _run(self, *arguments: str, stdin: str | None = None, timeout: float | None = None) -> str:
        try:
            done = self._gh(arguments, os.environ, timeout or GH_TIMEOUT, stdin)
        except OSError as error:
            raise SystemFault(
                "the forge is github, but the gh program cannot be started",
                "install gh, or set `forge: local` in agents.yaml",
                code="forge_failed",
            ) from error
        if done.code == 0:
            return done.out
        if done.code is not None and "Could not resolve to a PullRequest" in done.err:
            raise NotFound("pull request", arguments[2] if len(arguments) > 2 else "?")
        said = done.err.strip()[-300:] if done.code is not None else "no answer in time"
        raise SystemFault(
            f"gh {arguments[0]} {arguments[1]} failed: {said}",
            "try: gh auth status",
            code="forge_failed",
        )

    def _gh(
        self,
        arguments: tuple[str, ...],
        variables: Mapping[str, str],
        timeout: float,
        stdin: str | None = None,
    ) -> commands.Finished:
        """Run gh in the project. Raises OSError when it cannot be started."""
        return commands.run(
            ("gh", *arguments),
            cwd=self._root,
            environment=client_environment.for_git(variables, GH_PROMPT_DISABLED="1", NO_COLOR="1"),
            timeout=timeout,
            stdin=stdin,
        )


def _same_text(one: str | None, other: str) -> bool:
    """Whether two texts differ only in white space: GitHub changes line ends."""
    return (one or "").split() == other.split()


def _listed(rows: Any) -> list[Any]:
    """Return the answer of gh if it is a list. Raises SystemFault."""
    if not isinstance(rows, list):
        raise SystemFault("the answer of gh is not a list of pull requests", code="forge_failed")
    return rows


def _pull_request(row: Any) -> PullRequest:
    """Read one JSON row of gh. Raises SystemFault if its fields are not those of gh."""
    try:
        tasks = re.findall(rf"^{_TASK_MARK}(\S+)$", row.get("body") or "", re.MULTILINE)
        found = from_record(
            {
                "id": str(int(row["number"])),
                "task": tasks[-1] if tasks else None,
                "branch": row["headRefName"],
                "base": row["baseRefName"],
                "head": row["headRefOid"],
                "title": row["title"],
                "state": row["state"].lower(),
                "verdict": _VERDICTS.get(row.get("reviewDecision") or ""),
                "url": row["url"],
            }
        )
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError):
        found = None
    if found is None:
        raise SystemFault("a pull request in the answer of gh is malformed", code="forge_failed")
    return found
