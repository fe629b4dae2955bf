"""The attendant: one process per host, while the host shares its queue and has work or a schedule.

Ticks come once per minute; a host that is silent for a minute counts as dead. The attendant sends
the heartbeat between ticks, in one statement. In between it waits for the database's notifications,
without asking for anything. When a host adds a task, it forks a tick, unless the task is more
likely to go to another host (`turn`). Ticks that find nothing changed need no connection (`idle`).
If it is killed, the next tick starts it again.
"""

import contextlib
import os
import time

from orchestrator import idle
from orchestrator.layout import Layout
from orchestrator.model.errors import StoreFault
from orchestrator.project import mark, unsettled
from orchestrator.system import files, locks, process
from orchestrator.tasks import stores
from orchestrator.tasks.store import Store
from orchestrator.tick import problems, soon, turn

#: Seconds between two heartbeats.
BEAT = 10.0
#: Seconds until the next try after the database failed.
AGAIN = 5.0
#: Seconds after which the process begins again: each tick that it forks has what it has in memory.
LIFETIME = 3600.0


def lock_path(layout: Layout) -> str:
    return os.path.join(layout.cache, "attendant.lock")


def ensure(layout: Layout) -> None:
    """Start the attendant of this host, unless it is there. Raises OSError."""
    if is_needed(layout, time.time()) and not locks.is_locked(lock_path(layout)):
        log = os.path.join(layout.cache, "attendant.out")
        process.spawn_detached(_words(layout), os.environ, log)


def _words(layout: Layout) -> list[str]:
    """Return the command line of the attendant: of the program that the schedule starts, if any."""
    entry = mark.schedule(layout)
    is_there = entry is not None and os.access(entry.launcher, os.X_OK)
    program = [entry.launcher] if entry is not None and is_there else process.own_program()
    return [*program, "_attend", layout.root]


def is_needed(layout: Layout, now: float) -> bool:
    """Return whether this host has a run, or a schedule that works. `now` is epoch seconds."""
    if not mark.is_initialised(layout):
        return False
    try:
        # Not at all processes, at each heartbeat: a run that only they show, a tick finds.
        if unsettled.runs(layout, look=False):
            return True
    except OSError:
        return True  # the disk gives no memory: without a heartbeat, this host's runs would be lost
    return mark.schedule(layout) is not None and not problems.is_overdue(layout, now)


def attend(root: str, load: soon.Load) -> None:
    """Be the attendant of the project in the folder `root`, until it is no longer needed."""
    layout = Layout(root)
    os.chdir(os.sep)
    if soon.may_fork(layout):
        load()
    try:
        with locks.Lock(lock_path(layout)):
            end, program = time.monotonic() + LIFETIME, _program(layout)
            while is_needed(layout, time.time()) and _beat(layout, load):
                if time.monotonic() > end or _program(layout) != program:
                    words = _words(layout)
                    os.execv(words[0], words)
            _vouch(layout, "")  # nobody hears of changes any more
    except locks.LockHeld:
        return


def _program(layout: Layout) -> object:
    """Return what changes when an update replaces the program of this process."""
    return idle.mark(_words(layout)[0]), process.program_stamp()


def _beat(layout: Layout, load: soon.Load) -> bool:
    """Send a heartbeat, and wait for the time of the next; False if the queue is not shared."""
    try:
        store = stores.of_project(layout)
        if store.host is None:
            return False
        end = time.monotonic() + BEAT
        # First: a change that comes meanwhile is not missed. Those before it were not heard.
        may_be_work: bool | None = store.listen()
        found = store.pulse(_tick_age(layout))
        _vouch(layout, found.number if found else "")
        while (left := end - time.monotonic()) > 0:
            if may_be_work and found is not None and _is_for_this_host(store, found.hosts):
                soon.begin(layout, load)
            if (may_be_work := store.wait(left)) is not None:
                _vouch(layout, "")
    except StoreFault:
        _vouch(layout, "")
        time.sleep(AGAIN)
    return True


def _vouch(layout: Layout, number: str) -> None:
    """Have ticks that find nothing changed believe, for a while, that the queue has this number.

    An empty number takes the word back. A disk that takes nothing must not end the heartbeat: other
    hosts would get the tasks of the runs here.
    """
    with contextlib.suppress(OSError):
        if number:
            files.write_atomic(layout.pulse, number.encode(), flush=False)
        else:
            files.remove(layout.pulse)


def _tick_age(layout: Layout) -> float:
    """Return the seconds since the last tick of this host; it may have asked the database nothing.

    Without a tick yet, or with a clock that was moved back, it is the most that counts.
    """
    last = idle.mark(layout.scheduler_lock)
    age = time.time() - last[1] / 1e9 if last else LIFETIME
    return age if 0 <= age < LIFETIME else LIFETIME


def _is_for_this_host(store: Store, hosts: int) -> bool:
    """Return whether this host should begin a tick for a task that waits.

    Otherwise all hosts would begin a tick for each task, of which one claims it. So each waits for
    its turn, and looks whether the task waits still.
    """
    if (spread := turn.spread(hosts)) > 0:
        import random

        time.sleep(random.uniform(0, spread))
    offer = store.offer()
    wait = turn.wait(offer, store.host or "")
    if wait is None:
        return False
    if wait:
        time.sleep(wait)
        waiting = {task for task, _ in store.offer().tasks}
        return any(task in waiting for task, _ in offer.tasks)
    return True


def is_unchanged(root: str, number: str) -> bool:
    """Return whether the shared queue of the project in `root` has this number still.

    For the tick of a host whose attendant is not there: one statement, which is its heartbeat, too.
    """
    layout = Layout(root)
    try:
        store = stores.of_project(layout)
        found = store.pulse(0.0)
        ensure(layout)
    except (StoreFault, OSError):
        return False  # a whole tick reports it
    return found is not None and found.number == number
