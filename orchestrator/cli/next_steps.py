"""What comes next after runs that were waited for: a review, another attempt, a decision."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from orchestrator.cli import context, explain
from orchestrator.errors import NotFound
from orchestrator.layout import Layout
from orchestrator.model import Snapshot
from orchestrator.plan.planner import plan
from orchestrator.tasks import stores
from orchestrator.tasks.store import Store
from orchestrator.tick import inbox


def steps(layout: Layout, tasks: Iterable[str | None]) -> Iterator[str]:
    """Yield what comes next for tasks whose runs have ended; None is a run without a task."""
    loaded, seen = context.look(layout)
    planned = plan(seen.snapshot, loaded.config, context.now())
    approvals = {
        item.task: item.id for item in inbox.items(layout, loaded, seen) if item.kind == "approval"
    }
    for task_id in dict.fromkeys(tasks):
        if task_id is None:
            if waiting := len(seen.incoming.tasks):
                yield f"next: {waiting} {'task waits' if waiting == 1 else 'tasks wait'}"
                yield "  orchestrator task list --state incoming"
            continue
        for subject in _subjects(stores.of_project(layout), task_id, seen.snapshot):
            if subject in approvals:
                yield f"next: {subject} is done, and its pull request waits for your approval"
                yield f"  orchestrator inbox approve {approvals[subject]}"
                continue
            try:
                found = explain.explanation(layout, subject, planned)
            except NotFound:  # the task was removed meanwhile
                continue
            yield f"next: {subject} {found.verdict}"
            if found.next_step:
                yield f"  {found.next_step}"


def _subjects(store: Store, task_id: str, snapshot: Snapshot) -> list[str]:
    """Return the tasks that a task's run led to: open reviews, else the reviewed task or itself."""
    try:
        reviewed = store.find(task_id).reviews or task_id
    except NotFound:
        return []
    open_ones = (*snapshot.waiting, *snapshot.claimed)
    return [task.id for task in open_ones if task.reviews == reviewed] or [reviewed]
