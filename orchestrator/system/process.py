"""Processes: which are alive, starting them detached, ending them with all their children.

Imported by the waiting supervisor, so heavy imports are inside the functions that need them.
"""

# No `from __future__ import annotations`, for the reason that `model.config` gives.

import contextlib
import itertools
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence

from orchestrator.model.fields import NamedTuple
from orchestrator.system.processes import HERE

#: Seconds between SIGTERM and SIGKILL.
GRACE_SECONDS = 2.0
#: What the operating system knows, by the names that other modules use.
identity, booted, marked, runs_in = HERE.identity, HERE.booted, HERE.marked, HERE.runs_in
below, adopt_orphans, at_work = HERE.below, HERE.adopt_orphans, HERE.at_work
is_stopped, started = HERE.is_stopped, HERE.started


def is_alive(pid: int | None, known_identity: str | None) -> bool:
    """Return whether the very process that had this identity still runs."""
    return bool(pid) and bool(known_identity) and identity(pid or 0) == known_identity


class ProcessId(NamedTuple):
    """The record of a process, by which it is recognised later."""

    pid: int
    identity: str | None = None

    def is_alive(self) -> bool:
        return is_alive(self.pid, self.identity)


def known(pid: int) -> ProcessId:
    """Return the record of a living process."""
    return ProcessId(pid, identity(pid))


def own_program() -> list[str]:
    """Return the words that start this program again, by the same interpreter in the same way.

    Started by the launcher it needs no site packages to begin with (`-I -S`); started otherwise,
    only the site module knows where the libraries are.
    """
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    flags = ["-I", "-S"] if sys.flags.no_site else []
    return [sys.executable, *flags, os.path.join(package, "__main__.py")]


def program_stamp() -> list[tuple[int, ...]]:
    """Return what changes when another version of this program takes the place of this one.

    Each update replaces files, or moves the link to their folder: both show in the folders.
    """
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    with os.scandir(package) as entries:
        rooms = sorted(x.path for x in entries if x.is_dir() and x.name != "__pycache__")
    found = (os.stat(path) for path in (package, *rooms))
    return [(each.st_dev, each.st_ino, each.st_mtime_ns) for each in found]


def redirect(descriptor: int, path: str, flags: int) -> None:
    """Make a descriptor of this process mean the file at `path`. Raises OSError."""
    opened = os.open(path, flags, 0o600)
    os.dup2(opened, descriptor)
    os.close(opened)


def spawn_detached(argv: Sequence[str], environment: Mapping[str, str], log: str) -> int:
    """Start a process in a session of its own, its output going to the file `log`; return its pid.

    It has no pipe to us that could break. Raises OSError.
    """
    import subprocess

    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        return subprocess.Popen(
            argv,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        ).pid
    finally:
        os.close(out)


def end_run(
    pid: int | None,
    known_identity: str | None,
    run_id: str,
    grace: float = GRACE_SECONDS,
    reap: Callable[[], object] = lambda: None,
    keeper: int | None = None,
) -> None:
    """End a run's client: its process group, then whatever else belongs to the run.

    They are asked first (SIGTERM), and killed after `grace` seconds (SIGKILL). Processes that left
    the group are found by `ORCHESTRATOR_RUN_ID` in their environment and by their ancestors: the
    client and `keeper`, the process that adopted the client's orphans. `reap` is called while
    waiting: a parent takes its children's exit status there.
    """
    import signal

    def tell(number: int) -> dict[int, str]:
        """Send a signal to all processes of the run (0: send nothing); return their identities."""
        leader = pid if is_alive(pid, known_identity) else None
        if leader:
            signal_group(leader, number)
        found = {
            *marked(run_id),
            *(each for root in (leader, keeper) if root for each in below(root)),
        }
        members = {each: word for each in found if (word := identity(each))}
        for each in members:
            signal_process(each, number)
        if number == signal.SIGTERM:
            # A stopped process gets no request to end until it continues.
            if leader:
                signal_group(leader, signal.SIGCONT)
            for each in members:
                signal_process(each, signal.SIGCONT)
        return members

    was_alive = is_alive(pid, known_identity)
    left = tell(signal.SIGTERM)
    if not left and not was_alive:
        return
    deadline = time.monotonic() + grace
    kills = 100
    while kills:
        reap()
        if time.monotonic() >= deadline:
            left = tell(signal.SIGKILL)
            kills -= 1
        # Looking at all processes takes long: only once those that are known are gone.
        elif not any(itertools.starmap(is_alive, left.items())):
            left = tell(0)
        if not left and not is_alive(pid, known_identity):
            return
        time.sleep(0.02)


def end(pid: int, known_identity: str, grace: float = GRACE_SECONDS) -> None:
    """End one process: by SIGTERM, and after `grace` seconds by SIGKILL."""
    import signal

    for number in (signal.SIGTERM, signal.SIGKILL):
        if not is_alive(pid, known_identity):
            return
        signal_process(pid, number)
        # A stopped process gets no request to end until it continues.
        signal_process(pid, signal.SIGCONT)
        deadline = time.monotonic() + grace
        while is_alive(pid, known_identity) and time.monotonic() < deadline:
            time.sleep(0.02)


def continue_stopped(pid: int) -> None:
    """Continue a process and its descendants (SIGCONT), which changes nothing for running ones."""
    import signal

    for each in (pid, *below(pid)):
        signal_process(each, signal.SIGCONT)


def signal_process(pid: int, number: int) -> None:
    """Send a signal to a process, unless it is gone or belongs to another user."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def signal_group(pid: int, number: int) -> None:
    """Send a signal to a process group. Its leader must be alive or not yet reaped."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
