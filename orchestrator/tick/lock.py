"""The tick's lock. Its file names the process that holds it, so that a hung tick can be killed."""

import contextlib
import os
import time
from collections.abc import Iterator

from orchestrator.layout import Layout
from orchestrator.model import Problem
from orchestrator.system import locks, process
from orchestrator.text.words import span

#: A tick that holds the lock for more seconds than this is hung (reference 8.6).
HUNG_AFTER = 300.0


def _hung(layout: Layout, now: float) -> tuple[process.ProcessId, str] | None:
    """Return the process that has held the lock for too long, and how long; else None."""
    try:
        with open(layout.scheduler_lock, encoding="ascii", errors="replace") as file:
            pid, identity, since = file.read(200).split()
        named, seconds = process.ProcessId(int(pid), identity), now - float(since)
    except (OSError, ValueError):
        return None
    # A dead process is not the holder: the new holder has not written its own name yet.
    if not seconds > HUNG_AFTER or not named.is_alive():
        return None
    holding = locks.holder(layout.scheduler_lock)
    if holding is None or holding.pid not in (None, named.pid):
        return None
    return named, span(seconds)


def hung_tick(layout: Layout, now: float) -> Problem | None:
    """Return a problem if a tick has held its lock for too long. Changes nothing."""
    if found := _hung(layout, now):
        message = f"a tick (process {found[0].pid}) has held the lock for {found[1]}"
        return Problem("tick_hung", message, "the next tick kills it: orchestrator tick")
    return None


@contextlib.contextmanager
def taken(layout: Layout, now: float, wait: float) -> Iterator[list[Problem] | None]:
    """Hold the lock of the tick, after waiting up to `wait` seconds for another tick.

    Yields a problem if a hung tick had to be killed; None if another tick still holds the lock.
    """
    problems = []
    with contextlib.closing(locks.Lock(layout.scheduler_lock, wait)) as lock:
        try:
            lock.__enter__()
        except locks.LockHeld:
            found = _hung(layout, now)
            if found is None:
                yield None
                return
            process.end(found[0].pid, found[0].identity or "")
            message = f"a tick held the lock for {found[1]} and was killed"
            problems.append(Problem("tick_hung", message, "events.jsonl shows its last actions"))
            lock.wait = 5.0
            lock.__enter__()
        me = f"{os.getpid()} {process.identity(os.getpid())} {time.time():.3f}\n".encode()
        os.pwrite(lock.descriptor, me, 0)
        os.ftruncate(lock.descriptor, len(me))
        yield problems
