"""What the reviews of a pull request come to. Pure functions (reference 9.1).

The product's own reviews are in the task's history, each with its commit, on both forges alike. The
reviews that people gave on the forge come with the pull request.
"""

# No `from __future__ import annotations`, for the reason that `model.config` gives.

from collections.abc import Callable, Iterable
from itertools import chain, takewhile

from orchestrator.model.fields import NamedTuple
from orchestrator.model.work import Entry, Given

APPROVED, CHANGES = "approved", "changes_requested"
#: The reviewer's name of the scheduler itself, which sends conflicts and failed merges back.
SCHEDULER = "scheduler"


class Standing(NamedTuple):
    """The verdict that counts for a head, the commit it was given on, and who gave it."""

    verdict: str | None = None
    commit: str | None = None
    by: str | None = None


def given(history: Iterable[Entry]) -> list[Given]:
    """Return the reviews in a task's history, oldest first. A review without a commit is skipped
    unless it requests changes: it cannot count for any head.
    """
    found = []
    for entry in history:
        text = {key: value for key, value in entry.fields.items() if isinstance(value, str)}
        verdict, commit = text.get("verdict"), text.get("head")
        if entry.event == "review" and verdict in (APPROVED, CHANGES):
            kind = "person" if text.get("kind") == "person" else "agent"
            settles = entry.fields.get("settles") is True
            by, said = text.get("reviewer", kind), text.get("feedback", "")
            found.append(Given(by, kind, verdict, commit, said, entry.at, settles))
    return found


def same_work(history: Iterable[Entry], head: str) -> list[str]:
    """Return a head, and the earlier heads of which it is only the product's own update."""
    old = {e.fields.get("head"): e.fields.get("of") for e in history if e.event == "updated"}
    found = [head]
    while isinstance(before := old.get(found[-1]), str) and before not in found:
        found.append(before)
    return found


def standing(reviews: Iterable[Given], counts: Callable[[str], bool]) -> Standing:
    """Return the verdict of all reviews together.

    `counts` says whether a review of that commit counts for the head: reviews of other commits do
    not change what was said of the head, to which a branch may return. A person's newest review
    outranks every agent's. A person's requested changes stand, whatever is pushed afterwards, until
    the same person approves or a later review resolves them.
    """
    newest = sorted(reviews, key=lambda each: each.at or "")[::-1]
    for review in objections(newest[::-1]):
        return Standing(CHANGES, review.commit, review.by)
    by_people = [review for review in newest if review.kind == "person"]
    # A review that an agent gave without a commit may be of this head: older ones are not certain.
    by_agents = takewhile(lambda each: each.commit, (r for r in newest if r.kind != "person"))
    for review in chain(by_people, by_agents):
        if review.commit is not None and counts(review.commit):
            return Standing(review.verdict, review.commit, review.by)
    return Standing()


def objections(reviews: Iterable[Given]) -> list[Given]:
    """Return the requested changes of people that nobody has resolved, oldest first."""
    return [review for review in _of_people(reviews) if review.verdict == CHANGES]


def is_overruled(review: Given, reviews: Iterable[Given]) -> bool:
    """Return whether a person's approval of the same commit outranks an agent's review."""
    people = _of_people(reviews)
    return (
        review.kind == "agent"
        and review.by != SCHEDULER
        and all(each.verdict == APPROVED for each in people)
        and any(each.commit == review.commit for each in people)
    )


def _of_people(reviews: Iterable[Given]) -> list[Given]:
    """Return the newest review of each person, oldest first, without resolved requests."""
    people: dict[str, Given] = {}
    for review in sorted(reviews, key=lambda each: each.at or ""):
        if review.settles:
            people = {by: each for by, each in people.items() if each.verdict != CHANGES}
        if review.kind == "person":
            people.pop(review.by, None)
            people[review.by] = review
    return [*people.values()]
