"""Reviews: requested when work is delivered; a verdict decides about the task under review.

Every step can be repeated after a crash: a review is requested once, and a verdict counts once.
"""

from __future__ import annotations

from orchestrator.config.load import Settings
from orchestrator.errors import NotFound
from orchestrator.layout import Layout
from orchestrator.model import PRIORITIES, Config, Entry, Outcome, Role, Task, iso
from orchestrator.pulls import forges
from orchestrator.tasks import stores, task_file
from orchestrator.tasks.store import Store

#: Characters of a feedback that are put into a question.
QUOTED = 500


def ask(
    store: Store, settings: Settings, task: Task, outcome: Outcome, *, now: float, run: str
) -> str | None:
    """Create the review task for what the run delivered; return its id, or None if there is none.

    There is none if such a task gets no review, no agent reviews, or the review exists already.
    """
    reviewer = _reviewer(settings)
    if task.role not in settings.config.review.after or reviewer is None or not run:
        return None
    review_id = f"REVIEW-{run.rpartition('-')[2]}"
    try:
        store.find(review_id)
        return None
    except NotFound:
        pass
    extra = [("REVIEWS", task.id), ("PR", str(outcome.pr)), ("HEAD", str(outcome.head))]
    file = task_file.new(
        review_id,
        f"Review: {task.title}"[: task_file.MAX_TITLE],
        reviewer.takes or "review",
        # A person may have written an invalid priority; that must not block the finished work.
        task.priority if task.priority in PRIORITIES else None,
        task.branch,
        iso(now) or "",
        "scheduler",
        (),
        _body(task, outcome),
        extra,
    )
    store.add(file)
    return review_id


def _reviewer(settings: Settings) -> Role | None:
    configured = {agent.role for agent in settings.config.agents}
    roles = (settings.roles.get(name) for name in sorted(configured))
    return next((r for r in roles if r is not None and r.delivers == "verdict"), None)


def _body(task: Task, outcome: Outcome) -> str:
    """Return the text of a review task; the author's words are quoted as data."""
    summary = outcome.summary or "(the author gave no summary)"
    quoted = "\n".join(f"> {line}" for line in summary.replace("<!--", "<! --").splitlines())
    said = f"Pull request {outcome.pr} of task {task.id}. Its author says:"
    return f"## Context\n{said}\n\n{quoted}\n"


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
    """Record a verdict on its pull request, and on its task with the consequences."""
    if reviewing.pr is not None:
        text = outcome.feedback or outcome.summary or ""
        where = forges.of_project(layout, config)
        where.give_verdict(reviewing.pr, outcome.verdict, outcome.head or "", text)
    if reviewing.reviews is None:
        return
    store = stores.of_project(layout)
    try:
        task = store.find(reviewing.reviews)
    except NotFound:
        return
    if task.state != "done":  # sent back already, or moved by a person
        return
    record_verdict(
        store,
        config,
        task,
        now=now,
        run=run,
        reviewer=reviewer,
        verdict=outcome.verdict,
        feedback=outcome.feedback or outcome.summary,
        head=outcome.head,
    )


def record_verdict(
    store: Store,
    config: Config,
    task: Task,
    *,
    now: float,
    run: str,
    reviewer: str,
    verdict: str,
    feedback: str | None,
    head: str | None,
) -> Task:
    """Write a verdict into a done task's history; send the task back if it requests changes.

    After `review.max_rounds` rounds a person is asked instead of the author (reference 7). A
    repetition after a crash, with the same `run`, changes nothing.
    """
    asked = verdict == "changes_requested"
    number = task.review_rounds + 1 if asked and not _has(store, task, run) else None
    said = {"round": number, "verdict": verdict, "feedback": feedback, "head": head}
    task = store.note(task, _entry(now, "review", run=run, reviewer=reviewer, **said))
    if not asked:
        return task
    if task.review_rounds < config.review.max_rounds:
        reopened = _entry(now, "reopened", run=run, round=task.review_rounds, pr=task.pr)
        return store.move(task, "incoming", reopened)
    question = (
        f"Changes were requested {task.review_rounds} times. The last time: "
        f"{(feedback or 'no reason given')[:QUOTED]} How should the work continue?"
    )
    blocked = _entry(now, "blocked", run=run, question=question, reason="max_rounds")
    return store.move(task, "blocked", blocked)


def _has(store: Store, task: Task, run: str) -> bool:
    """Whether the task's history already ends with this review's verdict."""
    history = store.read(task).history
    return bool(history) and history[-1].fields.get("run") == run


def _entry(now: float, word: str, **fields: object) -> Entry:
    kept = {name: value for name, value in fields.items() if value is not None}
    return Entry(iso(now) or "", word, kept)
