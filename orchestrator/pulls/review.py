"""Reviews: requested when work is delivered; a verdict decides about the task under review.

Every step can be repeated after a crash: a review is requested once, and a verdict counts once.
"""

from __future__ import annotations

from orchestrator.config.load import Settings
from orchestrator.errors import NotFound
from orchestrator.layout import Layout
from orchestrator.model import (
    PRIORITIES,
    Config,
    Entry,
    Given,
    Outcome,
    PullRequest,
    Role,
    Task,
    iso,
)
from orchestrator.pulls import forges, verdicts
from orchestrator.tasks import stores, task_file
from orchestrator.tasks.store import Store
from orchestrator.text.words import count

#: Characters of a feedback that are put into a question.
QUOTED = 500


def ask(
    store: Store, settings: Settings, task: Task, outcome: Outcome, *, now: float, run: str
) -> str | None:
    """Create the review task for what the run delivered; return its id, or None if there is none.

    There is none if such a task gets no review, no agent reviews, or the review exists already.
    """
    if not run:
        return None
    summary = outcome.summary or "(the author gave no summary)"
    said = f"Pull request {outcome.pr} of task {task.id}. Its author says:"
    name = f"REVIEW-{run.rpartition('-')[2]}"
    return _add(store, settings, task, name, str(outcome.pr), outcome.head, now, said, summary)


def ask_again(
    store: Store,
    settings: Settings,
    task: Task,
    pr: PullRequest,
    why: str,
    again: int = 0,
    *,
    now: float,
) -> str | None:
    """Create the review task for a head that nobody delivered just now; return as `ask`.

    `again` counts how often a review of the same head was asked for in this way before.
    """
    said = f"Pull request {pr.id} of task {task.id}. {why}:"
    summary = f"The branch {pr.branch} is now at {pr.head}."
    name = f"REVIEW-{pr.id}-{pr.head[:10]}{f'-{again}' if again else ''}"
    return _add(store, settings, task, name, pr.id, pr.head, now, said, summary)


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
    try:
        store.find(name)
        return None
    except NotFound:
        pass
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
        f"## Context\n{said}\n\n{quoted}\n",
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
    if reviewing.pr is not None:
        where = forges.of_project(layout, config)
        pr = where.book.get(reviewing.pr)
        # Another forge may have a pull request of the same number.
        if pr is not None and reviewing.reviews in (None, pr.task):
            where.post(pr, given)
    if reviewing.reviews is None:
        return
    store = stores.of_project(layout)
    try:
        task = store.find(reviewing.reviews)
    except NotFound:
        return
    if task.state == "done":  # otherwise it was sent back already, or moved by a person
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
    number = task.review_rounds + 1 if asked and not _has(store, task, run) else None
    entry = _entry(
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
    task = store.note(task, entry)
    if given.kind == "person":
        return _decided(store, task, given, now, run)
    if not asked or task.state != "done":
        return task
    if verdicts.is_overruled(given, verdicts.given(store.read(task).history)):
        return task
    if task.review_rounds < config.review.max_rounds:
        reopened = _entry(now, "reopened", run=run, round=task.review_rounds, pr=task.pr)
        return store.move(task, "incoming", reopened)
    question = (
        f"Changes were requested in {count(task.review_rounds, 'review')}. How should the work "
        f"continue? The last review says: {(given.text or 'no reason given')[:QUOTED]}"
    )
    blocked = _entry(now, "blocked", run=run, question=question, reason="max_rounds")
    return store.move(task, "blocked", blocked)


def _decided(store: Store, task: Task, given: Given, now: float, run: str) -> Task:
    """Move a task as a person's review says; a claimed task stays with its run."""
    if given.verdict == "changes_requested" and task.state in ("done", "blocked", "failed"):
        reopened = _entry(now, "reopened", run=run, round=task.review_rounds, pr=task.pr)
        return store.move(task, "incoming", reopened)
    if given.verdict == "approved" and task.state in ("incoming", "blocked", "failed"):
        done = _entry(now, "done", run=run, by=given.by, pr=task.pr, head=given.commit)
        return store.move(task, "done", done)
    return task


def _has(store: Store, task: Task, run: str) -> bool:
    """Whether the task's history already ends with this review's verdict."""
    history = store.read(task).history
    return bool(history) and history[-1].fields.get("run") == run


def _entry(now: float, word: str, **fields: object) -> Entry:
    kept = {name: value for name, value in fields.items() if value is not None}
    return Entry(iso(now) or "", word, kept)
