"""The rows of tasks in PostgreSQL: each change of a row, with the change of its job.

Each call is to be made in a transaction under the lock of the queue (`Session.change`).
"""

from collections.abc import Callable

from orchestrator.database import hosts
from orchestrator.database.engine import ENDS, FETCH, FINISH, HEARTBEAT, Jobs
from orchestrator.database.session import Session
from orchestrator.database.this_host import ThisHost
from orchestrator.model.annotations import Any
from orchestrator.model.errors import NotFound, OrchestratorError
from orchestrator.model.fields import NamedTuple
from orchestrator.model.work import PRIORITIES, Entry, Task
from orchestrator.tasks import rewrite, task_file
from orchestrator.tasks.task_file import TaskFile

#: Locks the row, so that nobody ends, or gives away, the run meanwhile.
_ONE = """
SELECT file, extract(epoch FROM added)::float8, job, status::text, now() + %s * interval '1 second'
FROM orchestrator_tasks LEFT JOIN procrastinate_jobs j ON j.id = job
WHERE orchestrator_tasks.id = %s AND state = %s FOR UPDATE OF orchestrator_tasks
"""
#: A claim: the number of claimed tasks, the host that has the agent, this host's worker, whose
#: heartbeat it is, and the row. If the limit, the agent and the job allow it, the job is fetched.
_CLAIMED = f"""
SELECT claimed, host, worker, CASE WHEN claimed < %s AND coalesce(host = me, true)
        AND worker IS NOT NULL AND status = 'todo'
    THEN (SELECT id FROM ({FETCH.format("known.id", "worker")}) AS fetched) END,
    beat, file, added, job, status, NULL
FROM (
    SELECT (SELECT count(*) FROM orchestrator_tasks WHERE state = 'claimed') AS claimed,
        (SELECT host FROM orchestrator_agents WHERE agent = %s) AS host, worker, me.name AS me,
        ({HEARTBEAT.format("worker")})::text AS beat, orchestrator_tasks.id, file,
        extract(epoch FROM added)::float8 AS added, job, status::text AS status
    FROM orchestrator_tasks LEFT JOIN procrastinate_jobs j ON j.id = job
    LEFT JOIN orchestrator_hosts me ON me.name = %s AND me.clone = %s
    WHERE orchestrator_tasks.id = %s AND state = %s FOR UPDATE OF orchestrator_tasks
) AS known
"""
_MOVED = """
UPDATE orchestrator_tasks SET state = %s, file = file || %s, job = %s, changed = now() {}
WHERE id = %s
"""
#: The same with the end of the job, and with the agent that has the task: each exchange with the
#: database is shorter by a statement.
_ENDED = _MOVED.format(f"FROM ({FINISH.format('%s', '%s')}) AS ended")
_LEASED = f"WITH leased AS ({hosts.LEASE}) {_MOVED.format('')}"


class NotFetched(OrchestratorError):
    """The engine gave the job to nobody: it must wait, or another host has it."""


class Row(NamedTuple):
    """A task's row while it is changed."""

    file: bytes
    added: float
    job: int | None
    #: The job's status in the engine; None without a job.
    status: str | None
    #: When the task may be claimed again, by the database's clock.
    again_at: Any


class Claim(NamedTuple):
    """What decides whether a task may be claimed."""

    #: How many tasks are claimed, on all hosts.
    claimed: int
    #: The host that has the agent; None if no host has it.
    host: str | None
    #: This host's worker, whose heartbeat this was; None if the host must register.
    worker: int | None
    #: The job, if the engine gave it to this host's worker.
    job: int | None
    row: Row


