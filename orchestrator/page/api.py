"""The page's data: `GET /api/...` is what a command prints with `--json`, `POST` runs a command."""

from __future__ import annotations

import json
from collections.abc import Mapping
from json import JSONDecodeError

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from orchestrator.layout import Layout
from orchestrator.model.errors import NotFound, OrchestratorError, UsageError, did_you_mean
from orchestrator.page import changes
from orchestrator.page.commands import Commands

#: The read commands by noun: of the whole noun, and of one of its things.
READS = {
    "status": ("status", None),
    "tasks": ("task list", "task show"),
    "agents": ("agent list", "agent show"),
    "runs": ("runs", "logs"),
    "prs": ("pr list", "pr show"),
    "inbox": ("inbox", None),
    "costs": ("costs", None),
    "history": ("history", None),
    "limits": ("limits", None),
    "report": ("report", None),
    "explain": (None, "explain"),
}
#: The changes by noun and verb. Those without an id are `POST /api/<noun>/<verb>`.
CHANGES = {
    "tasks": {verb: f"task {verb}" for verb in ("add", "set", "edit", "retry", "cancel", "move")},
    "agents": {
        **{verb: f"agent {verb}" for verb in ("add", "set", "remove", "pause", "resume")},
        **{verb: verb for verb in ("run", "stop")},
    },
    "prs": {
        verb: f"pr {verb}" for verb in ("approve", "request-changes", "merge", "merged", "close")
    },
    "inbox": {verb: f"inbox {verb}" for verb in ("answer", "approve", "reject", "dismiss")},
    "limits": {"set": "limits set"},
}
#: Bytes of a request: a task has at most one MiB, and JSON may write each byte as six.
MOST_BYTES = 6 << 20
READ_ONLY = "this page was started with --read-only"


class Api:
    """The routes below `/api/`, and `/metrics`."""

    def __init__(self, commands: Commands, layout: Layout, *, read_only: bool) -> None:
        self._commands, self._layout, self._read_only = commands, layout, read_only

    def routes(self) -> list[Route]:
        """Return the routes; the more special ones first."""
        get, post = ["GET"], ["POST"]
        return [
            Route("/api/events", self.events, methods=get),
            Route("/metrics", self.metrics, methods=get),
            Route("/api/{noun}", self.read, methods=get),
            Route("/api/{noun}/{id}", self.read, methods=get),
            Route("/api/{noun}", self.change, methods=post),
            Route("/api/{noun}/{verb}", self.change, methods=post),
            Route("/api/{noun}/{id}/{verb}", self.change, methods=post),
        ]

    async def events(self, request: Request) -> Response:
        found = changes.stream(self._layout)
        return StreamingResponse(found, media_type="text/event-stream")

    async def metrics(self, request: Request) -> Response:
        try:
            found = await run_in_threadpool(self._commands.text, "metrics")
        except OrchestratorError as error:
            return refused(error, 409)
        return PlainTextResponse(found, media_type="text/plain; version=0.0.4")

    async def read(self, request: Request) -> Response:
        noun, subject = _noun(request, READS), request.path_params.get("id")
        words = READS.get(noun, (None, None))[subject is not None]
        if words is None:
            return refused(_unread(noun, subject), 404)
        try:
            values = asked(request.query_params.multi_items())
            return JSONResponse(
                await run_in_threadpool(self._commands.read, words, values, subject)
            )
        except NotFound as error:
            return refused(error, 404)
        except UsageError as error:
            return refused(error, 400)
        except OrchestratorError as error:
            return refused(error, 409)

    async def change(self, request: Request) -> Response:
        if self._read_only:
            hint = "start `orchestrator dashboard` without --read-only"
            return refused(OrchestratorError(READ_ONLY, hint, code="read_only"), 403)
        noun, verb = _noun(request, CHANGES), request.path_params.get("verb", "add")
        verb = verb.replace("_", "-")
        words = CHANGES.get(noun, {}).get(verb)
        if words is None:
            known = CHANGES.get(noun, CHANGES)
            return refused(_unknown(verb if noun in CHANGES else noun, known), 404)
        try:
            values = sent(await _body(request))
        except UsageError as error:
            return refused(error, 400)
        subject = request.path_params.get("id")
        try:
            answer = await run_in_threadpool(self._commands.change, words, values, subject)
        except OrchestratorError as error:
            return refused(error, 409)
        # Headers are ASCII; a warning is any text.
        headers = {"Orchestrator-Warnings": json.dumps(answer.said)} if answer.said else {}
        return JSONResponse(answer.value, headers=headers)


def _noun(request: Request, known: Mapping[str, object]) -> str:
    """Return the noun of a request's path; `task` is `tasks`."""
    noun: str = request.path_params["noun"]
    return f"{noun}s" if noun not in known and f"{noun}s" in known else noun


def refused(error: OrchestratorError, status: int) -> JSONResponse:
    """Return the `error` object of a command as an answer with this status."""
    found = {name: getattr(error, name) for name in ("code", "message", "hint")}
    return JSONResponse({"error": found}, status)


def asked(pairs: list[tuple[str, str]]) -> dict[str, object]:
    """Return the arguments of a read command that a query asks for. Pure."""
    found: dict[str, object] = {}
    for key, value in pairs:
        name = {"q": "search"}.get(key, key)
        before = found.get(name, [])
        several = [*(before if isinstance(before, list) else [before]), value]
        found[name] = several if several[1:] else value
    return found


def sent(body: bytes) -> Mapping[str, object]:
    """Return the arguments of a change: a JSON object, or nothing. Raises UsageError. Pure."""
    try:
        # Python also reads NaN and Infinity, which JSON does not have.
        found = json.loads(body or b"{}", parse_constant=_no_json)
    except (JSONDecodeError, UnicodeDecodeError, RecursionError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise UsageError(
            "the request's body is not a JSON object", 'for example: {"priority": "P0"}'
        )
    return found


async def _body(request: Request) -> bytes:
    """Return the body of a request. Raises UsageError if it is too long."""
    found = b""
    async for piece in request.stream():
        found += piece
        if len(found) > MOST_BYTES:
            raise UsageError("the request is larger than 6 MiB", "shorten the text")
    return found


def _no_json(word: str) -> None:
    raise ValueError(word)


def _unread(noun: str, subject: str | None) -> OrchestratorError:
    """Return the error for a path that no read command answers. Pure."""
    if noun not in READS:
        return _unknown(noun, READS)
    if subject is None:
        hint = f"for example: /api/{noun}/NAME"
        return OrchestratorError(f"{noun!r} needs a name", hint, code="not_found")
    message = f"{noun!r} takes no name, found {subject!r}"
    return OrchestratorError(message, f"ask for /api/{noun}", code="not_found")


def _unknown(word: str, known: Mapping[str, object]) -> OrchestratorError:
    return OrchestratorError(
        f"the page has no {word!r}", did_you_mean(word, known), code="not_found"
    )
