"""The page as one ASGI application: its gate, its data, its HTML and its files."""

from __future__ import annotations

import os
from collections.abc import Callable

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from orchestrator.layout import Layout
from orchestrator.model.annotations import Any
from orchestrator.model.errors import NotFound, OrchestratorError
from orchestrator.page import changes, regions, render, run_files, transcript, views
from orchestrator.page.api import Api, refused
from orchestrator.page.commands import Commands, Remembered
from orchestrator.page.gate import Gate


class Page:
    """The HTML of the page."""

    def __init__(self, commands: Commands, layout: Layout, *, read_only: bool) -> None:
        self._commands, self._templates = Remembered(commands, layout), render.environment()
        self._layout = layout
        self._shared: dict[str, Any] = {
            "project": os.path.basename(layout.root),
            "root": layout.root,
            "read_only": read_only,
            "all_regions": regions.REGIONS,
        }

    def routes(self) -> list[Route]:
        """Return the routes; the more special ones first."""
        return [
            Route("/", self.whole, methods=["GET"]),
            Route("/part/{name}", self.part, methods=["GET"]),
            Route("/part/diff/{noun}/{id}", self.diff, methods=["GET"]),
            Route("/part/{noun}/{id}", self.view_part, methods=["GET"]),
            Route("/runs/{id}/transcript", self.transcript, methods=["GET"]),
            Route("/{noun}/{id}", self.view, methods=["GET"]),
        ]

    async def whole(self, request: Request) -> Response:
        return await self._shell("page.html", regions=regions.REGIONS)

    async def part(self, request: Request) -> Response:
        """Answer with one region."""
        region = regions.BY_NAME.get(request.path_params["name"])
        if region is None:
            return self._nowhere()
        query, known = request.query_params, (self._templates, self._commands)
        return await self._made(lambda: regions.html(*known, region, query, **self._shared))

    async def view(self, request: Request) -> Response:
        """Answer with the page of one thing; its contents are a request of their own."""
        view = views.VIEWS.get(request.path_params["noun"])
        if view is None:
            return self._nowhere()
        return await self._shell("view.html", view=view, subject=request.path_params["id"])

    async def view_part(self, request: Request) -> Response:
        view, subject = views.VIEWS.get(request.path_params["noun"]), request.path_params["id"]
        if view is None:
            return self._nowhere()

        def make() -> str:
            found = view.load(self._commands, self._layout, subject)
            return self._rendered(f"view_{view.name}.html", **found)

        return await self._made(make)

    async def diff(self, request: Request) -> Response:
        noun, subject = request.path_params["noun"], request.path_params["id"]
        known = (self._templates, self._commands, self._layout)
        return await self._made(lambda: views.diff_html(*known, noun, subject))

    async def transcript(self, request: Request) -> Response:
        """Answer with a part of a transcript: the last, or what is before or after an offset.

        The headers say where it begins and ends, and how large the stream is (bytes).
        """
        query = request.query_params
        offsets = {way: _number(query[way]) for way in ("after", "before") if query.get(way)}

        def read() -> transcript.Part:
            folder = run_files.folder(self._layout, request.path_params["id"])
            return transcript.read(folder, **offsets)

        try:
            part = await run_in_threadpool(read)
        except OrchestratorError as error:
            status = 404 if isinstance(error, NotFound) else 409
            return self._html("error.html", status, error=error)
        answer = self._html("transcript.html", lines=part.lines)
        for name in ("begin", "end", "size"):
            answer.headers[f"Orchestrator-{name.title()}"] = str(getattr(part, name))
        return answer

    async def _made(self, make: Callable[[], str]) -> Response:
        """Answer with HTML; what a command refuses is shown in its place.

        The answer is 200 in any case: the place is loaded again after the next change.
        """
        try:
            return HTMLResponse(await run_in_threadpool(make))
        except OrchestratorError as error:
            return self._html("error.html", error=error)

    async def _shell(self, template: str, **found: Any) -> Response:
        """Answer with a page whose parts are loaded by further requests.

        `seen` makes the stream of events tell also of a change that happens before it begins.
        """
        seen = changes.digest(await run_in_threadpool(changes.marks, self._layout))
        return self._html(template, seen=seen, **found)

    def _nowhere(self) -> Response:
        return self._html("error.html", 404, error=OrchestratorError("there is no such page"))

    def _html(self, template: str, status: int = 200, **found: object) -> Response:
        return HTMLResponse(self._rendered(template, **found), status)

    def _rendered(self, template: str, **found: object) -> str:
        return self._templates.get_template(template).render(self._shared | found)


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 18 else 0


def application(
    commands: Commands, layout: Layout, *, token: str, port: int, read_only: bool
) -> Gate:
    """Return the page of a project as an ASGI application; `token` lets a browser in."""
    routes = [
        *Api(commands, layout, read_only=read_only).routes(),
        Mount("/static", StaticFiles(directory=render.STATIC)),
        *Page(commands, layout, read_only=read_only).routes(),
    ]
    inner = Starlette(routes=routes, exception_handlers={Exception: _bug})
    return Gate(inner, token, port=port)


async def _bug(request: Request, error: Exception) -> Response:
    """Answer for an unexpected error; uvicorn logs its traceback to the terminal."""
    message = f"this is a bug in orchestrator: {type(error).__name__}: {error}"
    hint = "please report it with the traceback in the terminal of `orchestrator dashboard`"
    return refused(OrchestratorError(message, hint, code="bug"), 500)
