"""A tick at once: a command that gave the agents work does not wait for the schedule's next minute.

The command starts a process (`ask`) and ends. The process (`tick`) becomes a tick of the schedule:
its script, in its environment, in a session of its own. Nothing of the caller's shell, terminal or
client session reaches the runs that this tick starts.
"""

import contextlib
import os
import time
from collections.abc import Mapping

from orchestrator.client import registry
from orchestrator.config import load
from orchestrator.layout import Layout
from orchestrator.model.config import Config
from orchestrator.project import mark
from orchestrator.system import locks, process

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

    A tick that is active may have read the queue before the change, so this waits for its end.
    Returns if the project is paused or not set up. Raises OrchestratorError and OSError.
    """
    layout = Layout(root)
    if not mark.is_initialised(layout) or mark.links(layout):
        return
    entry, config = mark.schedule(layout), _config(layout)
    if entry is None or config is None or config.paused:
        return
    from orchestrator.schedule import schedule

    variables = {MARK: "1"} | schedule.environment(
        entry, os.environ, registry.of_config(config).token[1]
    )
    # The process that holds this lock has not begun its tick, which will see the change of any
    # later process. `execve` closes the descriptor.
    lock = locks.Lock(os.path.join(layout.cache, "soon.lock"))
    with contextlib.suppress(locks.LockHeld):
        lock.__enter__()
        deadline = time.monotonic() + WAIT
        while locks.is_locked(layout.scheduler_lock) and time.monotonic() < deadline:
            time.sleep(0.02)
        os.chdir(os.sep)
        os.execve("/bin/sh", ("/bin/sh", entry.script_path), variables)


def _config(layout: Layout) -> Config | None:
    """Return the configuration; one of an earlier tick is good enough if it is not paused.

    It is read much faster, and a tick of a project that was paused since then starts nothing.
    """
    known = load.last_good(layout)
    if known is not None and not known.paused:
        return known
    loaded = load.settings(layout, write_cache=False)
    return loaded.config if loaded.good else known
