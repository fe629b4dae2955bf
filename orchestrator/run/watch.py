"""The second stage of a run: wait for the client, and end it when it passes a limit.

A supervisor waits here for hours, so this module imports next to nothing.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import time

from orchestrator.client import registry
from orchestrator.model.annotations import TYPE_CHECKING
from orchestrator.project import run_record
from orchestrator.project.run_record import ClientProcess, Ended
from orchestrator.run.journal import Journal
from orchestrator.system import disk, files, memory, process

if TYPE_CHECKING:
    from orchestrator.client.protocol import Client
    from orchestrator.model.config import Agent

#: Bytes of output above which a run is ended.
MAX_OUTPUT = 512 * 1024 * 1024
#: Bytes of a line of output that are read at once.
MAX_LINE = 16 * 1024 * 1024
#: Seconds that the client may run on after its result line (background work can keep it running).
LINGER_SECONDS = 60.0
#: Longest time between two looks at the clock and the output.
POLL_SECONDS = 1.0
_OUTPUTS = (run_record.STREAM, run_record.STDERR)
#: Not a limit: the client works longer than this wait.
_STILL = "still"
_ENDED_CHILD = os.WEXITED | os.WNOHANG | os.WNOWAIT


def watch(journal: Journal, most: float | None = None) -> bool:
    """Wait for the client's end, or end it when it passes a limit; record how it ended.

    The client is not a child of this process if an earlier supervisor started it: then its end is
    recognised by its pid and start time, and its exit code stays unknown. Returns False if the
    client still works after `most` seconds. The folder of the journal may have been moved
    meanwhile. Raises FileNotFoundError, without a client, if it was deleted.
    """
    adopts = process.adopt_orphans()
    # From inside the run's folder, its files are found even if a person moves the project.
    os.chdir(journal.folder)
    record = journal.record
    if record.client is None:
        raise RuntimeError(f"{journal.folder}: the record names no client")
    plan = journal.plan()
    waiting = _Waiting(record.client, record.settings, registry.named(plan and plan.client))
    with contextlib.closing(waiting):
        limit, here = waiting.until_ended(most), _here()
        if limit == _STILL and here is not None:
            journal.folder = here
            return False
        pid, identity, me = record.client.pid, record.client.identity, os.getpid()
        if limit:
            process.end_run(pid, identity, record.id, reap=waiting.poll, keeper=me)
        is_child = waiting.finish()
        # End every process that the client left, also those outside its process group. If the
        # client was a child of this process, and no child is left, no process is left: each orphan
        # becomes a child. A look at all processes takes a tenth of a run.
        if not (adopts and is_child and waiting.has_no_child()):
            process.end_run(None, None, record.id, reap=waiting.reap_adopted, keeper=me)
    here = _here()
    if here is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), journal.folder)
    journal.folder = here
    short = waiting.short or disk.shortage(journal.folder)
    for name in _OUTPUTS:
        try:
            files.flush(journal.path(name))  # before the record says that the client ended
        except OSError as error:  # this process must live to write that record
            error.filename = error.filename or journal.path(name)
            short = short or disk.failed(error)
    short = short or memory.shortage_since(waiting.kills_before)
    ended = Ended(waiting.exit_code, waiting.signal, limit, short, time.time())
    journal.write_surely(record._replace(ended=ended, status="concluding"))
    return True


def _here() -> str | None:
    """Return the path of the current folder; None if it was deleted."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return None


