"""Split tasks: a task that was split is done when all its parts are (reference 7)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from orchestrator.model.snapshot import Action
from orchestrator.model.work import Task
from orchestrator.plan import dependencies
from orchestrator.tasks import parts
from orchestrator.tasks.store import Store
from orchestrator.tasks.task_file import entry


def finish(store: Store, now: float) -> Iterator[Action]:
    """Finish every split task whose parts are all done; yield one action per task.

    A part of a part is finished first, so that one tick finishes the whole chain.
    """
    while ended := [task for task in store.list("blocked").tasks if _is_done(store, task)]:
        for task in ended:
            said = _summary(parts.recorded(store, task))
            last = [e for e in store.read(task).history if e.event == "blocked"][-1]
            if branch := last.fields.get("branch"):
                said += f". Its own commits are kept on {branch}"
            store.move(task, "done", entry(now, "done", verdict="split", summary=said))
            yield Action("finish", None, task.id, None, parts.WAITS)


def _summary(found: Sequence[Task]) -> str:
    pull_request = "pull request {}".format
    listed = (
        f"{part.id} {part.title!r} ({pull_request(part.pr) if part.pr else 'no pull request'})"
        for part in found
    )
    return ": ".join(filter(None, (dependencies.progress(found), "; ".join(listed))))


def _is_done(store: Store, task: Task) -> bool:
    if not parts.waits(task):
        return False
    return all(part.state == "done" for part in parts.recorded(store, task))
