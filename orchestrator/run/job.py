"""A job: one run with everything that it is about, read from its record."""

# No `from __future__ import annotations`, for the reason that `model.config` gives.

import contextlib

from orchestrator.config import load
from orchestrator.layout import Layout
from orchestrator.model.config import Agent, Config, Role
from orchestrator.model.errors import NotFound, OrchestratorError
from orchestrator.model.fields import NamedTuple
from orchestrator.model.work import Task
from orchestrator.project.run_record import RunRecord
from orchestrator.run.journal import Journal
from orchestrator.tasks import stores
from orchestrator.tasks.task_file import TaskFile


class Job(NamedTuple):
    """A run with everything that it is about."""

    journal: Journal
    layout: Layout
    config: Config
    agent: Agent
    role: Role
    task: Task | None
    file: TaskFile | None
    #: The worktree.
    path: str

    @classmethod
    def load(cls, journal: Journal) -> "Job":
        """Read everything that the run is about.

        Raises OrchestratorError if a part of it is gone. A deleted task is no error, but then the
        task no longer belongs to the run (`is_ours`).
        """
        record = journal.record
        layout = Layout(record.project)
        config = load.usable(layout)
        if config is None:
            raise OrchestratorError("the configuration cannot be read", "orchestrator doctor")
        role = load.settings(layout, write_cache=False).roles.get(record.role)
        if role is None:
            raise OrchestratorError(f"there is no role {record.role!r}", code="role_broken")
        task = file = None
        if record.task:
            store = stores.of_project(layout)
            with contextlib.suppress(NotFound):
                task, file = stores.whole(store, record.task)
        path = layout.worktree(record.agent)
        return cls(journal, layout, config, record.settings, role, task, file, path)

    @property
    def folder(self) -> str:
        return self.journal.folder

    @property
    def record(self) -> RunRecord:
        return self.journal.record

    @property
    def is_confined(self) -> bool:
        """Whether the agent's commands are sandboxed.

        A restricted role is not sandboxed: it names each command that it may call, and one of these
        commands fills the queue.
        """
        return self.config.client_sandbox and not self.role.restricted

    @property
    def is_ours(self) -> bool:
        """Whether this run still holds its task (a person may have moved it)."""
        if self.record.task is None:
            return True
        return stores.of_project(self.layout).holds(self.record.task, self.record.id)
