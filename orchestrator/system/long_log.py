"""The log of a command that may write more than is kept: the middle of it is left out."""

import os
import sys

#: Stands in a log in the place of what `cut` removed.
LEFT_OUT = b"\n[... the middle of this output is left out: it was too long ...]\n"
#: `FALLOC_FL_COLLAPSE_RANGE` of fallocate(2).
_COLLAPSE_RANGE = 0x08


def shorten(descriptor: int, start: int, most: int) -> None:
    """Leave a little more than `most` bytes of what a file that grows has after byte `start`.

    `descriptor` reads and appends (O_APPEND), and so do other processes meanwhile. On ext4 and XFS
    nothing that they write is lost: the system removes a range of whole blocks. Elsewhere, what
    they write during this call may be lost. Raises OSError.
    """
    found, half = os.fstat(descriptor), most // 2
    # A block more than `most`: so `cut` cuts, and says that it did.
    first = (start + half) // found.st_blksize + 2
    last = (found.st_size - half) // found.st_blksize
    if first >= last:
        return
    if not _collapse(descriptor, first * found.st_blksize, (last - first) * found.st_blksize):
        cut(descriptor, start, most)


def _collapse(descriptor: int, offset: int, length: int) -> bool:
    """Remove a range of a file; return False if the system or the disk cannot do that."""
    if sys.platform != "linux":
        return False
    import ctypes

    call = ctypes.CDLL(None).fallocate
    call.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long)
    return bool(call(descriptor, _COLLAPSE_RANGE, offset, length) == 0)


def cut(descriptor: int, start: int, most: int) -> None:
    """Leave about `most` bytes of what a file has after byte `start`: half at each end.

    `descriptor` reads and appends (O_APPEND). Nobody writes meanwhile. Raises OSError.
    """
    size, half = os.fstat(descriptor).st_size, most // 2
    if size - start <= most + len(LEFT_OUT):
        return
    end = os.pread(descriptor, half, size - half)
    os.ftruncate(descriptor, start + half)
    os.write(descriptor, LEFT_OUT + end)
