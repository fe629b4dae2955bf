"""The tick's lock. Its file names the process that holds it, so that a hung process can be killed.

The file's time is the time of the last tick. A command that needs the lock leaves the time as it
is.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping

from orchestrator import idle
from orchestrator.layout import Layout
from orchestrator.model.snapshot import Problem
from orchestrator.system import files, locks, process
from orchestrator.text.words import span

#: A process that holds the lock for more seconds than this is hung (reference 8.6).
HUNG_AFTER = 300.0
#: The name of the lock, in the cache, of the tick after a run that waits for the tick's lock.
WAITING = "waiting.lock"
#: Seconds to wait for the lock after a hung process was killed.
_AFTER_KILL = 5.0


def _named(layout: Layout) -> tuple[process.ProcessId, float] | None:
    """Return the process that the lock's file names, and when it got the lock, as `_write` did."""
    try:
        words = files.read_regular(layout.scheduler_lock, 200).decode("ascii", "replace").split()
        pid, identity, since = words
        return process.ProcessId(int(pid), identity), float(since)
    except (OSError, ValueError):
        return None


def _hung(layout: Layout) -> tuple[process.ProcessId, str] | None:
    """Return the process that has held the lock for too long, and how long; else None."""
    found = _named(layout)
    # A dead process is not the holder: the new holder has not written its own name yet.
    if found is None or not found[0].is_alive():
        return None
    named, since = found
    # A clock that is set changes nothing, and neither does the sleep of the machine.
    seconds = time.monotonic() - since
    if seconds <= HUNG_AFTER:
        return None
    holding = locks.holder(layout.scheduler_lock)
    if holding is None or holding.pid not in (None, named.pid):
        return None
    return named, span(seconds)


def trouble(
    layout: Layout, now: float, known: Mapping[str, locks.Holder] | None = None
) -> Problem | None:
    """Return a problem if a process has held the lock for too long, or is stopped.

    Changes nothing. A process that the file does not name is not the product's: nothing kills it.
    `known` are the locks that are held, if the caller has looked for this one, too.
    """
    if found := _hung(layout):
        message = f"a tick (process {found[0].pid}) has held the lock for {found[1]}"
        return Problem("tick_hung", message, "the next tick kills it: orchestrator tick")
    path = layout.scheduler_lock
    if (holding := (dict(locks.held([path])) if known is None else known).get(path)) is not None:
        changed, named = idle.mark(path), _named(layout)
        is_old = changed is not None and abs(now - changed[1] / 1e9) > HUNG_AFTER
        if holding.is_stopped or (is_old and not (named and named[0].is_alive())):
            message = f"no tick can run: {path} is held by {holding.named()}"
            return Problem("lock_held", message, holding.hint())
    return None


@contextlib.contextmanager
def taken(
    layout: Layout, wait: float, begun: Callable[[], object] = lambda: None
) -> Iterator[list[Problem] | None]:
    """Hold the lock of the tick, after waiting up to `wait` seconds for another tick.

    Calls `begun` when it has the lock. Yields a problem if a hung tick had to be killed; None if
    another tick still holds the lock. Raises LockHeld if a hung tick cannot be killed.
    """
    problems = []
    with contextlib.closing(locks.Lock(layout.scheduler_lock, wait)) as lock:
        try:
            lock.__enter__()
        except locks.LockHeld:
            found = _hung(layout)
            if found is None:
                yield None
                return
            process.end(found[0].pid, found[0].identity or "")
            message = f"a tick held the lock for {found[1]} and was killed"
            problems.append(Problem("tick_hung", message, "events.jsonl shows its last actions"))
            lock.wait = _AFTER_KILL
            lock.__enter__()
        begun()
        _write(lock)
        yield problems


@contextlib.contextmanager
def exclusive(layout: Layout, wait: float = locks.LONGEST_WAIT) -> Iterator[None]:
    """Keep ticks out, after waiting up to `wait` seconds for an active tick. Raises LockHeld."""
    with locks.Lock(layout.scheduler_lock, wait) as lock:
        before = os.fstat(lock.descriptor)
        _write(lock)
        os.utime(lock.descriptor, ns=(before.st_atime_ns, before.st_mtime_ns))
        yield


def _write(lock: locks.Lock) -> None:
    """Name this process in the lock's file, with the seconds of the monotonic clock."""
    me = f"{os.getpid()} {process.identity(os.getpid())} {time.monotonic():.3f}\n".encode()
    os.pwrite(lock.descriptor, me, 0)
    os.ftruncate(lock.descriptor, len(me))
