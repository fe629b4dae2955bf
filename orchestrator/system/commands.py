"""Short commands: run to their end within a time limit, in a process group of their own."""

# No `from __future__ import annotations`, for the reason that `model.config` gives.

import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence

from orchestrator.model.annotations import IO, TYPE_CHECKING
from orchestrator.model.fields import NamedTuple
from orchestrator.system import waits
from orchestrator.system.process import signal_group

if TYPE_CHECKING:
    from subprocess import Popen


class Finished(NamedTuple):
    """The result of a command. `code` is None if it was ended at its time limit."""

    code: int | None
    out: str
    err: str


def run(
    argv: Sequence[str],
    *,
    cwd: str,
    environment: Mapping[str, str],
    timeout: float,
    stdin: str | None = None,
) -> Finished:
    """Run a short command to its end, within `timeout` seconds, in a process group of its own.

    Output is decoded leniently. Raises OSError when the program cannot be started.
    """
    import subprocess

    nothing = contextlib.nullcontext(subprocess.DEVNULL)
    with nothing if stdin is None else _readable(stdin) as given:
        child = subprocess.Popen(
            argv,
            cwd=cwd,
            env=dict(environment),
            stdin=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            process_group=0,
        )
    # At its end, this closes the pipes, which a child of the command may keep open.
    with child:
        try:
            out, err = _to_end(child, argv, timeout)
        except BaseException as error:
            signal_group(child.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                return Finished(None, "", "")
            raise
    return Finished(child.returncode, out, err)


def _to_end(child: "Popen[str]", argv: Sequence[str], timeout: float) -> tuple[str, str]:
    """Return what a command writes until its end. Raises subprocess.TimeoutExpired."""
    import subprocess

    step = waits.FIRST
    while timeout > step:
        try:
            return child.communicate(timeout=step)
        except subprocess.TimeoutExpired:  # the next call has what was read so far
            timeout -= step
            waits.tell(waits.named(argv), timeout)
            step = waits.NEXT
    return child.communicate(timeout=timeout)


def head(
    argv: Sequence[str], *, cwd: str, environment: Mapping[str, str], timeout: float, most: int
) -> bytes | None:
    """Return the first `most` bytes of a command's output; the command is ended after them.

    Returns None if the command failed, or was ended at its time limit. Raises OSError when the
    program cannot be started.
    """
    import subprocess
    import threading

    child = subprocess.Popen(
        argv,
        cwd=cwd,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        process_group=0,
    )
    limit = threading.Timer(timeout, signal_group, (child.pid, signal.SIGKILL))
    limit.start()
    found = b""
    try:
        assert child.stdout is not None
        with child.stdout:
            found = child.stdout.read(most)
    finally:
        if len(found) == most:
            signal_group(child.pid, signal.SIGKILL)
        code = child.wait()
        limit.cancel()
    return found if code == 0 or len(found) == most else None


@contextlib.contextmanager
def _readable(text: str) -> Iterator[int]:
    """Provide a descriptor from which a command reads `text`.

    It is a file without a name, not a pipe: if this process is killed, the reader of a pipe takes
    the first part for the whole text, and opens a pull request with half of it.
    """
    with _nameless() as file:
        file.write(text.encode(errors="replace"))
        file.seek(0)
        yield file.fileno()


def _nameless() -> IO[bytes]:
    if sys.platform != "linux":
        import tempfile

        return tempfile.TemporaryFile()
    return open(os.memfd_create("stdin"), "w+b")  # `tempfile` takes 8 ms to import
