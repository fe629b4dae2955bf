"""Who moves an open pull request next: an agent, the landing, the forge, or a person. Pure.

Each open pull request has exactly one answer. If the answer is a person, one item of the inbox says
so: its own item, or the item of a task. `tick.moves` collects the facts.
"""

# No `from __future__ import annotations`, for the reason that `model.config` gives.

from collections.abc import Collection, Mapping

from orchestrator.model.annotations import Literal
from orchestrator.model.fields import NamedTuple
from orchestrator.model.work import Entry, Given, PullRequest, Task
from orchestrator.plan.rule import Verdict
from orchestrator.pulls import states
from orchestrator.pulls.landing_queue import Refused, awaited
from orchestrator.pulls.verdicts import APPROVED, CHANGES
from orchestrator.tasks import parts
from orchestrator.text.quoting import one_line
from orchestrator.text.words import local

#: What is said of an item that a person has dismissed.
REMOVED = "removed from the inbox"


class Move(NamedTuple):
    """Who moves a pull request next, in a sentence about the pull request."""

    by: Literal["reviewer", "author", "landing", "forge", "person"]
    text: str
    #: What a person types to decide; None if nothing waits for a person.
    step: str | None = None
    #: The id of the inbox item that asks the person; None if no item does.
    item: str | None = None
    #: What the pull request's own item is about: another fact is another item.
    fact: str = ""
    #: The task of the pull request; None if it has no task.
    task: str | None = None


class Facts(NamedTuple):
    """What decides who moves a pull request next."""

    pr: PullRequest
    #: None if its task is gone.
    task: Task | None
    #: The review tasks of its head that are waiting, claimed, blocked or failed.
    reviews: tuple[Task, ...] = ()
    #: Whether the next tick adds a review task.
    will_review: bool = False
    #: The requested changes of people that nobody has resolved, oldest first.
    objections: tuple[Given, ...] = ()
    #: Whether the author has been told every one of them.
    answered: bool = True
    #: The agent that approved the head, if the newest review of an agent did.
    approved_by: str | None = None
    #: The waiting tasks that no agent can start, by id.
    stuck: Mapping[str, Verdict] = {}
    #: The ids of the tasks that have an item in the inbox.
    asked: Collection[str] = ()
    #: Whether approved pull requests are merged automatically here.
    lands: bool = False
    #: The pull request that has to be merged before this one.
    first: PullRequest | None = None
    #: The last merge that failed, if the next try is for the same head.
    refused: Refused | None = None
    is_paused: bool = False


def next_move(facts: Facts) -> Move:
    """Return who moves an open pull request next."""
    pr, task = facts.pr, facts.task
    if task is None:
        step = f"orchestrator pr merge {pr.id}; or: orchestrator pr close {pr.id}"
        return _person(pr, "its task is gone, so no agent works on it", step, "no_task")
    if task.id in facts.asked:
        return _asked(task)
    if task.pr is not None and task.pr != pr.id:
        said = f"its task {task.id} has another pull request, {task.pr}"
        return _person(pr, said, f"orchestrator pr close {pr.id}", "replaced")
    match task.state:
        case "claimed":
            return Move("author", f"its author works on it: {task.claimed_by} has {task.id}")
        case "incoming":
            return _rework(facts, task)
        case "blocked" if parts.waits(task):
            return Move("author", f"{task.id} waits for its parts")
        case "blocked":
            said = f"{task.id} is blocked, and its item was removed from the inbox"
            return Move("person", said, f"orchestrator inbox answer {task.id} 'TEXT'")
        case "failed":
            return _failed(pr, task)
    return _delivered(facts)


def of_task(moves: Mapping[str, Move], task: Task) -> Move | None:
    """Return the move of a task's pull request, from those by number; None if it is not open.

    Another forge may have the pull request of another task under the same number.
    """
    move = moves.get(task.pr or "")
    return move if move and move.task in (None, task.id, task.reviews) else None


def unless_dismissed(move: Move, pr: PullRequest, last: Entry | None) -> Move:
    """Return a move without its item if a person removed this item from the inbox.

    `last` is the last event that decided about the pull request. An item with another fact is
    another item.
    """
    if move.item != f"pr:{pr.id}" or last is None or last.event != "dismissed":
        return move
    if last.fields.get("pr", pr.id) != pr.id or last.fields.get("fact", move.fact) != move.fact:
        return move
    return move._replace(item=None, text=f"{move.text} ({REMOVED})")


def _person(pr: PullRequest, said: str, step: str | None, fact: str) -> Move:
    """Return the move of a person whom the pull request's own item asks."""
    if step is None:
        name = f"pr:{pr.id}"
        step = f"orchestrator inbox approve {name}; or: orchestrator inbox reject {name} 'TEXT'"
    return Move("person", said, step, f"pr:{pr.id}", f"{fact} {pr.head}")


