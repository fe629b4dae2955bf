"""Questions about a pull request: what they say, and whether what they say still holds. Pure.

A person is asked after `review.max_rounds` rounds (reference 9.5). A check that failed may pass
when it runs again, and a base may move: then there is nothing left to decide.
"""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.model.work import Entry, Given, PullRequest
from orchestrator.pulls.verdicts import CHANGES, SCHEDULER
from orchestrator.text.words import count

#: Characters of a feedback that are put into a question.
QUOTED = 500


def after_rounds(history: Sequence[Entry], rounds: int, last: Given) -> str:
    """Return the question after so many rounds; `last` is the review that ended them.

    A merge that conflicts or fails its checks is a round, too, but no review.
    """
    asked = [e for e in history if e.event == "review" and e.fields.get("verdict") == CHANGES]
    failed = sum(e.fields.get("reviewer") == SCHEDULER for e in asked[-rounds:])
    reviews = rounds - failed
    said = [f"changes were requested in {count(reviews, 'review')}"] if reviews else []
    said += [f"the merge failed {count(failed, 'time')}"] if failed else []
    first = " and ".join(said)
    name = "failed merge" if last.by == SCHEDULER else "review"
    return (
        f"{first[:1].upper()}{first[1:]}. How should the work continue? The last {name} says: "
        f"{(last.text or 'no reason given')[:QUOTED]}"
    )


def open_facts(pr: PullRequest, history: Sequence[Entry]) -> list[str]:
    """Return the keys of the facts that the task's open question about a pull request is about."""
    moves = [entry for entry in history if entry.event not in ("review", "dismissed")]
    if not moves or moves[-1].event != "blocked" or moves[-1].fields.get("pr") != pr.id:
        return []
    found = moves[-1].fields.get("facts")
    return [str(key) for key in found] if isinstance(found, list) else []


def is_about_conflict(key: str) -> bool:
    return key.startswith("conflict:")


def holds(key: str, pr: PullRequest, *, conflicts: bool) -> bool:
    """Whether a fact about a check or a conflict holds for a pull request as it is now.

    `conflicts`: the head conflicts with its base. A check that runs again decides nothing before it
    has passed.
    """
    kind, _, rest = key.partition(":")
    head, _, rest = rest.partition(":")
    if head != pr.head:
        return False
    if is_about_conflict(key):
        return conflicts
    named = [check.state for check in pr.checks if check.name == rest.rpartition(":")[0]]
    return kind != "check" or not named or any(state != "passed" for state in named)
