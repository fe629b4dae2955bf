"""How a connection to the shared PostgreSQL is opened, given up, and what its errors mean."""

from __future__ import annotations

import os
import re
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
from psycopg import errors
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict

from orchestrator.database import address as addresses
from orchestrator.model.annotations import Any, TypeVar
from orchestrator.model.errors import OrchestratorError, StoreFault
from orchestrator.system.locks import LONGEST_WAIT, LockHeld

_T = TypeVar("_T")
#: Seconds for which a connection may be silent while it has the lock, or a transaction is open.
#: Then the server ends the connection: a suspended host then no longer holds up the other hosts.
MOST_SILENT = 20
#: Seconds for which one statement may work.
MOST_WORK = 30
#: Seconds without a sign of the server, after which a connection is given up: the server has ended
#: each statement by then, so it is suspended, or the network swallows what it says.
MOST_MUTE = 40.0
#: How the connection is opened, unless the address says it. A cut network is noticed in seconds.
_DEFAULTS: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": 15_000,
}
SIGN_IN = (
    "correct the password, for example in the password file (~/.pgpass, mode 0600); "
    "work resumes automatically"
)
#: How libpq and the server say that they lack the password, or refuse it.
_SIGN_IN = ("no password supplied", "password authentication failed")
#: How the server says that it answers, but has no such database or role.
_UNKNOWN = re.compile('FATAL: (database|role) ".*" does not exist')
NOT_SET_UP = "run: orchestrator init"
NO_QUEUE = "correct `store` in agents.yaml; to create an empty queue there: orchestrator init"


class Unreachable(StoreFault):
    """The database did not answer, or did not do what it always does. No work is at fault."""


class NotSetUp(StoreFault):
    """The database has no tables of the product, or those of another version."""

    code = "store_not_set_up"


class HeldElsewhere(LockHeld):
    """Another host, or another process, has the lock of the shared queue for too long."""

    def __init__(self, shown: str, holder: str, what: str = "queue") -> None:
        message = f"the lock of the {what} in {shown} is held by {holder}"
        OrchestratorError.__init__(self, message, "try again in a moment")


class Pooled(StoreFault):
    """The address is that of a pool that lends out the server's connections.

    There, the settings, the lock and the notifications of a connection are those of others.
    """

    code = "store_pooled"

    def __init__(self, shown: str) -> None:
        message = f"{shown} is a pool that lends connections per transaction or statement"
        hint = "set pool_mode = session in PgBouncer, or name the server itself in `store`"
        super().__init__(message, hint)


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that is closed if the server gives no sign for `MOST_MUTE` seconds."""

    #: The process of the server that has the settings of this connection.
    backend: int | None = None

    def wait(self, gen: PQGen[_T], *arguments: Any, **named: Any) -> _T:
        return super().wait(self._limited(gen), *arguments, **named)

    def _limited(self, gen: PQGen[_T]) -> PQGen[_T]:
        """Pass on what psycopg waits for; it looks here some times per second."""
        end = time.monotonic() + MOST_MUTE
        try:
            waits = next(gen)
            while True:
                ready = yield waits
                if ready:
                    end = time.monotonic() + MOST_MUTE
                elif time.monotonic() > end:
                    self.close()
                    raise psycopg.OperationalError(f"no answer for {MOST_MUTE:g} s")
                waits = gen.send(ready)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]


def opened(address: str, name: str, schema: str) -> Connection:
    """Return a new connection to an address, in which unqualified names are those of a schema.

    `name` is what the server shows of it (`pg_stat_activity`). Raises psycopg.Error.
    """
    given = {**_DEFAULTS, "application_name": name, **conninfo_to_dict(address)}
    given.pop("options", None)  # its search_path is set below, for every server
    found = Connection.connect(**given, autocommit=True)
    settings = {
        "statement_timeout": f"{MOST_WORK}s",
        "lock_timeout": f"{int(LONGEST_WAIT) - 1}s",
        "idle_in_transaction_session_timeout": f"{MOST_SILENT}s",
    }
    each = [f"set_config('{name}', '{value}', false)" for name, value in settings.items()]
    each.append("set_config('search_path', quote_ident(%s), false)")
    each.append("pg_backend_pid()")
    found.backend = (
        found.execute(f"SELECT {', '.join(each)}".encode(), (schema,)).fetchone() or ()
    )[-1]
    return found


def is_lent(one: psycopg.Connection[Any], other: Connection) -> bool:
    """Return whether a pool lends the connections of the server per transaction.

    `one` and `other` are connections of this process without a transaction. Raises psycopg.Error.
    """
    query = b"SELECT pg_backend_pid()"
    first = one.execute(query).fetchone()
    with other.transaction():
        # The transaction has the connection that was lent before; or that is lent again, or kept.
        return other.execute(query).fetchone() == first or one.execute(query).fetchone() != first


def step(address: str) -> str:
    """Return what a person does about a database that does not answer."""
    why = addresses.wrong(address)
    if why is not None and address != os.environ.get(addresses.VARIABLE):
        return f"correct `store` in agents.yaml, which is refused: {why}"
    asked = f"psql {shlex.quote(addresses.shown(address))} -c 'select 1'"
    return f"see whether the server answers: {asked}; work resumes automatically"


@contextmanager
def translated(address: str, close: Callable[[], None]) -> Iterator[None]:
    """Turn errors of psycopg into errors for people; `close` a connection that is broken."""
    try:
        yield
    except psycopg.Error as error:
        if isinstance(error, psycopg.OperationalError) and error.sqlstate is None:
            close()  # no answer of the server
        raise _for_people(error, address) from error


def _for_people(error: psycopg.Error, address: str) -> OrchestratorError:
    shown = addresses.shown(address)
    reason = " ".join(str(error).split())
    match error:
        case errors.ProtocolViolation() if "pooling mode" in reason:
            return Pooled(shown)
        case errors.LockNotAvailable():
            return HeldElsewhere(shown, "another process")
        case errors.UndefinedTable() | errors.InvalidSchemaName():
            return NotSetUp(f"{shown} has no queue: {reason}", NO_QUEUE)
        case errors.UndefinedFunction() | errors.UndefinedColumn():
            return NotSetUp(f"{shown} has no queue of this version: {reason}", NOT_SET_UP)
        case errors.InsufficientPrivilege():
            hint = "give the role these rights: docs/several-machines.md in the program's folder"
            return StoreFault(f"the role may not use {shown}: {reason}", hint, code="permissions")
        case psycopg.DataError():
            message = f"{shown} cannot store a value: {reason}"
            return StoreFault(message, "please report this", code="store_refused")
    if unknown := _UNKNOWN.search(reason):
        hint = f"create the {unknown[1]} at the server, or correct the address"
    else:
        hint = SIGN_IN if any(said in reason for said in _SIGN_IN) else step(address)
    return Unreachable(f"the database {shown} failed: {reason}", hint)