def _asked(task: Task) -> Move:
    what = f"{task.id} waits for your decision"
    if task.question:
        what = f"{task.id} has a question for you: {one_line(task.question, 300)}"
    return Move("person", what, "orchestrator inbox", task.id)


def _failed(pr: PullRequest, task: Task) -> Move:
    step = f"orchestrator pr close {pr.id}; or: orchestrator task retry {task.id}"
    if task.reason == "cancelled":
        said = f"its task {task.id} was cancelled, and the pull request is still open"
        return _person(pr, said, step, "cancelled")
    return Move("person", f"{task.id} failed, and its item was removed from the inbox", step)


def _rework(facts: Facts, task: Task) -> Move:
    """The task waits: its author, or another agent of the role, continues it."""
    held = facts.stuck.get(task.id)
    if held is None:
        return Move("author", f"its author gets it back: {task.id} waits in incoming")
    said = f"{task.id} waits for its author, but {held.detail}"
    return _held(facts, said, held, "author_stuck")


def _held(facts: Facts, said: str, held: Verdict, fact: str) -> Move:
    """A task of the pull request cannot start. Whoever paused the whole project knows that."""
    if held.code == "system_paused":
        return Move("person", said, held.hint)
    step = f"{_command(held)}; or: orchestrator inbox approve pr:{facts.pr.id}"
    return _person(facts.pr, said, step, fact)


def _command(held: Verdict) -> str:
    hint = held.hint or "orchestrator doctor"
    return hint.partition(": ")[2] or hint


def _delivered(facts: Facts) -> Move:
    pr = facts.pr
    if pr.draft:
        return _person(pr, states.WAITS_AS_DRAFT, f"mark it as ready: {pr.url}", "draft")
    if pr.queued:
        return Move("forge", "the forge merges it as soon as its own rules allow it")
    if pr.verdict == APPROVED:
        return _approved(facts)
    if facts.objections and not facts.answered:
        return Move("author", "changes are requested; its author gets it at the next tick")
    if (found := _reviewed(facts)) is not None:
        return found
    if pr.verdict == CHANGES:
        return _objected(facts)
    return _person(pr, f"{_no_review(facts)}; approve it?", None, "no_review")


def _no_review(facts: Facts) -> str:
    """Why no agent reviews the head."""
    for task in facts.reviews:
        if task.reason == "cancelled":
            return f"its review {task.id} was cancelled"
        return f"its review {task.id} is in {task.state}, and its item was removed from the inbox"
    return "no agent reviews it"


def _approved(facts: Facts) -> Move:
    pr, first = facts.pr, facts.first
    if first is not None:
        return Move("landing", f"approved; it can be merged after pull request {first.id}")
    if not facts.lands:
        return _person(pr, f"approved; merge it into {pr.base}?", None, "approved")
    if facts.is_paused:
        said = "approved; it is merged when the project is resumed"
        return Move("person", said, "orchestrator agent resume --all")
    if names := awaited(pr):
        many = "check" if len(names) == 1 else "checks"
        return Move("forge", f"approved; waits for {many} {', '.join(names)}")
    if facts.refused is not None:
        again = f"the merge is tried again from {local(facts.refused.until)}"
        return Move("landing", f"approved; {again}: {one_line(facts.refused.message, 300)}")
    return Move("landing", "approved; one of the next ticks merges it")


def _reviewed(facts: Facts) -> Move | None:
    """Return the move of the review that is open or will be; None if there is no such review."""
    order = ("claimed", "incoming", "blocked", "failed")
    for task in sorted(facts.reviews, key=lambda each: order.index(each.state)):
        if task.id in facts.asked:
            return _asked(task)
        if task.state == "claimed":
            return Move("reviewer", f"{task.claimed_by} reviews it ({task.id})")
        if task.state == "incoming":
            held = facts.stuck.get(task.id)
            if held is None:
                return Move("reviewer", f"{task.id} waits for a reviewer")
            said = f"{task.id} waits for a reviewer, but {held.detail}"
            return _held(facts, said, held, "review_stuck")
    if facts.will_review:
        return Move("reviewer", "the next tick asks for its review")
    return None


def _objected(facts: Facts) -> Move:
    """Changes stay requested although the author has finished, and no review is open."""
    pr = facts.pr
    overrule = (
        f"To resolve that: orchestrator pr approve {pr.id} (see: orchestrator pr diff {pr.id})"
    )
    said = "; ".join(
        f"{given.by} requested changes: {one_line(given.text).rstrip('.')}"
        if given.text
        else f"{given.by} requested changes"
        for given in facts.objections
    )
    newest = facts.objections[-1].at if facts.objections else ""
    before = f"{facts.approved_by} approved it, but " if facts.approved_by else ""
    said = f"{before}{said or 'changes are requested on its head'}. {overrule}"
    return _person(pr, said, None, f"objected {newest}")
