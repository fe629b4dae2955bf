"""`dashboard`: the local web page."""

from __future__ import annotations

import contextlib
import os

from orchestrator.cli import context, output
from orchestrator.cli.parser import Namespace, argument, command, flag
from orchestrator.model.errors import OrchestratorError, UsageError
from orchestrator.system import extras

#: The libraries of the optional extra `web` that the page imports.
LIBRARIES = ("starlette", "uvicorn", "pygments")

PORT = "the port on 127.0.0.1 (default: 8765 if it is free, otherwise any free port)"
EXPORT = "write the page as one HTML file instead (-: to standard output)"


@command(
    "dashboard",
    argument("--port", type=int, metavar="N", help=PORT),
    flag("--open", "open the page in your browser"),
    flag("--read-only", "show everything, change nothing"),
    argument("--export", metavar="FILE", help=EXPORT),
    flag("--force", "with --export: replace FILE even if it is not an earlier export"),
)
def dashboard(arguments: Namespace) -> None:
    """Serve a local web page of the project: board, agents, pull requests, inbox, history, costs.

    The page is on this machine only, and its address has a secret token. Ctrl-C ends it.

    examples:
      orchestrator dashboard --open
      orchestrator dashboard --read-only --port 8765
      orchestrator dashboard --export project.html      to send to somebody
      ssh -L 8765:127.0.0.1:8765 HOST      then open the printed address here
    """
    if arguments.export is not None:
        _export(arguments)
        return
    if arguments.force:
        raise UsageError("--force is for --export", "for example: --export project.html --force")
    if not arguments.read_only:
        context.refuse_in_run("only `dashboard --read-only` is allowed")
    layout = context.reading(arguments)
    extras.install("web", LIBRARIES, "dashboard")
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
    # The interpreter would wait for the threads that wait for the end of a command, such as a merge
    # with its checks. The command goes on in its own process.
    os._exit(0)


def _export(arguments: Namespace) -> None:
    """Write the page to a file. It needs the templates, and not the libraries of the server."""
    if arguments.port is not None:
        raise UsageError("--export serves no page, so it takes no --port", "leave --port out")
    layout = context.reading(arguments)
    from orchestrator.cli.served import Served
    from orchestrator.page import export

    is_stdout = arguments.export == "-"
    if is_stdout and (arguments.open or arguments.json):
        raise UsageError("--export - only prints the page", "leave --open and --json out")
    path = "" if is_stdout else export.check(arguments.export, force=arguments.force)
    html = export.document(Served(layout), layout.root, context.now())
    if is_stdout:
        output.copy(export.encoded(html))
        return
    size = export.write(path, html)
    value = {"file": path, "bytes": size}
    output.answer(arguments, value, f"written: {path} ({size // 1024 + 1} KiB)")
    if arguments.open:
        import pathlib
        import webbrowser

        webbrowser.open(pathlib.Path(path).as_uri())
