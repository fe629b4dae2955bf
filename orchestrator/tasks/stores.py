"""Which queue a project has."""

from orchestrator.layout import Layout
from orchestrator.tasks.file_store import FileStore
from orchestrator.tasks.store import Store


def of_project(layout: Layout) -> Store:
    """Return the queue of a project.

    The choice must not depend on agents.yaml: a broken configuration must not hide the queue.
    """
    return FileStore(layout)
