"""What people and required checks on GitHub ask an author to change (reference 9.5)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.errors import SystemFault
from orchestrator.model import Feedback, PullRequest
from orchestrator.pulls import github_rows
from orchestrator.pulls.gh import Gh, Refusal
from orchestrator.pulls.github_repo import GITHUB, Repository
from orchestrator.text import quoting

#: Lines of a log's end, and characters of one feedback.
TAIL = 60
LONGEST = 4_000

_QUERY = """query($owner:String!,$repo:String!,$n:Int!){repository(owner:$owner,name:$repo){
pullRequest(number:$n){headRefOid
reviewThreads(first:100){nodes{id isResolved isOutdated path line
comments(last:20){totalCount nodes{author{login} authorAssociation body createdAt}}}}%s}}}"""
_CHECKS = """
commits(last:1){nodes{commit{statusCheckRollup{contexts(first:100){nodes{
... on CheckRun{name isRequired(pullRequestNumber:$n)}
... on StatusContext{context isRequired(pullRequestNumber:$n)}}}}}}}"""


def find(gh: Gh, repository: Repository, pr: PullRequest) -> list[Feedback]:
    """Return what is asked for on the head as it is now. Raises SystemFault."""
    try:
        found = _asked(gh, repository, pr, _QUERY % _CHECKS)
    except Refusal:
        # An older GitHub Enterprise does not say which checks are required.
        found = _asked(gh, repository, pr, _QUERY % "")
    threads = [_thread(each) for each in _nodes(found, "reviewThreads")]
    fields = "headRefOid,mergeStateStatus,statusCheckRollup"
    row = gh.json("pr", "view", pr.id, "--json", fields, "-R", repository.words)
    if not isinstance(row, dict):
        raise SystemFault("a pull request in the answer of gh is malformed", code="forge_failed")
    checks = _failing(row, _required(found))
    return [
        *(each for each in threads if each is not None),
        *(_check(gh, repository, str(row.get("headRefOid")), check) for check in checks),
    ]


def _asked(gh: Gh, repository: Repository, pr: PullRequest, query: str) -> Any:
    names = ("-f", f"owner={repository.owner}", "-f", f"repo={repository.name}")
    words = ("graphql", *_host(repository), *names, "-F", f"n={pr.id}", "-f", f"query={query}")
    return github_rows.at(gh.json("api", *words), "data", "repository", "pullRequest")


def _host(repository: Repository) -> tuple[str, ...]:
    """Return the words with which `gh api`, which knows no -R, is told the host."""
    return () if repository.host == GITHUB else ("--hostname", repository.host)


def _thread(thread: Any) -> Feedback | None:
    """Return an unresolved thread whose last word is of a person who may write; else None.

    Only the words of such people are quoted.
    """
    comments = _nodes(thread, "comments")
    if thread.get("isResolved") or not comments or not _may_write(comments[-1]):
        return None
    count = github_rows.at(thread, "comments", "totalCount") or len(comments)
    place = ":".join(str(thread[key]) for key in ("path", "line") if thread.get(key))
    said = [
        f"{github_rows.at(each, 'author', 'login') or 'ghost'}: {each.get('body') or ''}"
        for each in comments
        if _may_write(each)
    ]
    text = "\n\n".join([f"A review comment on {place or 'the pull request'}:", *said])
    return Feedback(f"thread:{thread.get('id')}:{count}", _bounded(text))


def _may_write(comment: Any) -> bool:
    return comment.get("authorAssociation") in github_rows.WRITERS


def _required(found: Any) -> dict[str, bool]:
    """Return whether each check is required, by its name, as far as GitHub says it."""
    commits = _nodes(found, "commits")
    rollup = github_rows.at(commits[-1], "commit", "statusCheckRollup") if commits else None
    return {
        str(each.get("name") or each.get("context")): each["isRequired"]
        for each in _nodes(rollup, "contexts")
        if isinstance(each.get("isRequired"), bool)
    }


def _failing(row: Any, required: Mapping[str, bool]) -> Iterator[Any]:
    otherwise = row.get("mergeStateStatus") != "UNSTABLE"
    for check in github_rows.newest_checks(github_rows.rows_of(row, "statusCheckRollup")):
        failed = github_rows.conclusion(check) in github_rows.ABOUT_THE_WORK
        if failed and required.get(github_rows.name_of(check), otherwise):
            yield check


def _check(gh: Gh, repository: Repository, head: str, check: Any) -> Feedback:
    name, said = github_rows.name_of(check), github_rows.conclusion(check)
    address = github_rows.address(check)
    step, log = _log(gh, repository, name, address or "")
    first = f"The required check {name!r} ended with {said} on {head[:12]}"
    lines = [f"{first}, in the step {step!r}." if step else f"{first}.", address or ""]
    if log:
        lines += [f"The end of its log (at most {TAIL} lines):", log]
    elif check.get("description"):
        lines.append(str(check["description"]))
    text = "\n".join(line for line in lines if line)
    return Feedback(f"check:{head}:{name}:{said}", _bounded(text), by_machine=True)


def _log(gh: Gh, repository: Repository, name: str, address: str) -> tuple[str, str]:
    """Return the failing step of a job of GitHub Actions and the end of its log, or "", "".

    Other systems have their logs elsewhere. gh 2.23 prints nothing for some jobs; then the log of
    the whole job is asked for.
    """
    ids = re.search(r"/actions/runs/(\d+)(?:/job/(\d+))?", address)
    if ids is None:
        return "", ""
    try:
        text = gh.run("run", "view", ids[1], "--log-failed", "-R", repository.words)
    except (Refusal, SystemFault):
        text = ""
    rows = [line.split("\t", 2) for line in text.splitlines()]
    rows = [row for row in rows if len(row) == 3 and row[0] == name]
    if rows:
        step = rows[-1][1]
        return step, _tail(row[2] for row in rows if row[1] == step)
    if ids[2] is None:
        return "", ""
    path = f"repos/{repository.owner}/{repository.name}/actions/jobs/{ids[2]}/logs"
    try:
        return "", _tail(gh.run("api", *_host(repository), path).splitlines())
    except SystemFault:
        return "", ""


def _tail(lines: Any) -> str:
    """Return the last lines of a log, without their times."""
    stamp = r"^\ufeff?\d{4}-\d\d-\d\dT[\d:.]+Z ?"
    return "\n".join([re.sub(stamp, "", line) for line in lines][-TAIL:])


def _bounded(text: str) -> str:
    return quoting.clipped(quoting.cleaned(text).strip(), LONGEST)


def _nodes(found: Any, name: str) -> list[Any]:
    nodes = github_rows.at(found, name, "nodes")
    return [each for each in nodes if isinstance(each, dict)] if isinstance(nodes, list) else []
