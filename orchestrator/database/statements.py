"""A connection to the shared PostgreSQL, opened when it is first used.

Every statement outside a transaction is a query, so it can be repeated after a lost connection.
What changes the database happens in a transaction.
"""

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import psycopg
from psycopg import errors, sql

from orchestrator.database import address as addresses
from orchestrator.database import connection
from orchestrator.database.connection import Pooled, Unreachable
from orchestrator.model.annotations import Any, TypeVar

_T = TypeVar("_T")
#: A query, and its values.
_Query = tuple[str, tuple[object, ...]]
_BEGIN: tuple[Any, Any] = (b"BEGIN", ())


class Statements:
    """A connection of one thread of one process."""

    def __init__(self, address: str, name: str) -> None:
        """`name` is what the server shows of this connection (`pg_stat_activity`)."""
        self.address = address
        self.schema = addresses.schema(address)
        self.shown = addresses.shown(address)
        self._name = name
        self._process = os.getpid()
        self._open: connection.Connection | None = None
        #: When the schema was last found to be in use (`schema.require_open`; monotonic seconds).
        self.open_at = -math.inf
        #: How often `lock` was entered.
        self._locked = 0
        #: In a transaction; whether the server has begun it; whether it holds the lock (`change`).
        self._in_transaction = self._is_begun = self._is_change = False
        #: The answers of `ahead` that were not given yet.
        self._answers: list[tuple[_Query, Sequence[Any]]] = []
        #: What `later` has not sent yet.
        self._later: list[tuple[Any, Any]] = []
        #: The connection that was told to listen.
        self._listens: connection.Connection | None = None

    def __del__(self) -> None:
        # A thread ended. A forked process must not close the connection of its parent.
        if self._open is not None and os.getpid() == self._process:
            self._open.close()

    @property
    def connection(self) -> connection.Connection:
        """Return the open connection, for the engine. Raises Unreachable."""
        if self._open is None or self._open.closed:
            if self._locked or self._is_begun:
                lost = f"the connection to {self.shown} was lost"
                raise Unreachable(lost, connection.step(self.address))
            with self.translated():
                self._open = connection.opened(self.address, self._name, self.schema)
        return self._open

    def require_unshared(self) -> None:
        """Raise Pooled behind a pool that lends the server's connections. Raises Unreachable."""
        own = self.connection
        with self.translated(), connection.opened(self.address, self._name, self.schema) as other:
            is_lent = connection.is_lent(own, other)
        if is_lent:
            self.close()
            raise Pooled(self.shown)

    def require_backend(self, found: int | None = None) -> None:
        """Raise Pooled if the server answers with another process than the first time.

        A pool may have changed its mode since `require_unshared`. `found` is the process that
        answered last, if it is known (`pg_backend_pid`). Raises Unreachable.
        """
        found = self.rows("SELECT pg_backend_pid()")[0][0] if found is None else found
        if found != self.connection.backend:
            self.close()
            raise Pooled(self.shown)

    def rows(self, query: str, *values: object) -> Sequence[Any]:
        """Return the rows of a query; in the transaction, if there is one.

        Raises Unreachable, and NotSetUp without the tables of the product: an empty answer would
        show an empty queue in place of a wrong address.
        """
        for number, (asked, rows) in enumerate(self._answers):
            if asked == (query, values):
                del self._answers[number]
                return rows
        return self._repeated(lambda: self._rows(query, values))

    @contextmanager
    def ahead(self, *queries: _Query) -> Iterator[None]:
        """Ask several queries in one exchange; `rows` inside gives each of these answers once.

        On a network, each answer that is waited for takes time. It changes nothing in a
        transaction, or inside of another call. Raises Unreachable.
        """
        if self._answers or self._in_transaction:
            yield
            return
        self._answers = self._repeated(lambda: self._asked(queries))
        try:
            yield
        finally:
            self._answers = []

    def _asked(self, queries: Sequence[_Query]) -> list[tuple[_Query, Sequence[Any]]]:
        if not psycopg.capabilities.has_pipeline():
            return []
        with self.translated():
            try:
                with self.connection.pipeline():
                    cursors = [self.connection.execute(q.encode(), v) for q, v in queries]
                answers = [cursor.fetchall() for cursor in cursors]
            except (errors.UndefinedTable, errors.InvalidSchemaName):
                return []  # `rows` says so
        return [*zip(queries, answers, strict=True)]

    def _repeated(self, work: Callable[[], _T]) -> _T:
        """Do what only reads, again if the server had closed the connection while it was idle."""
        alone = not (self._locked or self._in_transaction)
        try:
            return work()
        except Unreachable:
            if not alone or (self._open is not None and not self._open.closed):
                raise
            return work()

    def _rows(self, query: str, values: Sequence[object]) -> Sequence[Any]:
        with self.translated():
            cursor = self._answered(query.encode(), values)
            return cursor.fetchall() if cursor.description else ()

    def named_rows(self, query: Any, values: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the rows of a statement of the engine, by column. Raises Unreachable."""
        with self.translated():
            cursor = self._answered(query, values)
            names = [column.name for column in cursor.description or ()]
            rows = cursor.fetchall() if names else ()
            return [dict(zip(names, row, strict=True)) for row in rows]

    def later(self, query: object, values: Any = ()) -> None:
        """Send a statement of a transaction whose result nobody needs, with what follows it.

        On a network, each answer that is waited for takes time. Raises Unreachable, here or later.
        """
        self._later.append((query.encode() if isinstance(query, str) else query, values))
        if not self._in_transaction:
            with self.translated():
                self._answered(*self._later.pop())

    def script(self, text: str) -> None:
        """Send several statements of a transaction at once. Raises Unreachable."""
        self.rows("SELECT 1")  # with what `later` kept: such statements travel alone
        with self.translated():
            self.connection.execute(text.encode())

    def _answered(self, query: Any, values: Any = ()) -> psycopg.Cursor[tuple[Any, ...]]:
        """Send what `later` kept, and one statement, and wait for its answer."""
        kept, self._later = self._later, []
        was_open = self._open is not None and not self._open.closed
        try:
            answer = self._sent(kept, query, values)
        except psycopg.OperationalError:
            lost = self._open is None or self._open.closed
            if not (lost and was_open and kept[:1] == [_BEGIN]):
                raise
            # The server closed the connection while it was idle: nothing is done yet.
            answer = self._sent(kept, query, values)
        self._is_begun = self._in_transaction
        return answer

    def _sent(
        self, kept: list[tuple[Any, Any]], query: Any, values: Any
    ) -> psycopg.Cursor[tuple[Any, ...]]:
        connection = self.connection
        # Without waiting for each other's answers, if libpq can.
        can = kept and psycopg.capabilities.has_pipeline()
        with connection.pipeline() if can else nullcontext():
            for each in kept:
                connection.execute(*each)
            return connection.execute(query, values)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make the statements inside one change; it nests. Raises Unreachable."""
        if self._in_transaction:
            yield
            return
        with self._whole():
            yield

    @contextmanager
    def _whole(self, *first: tuple[Any, Any]) -> Iterator[None]:
        """Send the statements inside as one transaction, which begins with `first`."""
        self._answers = []  # they may be old after it
        self._later = [_BEGIN, *first]
        self._in_transaction = True
        try:
            yield
            with self.translated():
                self._answered(b"COMMIT")
        except BaseException:
            self._roll_back()
            raise
        finally:
            self._in_transaction = self._is_begun = self._is_change = False
            self._later = []

    def _roll_back(self) -> None:
        if self._open is not None and not self._open.closed:
            try:
                self._open.rollback()
            except psycopg.Error:
                self._open.close()  # which ends the transaction, too

    def translated(self) -> AbstractContextManager[None]:
        """Turn errors of psycopg into errors for people."""
        return connection.translated(self.address, self.close)

    def identifier(self) -> str:
        """Return the quoted name of the schema, for statements that define."""
        return sql.Identifier(self.schema).as_string(None)

    def listen(self, channel: str) -> bool:
        """Have the server tell this connection what is notified on a channel. Raises Unreachable.

        Returns False, and asks nothing, if it does so already.
        """
        if self._listens is not None and self._listens is self._open and not self._open.closed:
            return False
        self.rows(f"LISTEN {sql.Identifier(channel).as_string(None)}")
        self._listens = self._open
        return True

    def notices(self, seconds: float) -> set[str]:
        """Wait for notifications; return what the first ones said, nothing after `seconds`."""
        with self.translated():
            found = self.connection.notifies(timeout=seconds, stop_after=1)
            return {notice.payload for notice in found}

    def close(self) -> None:
        """Close the connection; the next statement opens another."""
        if self._open is not None:
            self._open.close()
