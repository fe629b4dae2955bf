"""The attendant: one process per host, while the host shares its queue and has work or a schedule.

Ticks come once per minute; a host that is silent for a minute counts as dead. The attendant sends
the heartbeat between ticks, and starts a tick as soon as a host adds a task, without asking for it:
it waits for the database's notification. If it is killed, the next tick starts it again.
"""

import os
import time

from orchestrator.errors import StoreFault
from orchestrator.layout import Layout
from orchestrator.project import agent_memory, mark
from orchestrator.system import locks, process
from orchestrator.tasks import stores
from orchestrator.tick import problems, soon

#: Seconds between two heartbeats.
BEAT = 10.0
#: Seconds until the next try after the database failed.
AGAIN = 5.0
#: Seconds after which the process begins again, with the program that is installed then.
LIFETIME = 3600.0


def lock_path(layout: Layout) -> str:
    return os.path.join(layout.cache, "attendant.lock")


def ensure(layout: Layout) -> None:
    """Start the attendant of this host, unless it is there. Raises OSError."""
    if is_needed(layout, time.time()) and not locks.is_locked(lock_path(layout)):
        words = [*process.own_program(), "_attend", layout.root]
        log = os.path.join(layout.cache, "attendant.out")
        process.spawn_detached(words, os.environ, log)


def is_needed(layout: Layout, now: float) -> bool:
    """Return whether this host has a run, or a schedule that works. `now` is epoch seconds."""
    if not mark.is_initialised(layout):
        return False
    if any(agent_memory.read(layout, name).run for name in agent_memory.names(layout)):
        return True
    return mark.schedule(layout) is not None and not problems.is_overdue(layout, now)


def attend(root: str) -> None:
    """Be the attendant of the project in the folder `root`, until it is needed no longer."""
    layout = Layout(root)
    os.chdir(os.sep)
    try:
        with locks.Lock(lock_path(layout)):
            end = time.monotonic() + LIFETIME
            while is_needed(layout, time.time()):
                if time.monotonic() > end:
                    words = [*process.own_program(), "_attend", root]
                    os.execv(words[0], words)
                if not _beat(layout):
                    return
    except locks.LockHeld:
        return


def _beat(layout: Layout) -> bool:
    """Send a heartbeat, and wait for the time of the next; False if the queue is not shared."""
    try:
        store = stores.of_project(layout)
        if store.host is None:
            return False
        if store.beat(BEAT):
            soon.ask(layout)
    except StoreFault:
        time.sleep(AGAIN)
    return True