class _Waiting:
    """The wait for one client, from inside the run's folder."""

    def __init__(self, client: ClientProcess, limits: Agent, adapter: Client) -> None:
        self.pid, self.identity, self._since = client.pid, client.identity, client.since
        self.exit_code: int | None = None
        self.signal: int | None = None
        #: The first lack of space that was seen: it may be gone when the client ends.
        self.short: disk.Shortage | None = None
        self.kills_before = memory.kills()
        self._limits = limits
        self._client = adapter
        self._result_at: float | None = None
        self._offset = 0
        self._wake, self._wake_write = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(self._wake_write, False)
        # A signal only wakes the loop below, which then looks what has changed.
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: None)
        signal.set_wakeup_fd(self._wake_write)

    def close(self) -> None:
        """Give back the signals: the stages that follow in this process do not wait."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        os.close(self._wake)
        os.close(self._wake_write)

    def until_ended(self, most: float | None) -> str | None:
        """Wait; return the limit that was passed, or None if the client ended by itself.

        Returns _STILL if it works after `most` seconds.
        """
        # Monotonic: neither a changed clock nor a sleeping laptop makes a run look old.
        entered = changed = looked = time.monotonic()
        # An earlier supervisor may have waited before this one.
        began = entered if self._since is None else min(self._since, entered)
        size = 0
        runtime, stall = self._limits.max_runtime_seconds, self._limits.stall_seconds
        step = min([POLL_SECONDS, *(x / 4 for x in (runtime, stall) if x)])
        while not self.poll():
            if run_record.stop_reason(os.curdir):
                return "stopped"
            if _here() is None:
                # With the folder, its record is gone: no other process would find the client.
                return "gone"
            now = time.monotonic()
            if self.short is None and now - looked >= POLL_SECONDS:
                looked, self.short = now, disk.shortage(os.curdir)
            if most is not None and now - entered > most and not self._lacks():
                return _STILL
            latest = sum(os.stat(path).st_size for path in _OUTPUTS if os.path.exists(path))
            if latest != size:
                size, changed = latest, now
                self._look_for_result(now)
            if self._result_at is not None:
                if now - self._result_at > LINGER_SECONDS:
                    return "lingered"
            elif now - began > runtime:
                return "timed_out"
            elif stall and now - changed > stall:
                return "stalled"
            elif size > MAX_OUTPUT:
                return "too_much_output"
            if select.select([self._wake], [], [], step)[0]:
                os.read(self._wake, 512)
        return None

    def _lacks(self) -> bool:
        """Return whether a lack of space or memory was seen, which only this image remembers."""
        return bool(self.short or memory.shortage_since(self.kills_before))

    def poll(self) -> bool:
        """Return whether the client is dead; its exit status is left for `finish`."""
        self.reap_adopted()
        try:
            # Not reaped yet: as long as it is a zombie, no other process gets its group's id.
            return os.waitid(os.P_PID, self.pid, _ENDED_CHILD) is not None
        except ChildProcessError:
            return not process.is_alive(self.pid, self.identity)

    def reap_adopted(self) -> None:
        """Reap orphans of the client that have ended."""
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitid(os.P_ALL, 0, _ENDED_CHILD)) and ended.si_pid != self.pid:
                os.waitpid(ended.si_pid, 0)

    def has_no_child(self) -> bool:
        """Return whether this process has no child any more, once those that ended are reaped."""
        try:
            self.reap_adopted()
            os.waitid(os.P_ALL, 0, _ENDED_CHILD)
        except ChildProcessError:
            return True
        return False

    def finish(self) -> bool:
        """End what is left of the client's process group, and reap the client.

        Returns whether the client was a child of this process.
        """
        try:
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        except ChildProcessError:
            return False  # not a child of this process: another process may have its id by now
        process.signal_group(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        if os.WIFSIGNALED(status):
            self.signal = os.WTERMSIG(status)
        else:
            self.exit_code = os.WEXITSTATUS(status)
        return True

    def _look_for_result(self, now: float) -> None:
        """Note when the stream's last line has come."""
        # An agent that is not confined can put anything in its place, and a disk can fail: neither
        # ends the supervisor. The next look reads it again.
        with contextlib.suppress(OSError), files.open_regular(run_record.STREAM) as stream:
            stream.seek(self._offset)
            # A line that is not complete yet is read again.
            while (line := stream.readline(MAX_LINE)).endswith(b"\n") or len(line) == MAX_LINE:
                self._offset += len(line)
                if self._client.is_last_line(line):
                    self._result_at = now
