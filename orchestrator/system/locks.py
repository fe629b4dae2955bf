"""Locks on files, held by the kernel, and the processes that hold them."""

# No `from __future__ import annotations`, for the reason that `model.config` gives.

import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterable, Iterator

from orchestrator.model.errors import OrchestratorError
from orchestrator.model.fields import NamedTuple
from orchestrator.system import waits
from orchestrator.system.processes import HERE

#: Maximum seconds that a command waits for a lock (reference 8.6). Only a run waits longer, for the
#: fetch of another run.
LONGEST_WAIT = 30.0


class LockHeld(OrchestratorError):
    """Another process still holds the lock at the end of the wait for it.

    The message names the holder; the hint says how to continue or end it.
    """

    code = "lock_held"

    def __init__(self, path: str) -> None:
        found = holder(path) or Holder()
        super().__init__(f"{path} is held by {found.named()}", found.hint())


class Lock:
    """An advisory lock on a file, held by the kernel: it ends with its process, whatever happens.

    Nobody ever has to delete the file. Entering it twice in one process nests. `wait` is in
    seconds; 0 tries once. Raises LockHeld.
    """

    def __init__(self, path: str, wait: float = 0.0) -> None:
        self.path = path
        self.wait = wait
        self.descriptor = -1
        self._depth = 0

    def __enter__(self) -> "Lock":
        if self._depth == 0:
            self._acquire()
        self._depth += 1
        return self

    @property
    def held(self) -> bool:
        return self._depth > 0

    def _acquire(self) -> None:
        deadline, told = time.monotonic() + self.wait, time.monotonic() + waits.FIRST
        while True:
            if self.descriptor < 0:
                self.descriptor = opened(self.path)
            try:
                fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if (now := time.monotonic()) >= deadline:
                    self.close()
                    raise LockHeld(self.path) from None
                if now >= told:
                    who = (holder(self.path) or Holder()).named()
                    waits.tell(f"{who}, which holds {self.path}", deadline - now)
                    told = now + waits.NEXT
                time.sleep(0.02)
                continue
            except OSError as error:
                self.close()
                error.filename = self.path
                raise
            if self._is_at_path():
                return
            # An uninstall or a rotation took the file away: the next process locks a new file.
            self.close()

    def _is_at_path(self) -> bool:
        """Return whether the path still names the file that was opened."""
        try:
            return os.path.samestat(os.fstat(self.descriptor), os.lstat(self.path))
        except FileNotFoundError:
            return False

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if self._depth == 0:
            # Also free for a forked child, which has a copy of the descriptor.
            fcntl.flock(self.descriptor, fcntl.LOCK_UN)
            self.close()

    def close(self) -> None:
        """Close the file, and so release the lock."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def opened(path: str) -> int:
    """Open a lock's file, and create it if it is missing. Raises OSError; never blocks."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags, 0o600)
    except PermissionError:
        # Nobody has to repair a lock by hand: its owner can make a read-only file writable.
        os.chmod(path, 0o600)
        descriptor = os.open(path, flags, 0o600)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return descriptor


def is_locked(path: str) -> bool:
    """Return whether any process holds the lock at `path`. Makes no file."""
    try:
        # To read: also a process that may not write the file can see whether it is locked.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(path, flags)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


class Holder(NamedTuple):
    """The process that holds a lock; `pid` is None if the process is not known."""

    pid: int | None = None
    command: str | None = None
    is_stopped: bool = False

    def named(self) -> str:
        """Return the holder in words, with its pid and its command."""
        if self.pid is None:
            return "another process"
        command = f" ({self.command})" if self.command else ""
        stopped = ", which is stopped (SIGSTOP)" if self.is_stopped else ""
        return f"process {self.pid}{command}{stopped}"

    def hint(self) -> str:
        """Return what a person can do to get the lock."""
        if self.pid is None:
            return "try again in a moment; see: orchestrator status"
        if self.is_stopped:
            return f"continue the process: kill -CONT {self.pid}; or end it: kill -9 {self.pid}"
        return f"try again in a moment; if the process hangs: kill {self.pid}"


def holder(path: str) -> Holder | None:
    """Return who holds the lock at `path`; None when nobody does. Makes no file."""
    return _holder(path, _kernel_locks()) if is_locked(path) else None


def held(paths: Iterable[str]) -> Iterator[tuple[str, Holder]]:
    """Yield those of the locks that a process holds, with the holder. Disturbs no other process."""
    known = _kernel_locks()
    for path in paths:
        try:
            is_known = known is None or os.stat(path).st_ino in known
        except OSError:
            continue
        if is_known and is_locked(path):
            yield path, _holder(path, known)


#: The inodes of files with a lock, each with the process that has locked it, if that is known.
_KernelLocks = dict[int, int | None]


def _kernel_locks() -> _KernelLocks | None:
    """Return the locks that the kernel knows (Linux; see proc_locks(5)); None on other systems.

    Each look waits 5 to 20 ms: the kernel takes a lock that all processors share (`locks_start` in
    fs/locks.c; Linux 6.18).
    """
    known: _KernelLocks = {}
    try:
        with open("/proc/locks", "rb") as file:
            for line in file:
                # The last words: the file as MAJOR:MINOR:INODE, and where the lock begins and ends.
                words = line.split()
                inode = int(words[-3].rpartition(b":")[2])
                # A process that waits has an arrow as its second word.
                pid = int(words[4]) if words[1] == b"FLOCK" else None
                known[inode] = known.get(inode) or pid
    except (OSError, ValueError):
        return None
    return known


def _holder(path: str, known: _KernelLocks | None) -> Holder:
    """Return the holder of a lock that is held.

    If the process that the kernel names has ended, or is in another PID namespace, a process that
    inherited the open file from it still holds the lock.
    """
    try:
        found = os.stat(path)
    except OSError:
        return Holder()
    pid = known.get(found.st_ino) if known else None
    # A process outside this PID namespace has the number 0.
    if known is not None and not (pid and HERE.identity(pid)):
        pid = next(_having_open(found), None)
    return Holder() if pid is None else Holder(pid, HERE.command(pid), HERE.is_stopped(pid))


def _having_open(found: os.stat_result) -> Iterator[int]:
    """Yield the other processes of this user that have a file open (Linux; see proc_pid_fd(5))."""
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            opened = os.listdir(f"/proc/{name}/fd") if int(name) != os.getpid() else []
            if any(os.path.samestat(os.stat(f"/proc/{name}/fd/{n}"), found) for n in opened):
                yield int(name)
        except OSError:  # it has ended, or is another user's process
            continue
