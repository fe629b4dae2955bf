"""Files that a person dropped into `incoming/` on a host whose queue is in a database."""

import time
from collections.abc import Iterator

from orchestrator.layout import Layout
from orchestrator.system import files
from orchestrator.tasks.file_store import FileStore
from orchestrator.tasks.store import Malformed, Store


def wrong(layout: Layout, store: Store) -> Iterator[Malformed]:
    """Yield the files that `take` cannot take."""
    dropped = FileStore(layout).list("incoming")
    yield from dropped.malformed
    for task in dropped.tasks:
        if (known := store.get(task.id)) is not None:
            yield Malformed(task.where, f"its id {task.id} is already used by {known.where}")


def take(layout: Layout, store: Store) -> None:
    """Take the files into the database. Raises OSError and StoreFault."""
    queue = FileStore(layout)
    for task in queue.list("incoming").tasks:
        file, known = queue.read(task), store.get(task.id)
        if known is None:
            store.put(file, "incoming", task.created or time.time())
        elif store.read(known).raw != file.raw:
            continue  # `wrong` reports it; an equal task was taken before a crash
        files.remove(task.where)
