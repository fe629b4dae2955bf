"""Which queue a project has."""

import contextlib
import os
from collections.abc import Callable

from orchestrator.database import access, address
from orchestrator.layout import Layout
from orchestrator.model.annotations import TYPE_CHECKING
from orchestrator.model.errors import NotFound, TaskFileError
from orchestrator.model.work import Entry, Task
from orchestrator.tasks.file_store import FileStore
from orchestrator.tasks.store import LOOKS, Store
from orchestrator.tasks.task_file import TaskFile

if TYPE_CHECKING:
    from orchestrator.database.session import Session


#: The queues of one machine, by the value of `store`. Another value is the address of a database.
KINDS: dict[str, Callable[[Layout], Store]] = {address.FILES: FileStore}


def of_project(layout: Layout) -> Store:
    """Return the queue of a project.

    The choice must not depend on agents.yaml being right: a broken configuration must not hide the
    queue. Raises StoreFault if the libraries for a database are missing.
    """
    value = address.of_project(layout, os.environ)
    if address.is_address(value):
        return at(layout, access.at(layout, value))
    return KINDS.get(value, FileStore)(layout)


def at(layout: Layout, session: "Session | None", *, moves: bool = False) -> Store:
    """Return the queue in a database; without one, the queue in the project's files.

    `moves`: the queue is being moved (`upkeep.migrate`).
    """
    if session is None:
        return FileStore(layout)
    from orchestrator.tasks.postgresql_store import PostgresqlStore

    return PostgresqlStore(layout, session, moves=moves)


def whole(store: Store, task_id: str) -> tuple[Task, TaskFile]:
    """Return a task in any state with its body and history; also one that moves meanwhile.

    Raises NotFound, which names similar ids.
    """
    for _ in range(LOOKS):
        if (found := store.whole(task_id)) is not None:
            return found
        task = store.find(task_id)
        with contextlib.suppress(NotFound):
            return task, store.read(task)
    raise NotFound("task", task_id)


def with_history(store: Store, task_id: str | None) -> tuple[Task, tuple[Entry, ...]] | None:
    """Return a task with its history; None if there is no such task, or it cannot be read."""
    with contextlib.suppress(TaskFileError):
        if task_id and (found := store.whole(task_id)) is not None:
            return found[0], tuple(found[1].history)
    return None
