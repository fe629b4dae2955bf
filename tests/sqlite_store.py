"""A queue in a database: the second implementation of `tasks.store.Store`, for the tests.

It shows what an implementation needs. A row holds the bytes of a task's file, so that the header,
the history and the attempts are read by the same functions as those of the file store.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

from orchestrator.layout import Layout
from orchestrator.model.errors import NotFound, OrchestratorError, TaskFileError
from orchestrator.model.snapshot import Problem
from orchestrator.model.work import STATES, Entry, Task, task_order
from orchestrator.system import files
from orchestrator.system.locks import LockHeld
from orchestrator.tasks import rewrite, task_file
from orchestrator.tasks.store import Listing, Malformed, Store, Watched
from orchestrator.tasks.task_file import TaskFile

_TABLE = "CREATE TABLE IF NOT EXISTS tasks (id TEXT PRIMARY KEY, state TEXT, file BLOB, added REAL)"


class SqliteStore(Store):
    """The queue of one project in one SQLite database."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._path = os.path.join(layout.shared, "queue.db")
        #: The connection with the transaction, while `change` is entered.
        self._open: sqlite3.Connection | None = None

    # --- reading ---

    def list(self, state: str) -> Listing:
        tasks, malformed = [], []
        for row in self._rows("SELECT id, state, file, added FROM tasks WHERE state = ?", state):
            try:
                tasks.append(self._task(*row))
            except TaskFileError as error:
                malformed.append(Malformed(self._where(row[0]), error.message))
        return Listing(tuple(sorted(tasks, key=task_order)), tuple(sorted(malformed)))

    def counts(self, states: Iterable[str] = STATES) -> dict[str, int]:
        found = dict(self._rows("SELECT state, count(*) FROM tasks GROUP BY state"))
        return {state: found.get(state, 0) for state in states}

    def find(self, task_id: str) -> Task:
        for row in self._rows("SELECT id, state, file, added FROM tasks WHERE id = ?", task_id):
            return self._task(*row)
        raise NotFound("task", task_id, [row[0] for row in self._rows("SELECT id FROM tasks")])

    def read(self, task: Task) -> TaskFile:
        return task_file.parse(self._row_of(task)[0], f"{task.id}.md")

    # --- changing ---

    @contextmanager
    def change(self) -> Iterator[None]:
        if self._open is not None:
            yield
            return
        files.remove(self._layout.idle_stamp)
        with closing(self._connect()) as base:
            try:
                base.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                raise LockHeld(self._path) from None
            self._open = base
            try:
                yield
            finally:
                # After an error too: each earlier change was complete.
                self._open = None
                base.execute("COMMIT")

    def add(self, file: TaskFile) -> str:
        with self.change():
            row = (file.id, "incoming", file.raw, time.time())
            try:
                self._rows("INSERT INTO tasks VALUES (?, ?, ?, ?)", *row)
            except sqlite3.IntegrityError:
                message = f"there is already a task {file.id}"
                raise OrchestratorError(message, code="duplicate_task") from None
        return self._where(file.id)

    def new_id(self) -> str:
        number = time.time_ns() // 1_000_000
        while self._rows("SELECT 1 FROM tasks WHERE id = ?", f"TASK-{number % 2**32:08x}"):
            number += 1
        return f"TASK-{number % 2**32:08x}"

    def claim(self, task: Task, entry: Entry, max_claimed: int) -> Task | None:
        with self.change():
            if self.counts()["claimed"] >= max_claimed:
                return None
            try:
                return self.move(task, "claimed", entry)
            except NotFound:
                return None

    def move(self, task: Task, state: str, entry: Entry) -> Task:
        with self.change():
            data, added = self._row_of(task)
            file, line = task_file.with_entry(data, f"{task.id}.md", entry)
            update = "UPDATE tasks SET state = ?, file = ? WHERE id = ?"
            self._rows(update, state, data + line, task.id)
            return task_file.summarise(file, state, self._where(task.id), added)

    def rewrite(self, task: Task, text: str) -> Task:
        with self.change():
            data, added = self._row_of(task)
            file = rewrite.with_text(data, f"{task.id}.md", text)
            self._rows("UPDATE tasks SET file = ? WHERE id = ?", file.raw, task.id)
            return task_file.summarise(file, task.state, self._where(task.id), added)

    # --- the place where the queue is ---

    def prepare(self) -> Sequence[str]:
        made = files.make_folders([self._layout.shared])
        with closing(self._connect()) as base:
            base.execute(_TABLE)
        return made

    def take_away(self) -> None:
        """Nothing is needed between two changes."""

    def places(self) -> Sequence[str]:
        return (self._path, f"{self._path}-journal")

    def watched(self) -> Watched:
        return Watched((self._path,))

    def findings(self, now: float) -> Iterator[Problem]:
        if not os.path.isfile(self._path):
            yield Problem("permissions", f"{self._path} is missing", "run: orchestrator init")
        for bad in (bad for state in STATES for bad in self.list(state).malformed):
            yield Problem(
                "task_malformed", f"{bad.where}: {bad.reason}", "correct or delete the row"
            )

    def leftovers(self, before: float) -> Sequence[str]:
        return ()

    # --- the database ---

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=30, isolation_level=None)

    def _rows(self, statement: str, *values: object) -> Sequence[Any]:
        """Execute a statement, in the transaction if there is one; return its rows."""
        if self._open is not None:
            return self._open.execute(statement, values).fetchall()
        if not os.path.exists(self._path):
            return ()
        with closing(self._connect()) as base:
            return base.execute(statement, values).fetchall()

    def _row_of(self, task: Task) -> tuple[bytes, float]:
        where = "SELECT file, added FROM tasks WHERE id = ? AND state = ?"
        for data, added in self._rows(where, task.id, task.state):
            return data, added
        raise NotFound("task", task.id)

    def _task(self, task_id: str, state: str, data: bytes, added: float) -> Task:
        file = task_file.parse(data, f"{task_id}.md")
        return task_file.summarise(file, state, self._where(task_id), added)

    def _where(self, task_id: str) -> str:
        return f"{self._path}: {task_id}"
