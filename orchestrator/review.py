"""What a verdict on delivered work means for its task: sent back, handed to a person, or let be."""

from __future__ import annotations

from orchestrator.model import Config, Entry, Task, iso
from orchestrator.store import Store

#: Characters of a feedback that are put into a question.
QUOTED = 500


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
    """Write a verdict into a done task's history; send the task back when changes are asked for.

    After `review.max_rounds` rounds a person is asked instead of the author (CONTRACT 7). Repeated
    after a crash, with the same `run`, it changes nothing twice.
    """
    asked = verdict == "changes_requested"
    number = task.review_rounds + 1 if asked and not _has(store, task, run) else None
    entry = _entry(
        now,
        "review",
        run=run,
        reviewer=reviewer,
        round=number,
        verdict=verdict,
        feedback=feedback,
        head=head,
    )
    task = store.note(task, entry)
    if not asked:
        return task
    if task.review_rounds >= config.review.max_rounds:
        question = (
            f"Changes were asked for {task.review_rounds} times. The last time: "
            f"{(feedback or 'no reason given')[:QUOTED]} How should it go on?"
        )
        fields = _entry(now, "blocked", run=run, question=question, reason="max_rounds")
        return store.move(task, "blocked", fields)
    return store.move(
        task, "incoming", _entry(now, "reopened", run=run, round=task.review_rounds, pr=task.pr)
    )


def _has(store: Store, task: Task, run: str) -> bool:
    """Whether the task's history ends with this review's verdict already."""
    history = store.read(task).history
    return bool(history) and history[-1].fields.get("run") == run


def _entry(now: float, word: str, **fields: object) -> Entry:
    kept = {name: value for name, value in fields.items() if value is not None}
    return Entry(iso(now) or "", word, kept)
