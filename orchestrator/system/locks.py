"""Locks on files, held by the kernel, and the processes that hold them."""

# No `from __future__ import annotations`, for the reason that `model` gives.

import fcntl
import os
import re
import time
from typing import NamedTuple


class LockHeld(Exception):
    """Somebody else holds the lock, and the time to wait for it is over."""


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
        deadline = time.monotonic() + self.wait
        while True:
            if self.descriptor < 0:
                flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
                self.descriptor = os.open(self.path, flags, 0o600)
            try:
                fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    self.close()
                    raise LockHeld(self.path) from None
                time.sleep(0.02)
                continue
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
        """Let go of the file itself (and so of the lock)."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def is_locked(path: str) -> bool:
    """Return whether any process holds the lock at `path`. Makes no file."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
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
    """The process that holds a lock. Both fields are None if the process is not known."""

    pid: int | None
    since: str | None


def holder(path: str) -> Holder | None:
    """Return who holds the lock at `path`; None when nobody does."""
    pid = _locking_process(path)
    if pid is None and not is_locked(path):
        return None
    return Holder(pid, _running_since(pid) if pid else None)


def _locking_process(path: str) -> int | None:
    """Return the process that the kernel names as the lock's holder (Linux; see proc_locks(5))."""
    try:
        inode = os.stat(path).st_ino
        with open("/proc/locks", encoding="ascii", errors="replace") as file:
            text = file.read()
    except OSError:
        return None
    # A process outside this PID namespace has the number 0. A process that waits has an arrow.
    row = rf"^\d+: FLOCK +\w+ +\w+ +([1-9]\d*) \S+:{inode} "
    found = re.search(row, text, re.MULTILINE)
    return int(found[1]) if found else None


def _running_since(pid: int) -> str | None:
    import psutil

    try:
        started = psutil.Process(pid).create_time()
    except psutil.Error:
        return None
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(started))
