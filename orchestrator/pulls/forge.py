"""Forges: where pull requests live. `github` through the `gh` program, or `local`, on this disk.

Both look for a pull request of the same head before they open one, so that a step repeated after a
crash opens no second one (failures 2).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from typing import Any, Protocol

from orchestrator.errors import NotFound, SystemFault
from orchestrator.git import remotes
from orchestrator.guard import client_environment
from orchestrator.layout import Layout
from orchestrator.model import Config, PullRequest
from orchestrator.system import commands, files, locks

#: Agents' branches; only their pull requests count against `max_open_prs`.
BRANCH_PREFIX = "agent/"
#: Seconds for a call of `gh`; and for the one that a tick makes, which others wait for.
GH_TIMEOUT = 60.0
GH_TICK_TIMEOUT = 20.0


class Forge(Protocol):
    """What the scheduler needs of a forge. Each call may raise SystemFault."""

    name: str

    def list(self) -> list[PullRequest]:
        """Return the agents' pull requests in every state, oldest first."""

    def show(self, pr_id: str) -> PullRequest:
        """Return one. Raises NotFound."""

    def open(self, wanted: PullRequest, body: str) -> PullRequest:
        """Open a pull request, or return the open one of the same branch, brought up to date."""

    def give_verdict(self, pr_id: str, verdict: str, commit: str, text: str) -> None:
        """Record a review's verdict on a commit."""

    def mark(self, pr_id: str, state: str) -> None:
        """Record that a pull request was merged or closed."""


def of_project(layout: Layout, config: Config) -> Forge:
    """Return the forge that the configuration asks for; `auto` looks at the remote and for `gh`."""
    if config.forge == "github" or (config.forge == "auto" and _is_github(layout, config)):
        return GitHub(layout.root)
    return Local(layout, config)


def _is_github(layout: Layout, config: Config) -> bool:
    import shutil

    url = remotes.url(layout.root, config.remote) or ""
    on_github = re.match(r"(https://([^/@]*@)?|ssh://git@|git@)github\.com[:/]", url)
    return bool(on_github) and shutil.which("gh") is not None


# --- local -------------------------------------------------------------------------------------


class Local:
    """Pull requests as JSON records in `.orchestrator/shared/prs/`, beside real branches."""

    name = "local"

    def __init__(self, layout: Layout, config: Config) -> None:
        self._layout = layout
        self._remote = config.remote

    def list(self) -> list[PullRequest]:
        found = (self._read(str(number)) for number in sorted(self._numbers()))
        return [pr for pr in found if pr is not None]

    def _numbers(self) -> Iterator[int]:
        try:
            names = os.listdir(self._layout.prs)
        except FileNotFoundError:
            return
        yield from (int(n[:-5]) for n in names if re.fullmatch(r"[0-9]{1,9}\.json", n))

    def show(self, pr_id: str) -> PullRequest:
        pr = self._read(pr_id) if re.fullmatch(r"[0-9]{1,9}", pr_id) else None
        if pr is None:
            raise NotFound("pull request", pr_id, [pr.id for pr in self.list()])
        return pr

    def open(self, wanted: PullRequest, body: str) -> PullRequest:
        with self._locked():
            known = self.list()
            for pr in known:
                if pr.branch == wanted.branch and pr.state == "open":
                    # A verdict holds for the commit it was given on, and for no other.
                    verdict = pr.verdict if pr.head == wanted.head else None
                    self._write(pr._replace(head=wanted.head, verdict=verdict))
                    return self.show(pr.id)
            number = max(self._numbers(), default=0) + 1
            pr = wanted._replace(id=str(number), state="open", url=self._path(str(number)))
            self._write(pr, body)
            return pr

    def give_verdict(self, pr_id: str, verdict: str, commit: str, text: str) -> None:
        with self._locked():
            self._write(self.show(pr_id)._replace(verdict=verdict, reviewed=commit))

    def mark(self, pr_id: str, state: str) -> None:
        with self._locked():
            self._write(self.show(pr_id)._replace(state=state))

    def _locked(self) -> locks.Lock:
        files.make_folder(self._layout.prs)
        return locks.Lock(os.path.join(self._layout.prs, ".lock"), wait=30)

    def _path(self, pr_id: str) -> str:
        return os.path.join(self._layout.prs, f"{pr_id}.json")

    def _read(self, pr_id: str) -> PullRequest | None:
        record = files.read_json(self._path(pr_id))
        if record is None or record.get("id") != pr_id:
            return None
        return from_record(record)

    def _write(self, pr: PullRequest, body: str | None = None) -> None:
        if body is None:
            body = (files.read_json(self._path(pr.id)) or {}).get("body", "")
        files.write_json(self._path(pr.id), {**pr._asdict(), "body": body})


