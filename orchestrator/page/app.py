"""The page as one ASGI application: its gate, its data, its HTML and its files."""

from __future__ import annotations

import os

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from orchestrator.errors import OrchestratorError
from orchestrator.layout import Layout
from orchestrator.page import regions, render
from orchestrator.page.api import Api, refused
from orchestrator.page.commands import Commands
from orchestrator.page.gate import Gate


class Page:
    """The HTML of the page."""

    def __init__(self, commands: Commands, layout: Layout, *, read_only: bool) -> None:
        self._commands, self._templates = commands, render.environment()
        self._shared = {
            "project": os.path.basename(layout.root),
            "read_only": read_only,
            "all_regions": regions.REGIONS,
        }

    def routes(self) -> list[Route]:
        return [
            Route("/", self.whole, methods=["GET"]),
            Route("/part/{name}", self.part, methods=["GET"]),
        ]

    async def whole(self, request: Request) -> Response:
        return self._html("page.html", regions=regions.REGIONS)

    async def part(self, request: Request) -> Response:
        """Answer with one region; what a command refuses is shown in its place."""
        region = regions.BY_NAME.get(request.path_params["name"])
        if region is None:
            return self._html("error.html", 404, error=OrchestratorError("there is no such region"))
        try:
            found = await run_in_threadpool(
                regions.html,
                self._templates,
                self._commands,
                region,
                request.query_params,
                **self._shared,
            )
        except OrchestratorError as error:
            # 200: the region shows what is wrong, and is loaded again after the next change.
            return self._html("error.html", error=error)
        return HTMLResponse(found)

    def _html(self, template: str, status: int = 200, **found: object) -> Response:
        shown = self._templates.get_template(template).render(self._shared | found)
        return HTMLResponse(shown, status)


def application(
    commands: Commands, layout: Layout, *, token: str, port: int, read_only: bool
) -> Gate:
    """Return the page of a project as an ASGI application; `token` lets a browser in."""
    routes = [
        *Api(commands, layout, read_only=read_only).routes(),
        *Page(commands, layout, read_only=read_only).routes(),
        Mount("/static", StaticFiles(directory=render.STATIC)),
    ]
    inner = Starlette(routes=routes, exception_handlers={Exception: _bug})
    return Gate(inner, token, port=port)


async def _bug(request: Request, error: Exception) -> Response:
    """Answer for an unexpected error; uvicorn logs its traceback to the terminal."""
    message = f"this is a bug in orchestrator: {type(error).__name__}: {error}"
    hint = "please report it with the traceback in the terminal of `orchestrator dashboard`"
    return refused(OrchestratorError(message, hint, code="bug"), 500)
