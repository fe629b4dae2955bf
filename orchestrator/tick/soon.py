"""A tick at once: a command that gave the agents work does not wait for the schedule's next minute.

The command starts a process (`ask`) and ends. The process (`tick`) becomes a tick of the schedule:
its script, in its environment, in a session of its own. Nothing of the caller's shell, terminal or
client session reaches the runs that this tick starts.

The attendant (`attendant`) is a process of the schedule's program and has loaded what a tick
needs: it forks such a tick (`begin`), which saves two starts of Python.
"""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping

from orchestrator.client import registry
from orchestrator.config import load
from orchestrator.layout import Layout
from orchestrator.model.annotations import TYPE_CHECKING
from orchestrator.model.config import Config
from orchestrator.project import mark
from orchestrator.system import files, locks, process

if TYPE_CHECKING:
    from orchestrator.schedule.entry import Entry

#: Seconds to wait for the end of an active tick. A tick takes much less; after that the schedule's
#: own ticks are enough.
WAIT = 30.0
#: Set for each command by the sandbox of a client's session (the program `sandbox-runtime`). The
#: sandbox ends a command's processes with the command, and hides the runs' processes from a tick.
SANDBOX = "SANDBOX_RUNTIME"
#: Set for such a tick. It asks forge and remotes only if the ticks of the schedule did not do so
#: within LOOK_EVERY seconds: what the command changed is on this disk, and must not wait for them.
MARK = "ORCHESTRATOR_SOON"
LOOK_EVERY = 60.0
#: Imports what a tick needs, and returns the command of a tick.
Load = Callable[[], Callable[[], object]]


def is_possible(layout: Layout, variables: Mapping[str, str]) -> bool:
    """Return whether a process with these variables may start a tick of the project's schedule.

    An agent's run may not: its processes end with the run.
    """
    return not (
        variables.get("ORCHESTRATOR_RUN_ID")
        or variables.get(SANDBOX)
        or mark.read(layout).get("schedule") is None
    )


def ask(layout: Layout) -> None:
    """Start a tick in the background, if the project has a schedule. Raises OSError.

    Returns before the tick begins. Its errors go to the schedule's log.
    """
    if is_possible(layout, os.environ):
        words = [*process.own_program(), "_soon", layout.root]
        process.spawn_detached(words, os.environ, layout.schedule_log)


def tick(root: str) -> None:
    """Become a tick of the schedule of the project in `root`, unless another process will.

    Returns if the project is paused or not set up. Raises OrchestratorError and OSError.
    """
    layout = Layout(root)
    with _turn(layout) as found:
        if found is not None:
            entry, variables = found
            os.chdir(os.sep)
            # `execve` closes the descriptor of the lock.
            os.execve("/bin/sh", ("/bin/sh", entry.script_path), variables)


@contextlib.contextmanager
def _turn(layout: Layout) -> Iterator[tuple["Entry", dict[str, str]] | None]:
    """Yield the schedule's entry and environment when a tick may begin; otherwise None.

    A tick that is active may have read the queue before the change, so this waits for its end.
    """
    entry = mark.schedule(layout)
    if not mark.is_initialised(layout) or mark.links(layout) or entry is None:
        yield None
        return
    config = _config(layout)
    if config is None or config.paused:
        yield None
        return
    from orchestrator.schedule import schedule

    token = registry.of_config(config).token[1]
    variables = {MARK: "1"} | schedule.environment(entry, os.environ, token)
    # The process that holds this lock has not begun its tick, which will see the change of any
    # later process.
    try:
        with locks.Lock(os.path.join(layout.cache, "soon.lock")):
            deadline = time.monotonic() + WAIT
            while locks.is_locked(layout.scheduler_lock) and time.monotonic() < deadline:
                time.sleep(0.02)
            yield entry, variables
    except locks.LockHeld:
        yield None


def begin(layout: Layout, load: Load) -> None:
    """Begin a tick of the schedule: fork this process, or start another one (`ask`).

    A fork is a tick of the schedule only if this process has the program that the schedule starts.
    Raises OSError.
    """
    if not is_possible(layout, os.environ):
        return
    if not may_fork(layout):
        ask(layout)
        return
    command = load()
    sys.stdout.flush()
    sys.stderr.flush()
    if child := os.fork():
        os.waitpid(child, 0)
        return
    try:
        os.setsid()
        if os.fork() == 0:  # nobody has to wait for the end of this process
            # The connection to the database, and the locks, are the parent's.
            os.closerange(3, 4096)
            _ticked(layout, command)
    except BaseException:
        import traceback

        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(0)


def may_fork(layout: Layout) -> bool:
    """Return whether this process has the program that the schedule's own script starts."""
    from orchestrator.schedule import program_copy

    entry = mark.schedule(layout)
    return (
        entry is not None
        and program_copy.is_own(entry.launcher)
        and files.holds(entry.script_path, entry.script())
    )


def _ticked(layout: Layout, command: Callable[[], object]) -> None:
    """Do in this forked process what the schedule's script does."""
    import gc

    process.redirect(0, os.devnull, os.O_RDONLY)
    process.redirect(1, os.devnull, os.O_WRONLY)
    process.redirect(2, layout.schedule_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    with _turn(layout) as found:
        pass  # the lock is free again before the tick begins, as after `execve`
    if found is not None:
        entry, variables = found
        os.environ.clear()
        os.environ.update(variables | {"PATH": entry.path})
        os.chdir(layout.root)
        gc.disable()  # the process ends before a collection pays off
        command()


def _config(layout: Layout) -> Config | None:
    """Return the configuration; one of an earlier tick is good enough if it is not paused.

    It is read much faster, and a tick of a project that was paused since then starts nothing.
    """
    known = load.last_good(layout)
    if known is not None and not known.paused:
        return known
    loaded = load.settings(layout, write_cache=False)
    return loaded.config if loaded.good else known
