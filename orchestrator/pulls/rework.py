"""What follows for a task from what happened to its pull request elsewhere (reference 9.5).

A person closed or merged it, asked for changes, or pushed to its branch; a required check failed;
it conflicts with its base. Each fact counts once: the task's history keeps its key.
"""

# No `from __future__ import annotations`, for the reason that `model.config` gives.

from collections.abc import Iterable, Sequence

from orchestrator.model.config import Config
from orchestrator.model.fields import NamedTuple
from orchestrator.model.work import Entry, Feedback, PullRequest, Task
from orchestrator.plan import repeats
from orchestrator.pulls import review, verdicts
from orchestrator.text.words import count

#: The events with which a person decided where a task is: no fact overrules them.
_DECIDED = ("retried", "moved", "answered", "added")
#: Characters of feedback that a task's history keeps.
KEPT = 20_000


class Step(NamedTuple):
    """Where a task goes, the event that says so, and the event's fields."""

    state: str
    event: str
    fields: dict[str, object]


def step(
    pr: PullRequest,
    task: Task,
    history: Sequence[Entry],
    found: Iterable[Feedback],
    config: Config,
    *,
    in_review: bool = False,
) -> Step | None:
    """Return what follows from the state of a pull request and from feedback; None for nothing.

    `found` is everything that asks for changes now; what the history has already is left out.
    `in_review`: a review of the head waits or is being done.
    """
    last = history[-1].event if history else ""
    if pr.state != "open":
        return None if last in _DECIDED else ended(pr, task, history)
    if task.state != "done":
        if task.state == "blocked":
            return _withdrawn(pr, history, found)
        return _opened_again(pr, history) if task.state == "failed" else None
    known = {key for entry in history for key in _keys(entry)}
    new = [each for each in found if each.key not in known]
    if not new:
        outrun = None if in_review else _outrun(pr, task, config)
        return _unanswered(pr, history) or outrun
    text = "\n\n".join(each.text for each in new)[:KEPT]
    fields: dict[str, object] = {"pr": pr.id, "head": pr.head, "facts": [n.key for n in new]}
    rounds = _rounds(history)
    if all(each.by_machine for each in new) and rounds >= config.review.max_rounds:
        question = (
            f"Pull request {pr.id} was sent back {count(rounds, 'time')}, and this still stands: "
            f"{text[: review.QUOTED]} How should the work continue?"
        )
        return Step("blocked", "blocked", {**fields, "question": question, "reason": "max_rounds"})
    return Step("incoming", "reopened", {**fields, "feedback": text})


def _unanswered(pr: PullRequest, history: Sequence[Entry]) -> Step | None:
    """Ask a person if the author answered requested changes with no change."""
    last = history[-1] if history else None
    if last is None or last.event != "done" or last.fields.get("verdict") != "no_change":
        return None
    if pr.verdict != verdicts.CHANGES:
        return None
    said = str(last.fields.get("summary") or "no reason given")[: review.QUOTED]
    question = (
        f"Changes are requested on pull request {pr.id}, and its author made no change. How should "
        f"the work continue? The author says: {said}"
    )
    return Step("blocked", "blocked", {"pr": pr.id, "question": question, "reason": "max_rounds"})


def _opened_again(pr: PullRequest, history: Sequence[Entry]) -> Step | None:
    """A person opened the pull request again whose end cancelled the task: it is delivered."""
    moves = [entry for entry in history if entry.event not in ("review", "dismissed")]
    if not moves or moves[-1].event != "cancelled" or moves[-1].fields.get("pr") != pr.id:
        return None
    said = f"Pull request {pr.id} was opened again."
    return Step("done", "done", {"pr": pr.id, "summary": said, review.AGAIN: True})


