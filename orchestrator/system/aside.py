"""Work done aside: a forked process makes ready while its parent does something else.

For what takes long to load: two processes use two cores, two threads of one Python do not. A tick
forks before it has loaded anything, so only built-in modules are imported above that.
"""

from __future__ import annotations

import gc
import os

TYPE_CHECKING = False  # as `typing` has it, which takes longer to import than we take to fork
if TYPE_CHECKING:
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
        self.pid = os.fork()
        if self.pid == 0:
            _serve(told_read, answer_write, make_ready, work)
        os.close(told_read)
        os.close(answer_write)

    def tell(self, message: bytes) -> None:
        """Hand over the message, which is worked on from now on. Its end shows in the answer."""
        told, self._told = self._told, -1
        try:
            with os.fdopen(told, "wb") as out:
                out.write(message)
        except BrokenPipeError:
            return

    def answer(self) -> bytes | None:
        """Wait for the answer to the message; None when the process came to an end without one."""
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
        self.close()
        # It may be another process's child: then that one, or init, takes its exit status.
        try:
            os.waitpid(self.pid, 0)
        except ChildProcessError:
            return

    @property
    def descriptors(self) -> tuple[int, ...]:
        """The open ends of its pipes."""
        return tuple(each for each in (self._told, self._answer) if each >= 0)

    def close(self) -> None:
        """Let go of it: if nobody else holds its pipes it ends, as soon as it is ready."""
        for descriptor in self.descriptors:
            os.close(descriptor)
        self._told = self._answer = -1


def _serve(
    told: int, answer: int, make_ready: Callable[[], object], work: Callable[[bytes], bytes]
) -> None:
    """In the forked process: answer once, or end with the parent. Never returns."""
    gc.disable()  # what is loaded for one message is never garbage
    try:
        from orchestrator.system import process

        # Nothing of the parent's stays open here: its locks, and its output, end with it.
        process.close_all_but(told, answer)
        for number in range(3):
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
        make_ready()
        message = bytearray()
        while part := os.read(told, 65536):
            message += part
        if message:
            with os.fdopen(answer, "wb") as out:
                out.write(work(bytes(message)))
    finally:
        # Without a word of what went wrong: whoever asked does the work, and meets it, itself.
        os._exit(0)
