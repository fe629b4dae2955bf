"""The queue in PostgreSQL, for several machines: tasks beside the jobs of Procrastinate.

A row holds the bytes of a task's file, so header, history and attempts are read by the same
functions as those of the file store. The engine's job says whether a host may work on the task:
`incoming` is a job that waits, `claimed` a job that a worker fetched; the other states are ended
jobs. Row and job change in one transaction.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from orchestrator.database import hosts, schema, shared_events, this_host
from orchestrator.database.connection import NotSetUp
from orchestrator.database.engine import HEARTBEAT, Jobs
from orchestrator.database.session import Session
from orchestrator.errors import NotFound, OrchestratorError, TaskFileError
from orchestrator.fields import NamedTuple
from orchestrator.layout import Layout
from orchestrator.model import (
    OPEN_STATES,
    PRIORITIES,
    STATES,
    Entry,
    Problem,
    RunView,
    Task,
    task_order,
)
from orchestrator.system import files
from orchestrator.tasks import rewrite, task_file
from orchestrator.tasks.file_store import FileStore
from orchestrator.tasks.store import Elsewhere, Listing, Malformed, Pulse, Store, Watched
from orchestrator.tasks.task_file import TaskFile

_ENDED = tuple(state for state in STATES if state not in OPEN_STATES)
_ROW = "SELECT id, state, file, extract(epoch FROM added)::float8 FROM orchestrator_tasks"
#: Locks the row, so that nobody ends, or gives away, the run meanwhile.
_ONE = """
SELECT file, extract(epoch FROM added)::float8, job, status::text, now() + %s * interval '1 second'
FROM orchestrator_tasks LEFT JOIN procrastinate_jobs j ON j.id = job
WHERE orchestrator_tasks.id = %s AND state = %s FOR UPDATE OF orchestrator_tasks
"""
#: A claim's facts: the number of claimed tasks, the host that has the agent, this host's worker,
#: whose heartbeat it is, and the row.
_CLAIMED = f"""
SELECT (SELECT count(*) FROM orchestrator_tasks WHERE state = 'claimed'),
    (SELECT host FROM orchestrator_agents WHERE agent = %s), worker,
    ({HEARTBEAT.format("worker")})::text,
    file, extract(epoch FROM added)::float8, job, status::text, NULL
FROM orchestrator_tasks LEFT JOIN procrastinate_jobs j ON j.id = job
LEFT JOIN orchestrator_hosts me ON me.name = %s AND me.clone = %s
WHERE orchestrator_tasks.id = %s AND state = %s FOR UPDATE OF orchestrator_tasks
"""
_MOVED = """
UPDATE orchestrator_tasks SET state = %s, file = file || %s, job = %s, changed = now() WHERE id = %s
"""


class _Row(NamedTuple):
    """A task's row while it is changed."""

    file: bytes
    added: float
    job: int | None
    #: The job's status in the engine; None without a job.
    status: str | None
    #: When the task may be claimed again, by the database's clock.
    again_at: Any


