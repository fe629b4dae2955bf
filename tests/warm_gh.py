"""The stand-in for `gh` as a line of a shell script, in a process that need not start Python.

A test calls `gh` often, and the start of Python with the imports takes most of a call. So the line
starts a shell that asks `gh_server.py`, where the system allows it; else, and where the server does
not answer, the line starts Python. `test_warm_gh.py` holds the two equal.
"""

from __future__ import annotations

import functools
import shlex
import shutil
import socket
import sys
from pathlib import Path

import copies
import warm
from gh_server import COPIES

#: A module, because Python compiles a program that it runs by path each time.
STARTED = "exec {} -c '{}' \"$@\"".format(
    shlex.join(warm.PYTHON),
    f'import sys; sys.path.insert(0, "{warm.TESTS}"); import fake_gh; fake_gh.main(sys.argv[1:])',
)


def line(otherwise: str = STARTED) -> str:
    """Return the line; `otherwise` is what the shell does if the server does not answer.

    It does not answer a call one of whose standard streams is a socket.
    """
    if sys.platform != "linux" or shutil.which("bash") is None:
        return otherwise
    # While `echo` writes to the server, its own standard output is the connection.
    streams = " ".join(f"{copy}>&{stream}" for stream, copy in enumerate(COPIES))
    ask = f"{streams} && echo $$ >&3 && read -r -u 3 code && exit $code"
    closed = " ".join(f"{descriptor}>&-" for descriptor in (3, *COPIES))
    script = f"exec 3<>/dev/tcp/127.0.0.1/{_port()} {ask}; exec {closed}; {otherwise}"
    return f'exec bash -c {shlex.quote(script)} gh "$@"'


@functools.cache
def _port() -> int:
    """Start the server, once for all processes of a run; return its port."""

    def start(path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
            warm.spawn(listener, "gh_server.py")
            path.write_text(str(listener.getsockname()[1]), encoding="ascii")

    return int(copies.once("gh_server", start).read_text(encoding="ascii"))
