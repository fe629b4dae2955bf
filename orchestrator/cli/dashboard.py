"""`dashboard`: the local web page."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import subprocess
import sys
from argparse import Namespace

from orchestrator.cli import context, output
from orchestrator.cli.parser import argument, command, flag
from orchestrator.errors import OrchestratorError
from orchestrator.layout import resources

#: The libraries of the optional extra `web` that the page imports.
LIBRARIES = ("starlette", "uvicorn", "pygments")


@command(
    "dashboard",
    argument("--port", type=int, metavar="N", help="the port on 127.0.0.1 (default: a free one)"),
    flag("--open", "open the page in your browser"),
    flag("--read-only", "show everything, change nothing"),
)
def dashboard(arguments: Namespace) -> None:
    """Serve a local web page of the project: board, agents, pull requests, inbox, history, costs.

    The page is on this machine only, and its address has a secret token. Ctrl-C ends it.

    examples:
      orchestrator dashboard --open
      orchestrator dashboard --read-only --port 8765
      ssh -L 8765:127.0.0.1:8765 HOST      then open the printed address here
    """
    if not arguments.read_only:
        context.refuse_in_run("only `dashboard --read-only` is allowed")
    layout = context.reading(arguments)
    install()
    from orchestrator.cli.served import Served
    from orchestrator.page import server

    if arguments.port is not None and not 0 <= arguments.port <= 65535:
        raise OrchestratorError(f"there is no port {arguments.port}", "a port is 1 to 65535")
    listening = server.bound(arguments.port)

    def ready(address: str, once: str) -> None:
        value = {"url": address, "port": listening.getsockname()[1]}
        output.answer(arguments, value, f"dashboard: {address}", "  Ctrl-C ends it")
        if arguments.open:
            import webbrowser

            webbrowser.open(once)

    with contextlib.suppress(KeyboardInterrupt), listening:
        server.serve(Served(layout), layout, listening, read_only=arguments.read_only, ready=ready)


def install() -> None:
    """Install the libraries of the page into the launcher's environment, if they are missing.

    Raises OrchestratorError if they cannot be installed, or if another environment runs this.
    """
    if all(map(importlib.util.find_spec, LIBRARIES)):
        return
    environment = os.path.dirname(os.path.dirname(os.path.abspath(sys.executable)))
    program = os.path.join(resources(), "orchestrator", "bootstrap.py")
    hint = "install them: pip install 'orchestrator-agents[web]'"
    if os.path.isfile(os.path.join(environment, ".complete")) and os.path.isfile(program):
        done = subprocess.run(
            [sys.executable, "-I", program, "--web", environment], stdout=sys.stderr, check=False
        )
        importlib.invalidate_caches()
        if done.returncode == 0 and all(map(importlib.util.find_spec, LIBRARIES)):
            return
        hint = "see the message above"
    message = "the libraries of the dashboard are not installed"
    raise OrchestratorError(message, hint, code="not_installed")
