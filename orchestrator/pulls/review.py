"""Reviews: requested when work is delivered; a verdict decides about the task under review.

Every step can be repeated after a crash: a review is requested once, and a verdict counts once.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

from orchestrator.config.load import Settings
from orchestrator.layout import Layout
from orchestrator.model.config import Config, Role
from orchestrator.model.snapshot import Outcome
from orchestrator.model.times import iso
from orchestrator.model.work import PRIORITIES, Entry, Given, PullRequest, Task
from orchestrator.pulls import forges, verdicts
from orchestrator.tasks import stores, task_file
from orchestrator.tasks.store import Store
from orchestrator.tasks.task_file import entry
from orchestrator.text.words import count

#: Characters of a feedback that are put into a question.
QUOTED = 500
#: The field of the event which says that a person opened the pull request again.
AGAIN = "opened_again"
#: The field of the event with which a question was withdrawn. A verdict that was given while the
#: question was open did not count.
WITHDRAWN = "withdrawn"


def ask(
    store: Store, settings: Settings, task: Task, outcome: Outcome, *, now: float, run: str
) -> str | None:
    """Create the review task for what the run delivered; return its id.

    Returns None if such a task gets no review, no agent reviews, or the review exists already.
    """
    if not run:
        return None
    summary = outcome.summary or "(the author gave no summary)"
    pr, said = str(outcome.pr), "Its author says:"
    return _add(store, settings, task, _name(run), pr, outcome.head, now, said, summary)


def ask_again(
    store: Store,
    settings: Settings,
    task: Task,
    pr: PullRequest,
    history: Sequence[Entry],
    *,
    now: float,
) -> str | None:
    """Create the review task that the head of an open pull request lacks; return as `ask`.

    It lacks one if somebody else pushed the head, if no agent reviewed when it was delivered, and
    if its review ended while the branch was at another commit.
    """
    if not is_missing(store, settings, task, pr, history):
        return None
    last = _deliveries(history)[-1].fields
    if last.get("head") == pr.head:
        outcome = Outcome("done", summary=str(last.get("summary") or ""), pr=pr.id, head=pr.head)
        return ask(store, settings, task, outcome, now=now, run=str(last.get("run") or ""))
    said = "Somebody pushed to its branch:"
    summary = f"The branch {pr.branch} is now at {pr.head}."
    return _add(store, settings, task, _name_of_head(pr), pr.id, pr.head, now, said, summary)


def ask_once_more(
    store: Store, settings: Settings, task: Task, pr: PullRequest, number: int, *, now: float
) -> str | None:
    """Create the review task of a pull request that needs a review again; return as `ask`.

    A person opened it again, or the question about it was withdrawn. `number` counts how often that
    happened.
    """
    said = "It needs a review again:"
    summary = f"The branch {pr.branch} is at {pr.head}."
    name = f"{_name_of_head(pr)}-{number}"
    return _add(store, settings, task, name, pr.id, pr.head, now, said, summary)


def openings(history: Sequence[Entry]) -> int:
    """Return how often the task's pull request needed a review again (`ask_once_more`)."""
    return sum(needs_review(entry.fields) for entry in history)


def needs_review(fields: Mapping[str, object]) -> bool:
    """Whether the pull request needs a review again after the event with these fields."""
    return True in (fields.get(AGAIN), fields.get(WITHDRAWN))


def is_missing(
    store: Store, settings: Settings, task: Task, pr: PullRequest, history: Sequence[Entry]
) -> bool:
    """Whether the head of an open pull request has neither a verdict nor a review task yet."""
    reviewer = _reviewer(settings)
    if pr.verdict is not None or reviewer is None or task.role not in settings.config.review.after:
        return False
    delivered = _deliveries(history)
    runs = [e.fields.get("run") for e in delivered if e.fields.get("head") == pr.head]
    again = range(1, openings(history) + 1)
    others = [f"{_name_of_head(pr)}-{number}" for number in again]
    names = [_name_of_head(pr), *others, *(_name(run) for run in runs if isinstance(run, str))]
    return bool(delivered) and not any(_is_asked(store, name) for name in names)


def _is_asked(store: Store, name: str) -> bool:
    """Whether a review task of this name, or one that replaced it, has not ended in vain."""
    return store.get(_again(name, len([*_replaced(store, name)]))) is not None


def _replaced(store: Store, name: str) -> Iterator[str]:
    """Return the ids of the review tasks of this name that ended in vain, in their order.

    The scheduler ends a review that waits while its pull request has another commit (the rule
    `superseded`). The branch can return to the commit.
    """
    for number in itertools.count():
        each = _again(name, number)
        found = stores.with_history(store, each)
        last = found[1][-1] if found and found[1] else None
        if last is None or "run" in last.fields or last.fields.get("verdict") != "no_change":
            return
        yield each


def _again(name: str, number: int) -> str:
    return f"{name}-again-{number}" if number else name


def _deliveries(history: Sequence[Entry]) -> list[Entry]:
    """Return the events that finished the task with a known commit."""
    return [e for e in history if e.event == "done" and isinstance(e.fields.get("head"), str)]


def _name(run: str) -> str:
    """Return the id of the review task of what a run delivered."""
    return f"REVIEW-{run.rpartition('-')[2]}"


def _name_of_head(pr: PullRequest) -> str:
    return f"REVIEW-{pr.id}-{pr.head[:10]}"


