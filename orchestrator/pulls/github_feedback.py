"""What people and required checks on GitHub ask an author to change (reference 9.5)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from orchestrator.guard import secret_shapes
from orchestrator.model.annotations import Any
from orchestrator.model.errors import SystemFault
from orchestrator.model.work import Feedback, PullRequest
from orchestrator.pulls import github_rows
from orchestrator.pulls.gh import Gh, Refusal
from orchestrator.pulls.github_people import People
from orchestrator.text import quoting

#: Lines of a log's end, and characters of one feedback.
TAIL = 60
LONGEST = 4_000

#: The most requests about one pull request: each has 100 threads and 100 checks.
PAGES = 10

_QUERY = """query($owner:String!,$repo:String!,$n:Int!,$threads:String%s){
repository(owner:$owner,name:$repo){pullRequest(number:$n){headRefOid
reviewThreads(first:100,after:$threads){pageInfo{hasNextPage endCursor}
nodes{id isResolved isOutdated path line
comments(last:20){totalCount nodes{author{login} authorAssociation body createdAt}}}}%s}}}"""
_CHECKS = """
commits(last:1){nodes{commit{statusCheckRollup{contexts(first:100,after:$checks){
pageInfo{hasNextPage endCursor} nodes{
... on CheckRun{name isRequired(pullRequestNumber:$n)}
... on StatusContext{context isRequired(pullRequestNumber:$n)}}}}}}}"""
_WITH_CHECKS, _WITHOUT = _QUERY % (",$checks:String", _CHECKS), _QUERY % ("", "")


def find(gh: Gh, people: People, pr: PullRequest) -> list[Feedback]:
    """Return what is asked for on the head as it is now. Raises SystemFault."""
    try:
        pages = [*_pages(gh, pr, _WITH_CHECKS)]
    except Refusal:
        # An older GitHub Enterprise does not say which checks are required.
        pages = [*_pages(gh, pr, _WITHOUT)]
    threads = [_thread(each, people) for page in pages for each in _nodes(page, "reviewThreads")]
    fields = "headRefOid,mergeStateStatus,statusCheckRollup"
    row = gh.json("pr", "view", pr.id, "--json", fields)
    if not isinstance(row, dict):
        raise SystemFault("a pull request in the answer of gh is malformed", code="forge_failed")
    checks = _failing(
        row, {name: is_so for page in pages for name, is_so in _required(page).items()}
    )
    return [
        *(each for each in threads if each is not None),
        *(_check(gh, str(row.get("headRefOid")), check) for check in checks),
    ]


def _pages(gh: Gh, pr: PullRequest, query: str) -> Iterator[Any]:
    """Yield the answers about a pull request until both lists are complete, at most `PAGES`."""
    names = ("-f", f"owner={gh.repository.owner}", "-f", f"repo={gh.repository.name}")
    words = ("graphql", *names, "-F", f"n={pr.id}", "-f", f"query={query}")
    places: dict[str, str] = {}
    for _ in range(PAGES):
        after = [word for key, at in places.items() for word in ("-f", f"{key}={at}")]
        answer = gh.json("api", *words, *after)
        found = github_rows.at(answer, "data", "repository", "pullRequest")
        yield found
        lists = {"threads": github_rows.at(found, "reviewThreads"), "checks": _contexts(found)}
        ends = {key: github_rows.at(each, "pageInfo", "endCursor") for key, each in lists.items()}
        # After its last page, a list is asked for what follows: nothing.
        places |= {key: str(end) for key, end in ends.items() if end}
        if not any(github_rows.at(e, "pageInfo", "hasNextPage") is True for e in lists.values()):
            return


def _contexts(found: Any) -> Any:
    commits = _nodes(found, "commits")
    path = ("commit", "statusCheckRollup", "contexts")
    return github_rows.at(commits[-1], *path) if commits else None


def _thread(thread: Any, people: People) -> Feedback | None:
    """Return an unresolved thread whose last word is of a person who may write; else None.

    Only the words of such people are quoted.
    """
    comments = _nodes(thread, "comments")
    if thread.get("isResolved") or not comments or not _may_write(comments[-1], people):
        return None
    count = github_rows.at(thread, "comments", "totalCount") or len(comments)
    place = ":".join(str(thread[key]) for key in ("path", "line") if thread.get(key))
    said = [
        f"{github_rows.at(each, 'author', 'login') or 'ghost'}: {each.get('body') or ''}"
        for each in comments
        if _may_write(each, people)
    ]
    text = "\n\n".join([f"A review comment on {place or 'the pull request'}:", *said])
    return Feedback(f"thread:{thread.get('id')}:{count}", _bounded(text))


def _may_write(comment: Any, people: People) -> bool:
    """Return whether the author may write, as for a review: a member may only read."""
    login = github_rows.at(comment, "author", "login")
    called = comment.get("authorAssociation") in github_rows.WRITERS
    return called and isinstance(login, str) and people.counts(login)


def _required(found: Any) -> dict[str, bool]:
    """Return whether each check is required, by its name, as far as GitHub says it."""
    return {
        str(each.get("name") or each.get("context")): each["isRequired"]
        for each in github_rows.rows_of(_contexts(found), "nodes")
        if isinstance(each.get("isRequired"), bool)
    }


def _failing(row: Any, required: Mapping[str, bool]) -> Iterator[Any]:
    otherwise = row.get("mergeStateStatus") != "UNSTABLE"
    for check in github_rows.newest_checks(github_rows.rows_of(row, "statusCheckRollup")):
        failed = github_rows.conclusion(check) in github_rows.ABOUT_THE_WORK
        if failed and required.get(github_rows.name_of(check), otherwise):
            yield check


def _check(gh: Gh, head: str, check: Any) -> Feedback:
    name, said = github_rows.name_of(check), github_rows.conclusion(check)
    address = github_rows.address(check)
    step, log = _log(gh, name, address or "")
    first = f"The required check {name!r} ended with {said} on {head[:12]}"
    lines = [f"{first}, in the step {step!r}." if step else f"{first}.", address or ""]
    if log:
        lines += [f"The end of its log (at most {TAIL} lines):", log]
    elif check.get("description"):
        lines.append(str(check["description"]))
    text = "\n".join(line for line in lines if line)
    return Feedback(f"check:{head}:{name}:{said}", _bounded(text), by_machine=True)


def _log(gh: Gh, name: str, address: str) -> tuple[str, str]:
    """Return the failing step of a job of GitHub Actions and the end of its log, or "", "".

    Other systems have their logs elsewhere. gh 2.23 prints nothing for some jobs; then the log of
    the whole job is asked for.
    """
    ids = re.search(r"/actions/runs/(\d+)(?:/job/(\d+))?", address)
    if ids is None:
        return "", ""
    try:
        text = gh.run("run", "view", ids[1], "--log-failed")
    except SystemFault:
        text = ""
    rows = [line.split("\t", 2) for line in text.splitlines()]
    rows = [row for row in rows if len(row) == 3 and row[0] == name]
    if rows:
        step = rows[-1][1]
        return step, _tail(row[2] for row in rows if row[1] == step)
    if ids[2] is None:
        return "", ""
    path = f"{gh.repository.path}/actions/jobs/{ids[2]}/logs"
    try:
        return "", _tail(gh.run("api", path).splitlines())
    except SystemFault:
        return "", ""


def _tail(lines: Any) -> str:
    """Return the last lines of a log, without their times."""
    stamp = r"^\ufeff?\d{4}-\d\d-\d\dT[\d:.]+Z ?"
    return "\n".join([re.sub(stamp, "", line) for line in lines][-TAIL:])


def _bounded(text: str) -> str:
    return quoting.clipped(secret_shapes.withheld(quoting.cleaned(text)).strip(), LONGEST)


def _nodes(found: Any, name: str) -> list[Any]:
    return github_rows.rows_of(github_rows.at(found, name), "nodes")
