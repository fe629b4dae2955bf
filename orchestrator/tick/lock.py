"""The tick's lock. Its file names the process that holds it, so that a hung tick can be killed."""

import os
import time
from typing import NamedTuple

from orchestrator.layout import Layout
from orchestrator.model import Problem
from orchestrator.system import locks, process
from orchestrator.text.words import span

#: A tick that holds the lock for more seconds than this is hung (reference 8.6).
HUNG_AFTER = 300.0


class _Holder(NamedTuple):
    """The living process that last took the lock, and the time (seconds since the epoch)."""

    pid: int
    identity: str
    since: float

    def is_hung(self, now: float) -> bool:
        return now - self.since > HUNG_AFTER


def _holder(path: str) -> _Holder | None:
    """Return the living process that the lock's file names.

    Also None if that process is dead: the new holder has not written its own name yet.
    """
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            pid, identity, since = file.read(200).split()
        holder = _Holder(int(pid), identity, float(since))
    except (OSError, ValueError):
        return None
    return holder if process.is_alive(holder.pid, holder.identity) else None


def hung_tick(layout: Layout, now: float) -> Problem | None:
    """Return a problem if a tick has held its lock for too long. Changes nothing."""
    named = _holder(layout.scheduler_lock)
    if named is None or not named.is_hung(now):
        return None
    holding = locks.holder(layout.scheduler_lock)
    if holding is None or holding.pid not in (None, named.pid):
        return None
    message = f"a tick (process {named.pid}) has held the lock for {span(now - named.since)}"
    return Problem("tick_hung", message, "the next tick kills it: orchestrator tick")


class TickLock:
    """The lock of the tick. The process that takes it writes its own name into the file."""

    def __init__(self, layout: Layout) -> None:
        self._lock = locks.Lock(layout.scheduler_lock)

    def acquire(self, now: float, wait: float) -> Problem | None:
        """Take the lock, waiting up to `wait` seconds.

        Returns a problem if a hung tick had to be killed. Raises LockHeld.
        """
        problem = None
        self._lock.wait = wait
        try:
            self._lock.__enter__()
        except locks.LockHeld:
            holder = _holder(self._lock.path)
            if holder is None or not holder.is_hung(now):
                raise
            problem = _end_hung(holder, now)
            self._lock.wait = 5.0
            self._lock.__enter__()
        me = f"{os.getpid()} {process.identity(os.getpid())} {time.time():.3f}\n".encode()
        os.pwrite(self._lock.descriptor, me, 0)
        os.ftruncate(self._lock.descriptor, len(me))
        return problem

    def release(self) -> None:
        self._lock.__exit__(None, None, None)


def _end_hung(holder: _Holder, now: float) -> Problem:
    process.end(holder.pid, holder.identity)
    return Problem(
        "tick_hung",
        f"a tick held the lock for {span(now - holder.since)} and was killed",
        "events.jsonl shows its last actions",
    )