class PostgresqlStore(Store):
    """The queue of one project in one schema of a database."""

    def __init__(self, layout: Layout, session: Session, *, moves: bool = False) -> None:
        """`moves`: the queue is being moved, so it may be incomplete or closed."""
        self._layout, self._session, self._moves = layout, session, moves
        self._jobs = Jobs(session)

    @property
    def host(self) -> str:
        return this_host.read(self._layout).name

    # --- reading ---

    def _require_open(self) -> None:
        if not self._moves:
            schema.require_open(self._session)

    def list(self, state: str) -> Listing:
        self._require_open()
        found = self._listing(self._session.rows(f"{_ROW} WHERE state = %s", state))
        if state == "incoming":
            return found._replace(malformed=(*found.malformed, *self._dropped_wrong()))
        if state != "claimed":
            return found
        return found._replace(tasks=self._with_places(found.tasks))

    def _with_places(self, claimed: Sequence[Task]) -> tuple[Task, ...]:
        """Say of claimed tasks whether their runs are here, elsewhere, or on a host that died."""
        others = {task.id for task in claimed if task.host not in (None, self.host)}
        if not others:
            return tuple(claimed)
        query = "SELECT id FROM orchestrator_tasks WHERE job = ANY(%s)"
        gone = self._session.rows(query, [*self._jobs.stalled(hosts.DEAD_AFTER)])
        places = dict.fromkeys(others, "elsewhere")
        places |= {task_id: "gone" for (task_id,) in gone if task_id in others}
        return tuple(task._replace(claim_at=places.get(task.id, "here")) for task in claimed)

    def _listing(self, rows: Iterable[Any]) -> Listing:
        tasks, malformed = [], []
        for row in rows:
            try:
                tasks.append(self._task(*row))
            except TaskFileError as error:
                malformed.append(Malformed(self._where(row[0]), error.message))
        return Listing(tuple(sorted(tasks, key=task_order)), tuple(sorted(malformed)))

    def counts(self) -> dict[str, int]:
        query = "SELECT state, count(*) FROM orchestrator_tasks GROUP BY state"
        return dict.fromkeys(STATES, 0) | dict(self._session.rows(query))

    def newest(self, most: int) -> dict[str, Listing]:
        query = f"{_ROW} WHERE state = ANY(%s) ORDER BY changed DESC LIMIT %s"
        rows = self._session.rows(query, [*_ENDED], most)
        return {state: self._listing(r for r in rows if r[1] == state) for state in _ENDED}

    def finished_parts(self, task_id: str) -> Sequence[Task]:
        query = f"{_ROW} WHERE parent = %s AND state = ANY(%s)"
        return self._listing(self._session.rows(query, task_id, [*_ENDED])).tasks

    def find(self, task_id: str) -> Task:
        self._require_open()
        if task_file.is_id(task_id):
            for row in self._session.rows(f"{_ROW} WHERE id = %s", task_id):
                task = self._task(*row)
                return self._with_places([task])[0] if task.state == "claimed" else task
        known = (row[0] for row in self._session.rows("SELECT id FROM orchestrator_tasks"))
        raise NotFound("task", task_id, known)

    def get(self, task_id: str) -> Task | None:
        rows = (
            self._session.rows(f"{_ROW} WHERE id = %s", task_id) if task_file.is_id(task_id) else ()
        )
        return next(iter(self._listing(rows).tasks), None)

    def read(self, task: Task) -> TaskFile:
        query = "SELECT file FROM orchestrator_tasks WHERE id = %s AND state = %s"
        for (data,) in self._session.rows(query, task.id, task.state):
            return task_file.parse(data, f"{task.id}.md")
        raise NotFound("task", task.id)

    def has_title(self, title: str, role: str | None, states: Iterable[str]) -> Task | None:
        key = task_file.title_key(title)
        query = f"{_ROW} WHERE md5(title_key) = md5(%s) AND title_key = %s AND state = ANY(%s)"
        found = self._listing(self._session.rows(query, key, key, [*states])).tasks
        return next((task for task in found if role in (None, task.role)), None)

    # --- changing ---

    @contextmanager
    def change(self) -> Iterator[None]:
        files.remove(self._layout.idle_stamp)
        with self._session.lock():
            self._require_open()
            yield

    def alone(self, what: str, wait: float) -> AbstractContextManager[object]:
        return self._session.alone(what, wait)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        files.remove(self._layout.idle_stamp)
        with self._session.change():
            self._require_open()
            yield

    def add(self, file: TaskFile) -> str:
        with self._changing():
            known = "SELECT state FROM orchestrator_tasks WHERE id = %s"
            for (state,) in self._session.rows(known, file.id):
                message = f"there is already a task {file.id}, in {state}"
                raise OrchestratorError(message, code="duplicate_task")
            self._session.rows(
                "INSERT INTO orchestrator_tasks (id, state, job, file, role, title_key, parent)"
                " VALUES (%s, 'incoming', %s, %s, %s, %s, %s)",
                *(file.id, self._defer(file), file.raw, *_columns(file)),
            )
        return self._where(file.id)

    def put(self, file: TaskFile, state: str, added: float) -> None:
        with self._changing():
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

    def new_id(self) -> str:
        query = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint"
        number = int(self._session.rows(query)[0][0])
        known = "SELECT 1 FROM orchestrator_tasks WHERE id = %s"
        while self._session.rows(known, task_id := f"TASK-{number % 2**32:08x}"):
            number += 1
        return task_id

    def claim(self, task: Task, entry: Entry, max_claimed: int) -> Task | None:
        agent, run = str(entry.fields.get("agent")), str(entry.fields.get("run"))
        try:
            with self._changing():
                me = this_host.known(self._layout)
                found = self._session.rows(_CLAIMED, agent, *me, task.id, task.state)
                if not found or found[0][0] >= max_claimed or found[0][1] not in (None, me.name):
                    return None
                row, worker = _Row(*found[0][4:]), found[0][2]
                entry = entry._replace(fields={**entry.fields, "host": me.name})
                file, line = task_file.with_entry(row.file, f"{task.id}.md", entry)
                worker = self._worker() if worker is None else worker
                job = self._fetched(row, file, worker, is_claim=True)
                hosts.lease(self._session, worker, hosts.Lease(agent, me.name, run, task.id))
                self._session.later(_MOVED, ("claimed", line, job, task.id))
                return task_file.summarise(file, "claimed", self._where(task.id), row.added)
        except _NotFetched:
            return None

    def _worker(self) -> int:
        return hosts.worker(self._session, self._jobs, this_host.known(self._layout))

    def begin(self, agent: str, run: str) -> bool:
        with self._changing():
            if hosts.place(self._session, agent) not in (None, self.host):
                return False
            hosts.lease(self._session, self._worker(), hosts.Lease(agent, self.host, run, None))
            return True

    def end(self, agent: str, run: str, memory: Mapping[str, object]) -> None:
        with self._session.transaction():
            hosts.release(self._session, hosts.Lease(agent, self.host, run, None), memory)

    def holds(self, task_id: str, run: str) -> bool:
        with self._session.transaction():
            # The heartbeat first: from now on, no other host may take the task for a while.
            self._worker()
            return super().holds(task_id, run)

    def _dropped_wrong(self) -> Iterator[Malformed]:
        """Yield the files that a person dropped and that `attend` cannot take."""
        dropped = FileStore(self._layout).list("incoming")
        yield from dropped.malformed
        for task in dropped.tasks:
            if (known := self.get(task.id)) is not None:
                reason = f"its id {task.id} is already used by {known.where}"
                yield Malformed(task.where, reason)

    def _take_dropped(self) -> None:
        """Take the files that a person dropped into `incoming/` into the database."""
        dropped = FileStore(self._layout)
        for task in dropped.list("incoming").tasks:
            file, known = dropped.read(task), self.get(task.id)
            if known is None:
                self.put(file, "incoming", task.created or time.time())
            elif self.read(known).raw != file.raw:
                continue  # `_dropped_wrong` reports it; an equal task was taken before a crash
            files.remove(task.where)

    def attend(self, runs: Iterable[str]) -> None:
        schema.require(self._session)
        self._take_dropped()
        with self._session.transaction():
            hosts.attend(self._session, self._jobs, this_host.known(self._layout), runs)
        this_host.remember(self._layout, self._session.address)

    def tell(self, problems: Iterable[str], settings: Mapping[str, str]) -> None:
        facts = {"problems": [*problems], "settings": settings}
        with self._session.transaction():
            hosts.note(self._session, this_host.known(self._layout), facts)

    def take(self, words: Sequence[str]) -> Sequence[str]:
        return hosts.take(self._session, self.host, words) if words else ()

    def give_back(self, words: Sequence[str]) -> None:
        if words:
            hosts.give_back(self._session, words)

    def publish(self) -> None:
        shared_events.publish(self._session, self._layout, self.host)

    def events(self, most: int) -> Iterable[bytes]:
        return shared_events.elsewhere(self._session, self.host, most)

    def number(self) -> str:
        return hosts.number(self._session)

    def news(self) -> str:
        return hosts.news(self._session)

    def pulse(self, tick_age: float) -> Pulse | None:
        found = hosts.pulse(self._session, this_host.known(self._layout), tick_age)
        if found is None:
            self._require_open()
            with self._session.transaction():
                self._worker()
        return None if found is None else Pulse(*found)

    def listen(self) -> None:
        self._session.listen(hosts.channel(self._session))

    def wait(self, seconds: float) -> bool | None:
        news = self._session.notices(seconds)
        return schema.TASK in news if news else None

    def has_work(self) -> bool:
        return hosts.has_work(self._session)

    def elsewhere(self) -> Elsewhere:
        others = (each for each in hosts.leases(self._session) if each.host != self.host)
        runs = (
            RunView(each.run, each.agent, each.task, True, False, 0, host=each.host, age=each.age)
            for each in others
        )
        return Elsewhere(tuple(runs), tuple(hosts.memories(self._session, self.host)))

    def move(self, task: Task, state: str, entry: Entry) -> Task:
        with self._changing():
            row = self._row(task, entry)
            file, line = task_file.with_entry(row.file, f"{task.id}.md", entry)
            job = self._job(task, state, row, file)
            self._session.later(_MOVED, (state, line, job, task.id))
            return task_file.summarise(file, state, self._where(task.id), row.added)

    def _row(self, task: Task, entry: Entry | None = None) -> _Row:
        """Return a task's row, locked. Raises NotFound if the task left its state, or its run."""
        delay = entry.fields.get("delay") if entry else None
        seconds = delay if isinstance(delay, int | float) else 0
        found = self._session.rows(_ONE, seconds, task.id, task.state)
        if not found:
            raise NotFound("task", task.id)
        row = _Row(*found[0])
        if task.state == "claimed":
            # The task may have been given back and claimed by another host since it was read.
            file = task_file.parse(row.file, f"{task.id}.md")
            if task_file.summarise(file, task.state, "", 0.0).run != task.run:
                raise NotFound("task", task.id)
        return row

    def _job(self, task: Task, state: str, row: _Row, file: TaskFile) -> int | None:
        """Move a task's job with the task; return the job that the task has then."""
        job, status = row.job, row.status
        if state in ("done", "failed", "blocked"):
            if job is not None and status == "todo" and state == "failed":
                self._jobs.cancel(job)
            elif job is not None and status in ("todo", "doing"):
                self._jobs.finish(job, state)
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

    def _fetched(self, row: _Row, file: TaskFile, worker: int, *, is_claim: bool) -> int:
        """Have the engine give the task's job to a worker of this host. Raises _NotFetched."""
        job = row.job
        if job is None or row.status != "todo":
            job = self._defer(file)
        fetched = self._jobs.fetch(file.id, worker)
        if fetched is None and not is_claim:
            self._jobs.cancel(job)  # a person moves a task that must wait
            job = self._defer(file)
            fetched = self._jobs.fetch(file.id, worker)
        if fetched != job:
            raise _NotFetched(f"the engine did not give out {file.id}")
        return job

    def _defer(self, file: TaskFile) -> int:
        task = task_file.summarise(file, "incoming", "", 0.0)
        facts = {"title": task.title, "branch": task.branch, "created_by": task.created_by}
        return self._jobs.defer(task.id, task.role[:128], _priority(file), facts)

    def rewrite(self, task: Task, text: str) -> Task:
        with self._changing():
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
            return task_file.summarise(file, task.state, self._where(task.id), row.added)

    # --- the place where the queue is ---

    def prepare(self) -> None:
        schema.prepare(self._session)
        this_host.known(self._layout)

    def tidy(self) -> bool:
        return False  # the database's autovacuum does it

    def take_away(self) -> None:
        """Nothing on this disk is needed; other hosts may still use the queue."""

    def places(self) -> Sequence[str]:
        return ()

    def watched(self) -> Watched:
        return FileStore(self._layout).watched()  # what a person dropped and is not taken yet

    def findings(self, now: float) -> Iterator[Problem]:
        try:
            schema.require(self._session)
        except NotSetUp as error:
            yield Problem("permissions", error.message, error.hint)
            return
        for bad in (bad for state in STATES for bad in self.list(state).malformed):
            hint = "correct or delete the row of orchestrator_tasks"
            yield Problem("task_malformed", f"{bad.where}: {bad.reason}", hint)

    def leftovers(self, before: float) -> Sequence[str]:
        return ()

    def _where(self, task_id: str) -> str:
        return f"{self._session.shown}#{task_id}"

    def _task(self, task_id: str, state: str, data: bytes, added: float) -> Task:
        file = task_file.parse(data, f"{task_id}.md")
        task = task_file.summarise(file, state, self._where(task_id), added)
        # The client's conversation is on the disk of the host that had it.
        is_here = task.session is None or task.host in (None, self.host)
        return task if is_here else task._replace(session=None, session_agent=None)


class _NotFetched(OrchestratorError):
    """The engine gave the job to nobody: it must wait, or another host has it."""


def _columns(file: TaskFile) -> tuple[str, str, str | None]:
    """Return what the columns role, title_key and parent say of a task."""
    return file.get("ROLE") or "", task_file.title_key(file.title), file.get(task_file.PARENT)


def _shown(file: TaskFile) -> tuple[object, ...]:
    return (file.title, file.get("ROLE"), _priority(file), file.get("BRANCH"))


def _priority(file: TaskFile) -> int:
    """Return the engine's priority, of which the highest is first: P0 is 3, P3 is 0."""
    word = (file.get("PRIORITY") or "P2").upper()
    return len(PRIORITIES) - 1 - PRIORITIES.index(word) if word in PRIORITIES else -1
