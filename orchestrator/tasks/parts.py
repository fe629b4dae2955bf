"""The parts of a task that its agent split (reference 7): other tasks, with `PARENT` in the header.

A task records the ids of its parts when it is split. Until then only the headers of the parts say
whose they are.
"""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.model.config import Split
from orchestrator.model.errors import OrchestratorError
from orchestrator.model.work import OPEN_STATES, Task, task_order
from orchestrator.tasks import task_file
from orchestrator.tasks.store import Store

#: The header field of a part, and the reason of a blocked task that waits for its parts.
PARENT, WAITS = task_file.PARENT, "split"
#: The most links from part to parent that are followed: a header can be edited by hand.
_LONGEST = 100


def of(store: Store, task_id: str) -> list[Task]:
    """Return every task in any state that names this task as its parent, in queue order."""
    unfinished = (task for state in OPEN_STATES for task in store.list(state).tasks)
    found = [task for task in unfinished if task.header.get(PARENT) == task_id]
    return sorted((*found, *store.finished_parts(task_id)), key=task_order)


def recorded(store: Store, task: Task) -> list[Task]:
    """Return the parts that a task recorded; a task that is gone counts as failed."""
    return [_find(store, task_id) for task_id in task.parts]


def _find(store: Store, task_id: str) -> Task:
    gone = Task(task_id, task_id, "", "failed", "", reason="the task is gone")
    return store.get(task_id) or gone


def waits(task: Task) -> bool:
    """Return whether a task is blocked until its parts are finished."""
    return task.state == "blocked" and task.reason == WAITS


def broken(parts: Sequence[Task]) -> list[Task]:
    """Return the parts that failed or were cancelled."""
    return [part for part in parts if part.state == "failed"]


def room(store: Store, parent: Task, found: Sequence[Task], limits: Split) -> int:
    """Return how many parts may be added to a task that has the parts `found` already.

    Raises OrchestratorError if there is no room for another part.
    """
    if _depth(store, parent) >= limits.max_depth:
        raise OrchestratorError(
            f"task {parent.id} may not be split (split.max_depth is {limits.max_depth})",
            "do the whole task; or report needs_human and say which parts it needs",
            code="split_depth",
        )
    left = limits.max_tasks - len(found)
    if left <= 0:
        raise OrchestratorError(
            f"task {parent.id} has {limits.max_tasks} parts already (split.max_tasks)",
            "put the rest into these parts, or name it in your report",
            code="split_tasks",
        )
    return left


def _depth(store: Store, task: Task) -> int:
    """Return how many parents a task has above it."""
    depth, parent = 0, task.header.get(PARENT)
    while parent and depth < _LONGEST:
        depth += 1
        above = store.get(parent)
        parent = above.header.get(PARENT) if above else None
    return depth
