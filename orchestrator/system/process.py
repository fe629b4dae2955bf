"""Processes: who is alive, starting them detached, ending them with all their children.

A process is known by its id *and* its start time, because ids are used again. Imported by the
waiting supervisor, so heavy imports are inside the functions that need them.
"""

# No `from __future__ import annotations`, for the reason that `model` gives.

import contextlib
import itertools
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

#: Seconds between asking a group to end and making it end.
GRACE_SECONDS = 2.0
#: Variables whose value is the run that a process belongs to: clients, and checks of their work.
MARKS = ("ORCHESTRATOR_RUN_ID", "ORCHESTRATOR_CHECK_OF")
#: <linux/prctl.h>
_PR_SET_CHILD_SUBREAPER = 36


def identity(pid: int) -> str | None:
    """Return a word that no other process with this id will ever have; None if it is not alive.

    A zombie is not alive. On Linux the word is the boot's id and the start time in clock ticks
    since boot (proc(5), field 22): unlike a wall-clock time it does not move with the clock.
    """
    if pid <= 0:
        return None
    if sys.platform != "linux":
        return _identity_elsewhere(pid)
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        if fields[0] in (b"Z", b"X"):
            return None
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            boot = file.read(8).decode()
    except (OSError, IndexError):
        return None
    return f"{boot}:{fields[19].decode()}"


def _identity_elsewhere(pid: int) -> str | None:
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return f"t:{process.create_time():.2f}"
    except psutil.Error:
        return None


def booted() -> float:
    """Return when the machine started, in seconds since the epoch; 0.0 where that is not known."""
    if sys.platform != "linux":
        return 0.0
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


def is_alive(pid: int | None, known_identity: str | None) -> bool:
    """Return whether the very process that had this identity still runs."""
    return bool(pid) and bool(known_identity) and identity(pid or 0) == known_identity


class ProcessId(NamedTuple):
    """What is written down of a process, to know it again."""

    pid: int
    identity: str | None = None

    def is_alive(self) -> bool:
        return is_alive(self.pid, self.identity)


def known(pid: int) -> ProcessId:
    """Return what there is to write down of a living process."""
    return ProcessId(pid, identity(pid))


def own_program() -> list[str]:
    """Return the words that start this program again, by the same interpreter in the same way.

    Started by the launcher it needs no site packages to begin with (`-I -S`); started otherwise,
    only the site module knows where the libraries are.
    """
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    flags = ["-I", "-S"] if sys.flags.no_site else []
    return [sys.executable, *flags, os.path.join(package, "__main__.py")]


def close_all_but(*kept: int) -> None:
    """Close every descriptor from 3 on, but for those in `kept`."""
    first = 3
    for descriptor in sorted(kept):
        os.closerange(first, descriptor)
        first = descriptor + 1
    os.closerange(first, 4096)


def spawn_detached(argv: Sequence[str], environment: Mapping[str, str], log: str) -> int:
    """Start a process in a session of its own, its output going to the file `log`; return its pid.

    It has no pipe to us that could break. Raises OSError.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, log, flags, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    try:
        return os.posix_spawn(
            argv[0], list(argv), dict(environment), file_actions=actions, setsid=True
        )
    except NotImplementedError:  # a C library without POSIX_SPAWN_SETSID
        import subprocess

        with open(log, "ab") as out:
            return subprocess.Popen(
                argv,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            ).pid


def end_run(
    pid: int | None,
    known_identity: str | None,
    run_id: str,
    grace: float = GRACE_SECONDS,
    reap: Callable[[], object] = lambda: None,
    keeper: int | None = None,
) -> None:
    """End a run's client: its process group, then whatever else belongs to the run.

    Asked first (SIGTERM), made to after `grace` seconds (SIGKILL). Processes that left the group
    are found by `ORCHESTRATOR_RUN_ID` in their environment and by their ancestors: the client and
    `keeper`, the process that adopted the client's orphans (Linux; elsewhere the environment only,
    by psutil). `reap` is called while waiting: a parent takes its children's exit status there.
    """

    def members() -> dict[int, str]:
        roots = [pid if is_alive(pid, known_identity) else None, keeper]
        found = {*marked(run_id), *(other for root in roots if root for other in below(root))}
        return {other: word for other in found if (word := identity(other))}

    if pid and is_alive(pid, known_identity):
        signal_group(pid, signal.SIGTERM)
    left = members()
    for other in left:
        _signal(other, signal.SIGTERM)
    deadline = time.monotonic() + grace
    while time.monotonic() < deadline:
        reap()
        # Looking at all processes takes long: only once those that are known are gone.
        if not any(itertools.starmap(is_alive, left.items())):
            left = members()
            if not left and not is_alive(pid, known_identity):
                return
        time.sleep(0.02)
    if pid and is_alive(pid, known_identity):
        signal_group(pid, signal.SIGKILL)
    for _ in range(100):
        left = members()
        for other in left:
            _signal(other, signal.SIGKILL)
        reap()
        if not left and not is_alive(pid, known_identity):
            return
        time.sleep(0.02)


def end(pid: int, known_identity: str, grace: float = GRACE_SECONDS) -> None:
    """End one process: asked first, made to after `grace` seconds."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if not is_alive(pid, known_identity):
            return
        _signal(pid, number)
        deadline = time.monotonic() + grace
        while is_alive(pid, known_identity) and time.monotonic() < deadline:
            time.sleep(0.02)


def kill_group(pid: int) -> None:
    """Kill what is left of a process group. Its leader must be alive or not yet reaped."""
    signal_group(pid, signal.SIGKILL)


def marked(run_id: str) -> Iterator[int]:
    """Yield the living processes, but for this one, that were started within the run."""
    marks = {f"{name}={run_id}".encode() for name in MARKS}
    if sys.platform != "linux":
        yield from _marked_elsewhere(run_id)
        return
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            with open(f"/proc/{name}/environ", "rb") as file:
                environment = file.read()
        except OSError:  # gone, or another user's
            continue
        if not marks.isdisjoint(environment.split(b"\0")) and identity(int(name)) is not None:
            yield int(name)


def adopt_orphans() -> None:
    """Become the parent of every descendant of ours whose own parent dies (prctl(2); Linux).

    Whatever a client starts then stays below us, whatever session and environment it gives itself.
    """
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def below(root: int) -> set[int]:
    """Return the living processes, but for this one, that descend from another.

    None where only psutil could tell.
    """
    if sys.platform != "linux":
        return set()
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                state, parent = file.read().rpartition(b")")[2].split()[:2]
        except (OSError, ValueError):  # gone
            continue
        if state not in (b"Z", b"X"):
            children.setdefault(int(parent), []).append(int(name))
    found: set[int] = set()
    left = [root]
    while left:
        born = children.get(left.pop(), [])
        found.update(born)
        left += born
    return found - {os.getpid()}


def _marked_elsewhere(run_id: str) -> Iterator[int]:
    import psutil

    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            variables = process.environ()
            ours = any(variables.get(name) == run_id for name in MARKS)
            if ours and process.pid != os.getpid():
                yield process.pid


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def signal_group(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
