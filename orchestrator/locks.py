"""Who holds a lock, for people: the kernel is asked, nothing is taken and nothing changed."""

from __future__ import annotations

import os
import sys
import time
from typing import Any, NamedTuple

from orchestrator import files, process
from orchestrator.layout import Layout
from orchestrator.model import Problem

#: A tick that holds its lock for longer is hung (CONTRACT 8.6); seconds.
HUNG_AFTER = 300.0


class Holder(NamedTuple):
    """Who holds a lock; None in both: not known."""

    pid: int | None
    since: str | None


def holder(path: str) -> Holder | None:
    """Return who holds the lock at `path`; None when nobody does."""
    pid = _locking_process(path)
    if pid is None and not files.is_locked(path):
        return None
    return Holder(pid, _running_since(pid) if pid else None)


def _locking_process(path: str) -> int | None:
    """Return the process that the kernel names as the lock's holder (Linux; see proc_locks(5))."""
    if sys.platform != "linux":
        return None
    try:
        inode = os.stat(path).st_ino
        with open("/proc/locks", encoding="ascii", errors="replace") as file:
            rows: list[Any] = [line.split() for line in file]
    except OSError:
        return None
    for row in rows:
        if "->" not in row and "FLOCK" in row and row[5].endswith(f":{inode}"):
            return int(row[4]) if int(row[4]) > 0 else None
    return None


def _running_since(pid: int) -> str | None:
    import psutil

    try:
        started = psutil.Process(pid).create_time()
    except psutil.Error:
        return None
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(started))


def hung_tick(layout: Layout, now: float) -> Problem | None:
    """Return what to say of a tick that holds its lock for too long."""
    last = _last_taken(layout.scheduler_lock)
    if last is None or now - last[1] <= HUNG_AFTER:
        return None
    pid, since = last
    now_held = holder(layout.scheduler_lock)
    if now_held is None or now_held.pid not in (None, pid):
        return None
    message = f"a tick (process {pid}) holds the lock for {(now - since) / 60:.0f} minutes"
    return Problem("tick_hung", message, "the next tick ends it: orchestrator tick")


def _last_taken(path: str) -> tuple[int, float] | None:
    """Return the process that last took the tick's lock, if it lives, and when it took it."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            pid, identity, since = file.read(200).split()
        return (int(pid), float(since)) if process.is_alive(int(pid), identity) else None
    except (OSError, ValueError):
        return None
