"""Files that a person dropped into `incoming/` on a host whose queue is in a database.

They are tasks of this host at once. The next tick, or the next command that changes the queue,
takes them into the database: then they are tasks of every host.
"""

import os
import time
from collections.abc import Callable

from orchestrator.layout import Layout
from orchestrator.model.work import Task
from orchestrator.system import files
from orchestrator.tasks.file_store import FileStore
from orchestrator.tasks.store import Listing, Malformed, Store

#: Returns the task of the database with an id, if there is one.
Stored = Callable[[str], Task | None]


def listing(layout: Layout, stored: Stored) -> Listing:
    """Return the files that are not taken yet, and those that cannot be taken."""
    found = FileStore(layout).list("incoming")
    tasks, malformed = [], [*found.malformed]
    copied = os.path.exists(layout.moving_here)  # by a move to files that was interrupted
    for task in found.tasks:
        if (known := stored(task.id)) is None:
            tasks.append(task)
        elif not copied:
            malformed.append(
                Malformed(task.where, f"its id {task.id} is already used by {known.where}")
            )
    return Listing(tuple(tasks), tuple(malformed))


def get(layout: Layout, task_id: str) -> Task | None:
    """Return the task of a file that the database does not have."""
    return next((t for t in FileStore(layout).list("incoming").tasks if t.id == task_id), None)


def take(layout: Layout, store: Store, stored: Stored) -> None:
    """Take the files into the database. Raises OSError and StoreFault.

    Not in a transaction, which may be undone when the file is gone.
    """
    waiting = FileStore(layout)
    for task in waiting.list("incoming").tasks:
        file, known = waiting.read(task), stored(task.id)
        if known is None:
            store.put(file, "incoming", task.created or time.time())
        elif store.read(known).raw != file.raw:
            continue  # `listing` reports it; an equal task was taken before a crash
        files.remove(task.where)
