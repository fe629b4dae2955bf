"""Work done aside: a forked process makes ready while its parent does something else.

For what takes long to load: two processes use two cores, two threads of one Python do not.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from types import TracebackType
from typing import Self


class Aside:
    """A process that makes ready at once, then waits for one message and answers it.

    Whatever becomes of the parent, it is not outlived: the message's pipe ends with it.
    """

    def __init__(self, make_ready: Callable[[], object], work: Callable[[bytes], bytes]) -> None:
        told_read, self._told = os.pipe()
        self._answer, answer_write = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            _serve(told_read, answer_write, make_ready, work)
        os.close(told_read)
        os.close(answer_write)

    def ask(self, message: bytes) -> bytes | None:
        """Return the answer to a message; None when the process came to an end without one."""
        told, self._told = self._told, -1
        try:
            with os.fdopen(told, "wb") as out:
                out.write(message)
        except BrokenPipeError:
            return None
        found, self._answer = self._answer, -1
        with os.fdopen(found, "rb") as answer:
            return answer.read() or None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for descriptor in (self._told, self._answer):
            if descriptor >= 0:
                os.close(descriptor)
        os.waitpid(self._pid, 0)


def _serve(
    told: int, answer: int, make_ready: Callable[[], object], work: Callable[[bytes], bytes]
) -> None:
    """In the forked process: answer once, or end with the parent. Never returns."""
    try:
        # Nothing of the parent's is held open here but the two pipes: its locks end with it.
        low, high = sorted((told, answer))
        os.closerange(3, low)
        os.closerange(low + 1, high)
        os.closerange(high + 1, 4096)
        make_ready()
        message = bytearray()
        while part := os.read(told, 65536):
            message += part
        if message:
            with os.fdopen(answer, "wb") as out:
                out.write(work(bytes(message)))
    except BaseException:
        import traceback

        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(0)