class TaskRows:
    """The rows of the tasks of one schema."""

    def __init__(self, session: Session, jobs: Jobs, worker: Callable[[], int]) -> None:
        """`worker` returns the number of this host's worker."""
        self._session, self._jobs, self._worker = session, jobs, worker

    def add(self, file: TaskFile) -> None:
        """Add a waiting task. Raises OrchestratorError if its id is taken."""
        known = "SELECT state FROM orchestrator_tasks WHERE id = %s"
        for (state,) in self._session.rows(known, file.id):
            message = f"there is already a task {file.id}, in {state}"
            raise OrchestratorError(message, code="duplicate_task")
        self._session.rows(
            "INSERT INTO orchestrator_tasks (id, state, job, file, role, title_key, parent)"
            " VALUES (%s, 'incoming', %s, %s, %s, %s, %s)",
            *(file.id, self._defer(file), file.raw, *_columns(file)),
        )

    def put(self, file: TaskFile, state: str, added: float) -> None:
        """Put a task as it is into a state, in place of the task with its id (`Store.put`)."""
        query = (
            "SELECT job, status::text FROM orchestrator_tasks"
            " JOIN procrastinate_jobs j ON j.id = job WHERE orchestrator_tasks.id = %s"
        )
        for job, status in self._session.rows(query, file.id):
            if status == "todo":
                self._jobs.cancel(job)
        job = self._defer(file)
        if state != "incoming":
            self._jobs.finish(job, state)
        self._session.rows(
            "INSERT INTO orchestrator_tasks"
            " (id, state, job, file, role, title_key, parent, added)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, to_timestamp(%s))"
            " ON CONFLICT (id) DO UPDATE SET state = excluded.state, job = excluded.job,"
            " file = excluded.file, role = excluded.role, title_key = excluded.title_key,"
            " parent = excluded.parent, added = excluded.added, changed = now()",
            *(file.id, state, job, file.raw, *_columns(file), added),
        )

    def of_claim(self, task: Task, agent: str, me: ThisHost, most: int) -> Claim | None:
        """Have the engine give out a task's job; None if the task left its state.

        It does not if `most` tasks are claimed, or if another host has the agent.
        """
        values = (most, agent, *me, task.id, task.state)
        for claimed, host, worker, job, _, *row in self._session.rows(_CLAIMED, *values):
            return Claim(claimed, host, worker, job, Row(*row))
        return None

    def claim(
        self, task: Task, found: Claim, entry: Entry, worker: int, lease: hosts.Lease
    ) -> TaskFile:
        """Give a task and its agent to this host's worker; return the new file of the task.

        Raises NotFetched.
        """
        file, line = task_file.with_entry(found.row.file, f"{task.id}.md", entry)
        job = found.job
        if job is None:
            job = self._fetched(found.row, file, worker, is_claim=True)
        elif job != found.row.job:
            raise NotFetched(f"the engine gave out another job of {task.id}")
        values = (*hosts.lease_values(worker, lease), "claimed", line, job, task.id)
        self._session.later(_LEASED, values)
        return file

    def move(self, task: Task, state: str, entry: Entry) -> tuple[TaskFile, float]:
        """Append an entry and move the task; return its file and when it was added."""
        row = self._row(task, entry)
        file, line = task_file.with_entry(row.file, f"{task.id}.md", entry)
        if _ends(row, state):
            values = (state, line, row.job, row.job, ENDS[state].value, task.id)
            self._session.later(_ENDED, values)
            return file, row.added
        job = self._job(task, state, row, file)
        self._session.later(_MOVED.format(""), (state, line, job, task.id))
        return file, row.added

    def rewrite(self, task: Task, text: str) -> tuple[TaskFile, float]:
        """Replace the text of a task; return its file and when it was added."""
        row = self._row(task)
        file = rewrite.with_text(row.file, f"{task.id}.md", text)
        job = row.job
        before = task_file.parse(row.file, f"{task.id}.md")
        if job is not None and row.status == "todo" and _shown(file) != _shown(before):
            # The engine shows, and orders by, what the task says now.
            now = task_file.summarise(file, "incoming", "", 0.0)
            if now.not_before is None:
                self._jobs.cancel(job)
                job = self._defer(file)
        self._session.rows(
            "UPDATE orchestrator_tasks SET file = %s, job = %s, role = %s, title_key = %s,"
            " parent = %s, changed = now() WHERE id = %s",
            *(file.raw, job, *_columns(file), task.id),
        )
        return file, row.added

    def _row(self, task: Task, entry: Entry | None = None) -> Row:
        """Return a task's row, locked. Raises NotFound if the task left its state, or its run."""
        delay = entry.fields.get("delay") if entry else None
        seconds = delay if isinstance(delay, int | float) else 0
        found = self._session.rows(_ONE, seconds, task.id, task.state)
        if not found:
            raise NotFound("task", task.id)
        row = Row(*found[0])
        if task.state == "claimed":
            # The task may have been given back and claimed by another host since it was read.
            file = task_file.parse(row.file, f"{task.id}.md")
            if task_file.summarise(file, task.state, "", 0.0).run != task.run:
                raise NotFound("task", task.id)
        return row

    def _job(self, task: Task, state: str, row: Row, file: TaskFile) -> int | None:
        """Move a task's job with the task; return the job that the task has then."""
        job, status = row.job, row.status
        if state in ENDS:
            if job is not None and status == "todo":
                self._jobs.cancel(job)
            return job
        if state == "claimed":
            if task.state == state:
                return job
            return self._fetched(row, file, self._worker(), is_claim=False)
        if job is not None and status == "doing":
            self._jobs.retry(job, row.again_at, _priority(file))
            return job
        now = task_file.summarise(file, state, "", 0.0)
        if job is not None and status == "todo" and now.not_before == task.not_before:
            return job
        if job is not None and status == "todo":
            self._jobs.cancel(job)
        return self._defer(file)

    def _fetched(self, row: Row, file: TaskFile, worker: int, *, is_claim: bool) -> int:
        """Have the engine give the task's job to a worker of this host. Raises NotFetched."""
        job = row.job
        if job is None or row.status != "todo":
            job = self._defer(file)
        fetched = self._jobs.fetch(file.id, worker)
        if fetched is None and not is_claim:
            self._jobs.cancel(job)  # a person moves a task that must wait
            job = self._defer(file)
            fetched = self._jobs.fetch(file.id, worker)
        if fetched != job:
            raise NotFetched(f"the engine did not give out {file.id}")
        return job

    def _defer(self, file: TaskFile) -> int:
        task = task_file.summarise(file, "incoming", "", 0.0)
        facts = {"title": task.title, "branch": task.branch, "created_by": task.created_by}
        return self._jobs.defer(task.id, task.role[:128], _priority(file), facts)


def _ends(row: Row, state: str) -> bool:
    """Return whether a task's move ends its job, which is not merely cancelled."""
    if row.job is None or state not in ENDS:
        return False
    return row.status == "doing" or (row.status == "todo" and state != "failed")


def _columns(file: TaskFile) -> tuple[str, str, str | None]:
    """Return what the columns role, title_key and parent say of a task."""
    return file.get("ROLE") or "", task_file.title_key(file.title), file.get(task_file.PARENT)


def _shown(file: TaskFile) -> tuple[object, ...]:
    return (file.title, file.get("ROLE"), _priority(file), file.get("BRANCH"))


def _priority(file: TaskFile) -> int:
    """Return the engine's priority, of which the highest is first: P0 is 3, P3 is 0."""
    word = (file.get("PRIORITY") or "P2").upper()
    return len(PRIORITIES) - 1 - PRIORITIES.index(word) if word in PRIORITIES else -1
