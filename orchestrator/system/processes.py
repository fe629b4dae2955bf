"""What the operating system knows of processes: one protocol, by psutil, and by /proc on Linux.

A process is known by its id *and* an identity, because ids are used again. Imported by the waiting
supervisor, so psutil is imported only where it is called.
"""

# No `from __future__ import annotations`, for the reason that `model.config` gives.

import contextlib
import os
import sys
from collections.abc import Collection, Iterable, Iterator
from functools import cache

from orchestrator.model.annotations import Protocol

#: Variables whose value is the run that a process belongs to: clients, and checks of their work.
MARKS = ("ORCHESTRATOR_RUN_ID", "ORCHESTRATOR_CHECK_OF")
#: The variables of a client: its project, its agent, its run (reference 7).
_OF_RUN = ("ORCHESTRATOR_PROJECT", "ORCHESTRATOR_AGENT", "ORCHESTRATOR_RUN_ID")
#: Maximum characters of a command that are shown.
COMMAND_KEPT = 100
#: <linux/prctl.h>
_PR_SET_CHILD_SUBREAPER = 36


class Processes(Protocol):
    """The questions about processes. `tests/test_processes.py` runs on each implementation."""

    def identity(self, pid: int) -> str | None:
        """Return a word that no other process with this id has; None if it is dead or a zombie."""

    def is_stopped(self, pid: int) -> bool:
        """Return whether a process is stopped (SIGSTOP, Ctrl-Z): it lives, and does nothing."""

    def command(self, pid: int) -> str | None:
        """Return how a process was started, in at most `COMMAND_KEPT` characters."""

    def started(self, pid: int) -> float | None:
        """Return when a process was started, in seconds since the epoch; None if it is gone."""

    def booted(self) -> float:
        """Return when the machine started, in seconds since the epoch."""

    def marked(self, run_id: str) -> Iterator[int]:
        """Yield the living processes, except this process, that were started within the run."""

    def runs_in(self, project: str) -> set[tuple[str, str]]:
        """Return agent and run of the living processes that were started within a project's runs.

        `project` is the real path of its folder.
        """

    def below(self, root: int) -> set[int]:
        """Return the living processes, except this process, that descend from another process."""

    def at_work(self, program: str, folders: Collection[str], owners: Collection[int]) -> set[int]:
        """Return the living processes of a program that may work in one of the folders.

        `program` is the beginning of their names; `folders` are real paths. A process works in a
        folder if it was started there or one of its arguments names it. A process of another user
        does not say where it was started; it counts if that user is among `owners` (user ids).
        """

    def adopt_orphans(self) -> bool:
        """Become the parent of descendants whose own parent dies, where the system allows that.

        Returns whether it does.
        """


