"""What files say, remembered by one process as long as the files are unchanged."""

import os
import stat
import time
from collections.abc import Callable

from orchestrator import idle
from orchestrator.model.annotations import Generic, TypeVar

Said = TypeVar("Said")

#: Files that one process remembers, per kind, the most bytes of such a file, and the seconds after
#: which a second change of a file gives it another time (file times advance with the kernel's clock
#: tick).
MOST, MOST_BYTES = 2_000, 1 << 15
CLEAR = 0.1


def settled(path: str) -> tuple[int, int, int] | None:
    """Return the mark of a folder (`idle.mark`), if each change from now on gives it another."""
    now, found = time.time(), idle.mark(path)
    return found if found is not None and found[1] / 1e9 < now - CLEAR else None


class Remembered(Generic[Said]):
    """Reads files of one kind with `read`; an unchanged file is read once.

    A tick and a run look at the same files several times, and the processes that are forked do.
    """

    def __init__(self, read: Callable[[str], Said]) -> None:
        self._read = read
        #: By path: what changes when the file does, and what the file says.
        self._known: dict[str, tuple[tuple[int, ...], Said]] = {}

    def before(self, path: str) -> Said | None:
        """Return what a file said when it was last read, without a look; None if it was not."""
        known = self._known.get(path)
        return known[1] if known else None

    def __call__(self, path: str) -> Said:
        """Return what a file says; callers must not change it. Raises OSError, and as `read`.

        What is behind a symbolic link is read each time: the link does not show its changes.
        """
        found = os.lstat(path)
        mark = (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        known = self._known.get(path)
        if known is not None and known[0] == mark:
            return known[1]
        said = self._read(path)
        if path not in self._known and len(self._known) >= MOST:
            self._known.clear()
        is_small = stat.S_ISREG(found.st_mode) and found.st_size <= MOST_BYTES
        if is_small and time.time() - found.st_ctime > CLEAR:
            self._known[path] = (mark, said)
        return said
