"""The server of `warm_gh.py`: it has imported the stand-in for `gh`, and forks for each call.

Run by path with `-I -S`; its argument is the descriptor of the socket to listen at. A call is the
id of a process that waits for the answer: the exit code. The call's process takes words, folder,
environment and standard streams of the waiting process from /proc (proc(5)). The server ends
with the process whose descriptor (pidfd_open(2)) is its standard input.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import sys
from typing import NoReturn

#: The descriptors at which the waiting process has its standard streams.
COPIES = (4, 5, 6)
#: Words of the waiting process before those of the call: `bash -c SCRIPT gh`.
_BEFORE = 4


def be_call(connection: socket.socket) -> NoReturn:
    """In the forked process: be the call; send its exit code. Nothing is sent if it cannot be."""
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        place = f"/proc/{int(connection.recv(32))}"
        words = _entries(f"{place}/cmdline")[_BEFORE:]
        os.chdir(os.open(f"{place}/cwd", os.O_RDONLY | os.O_DIRECTORY))
        modes = (os.O_RDONLY, os.O_WRONLY, os.O_WRONLY)
        for stream, (copy, mode) in enumerate(zip(COPIES, modes, strict=True)):
            os.dup2(os.open(f"{place}/fd/{copy}", mode), stream)
        os.environ.clear()
        for entry in _entries(f"{place}/environ"):
            name, _, value = entry.partition("=")
            os.environ[name] = value
        connection.sendall(b"%d\n" % _code(words))
    except (OSError, ValueError):
        os._exit(1)
    finally:
        os._exit(0)


def _entries(path: str) -> list[str]:
    with open(path, "rb") as file:
        return [os.fsdecode(entry) for entry in file.read().split(b"\0")[:-1]]


def _code(words: list[str]) -> int:
    import fake_gh

    code = 0
    try:
        fake_gh.main(words)
    except SystemExit as wish:
        code = wish.code if isinstance(wish.code, int) else int(wish.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def serve(listener: socket.socket) -> None:
    """Fork for each connection, until standard input ends."""
    with selectors.DefaultSelector() as ready:
        ready.register(0, selectors.EVENT_READ)
        ready.register(listener, selectors.EVENT_READ)
        while all(key.fd != 0 for key, _ in ready.select()):
            with listener.accept()[0] as connection:
                if os.fork() == 0:
                    be_call(connection)


def main() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the calls
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    __import__("fake_gh")
    with socket.socket(fileno=int(sys.argv[1])) as listener:
        serve(listener)


if __name__ == "__main__":
    main()
