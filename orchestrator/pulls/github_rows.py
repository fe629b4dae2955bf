"""What `gh` prints about a pull request, read as the product's own types. Pure functions.

The fields are those of gh 2.23 and later. A field that decides which pull request it is must be
there; any other may be missing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from orchestrator.model.annotations import Any
from orchestrator.model.errors import SystemFault
from orchestrator.model.work import Given, PullRequest, RemoteCheck
from orchestrator.pulls.book import from_record

FIELDS = (
    "number,title,body,state,url,headRefName,headRefOid,baseRefName,isCrossRepository,"
    "headRepositoryOwner,isDraft,mergeable,mergeStateStatus,updatedAt,reviews,statusCheckRollup"
)
#: gh cuts reviews and checks off after so many in a list of pull requests.
CUT_OFF = 100
#: The line at the end of a pull request's text that names its task.
TASK_MARK = "Orchestrator-Task: "
#: The beginning of the mark in each review and comment that the product posted.
POSTED = "<!-- orchestrator review "
#: How GitHub calls the authors who may write to the repository.
WRITERS = ("OWNER", "MEMBER", "COLLABORATOR")

_VERDICTS = {"APPROVED": "approved", "CHANGES_REQUESTED": "changes_requested"}
_PASSED = ("SUCCESS", "NEUTRAL", "SKIPPED")
#: ACTION_REQUIRED is not here: such a check waits for a person.
_FAILED = ("FAILURE", "ERROR", "TIMED_OUT", "STARTUP_FAILURE", "CANCELLED", "STALE")
#: Not in this list: a check that a person or GitHub ended says nothing about the work.
ABOUT_THE_WORK = ("FAILURE", "ERROR", "TIMED_OUT", "STARTUP_FAILURE")


def listed(rows: Any) -> list[Any]:
    """Return the answer of gh if it is a list of pull requests. Raises SystemFault."""
    needed = {"number", "headRefName", "state"}
    if not isinstance(rows, list) or not all(
        isinstance(r, dict) and needed <= r.keys() for r in rows
    ):
        raise SystemFault("the answer of gh is not a list of pull requests", code="forge_failed")
    return rows


def pull_request(row: Any) -> PullRequest:
    """Read one row of gh. Raises SystemFault if its fields are not those of gh."""
    try:
        tasks = re.findall(rf"^{TASK_MARK}(\S+)$", row.get("body") or "", re.MULTILINE)
        found = from_record(
            {
                "id": str(int(row["number"])),
                "task": tasks[-1] if tasks else None,
                "branch": row["headRefName"],
                "base": row["baseRefName"],
                "head": row["headRefOid"],
                "title": row["title"],
                "state": row["state"].lower(),
                "url": row["url"],
            }
        )
        if found is not None:
            found = found._replace(
                reviews=tuple(_reviews(rows_of(row, "reviews"))),
                checks=tuple(_checks(row)),
                mergeable={"MERGEABLE": True, "CONFLICTING": False}.get(row.get("mergeable") or ""),
                updated=str(row.get("updatedAt") or "") or None,
                draft=row.get("isDraft") is True and row["state"] == "OPEN",
            )
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError):
        found = None
    if found is None:
        raise SystemFault("a pull request in the answer of gh is malformed", code="forge_failed")
    return found


def is_cut_off(row: Any) -> bool:
    """Return whether a list may lack some of the reviews or checks of a pull request."""
    return any(len(rows_of(row, name)) >= CUT_OFF for name in ("reviews", "statusCheckRollup"))


def owner(row: Any) -> str | None:
    """Return the owner, in lower case, of the fork that a pull request comes from, if it does."""
    if not row.get("isCrossRepository"):
        return None
    return str(at(row, "headRepositoryOwner", "login") or "?").lower()


def at(found: Any, *names: str) -> Any:
    """Return what nested objects have under these names; None if they do not."""
    for name in names:
        found = found.get(name) if isinstance(found, dict) else None
    return found


def rows_of(row: Any, name: str) -> list[Any]:
    found = at(row, name)
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _reviews(rows: Iterable[Any]) -> Iterable[Given]:
    """Return the verdicts of people who may write to the repository (reference 9.1)."""
    for row in rows:
        verdict, text = _VERDICTS.get(row.get("state") or ""), row.get("body") or ""
        if verdict and row.get("authorAssociation") in WRITERS and POSTED not in text:
            by, commit = at(row, "author", "login"), at(row, "commit", "oid")
            at_time = row.get("submittedAt") or None
            yield Given(str(by or "ghost"), "person", verdict, commit, text, at_time)


def _checks(row: Any) -> Iterable[RemoteCheck]:
    """Return the newest attempt of each check.

    gh does not say which checks are required. GitHub calls the merge UNSTABLE if the checks that
    fail or still run are not.
    """
    required = row.get("mergeStateStatus") != "UNSTABLE"
    for check in newest_checks(rows_of(row, "statusCheckRollup")):
        said = conclusion(check)
        state = "passed" if said in _PASSED else "failed" if said in _FAILED else "pending"
        yield RemoteCheck(name_of(check), state, address(check), required or state == "passed")


def newest_checks(rows: Iterable[Any]) -> list[Any]:
    """Return the newest row of each (workflow, name), in the order of the first rows.

    A check that is queued again has no start yet (gh prints the year 1): it is the newest.
    """
    newest: dict[tuple[str, str], Any] = {}
    for row in rows:
        key = (str(row.get("workflowName")), name_of(row))
        if key not in newest or _start(row) >= _start(newest[key]):
            newest[key] = row
    return list(newest.values())


def _start(row: Any) -> str:
    started = str(row.get("startedAt") or "")
    known = started and not started.startswith("0001-")
    waits = not known and not conclusion(row)
    return "9999" if waits else started


def conclusion(check: Any) -> str:
    """Return how a check ended in GitHub's words, in capitals; "" while it has not."""
    if "context" in check:
        said = str(check.get("state") or "").upper()
        return "" if said in ("PENDING", "EXPECTED") else said
    if str(check.get("status") or "COMPLETED").upper() != "COMPLETED":
        return ""
    return str(check.get("conclusion") or "").upper()


def name_of(check: Any) -> str:
    return str(check.get("name") or check.get("context") or "?")


def address(check: Any) -> str | None:
    found = check.get("detailsUrl") or check.get("targetUrl")
    return found if isinstance(found, str) else None


def has_changed(old: PullRequest, row: Any) -> bool:
    """Return whether a row has another head, or another time of its last change, than a record."""
    return (old.head, old.updated) != (row.get("headRefOid"), row.get("updatedAt"))


def updated(old: PullRequest, new: PullRequest) -> PullRequest:
    """Return what GitHub says of a pull request, with what only the product's record knows."""
    # A merge is final, also one that only a person's word has recorded.
    state = old.state if old.state == "merged" else new.state
    unchanged = (old.head, old.updated) == (new.head, new.updated)
    return new._replace(
        task=old.task or new.task,
        state=state,
        verdict=old.verdict,
        reviewed=old.reviewed,
        # GitHub may have stopped to wait with each change; a merge that waits can be asked again.
        queued=old.queued and unchanged and state == "open",
        followed=old.followed and state == old.state,
        asked=old.asked,
        refused=old.refused,
        heard=old.heard,
    )
