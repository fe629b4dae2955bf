"""The queue in PostgreSQL, for several machines: tasks beside the jobs of Procrastinate.

A row holds the bytes of a task's file, so header, history and attempts are read by the same
functions as those of the file store. The engine's job says whether a host may work on the task:
`incoming` is a job that waits, `claimed` a job that a worker fetched; the other states are ended
jobs. Row and job change in one transaction.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial

from orchestrator.database import hosts, schema, this_host
from orchestrator.database.connection import NotSetUp
from orchestrator.database.one_project import OtherProject
from orchestrator.model.annotations import Any
from orchestrator.model.errors import NotFound, TaskFileError
from orchestrator.model.snapshot import Problem
from orchestrator.model.work import OPEN_STATES, STATES, Entry, Task, task_order
from orchestrator.system import files
from orchestrator.tasks import dropped, task_file
from orchestrator.tasks.file_store import FileStore
from orchestrator.tasks.hosts_store import HostsStore
from orchestrator.tasks.sharing import ELSEWHERE
from orchestrator.tasks.store import Listing, Malformed, Watched
from orchestrator.tasks.task_file import TaskFile
from orchestrator.tasks.task_rows import NotFetched

_ENDED = tuple(state for state in STATES if state not in OPEN_STATES)
_COLUMNS = "SELECT id, state, file, extract(epoch FROM added)::float8"
_ROW = f"{_COLUMNS} FROM orchestrator_tasks"
_LISTED = f"{_ROW} WHERE state = %s"
_CHANGED = f"{_COLUMNS}, changed FROM orchestrator_tasks WHERE state = %s"
#: The finished tasks of a state, and those that a search finds, the newest first.
_NEWEST = f"{_CHANGED} ORDER BY changed DESC"
_BROWSED = f"""
{_CHANGED}
AND (strpos(title_key, %s) > 0 OR strpos(lower(id), %s) > 0) {{}}
ORDER BY changed DESC, id DESC LIMIT %s
"""
_ROW_HINT = "correct or delete the row of orchestrator_tasks"
#: Tasks that are read at once.
_PAGE = 100
#: Finished tasks among which one is looked for whose id is like one that does not exist.
_LIKE = 1000


class PostgresqlStore(HostsStore):
    """The queue of one project in one schema of a database."""

    # --- reading ---

    @contextmanager
    def ahead(self, *what: str) -> Iterator[None]:
        self._require_open()
        asked: list[tuple[str, tuple[object, ...]]] = []
        for word in what:
            if word == ELSEWHERE:
                asked += [(hosts.LEASES, ()), (hosts.MEMORIES, ())]
            else:
                asked.append((_LISTED, (word,)))
        with self._session.ahead(*asked):
            yield

    def list(self, state: str) -> Listing:
        self._require_open()
        found = self._listing(self._session.rows(_LISTED, state))
        if state == "incoming":
            return self._with_dropped(found)
        if state != "claimed":
            return found
        return found._replace(tasks=self._with_places(found.tasks))

    def _with_dropped(self, waiting: Listing) -> Listing:
        tasks, malformed = dropped.listing(self._layout, self._stored)
        if tasks and not self._moves:
            both = tuple(sorted((*waiting.tasks, *tasks), key=task_order))
            waiting = waiting._replace(tasks=both)
        return waiting._replace(malformed=(*waiting.malformed, *malformed))

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
                malformed.append(Malformed(self._where(row[0]), error.message, _ROW_HINT))
        return Listing(tuple(sorted(tasks, key=task_order)), tuple(sorted(malformed)))

    def counts(self, states: Iterable[str] = STATES) -> dict[str, int]:
        self._require_open()
        query = (
            "SELECT state, count(*) FROM orchestrator_tasks WHERE state = ANY(%s) GROUP BY state"
        )
        found = dict.fromkeys(states, 0) | dict(self._session.rows(query, [*states]))
        if "incoming" in found and not self._moves:
            found["incoming"] += len(dropped.listing(self._layout, self._stored).tasks)
        return found

    def newest(self, most: int) -> dict[str, Listing]:
        self._require_open()
        # Each part is read from the index; `state = ANY` would sort all finished tasks.
        parts = " UNION ALL ".join(f"({_NEWEST} LIMIT %s)" for _ in _ENDED)
        values = (value for state in _ENDED for value in (state, most))
        query = f"SELECT * FROM ({parts}) AS found ORDER BY changed DESC LIMIT %s"
        rows = [row[:4] for row in self._session.rows(query, *values, most)]
        return {state: self._listing(r for r in rows if r[1] == state) for state in _ENDED}

    def browse(self, state: str, search: str = "", after: Task | None = None) -> Iterator[Task]:
        if state in OPEN_STATES:
            yield from super().browse(state, search, after)
            return
        self._require_open()
        place: Sequence[Any] = ()
        if after is not None:
            known = "SELECT changed, id FROM orchestrator_tasks WHERE id = %s AND state = %s"
            place = next(iter(self._session.rows(known, after.id, state)), ())
        words = (task_file.title_key(search), search.strip().lower())
        while True:
            query = _BROWSED.format("AND (changed, id) < (%s, %s)" if place else "")
            rows = self._session.rows(query, state, *words, *place, _PAGE)
            for row in rows:
                with suppress(TaskFileError):
                    yield self._task(*row[:4])
            if len(rows) < _PAGE:
                return
            place = rows[-1][4], rows[-1][0]

    def finished_parts(self, task_id: str) -> Sequence[Task]:
        query = f"{_ROW} WHERE parent = %s AND state = ANY(%s)"
        return self._listing(self._session.rows(query, task_id, [*_ENDED])).tasks

    def find(self, task_id: str) -> Task:
        for row in self._with_id(task_id):
            task = self._task(*row)
            return self._with_places([task])[0] if task.state == "claimed" else task
        if (file := dropped.get(self._layout, task_id)) is not None:
            return file
        raise NotFound("task", task_id, self._known_ids())

    def _known_ids(self) -> Iterator[str]:
        """Yield ids that may be meant: of the unfinished tasks, and of the newest finished ones."""
        query = "SELECT id FROM orchestrator_tasks WHERE state = ANY(%s)"
        yield from (row[0] for row in self._session.rows(query, [*OPEN_STATES]))
        for listing in self.newest(_LIKE).values():
            yield from (task.id for task in listing.tasks)

    def get(self, task_id: str) -> Task | None:
        return self._stored(task_id) or dropped.get(self._layout, task_id)

    def whole(self, task_id: str) -> tuple[Task, TaskFile] | None:
        for row in self._with_id(task_id):
            return self._task(*row), task_file.parse(row[2], f"{task_id}.md")
        return super().whole(task_id)

    def _stored(self, task_id: str) -> Task | None:
        return next(iter(self._listing(self._with_id(task_id)).tasks), None)

    def _with_id(self, task_id: str) -> Sequence[Any]:
        self._require_open()
        is_id = task_file.is_id(task_id)
        return self._session.rows(f"{_ROW} WHERE id = %s", task_id) if is_id else ()

    def read(self, task: Task) -> TaskFile:
        query = "SELECT file FROM orchestrator_tasks WHERE id = %s AND state = %s"
        for (data,) in self._session.rows(query, task.id, task.state):
            return task_file.parse(data, f"{task.id}.md")
        return FileStore(self._layout).read(task)

    def has_title(self, title: str, role: str | None, states: Iterable[str]) -> Task | None:
        self._require_open()
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
            self._take_dropped()
            yield

    def attend(self, runs: Iterable[str]) -> None:
        schema.require(self._session, self._project)
        self._take_dropped()
        super().attend(runs)

    def _take_dropped(self) -> None:
        if not self._moves:
            dropped.take(self._layout, self, self._stored)

    def alone(self, what: str, wait: float) -> AbstractContextManager[object]:
        return self._session.alone(what, wait)

    def add(self, file: TaskFile) -> str:
        with self._changing():
            self._rows.add(file)
        return self._where(file.id)

    def put(self, file: TaskFile, state: str, added: float) -> None:
        with self._changing():
            self._rows.put(file, state, added)

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
                found = self._rows.of_claim(task, agent, me, max_claimed)
                if found is None or found.claimed >= max_claimed or found.host not in (None, me[0]):
                    return None
                worker = self._worker() if found.worker is None else found.worker
                entry = entry._replace(fields={**entry.fields, "host": me.name})
                lease = hosts.Lease(agent, me.name, run, task.id)
                file = self._rows.claim(task, found, entry, worker, lease)
                return task_file.summarise(file, "claimed", self._where(task.id), found.row.added)
        except NotFetched:
            return None

    def move(self, task: Task, state: str, entry: Entry) -> Task:
        with self._changing():
            file, added = self._rows.move(task, state, entry)
            return task_file.summarise(file, state, self._where(task.id), added)

    def rewrite(self, task: Task, text: str) -> Task:
        with self._changing():
            file, added = self._rows.rewrite(task, text)
            return task_file.summarise(file, task.state, self._where(task.id), added)

    # --- the place where the queue is ---

    def prepare(self) -> Sequence[str]:
        schema.prepare(self._session, partial(this_host.note_project, self._layout))
        this_host.known(self._layout)
        return ()

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
            schema.require(self._session, self._project)
        except (NotSetUp, OtherProject) as error:
            yield Problem("permissions", error.message, error.hint)
            return
        for state in STATES:
            yield from (bad.problem() for bad in self.list(state).malformed)

    def leftovers(self, before: float) -> Sequence[str]:
        return ()

    def _where(self, task_id: str) -> str:
        return f"{self._session.shown}#{task_id}"

    def _task(self, task_id: str, state: str, data: bytes, added: float) -> Task:
        file = task_file.parse(data, f"{task_id}.md")
        task = task_file.summarise(file, state, self._where(task_id), added)
        # The client's conversation is on the disk of the host that had it.
        is_here = task.session is None or task.host in (None, self.host)
        return task if is_here else task._replace(session=None)
