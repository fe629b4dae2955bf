"""Procrastinate, the engine: a task is one of its jobs, a host one of its workers.

The job manager of the engine does all that changes a job. It is asynchronous and opens connections
of its own; `_Connector` lets it work on the connection of a session, so that a change of a job and
the change of its task are one transaction.
"""

from collections.abc import Coroutine, Sequence
from datetime import datetime

from procrastinate import connector, exceptions
from procrastinate.jobs import Job, Status
from procrastinate.manager import JobManager
from procrastinate.schema import SchemaManager
from procrastinate.sql import queries
from psycopg.types.json import Jsonb

from orchestrator.database.session import Session
from orchestrator.model.annotations import Any, TypeVar

_T = TypeVar("_T")
#: The engine's statement of a heartbeat, to be used as a part of another one: `{}` is the worker.
HEARTBEAT = queries["update_heartbeat"].replace("%(worker_id)s", "{}")
#: The engine's statement of a fetch, in the same way: `{0}` is the task, `{1}` the worker.
FETCH = (
    queries["fetch_job"]
    .replace("%(queues)s", "ARRAY[{0}]")
    .replace("%(worker_id)s", "{1}")
    .rstrip("; \n")
)
#: The engine's statement of a job's end: `{0}` is the job, `{1}` the status.
FINISH = (
    queries["finish_job"]
    .replace("%(job_id)s", "{0}")
    .replace("%(status)s", "{1}")
    .replace("%(delete_job)s", "false")
    .rstrip("; \n")
)
#: The status with which a job ends, by the state that its task moves to.
ENDS = {"done": Status.SUCCEEDED, "failed": Status.FAILED, "blocked": Status.ABORTED}


class _Connector(connector.BaseConnector):
    """Runs the engine's statements on a session's connection, in its transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def execute_query_async(self, query: Any, **arguments: Any) -> None:
        self._session.later(query, {name: _as_json(value) for name, value in arguments.items()})

    async def execute_query_one_async(self, query: Any, **arguments: Any) -> dict[str, Any]:
        found = await self.execute_query_all_async(query, **arguments)
        if not found:
            raise exceptions.NoResult
        return found[0]

    async def execute_query_all_async(self, query: Any, **arguments: Any) -> list[dict[str, Any]]:
        given = {name: _as_json(value) for name, value in arguments.items()}
        return self._session.named_rows(query, given)


def _as_json(value: Any) -> Any:
    if isinstance(value, dict):
        return Jsonb(value)
    if isinstance(value, list):
        return [_as_json(each) for each in value]
    return tuple(map(_as_json, value)) if isinstance(value, tuple) else value


def _now(work: Coroutine[Any, Any, _T]) -> _T:
    """Return the result of a coroutine that waits for nothing (`_Connector`)."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    raise RuntimeError("the engine waits for something other than its connector")


class Jobs:
    """The jobs of one session's schema. Each call is to be made in a transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._connector = _Connector(session)
        self._manager = JobManager(self._connector)

    def set_up(self) -> None:
        """Create the engine's tables and functions."""
        self._session.script(SchemaManager(self._connector).get_schema())

    # --- workers ---

    def register(self) -> int:
        """Return the number of a new worker, whose heartbeat is now."""
        return _now(self._manager.register_worker())

    def beat(self, worker: int) -> None:
        _now(self._manager.update_heartbeat(worker))

    def stalled(self, seconds: float) -> Sequence[int]:
        """Return the jobs at work whose worker is gone, or was silent for `seconds`."""
        found = _now(self._manager.get_stalled_jobs(seconds_since_heartbeat=seconds))
        return [job.id for job in found if job.id is not None]

    def prune(self, seconds: float) -> Sequence[int]:
        """Remove the workers that were silent for `seconds`; return their numbers."""
        return _now(self._manager.prune_stalled_workers(seconds))

    # --- jobs ---

    def defer(self, task_id: str, role: str, priority: int, facts: dict[str, Any]) -> int:
        """Return a new waiting job of a task.

        Its queue is the task, so that a fetch gets the task that the plan chose. No two jobs with
        the same lock are at work.
        """
        wanted = Job(
            queue=task_id,
            task_name=role,
            priority=priority,
            lock=task_id,
            queueing_lock=None,
            task_kwargs=facts,
        )
        job = _now(self._manager.defer_job_async(wanted))
        assert job.id is not None
        return job.id

    def fetch(self, task_id: str, worker: int) -> int | None:
        """Give the waiting job of a task to a worker; None if no job waits, or it must wait."""
        job = _now(self._manager.fetch_job([task_id], worker))
        return job.id if job else None

    def retry(self, job: int, at: datetime, priority: int) -> None:
        """Have a job that is at work wait again, until `at`."""
        _now(self._manager.retry_job_by_id_async(job, at, priority=priority))

    def finish(self, job: int, state: str) -> None:
        """End a job that waits or is at work, as its task moves to `state`."""
        _now(self._manager.finish_job_by_id_async(job, ENDS[state], delete_job=False))

    def cancel(self, job: int) -> None:
        """Cancel a job that waits."""
        _now(self._manager.cancel_job_by_id_async(job))