class Psutil:
    """Asks psutil. Where nobody adopts orphans (macOS), only `marked` finds them."""

    def identity(self, pid: int) -> str | None:
        import psutil

        if pid <= 0:
            return None
        try:
            process = psutil.Process(pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return None
            return f"t:{process.create_time():.2f}"
        except psutil.Error:
            return None

    def is_stopped(self, pid: int) -> bool:
        import psutil

        try:
            return psutil.Process(pid).status() in (psutil.STATUS_STOPPED, "tracing-stop")
        except (psutil.Error, ValueError):
            return False

    def command(self, pid: int) -> str | None:
        import psutil

        try:
            return _shown(psutil.Process(pid).cmdline())
        except (psutil.Error, ValueError):
            return None

    def started(self, pid: int) -> float | None:
        import psutil

        try:
            return psutil.Process(pid).create_time()
        except (psutil.Error, ValueError):
            return None

    def booted(self) -> float:
        import psutil

        return psutil.boot_time()

    def marked(self, run_id: str) -> Iterator[int]:
        import psutil

        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                variables = process.environ()
                is_of_run = any(variables.get(name) == run_id for name in MARKS)
                if is_of_run and process.pid != os.getpid() and self.identity(process.pid):
                    yield process.pid

    def runs_in(self, project: str) -> set[tuple[str, str]]:
        import psutil

        found = set()
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                variables = process.environ()
                where, *run = map(variables.get, _OF_RUN)
                if where == project and all(run) and self.identity(process.pid):
                    found.add((run[0] or "", run[1] or ""))
        return found

    def below(self, root: int) -> set[int]:
        import psutil

        try:
            found = psutil.Process(root).children(recursive=True)
        except psutil.Error:
            return set()
        return {each.pid for each in found if each.pid != os.getpid() and self.identity(each.pid)}

    def at_work(self, program: str, folders: Collection[str], owners: Collection[int]) -> set[int]:
        import psutil

        found = set()
        starts = tuple(f"{folder}/" for folder in folders)
        for process in psutil.process_iter(["name"]):
            if not (process.info["name"] or "").startswith(program):
                continue
            with contextlib.suppress(psutil.NoSuchProcess):  # it can end during each question
                try:
                    # Of a process that is ending, "": it has closed its files, and is in no folder.
                    where = process.cwd()
                    words = [word.rpartition("=")[2] for word in process.cmdline()]
                    named = {where, *(os.path.join(where, word) for word in words)}
                    paths = [os.path.realpath(path) for path in named if os.path.isabs(path)]
                    is_there = any(f"{path}/".startswith(starts) for path in paths)
                except (psutil.AccessDenied, OSError):
                    is_there = process.uids().effective in owners  # each process says whose it is
                if is_there and self.identity(process.pid):
                    found.add(process.pid)
        return found

    def adopt_orphans(self) -> bool:
        return False


class Linux(Psutil):
    """Reads /proc (proc(5)): every run asks, and the import of psutil takes longer than a look.

    Orphans stay below the process that adopted them.
    """

    def identity(self, pid: int) -> str | None:
        # The boot's id, and the start time in clock ticks since boot (field 22): unlike a
        # wall-clock time, it does not move with the clock.
        fields = self._fields(pid)
        try:
            boot = _boot()
        except OSError:
            return None
        is_alive = len(fields) > 19 and fields[0] not in (b"Z", b"X")
        return f"{boot}:{fields[19].decode()}" if is_alive else None

    def marked(self, run_id: str) -> Iterator[int]:
        marks = {f"{name}={run_id}".encode() for name in MARKS}
        for pid in _pids():
            variables = _read(f"/proc/{pid}/environ")
            if not any(mark in variables for mark in marks):  # the split takes ten times as long
                continue
            is_of_run = not marks.isdisjoint(variables.split(b"\0"))
            if is_of_run and pid != os.getpid() and self.identity(pid):
                yield pid

    def runs_in(self, project: str) -> set[tuple[str, str]]:
        found, word = set(), os.fsencode(f"{_OF_RUN[0]}={project}")
        for pid in _pids():
            variables = _read(f"/proc/{pid}/environ")
            if word not in variables:
                continue
            lines = variables.split(b"\0")
            if word in lines and self.identity(pid):
                pairs = dict(line.split(b"=", 1) for line in lines if b"=" in line)
                agent, run = (os.fsdecode(pairs.get(x.encode(), b"")) for x in _OF_RUN[1:])
                found.update([(agent, run)] if agent and run else [])
        return found

    def is_stopped(self, pid: int) -> bool:
        return self._fields(pid)[:1] in ([b"T"], [b"t"])

    def command(self, pid: int) -> str | None:
        words = _read(f"/proc/{max(pid, 0)}/cmdline").rstrip(b"\0").split(b"\0")
        return _shown(map(os.fsdecode, words))

    def booted(self) -> float:
        rows = (row.split() for row in _read("/proc/stat").split(b"\n"))
        found = next((row[1] for row in rows if row[:1] == [b"btime"]), None)
        return float(found) if found else super().booted()

    def _fields(self, pid: int) -> list[bytes]:
        """Return the fields of a process after its name; [] if there is no such process."""
        return _read(f"/proc/{max(pid, 0)}/stat").rpartition(b")")[2].split()

    def adopt_orphans(self) -> bool:
        # Whatever a client starts then stays below us, whatever session and environment it gives
        # itself (prctl(2)).
        import ctypes

        return bool(ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


def _shown(words: Iterable[str]) -> str | None:
    """Return the words of a command as one line that can be printed; None without words."""
    said = " ".join(words).encode("utf-8", "replace").decode()
    return "".join(c if c.isprintable() else "?" for c in said)[:COMMAND_KEPT] or None


@cache
def _boot() -> str:
    """Return the first characters of the boot's id, which no process survives. Raises OSError."""
    with open("/proc/sys/kernel/random/boot_id", "rb") as file:
        return file.read(8).decode()


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _read(path: str) -> bytes:
    """Return a file of /proc; empty if the process is gone, or is another user's."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except OSError:
        return b""


#: The implementation for the system that this program runs on.
HERE: Processes = Linux() if sys.platform == "linux" else Psutil()