_NAMES = ("id", "branch", "base", "head", "title", "state")
_STATES = ("open", "merged", "closed")
#: What git takes for a branch here, and for no option; and a commit's name.
_BRANCH = r"(?![-/.])[^\x00-\x20\x7f~^:?*\[\\]{1,300}"
_COMMIT = r"[0-9A-Za-z]{1,64}"


def from_record(record: dict[str, Any]) -> PullRequest | None:
    """Return the pull request of a record, by our fields' names; None for one of another shape."""
    values = {name: record.get(name) for name in PullRequest._fields}
    kinds = (str, type(None))
    if not all(isinstance(v, str if n in _NAMES else kinds) for n, v in values.items()):
        return None
    pr = PullRequest(**values)  # type: ignore[arg-type]
    branches = all(re.fullmatch(_BRANCH, name) for name in (pr.branch, pr.base))
    good = branches and re.fullmatch(_COMMIT, pr.head) and pr.state in _STATES
    return pr if good else None


# --- GitHub ------------------------------------------------------------------------------------

_FIELDS = "number,headRefName,baseRefName,headRefOid,title,state,url,reviewDecision,body"
_VERDICTS = {"APPROVED": "approved", "CHANGES_REQUESTED": "changes_requested"}
#: How a pull request of ours names its task, at the end of its text.
_TASK_MARK = "Orchestrator-Task: "


class GitHub:
    """Pull requests on GitHub, through its own `gh` program and the user's sign-in."""

    name = "github"

    def __init__(self, root: str) -> None:
        self._root = root

    def list(self) -> list[PullRequest]:
        words = ("pr", "list", "--state", "all", "--limit", "500", "--json", _FIELDS)
        rows = self._json(*words, timeout=GH_TICK_TIMEOUT)
        found = [_pull_request(row) for row in _listed(rows)]
        return sorted(
            (pr for pr in found if pr.branch.startswith(BRANCH_PREFIX)), key=lambda pr: int(pr.id)
        )

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
            raise SystemFault("gh opened a pull request that it does not list", code="forge_failed")
        return found

    def _of_branch(self, branch: str) -> PullRequest | None:
        rows = self._json(
            "pr", "list", "--head", branch, "--state", "open", "--limit", "1", "--json", _FIELDS
        )
        return _pull_request(rows[0]) if _listed(rows) else None

    def give_verdict(self, pr_id: str, verdict: str, commit: str, text: str) -> None:
        # A comment, not a review: GitHub refuses reviews of one's own pull requests.
        said = f"Review of {commit[:12]}: **{verdict.replace('_', ' ')}**\n\n{text}"
        found = self._json("pr", "view", pr_id, "--json", "comments")
        # Said before a crash, it is not said again.
        if not any(_same_text(each.get("body"), said) for each in found["comments"]):
            self._run("pr", "comment", pr_id, "--body-file", "-", stdin=said)

    def mark(self, pr_id: str, state: str) -> None:
        if state == "closed":
            self._run("pr", "close", pr_id)

    def merge(self, pr_id: str, commit: str) -> None:
        """Merge on GitHub, only if the head still is `commit`."""
        self._run("pr", "merge", pr_id, "--merge", "--match-head-commit", commit)

    def _json(self, *arguments: str, timeout: float | None = None) -> Any:
        text = self._run(*arguments, timeout=timeout)
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise SystemFault("gh gave an answer that is no JSON", code="forge_failed") from error

    def _run(self, *arguments: str, stdin: str | None = None, timeout: float | None = None) -> str:
        variables = client_environment.for_git(os.environ, GH_PROMPT_DISABLED="1", NO_COLOR="1")
        try:
            done = commands.run(
                ("gh", *arguments),
                cwd=self._root,
                environment=variables,
                timeout=timeout or GH_TIMEOUT,
                stdin=stdin,
            )
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


def _same_text(one: str | None, other: str) -> bool:
    """Whether two texts differ by no more than what GitHub does to lines' ends."""
    return (one or "").split() == other.split()


def _listed(rows: Any) -> list[Any]:
    """Return gh's list as one. Raises SystemFault."""
    if not isinstance(rows, list):
        raise SystemFault("gh gave no list of pull requests", code="forge_failed")
    return rows


def _pull_request(row: Any) -> PullRequest:
    """Read one of gh's JSON rows. Raises SystemFault on a shape that gh never gives."""
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
        raise SystemFault("gh gave a pull request of unknown shape", code="forge_failed")
    return found
