"""Serves the page on loopback until Ctrl-C."""

from __future__ import annotations

import logging
import secrets
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn

from orchestrator.layout import Layout
from orchestrator.model.errors import OrchestratorError
from orchestrator.page.app import application
from orchestrator.page.commands import Commands

ADDRESS = "127.0.0.1"
#: The port that is tried first without `--port`.
USUAL_PORT = 8765


class Server(uvicorn.Server):
    """A server that the first signal ends at once: it does not wait for open event streams."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.should_exit = self.force_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        logging.getLogger("uvicorn.error").disabled = True  # an end of a stream is not an error
        # First: uvicorn answers a request whose task is cancelled with status 500.
        for connection in self.server_state.connections:
            connection.transport.close()
        for task in self.server_state.tasks:
            task.cancel()
        await super().shutdown(sockets)


def bound(port: int | None) -> socket.socket:
    """Return a socket on loopback; without a port, the usual one or any that is free.

    Raises OrchestratorError if the port is in use.
    """
    for each in (USUAL_PORT, 0) if port is None else (port,):
        found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind((ADDRESS, each))
        except OSError as error:
            found.close()
            if port is not None:
                hint = "choose another port, or leave --port out to get a free one"
                message = f"port {port} of {ADDRESS} cannot be used: {error.strerror}"
                raise OrchestratorError(message, hint, code="port_in_use") from None
        else:
            return found
    raise OrchestratorError(f"no port of {ADDRESS} is free")


def serve(
    commands: Commands,
    layout: Layout,
    listening: socket.socket,
    *,
    read_only: bool,
    ready: Callable[[str, str], None],
) -> None:
    """Serve the page until a signal ends it.

    `ready` is called with two start addresses: for a person, and an address that is valid once.
    """
    token, port = secrets.token_urlsafe(32), listening.getsockname()[1]
    app = application(commands, layout, token=token, port=port, read_only=read_only)
    config = uvicorn.Config(
        app, log_level="error", access_log=False, lifespan="off", ws="none", server_header=False
    )
    start = f"http://{ADDRESS}:{port}/?token="
    listening.listen(128)
    ready(start + token, start + app.one_time_token())
    Server(config).run(sockets=[listening])