def _add(
    store: Store,
    settings: Settings,
    task: Task,
    name: str,
    pr: str,
    head: str | None,
    now: float,
    said: str,
    summary: str,
) -> str | None:
    reviewer = _reviewer(settings)
    if task.role not in settings.config.review.after or reviewer is None:
        return None
    name = _again(name, len([*_replaced(store, name)]))
    if store.get(name):
        return None
    # The author's words are quoted as data.
    quoted = "\n".join(f"> {line}" for line in summary.replace("<!--", "<! --").splitlines())
    file = task_file.new(
        name,
        f"Review: {task.title}"[: task_file.MAX_TITLE],
        reviewer.takes or "review",
        # A person may have written an invalid priority; that must not block the finished work.
        task.priority if task.priority in PRIORITIES else None,
        task.branch,
        iso(now) or "",
        "scheduler",
        (),
        f"## Context\nPull request {pr} of task {task.id}. {said}\n\n{quoted}\n",
        [("REVIEWS", task.id), ("PR", pr), *([("HEAD", head)] if head else [])],
    )
    store.add(file)
    return name


def _reviewer(settings: Settings) -> Role | None:
    configured = {agent.role for agent in settings.config.agents}
    roles = (settings.roles.get(name) for name in sorted(configured))
    return next((r for r in roles if r is not None and r.delivers == "verdict"), None)


def give_verdict(
    layout: Layout,
    config: Config,
    reviewing: Task,
    outcome: Outcome,
    *,
    now: float,
    run: str,
    reviewer: str,
) -> None:
    """Record an agent's verdict on the task under review, and show it at the pull request."""
    said = outcome.feedback or outcome.summary or ""
    given = Given(reviewer, "agent", outcome.verdict, outcome.head, said, iso(now))
    where = forges.of_project(layout, config)
    pr = where.book.get(reviewing.pr) if reviewing.pr is not None else None
    # Without its record, the verdict still counts for the task. Another forge may have a pull
    # request of the same number.
    if pr is not None and reviewing.reviews in (None, pr.task):
        where.post(pr, given)
    if reviewing.reviews is None:
        return
    store = stores.of_project(layout)
    task = store.get(reviewing.reviews)
    if task and task.state == "done":  # otherwise it was sent back already, or moved by a person
        record_verdict(store, config, task, given, now=now, run=run)


def record_verdict(
    store: Store, config: Config, task: Task, given: Given, *, now: float, run: str
) -> Task:
    """Write a review into a task's history; send the task back if changes are requested.

    After `review.max_rounds` rounds of agents a person is asked instead of the author (reference
    7). A person's word also decides about a task that waits, is blocked or failed: requested
    changes send it back, an approval ends the work on it. A repetition after a crash, with the
    same `run`, changes nothing.
    """
    asked = given.verdict == "changes_requested"
    history = store.read(task).history
    # A repetition after a crash: the history already ends with this verdict.
    is_known = bool(history) and history[-1].fields.get("run") == run
    number = task.review_rounds + 1 if asked and not is_known else None
    reviewed = entry(
        now,
        "review",
        run=run,
        reviewer=given.by,
        kind="person" if given.kind == "person" else None,
        settles=given.settles or None,
        round=number,
        verdict=given.verdict,
        feedback=given.text or None,
        head=given.commit,
    )
    task = store.note(task, reviewed)
    if given.kind == "person":
        return _decided(store, task, given, now, run)
    if not asked or task.state != "done":
        return task
    if verdicts.is_overruled(given, verdicts.given(store.read(task).history)):
        return task
    if task.review_rounds < config.review.max_rounds:
        return _reopened(store, task, now, run)
    question = _after_rounds(store.read(task).history, task.review_rounds, given)
    blocked = entry(now, "blocked", run=run, question=question, reason="max_rounds")
    return store.move(task, "blocked", blocked)


def _reopened(store: Store, task: Task, now: float, run: str) -> Task:
    fields = {"run": run, "round": task.review_rounds, "pr": task.pr}
    return store.move(task, "incoming", entry(now, "reopened", **fields))


def _decided(store: Store, task: Task, given: Given, now: float, run: str) -> Task:
    """Move a task as a person's review says; a claimed task stays with its run."""
    if given.verdict == "changes_requested" and task.state in ("done", "blocked", "failed"):
        return _reopened(store, task, now, run)
    if given.verdict == "approved" and task.state in ("incoming", "blocked", "failed"):
        done = entry(now, "done", run=run, by=given.by, pr=task.pr, head=given.commit)
        return store.move(task, "done", done)
    return task


def _after_rounds(history: Sequence[Entry], rounds: int, last: Given) -> str:
    """Return the question after so many rounds; `last` is the review that ended them.

    A merge that conflicts or fails its checks is a round, too, but no review.
    """
    asked = [
        e for e in history if e.event == "review" and e.fields.get("verdict") == verdicts.CHANGES
    ]
    failed = sum(e.fields.get("reviewer") == verdicts.SCHEDULER for e in asked[-rounds:])
    reviews = rounds - failed
    said = [f"changes were requested in {count(reviews, 'review')}"] if reviews else []
    said += [f"the merge failed {count(failed, 'time')}"] if failed else []
    first = " and ".join(said)
    name = "failed merge" if last.by == verdicts.SCHEDULER else "review"
    return (
        f"{first[:1].upper()}{first[1:]}. How should the work continue? The last {name} says: "
        f"{(last.text or 'no reason given')[:QUOTED]}"
    )