def _withdrawn(pr: PullRequest, history: Sequence[Entry], found: Iterable[Feedback]) -> Step | None:
    """Withdraw a question about checks and conflicts if these no longer hold."""
    keys = open_facts(pr, history)
    conflicts = any(is_about_conflict(each.key) for each in found)
    if not keys or any(holds(key, pr, conflicts=conflicts) for key in keys):
        return None
    said = f"The question about pull request {pr.id} is withdrawn: what it says no longer holds."
    return Step("done", "done", {"pr": pr.id, "summary": said, review.WITHDRAWN: True})


def _outrun(pr: PullRequest, task: Task, config: Config) -> Step | None:
    """Ask a person if somebody pushes after each review: no review is of the newest commit."""
    reviews = task.uncharged.get("review", 0)
    if pr.verdict is not None or reviews < repeats.limit("review", config):
        return None
    said = repeats.review_question(pr.id, reviews, pr.head)
    return Step("blocked", "blocked", {"pr": pr.id, "question": said, "reason": "branch_moved"})


def ended(pr: PullRequest, task: Task, history: Sequence[Entry]) -> Step | None:
    """A merge is written down; it finishes a task that waits for rework. A close cancels, once."""
    again = [place for place, e in enumerate(history) if e.fields.get(review.AGAIN) is True]
    since = max(again, default=0)
    told = [entry.event for entry in history[since:] if entry.fields.get("pr") == pr.id]
    if task.state == "claimed" or "cancelled" in told or "merged" in told:
        return None
    if pr.state == "merged" and task.state == "done":
        return Step("done", "merged", {"pr": pr.id, "head": pr.head})
    if pr.state == "merged":
        summary = f"Pull request {pr.id} was merged while the task waited for rework."
        fields = {"pr": pr.id, "summary": summary, "verdict": "no_change", "merged": True}
        return Step("done", "done", fields)
    if task.state == "failed":
        return None
    return Step("failed", "cancelled", {"pr": pr.id, "reason": f"pull request {pr.id} was closed"})


def unheard(history: Iterable[Entry]) -> list[Feedback]:
    """Return the changes that people requested here while a run had the task: it knew no better."""
    found: list[Feedback] = []
    for entry in history:
        if entry.event in ("claimed", "reopened"):
            found = []
        for given in verdicts.given([entry]):
            if given.settles:
                found = []
            elif (given.kind, given.verdict) == ("person", verdicts.CHANGES):
                found.append(Feedback(f"review:{entry.fields.get('run')}", given.text))
    return found


def requested(pr: PullRequest, history: Iterable[Entry]) -> list[Feedback]:
    """Return the changes that people request: here during a run, on the forge until resolved."""
    history = list(history)
    standing = verdicts.objections([*verdicts.given(history), *pr.reviews])
    return [
        *unheard(history),
        *(
            Feedback(f"review:{given.by}:{given.at}", f"{given.by} requests changes: {given.text}")
            for given in pr.reviews
            if given in standing
        ),
    ]


def is_answered(pr: PullRequest, history: Iterable[Entry]) -> bool:
    """Whether the author was told of every requested change of a person."""
    history = list(history)
    known = {key for entry in history for key in _keys(entry)}
    return all(each.key in known for each in requested(pr, history))


def _keys(entry: Entry) -> list[object]:
    found = entry.fields.get("facts")
    return found if isinstance(found, list) else []


def _rounds(history: Sequence[Entry]) -> int:
    """Return how often facts reopened the task since a person last decided about it."""
    rounds = 0
    for entry in history:
        if entry.event in _DECIDED:
            rounds = 0
        rounds += entry.event == "reopened" and bool(_keys(entry))
    return rounds


# --- open questions: a check that failed may pass when it runs again, and a base may move --------


def open_facts(pr: PullRequest, history: Sequence[Entry]) -> list[str]:
    """Return the keys of the facts that the task's open question about a pull request is about."""
    moves = [entry for entry in history if entry.event not in ("review", "dismissed")]
    if not moves or moves[-1].event != "blocked" or moves[-1].fields.get("pr") != pr.id:
        return []
    return [str(key) for key in _keys(moves[-1])]


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
