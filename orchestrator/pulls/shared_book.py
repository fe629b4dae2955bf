"""The records of pull requests in the database of a shared queue, the same on every host."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager

from orchestrator.database import access, json_text
from orchestrator.layout import Layout
from orchestrator.model.annotations import TYPE_CHECKING, Any
from orchestrator.model.work import PullRequest
from orchestrator.pulls.book import Book, Seen, from_record

if TYPE_CHECKING:
    from orchestrator.database.session import Session

    MaybeSession = Session | None


def of_project(layout: Layout, forge: str) -> Book:
    """Return a forge's records: in the database of the queue, or as files."""
    session = access.of_project(layout)
    book = at(layout, session, forge)
    if session is not None and isinstance(book, SharedBook):
        from orchestrator.database import schema, this_host

        project = functools.partial(this_host.project, layout)
        book.require = functools.partial(schema.require_open, session, project)
    return book


def at(layout: Layout, session: MaybeSession, forge: str) -> Book:
    """Return a forge's records in a database; without a database, those in its folder."""
    folder = layout.records(forge)
    return Book(folder) if session is None else SharedBook(folder, session, forge)


class SharedBook(Book):
    """The records of one forge as rows; `is_away` stands for the folder `merged/`."""

    def __init__(self, folder: str, session: Session, forge: str) -> None:
        super().__init__(folder)
        self._session, self._forge = session, forge
        #: Raises StoreFault unless the project may work with the queue (`schema.require_open`). Not
        #: while the queue is moved.
        self.require: Callable[[], None] = lambda: None

    def _rows(self, query: str, *values: object) -> Sequence[Any]:
        self.require()
        return self._session.rows(query, *values)

    def is_new(self) -> bool:
        return False

    def begin(self) -> None:
        """The rows need no place of their own."""

    def _numbers(self, *, away: bool = False) -> set[int]:
        rows = self._rows(
            "SELECT number FROM orchestrator_pull_requests WHERE forge = %s AND is_away = %s",
            *(self._forge, away),
        )
        return {number for (number,) in rows}

    def list(self) -> list[PullRequest]:
        return [*self._shown_where("AND NOT is_away")]

    def _maybe_on(self, branch: str) -> Sequence[PullRequest]:
        return self.list()

    def every(self) -> Sequence[PullRequest]:
        return self._shown_where("")

    def _all(self, numbers: Iterable[int]) -> Sequence[PullRequest]:
        return self._shown_where("AND number = ANY(%s)", [*numbers])

    def _shown_where(self, condition: str, *values: object) -> Sequence[PullRequest]:
        """Return the pull requests of which something is so, oldest first, by one statement."""
        rows = self._rows(
            "SELECT number, record FROM orchestrator_pull_requests"
            f" WHERE forge = %s {condition} ORDER BY number",
            *(self._forge, *values),
        )
        found = (self._shown(str(number), *_seen(record)) for number, record in rows)
        return [pr for pr in found if pr is not None]

    def locked(self) -> AbstractContextManager[object]:
        self.require()
        return self._session.lock()

    def path(self, pr_id: str) -> str:
        return f"{self._session.shown}#{self._forge}-pull-request-{pr_id}"

    def _where(self, pr_id: str) -> str:
        return self.path(pr_id)

    def _damage(self, pr_id: str) -> str | None:
        record, pr = self._seen(pr_id)
        good = not record or (record.get("id") == pr_id and pr is not None)
        return None if good else "a field is missing or has a wrong value"

    def _put_aside(self, pr_id: str) -> None:
        """A row that is not a record is replaced: only a person could have written it."""

    def _put_away(self, pr_id: str) -> None:
        with self._session.transaction():
            self._session.rows(
                "UPDATE orchestrator_pull_requests SET is_away = true"
                " WHERE forge = %s AND number = %s",
                *(self._forge, int(pr_id)),
            )

    def _seen(self, pr_id: str) -> Seen:
        query = "SELECT record FROM orchestrator_pull_requests WHERE forge = %s AND number = %s"
        for (record,) in self._rows(query, self._forge, int(pr_id)):
            return _seen(record)
        return {}, None

    def put(self, pr_id: str, record: Mapping[str, object]) -> None:
        with self._session.transaction():
            self._session.rows(
                "INSERT INTO orchestrator_pull_requests (forge, number, record) VALUES (%s, %s, %s)"
                " ON CONFLICT (forge, number) DO UPDATE"
                " SET record = excluded.record, is_away = false",
                *(self._forge, int(pr_id), json_text.dumped(record)),
            )


def _seen(record: object) -> Seen:
    """Return what a row says; the database has taken it for JSON, but not for a record."""
    known = record if isinstance(record, dict) else {}
    return known, from_record(known)
