"""The session with the shared PostgreSQL: a connection, and the locks that it may hold."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from orchestrator.database.connection import MOST_SILENT, HeldElsewhere
from orchestrator.database.statements import Statements
from orchestrator.system.locks import LockHeld

#: The advisory lock of a schema: the first number is the product's, the second the schema's.
_ALONE = 1869636969
_LOCK = "1869636968, hashtext(coalesce(current_schema(), ''))"
_TAKE_LOCK = f"SELECT pg_advisory_xact_lock({_LOCK})".encode()
_SILENT = f"set_config('idle_session_timeout', '{MOST_SILENT}s', false)"
_NEVER_SILENT = "set_config('idle_session_timeout', '0', false)"


class Session(Statements):
    """A connection of one thread of one process."""

    @contextmanager
    def change(self) -> Iterator[None]:
        """Hold the lock for one transaction, which begins and ends with it; it nests.

        The lock is there from the first answer on. Raises HeldElsewhere, Unreachable.
        """
        if self._locked or self._in_transaction:
            with self.lock(), self.transaction():
                yield
            return
        with self._holder_named(), self._whole((_TAKE_LOCK, ())):
            self._is_change = True
            yield

    @contextmanager
    def _holder_named(self) -> Iterator[None]:
        try:
            yield
        except LockHeld:
            raise HeldElsewhere(self.shown, self._holder()) from None

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the lock under which every change of this schema happens; it nests.

        The lock belongs to the connection: if the connection is lost, so is the lock, and no change
        can be made any more. Raises HeldElsewhere, Unreachable.
        """
        if self._is_change:
            yield
            return
        if self._locked:
            self._locked += 1
            try:
                yield
            finally:
                self._locked -= 1
            return
        self._answers = []  # what was asked before may be old under the lock
        with self._holder_named():
            self.rows(f"SELECT pg_advisory_lock({_LOCK}), {_SILENT}")
        self._locked = 1
        try:
            yield
        finally:
            self._locked = 0
            self._unlock()

    @contextmanager
    def alone(self, what: str, wait: float) -> Iterator[None]:
        """Hold a lock of this schema, other than `lock`, for work that may take minutes.

        It ends with the connection. `wait` is in seconds. Raises HeldElsewhere, Unreachable.
        """
        key = f"{_ALONE}, hashtext(coalesce(current_schema(), '') || %s)"
        end = time.monotonic() + wait
        while not self.rows(f"SELECT pg_try_advisory_lock({key})", what)[0][0]:
            if time.monotonic() > end:
                raise HeldElsewhere(self.shown, "another host", what)
            time.sleep(0.2)
        holder = self._open
        try:
            yield
        finally:
            if self._open is holder and holder is not None and not holder.closed:
                self.rows(f"SELECT pg_advisory_unlock({key})", what)

    def _unlock(self) -> None:
        if self._open is None or self._open.closed:
            return
        try:
            self._open.execute(f"SELECT pg_advisory_unlock({_LOCK}), {_NEVER_SILENT}".encode())
        except psycopg.Error:
            self._open.close()  # which gives the lock back, too

    def _holder(self) -> str:
        found = self.rows(
            "SELECT application_name FROM pg_locks JOIN pg_stat_activity USING (pid)"
            " WHERE locktype = 'advisory' AND granted AND classid = 1869636968"
            " AND objid = (hashtext(coalesce(current_schema(), ''))::bigint & 4294967295)::oid"
        )
        return found[0][0] if found and found[0][0] else "another process"


class _Sessions(threading.local):
    def __init__(self) -> None:
        self.by_address: dict[tuple[int, str], Session] = {}


_SESSIONS = _Sessions()


def of(address: str, name: str = "orchestrator") -> Session:
    """Return this thread's session with the database at an address."""
    # A forked process must not use its parent's connection, and must not close it: it stays here.
    key = (os.getpid(), address)
    if key not in _SESSIONS.by_address:
        _SESSIONS.by_address[key] = Session(address, name)
    return _SESSIONS.by_address[key]
