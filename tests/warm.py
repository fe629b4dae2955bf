"""The product's commands, in processes that need not start Python and import the product first.

Most of a command's time in a test is the start of its interpreter and the imports. `run` is
`subprocess.run` of the product, in a process that `warm_server.py` forks where this makes no
difference; `test_warm.py` holds the two equal. A test of how a process starts, or that kills it or
sends it signals, starts a real process.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import copies
from warm_server import AT_START, READ_AT_START, ROOM, fits

TESTS = Path(__file__).resolve().parent
#: How the launcher starts the product.
PYTHON = [sys.executable, "-I", "-S"]
#: The program that the server has imported.
PRODUCT = TESTS.parent / "orchestrator" / "__main__.py"
#: The main files whose commands may be forked. `harness.shadow` adds copies with an edge.
FORKED = {PRODUCT}
#: Bytes for which there is room in the arguments that a forked process shows.
_ARGUMENTS = 1000
#: Bytes that any pipe takes at once (pipe(7), PIPE_BUF).
_INPUT = 4096


def run(
    product: Path,
    words: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    stdin: str = "",
    timeout: float,
    inside: Sequence[str] = (),
) -> subprocess.CompletedProcess[str]:
    """Run one command; return its exit code and its output as text, as `subprocess.run` does.

    `product` is the main file, `timeout` is in seconds. `inside` are the words of a program that
    runs the command somewhere else. Raises subprocess.TimeoutExpired, and ends the command.
    """
    if not inside and _can_be_warm(product, env, stdin):
        request = {"main": str(product), "words": list(words), "cwd": str(cwd), "env": dict(env)}
        return _run_warm(request, stdin, timeout)
    return subprocess.run(
        [*inside, *PYTHON, str(product), *words],
        cwd=cwd,
        env=env,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def at_once(folder: str | Path, *commands: Sequence[str]) -> list[subprocess.CompletedProcess[str]]:
    """Run commands at the same time, each in a process of its own, with this environment."""
    at_start = [name for name in os.environ if name.startswith(READ_AT_START)]
    env = {k: v for k, v in os.environ.items() if k not in at_start} | AT_START
    if sys.platform == "linux":
        _server(_kind(folder))  # now: each thread would start a server of its own
    with ThreadPoolExecutor(len(commands)) as pool:
        started = [
            pool.submit(run, PRODUCT, words, cwd=Path(folder), env=env, timeout=60)
            for words in commands
        ]
        return [each.result() for each in started]


def _can_be_warm(product: Path, environment: Mapping[str, str], stdin: str) -> bool:
    """Return whether a process of the server would do the same as a real one."""
    is_short = len(stdin.encode()) <= _INPUT
    return sys.platform == "linux" and product in FORKED and fits(environment) and is_short


def spawn(opened: socket.socket | BinaryIO, program: str, *words: str) -> None:
    """Start a server of the tests. What is `opened`, such as the socket where it listens, is its
    descriptor 3: its last argument.

    It ends with the process of `copies.sharing`: its input is a descriptor of that process. Not by
    `subprocess`: what a test starts with that ends with the test.
    """
    input_end = os.pidfd_open(copies.sharing())
    os.posix_spawn(
        sys.executable,
        [*PYTHON, str(TESTS / program), *words, f"{3:0{_ARGUMENTS}}"],
        {**AT_START, "ROOM": "x" * ROOM},
        file_actions=[
            (os.POSIX_SPAWN_DUP2, input_end, 0),
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_DUP2, opened.fileno(), 3),
        ],
    )
    os.close(input_end)


def _kind(folder: str | Path) -> tuple[str, ...]:
    """Return the words for the server whose processes have imported what this project needs."""
    try:
        settings = Path(folder, ".orchestrator", "agents.yaml").read_bytes()
    except OSError:  # maybe a folder inside the project: the process imports what is missing
        return ()
    return ("database",) if b"postgresql:" in settings else ()


@functools.cache
def _server(kind: tuple[str, ...]) -> bytes:
    """Start a server of this kind, once for all processes of a run; return its address."""

    def start(path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("")  # Linux finds a free name
            listener.listen(1024)
            spawn(listener, "warm_server.py", str(PRODUCT), *kind)
            path.write_bytes(listener.getsockname())

    return copies.once("-".join(("server", *kind)), start).read_bytes()


def _run_warm(
    asked: Mapping[str, Any], stdin: str, timeout: float
) -> subprocess.CompletedProcess[str]:
    request, words = json.dumps(asked).encode() + b"\n", asked["words"]
    (input_end, input_start), *outputs = [os.pipe() for _ in range(3)]
    os.write(input_start, stdin.encode())
    os.close(input_start)
    with socket.socket(socket.AF_UNIX) as connection, contextlib.ExitStack() as opened:
        out, err = [opened.enter_context(open(pair[0], "rb", 0)) for pair in outputs]
        given = [input_end, *(pair[1] for pair in outputs)]
        try:
            connection.connect(_server(_kind(asked["cwd"])))
            socket.send_fds(connection, [request[:1]], given)
            connection.sendall(request[1:])
        finally:
            for descriptor in given:
                os.close(descriptor)
        found = dict.fromkeys((connection.fileno(), out.fileno(), err.fileno()), b"")
        try:
            is_whole = _read_to_ends(found, time.monotonic() + timeout)
        finally:
            pid, _, status = found[connection.fileno()].partition(b"\n")
            if pid and not status:
                os.kill(int(pid), signal.SIGKILL)
        if not is_whole:
            raise subprocess.TimeoutExpired(words, timeout)
        code = os.waitstatus_to_exitcode(int(status))
        texts = [_text(found[stream.fileno()]) for stream in (out, err)]
    return subprocess.CompletedProcess(words, code, *texts)


def _read_to_ends(found: dict[int, bytes], deadline: float) -> bool:
    """Read each descriptor to its end; return False if that takes longer than `deadline`."""
    with selectors.DefaultSelector() as ready:
        for descriptor in found:
            ready.register(descriptor, selectors.EVENT_READ)
        while ready.get_map():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            for key, _ in ready.select(left):
                part = os.read(key.fd, 1 << 16)
                found[key.fd] += part
                if not part:
                    ready.unregister(key.fd)
    return True


def _text(output: bytes) -> str:
    """Decode as `subprocess` does with `text=True`."""
    with io.TextIOWrapper(io.BytesIO(output), encoding="utf-8") as text:
        return text.read()
