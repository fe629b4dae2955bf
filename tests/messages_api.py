"""A stand-in for the Messages API on loopback, so that the real client runs with a scripted model.

The client is the real binary and everything it does is real: its tools, its permissions, its
stream. Only the model's answers are written in advance. A script is a list of turns; which turn
comes next is read off the request itself (how many tool results and answers it carries already),
never off a counter here, so retries, resumed conversations and parallel runs need no bookkeeping.

    with MessagesAPI() as api:
        api.script("TASK-1", [{"name": "Bash", "input": {"command": "touch a"}}, "All done."])
        ...  # start the client with ANTHROPIC_BASE_URL=api.url and a prompt naming TASK-1

The wire format is the one of https://docs.claude.com/en/api/messages-streaming.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

#: The error type that goes with a status, https://docs.claude.com/en/api/errors.
ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    529: "overloaded_error",
}

#: Said when a script has no turn left; a test that forgot its last turn ends, and shows why.
SCRIPT_ENDED = "The script has no further turn."


@dataclass(frozen=True)
class Fault:
    """An HTTP error instead of an answer."""

    #: HTTP status, such as 429.
    status: int
    #: What the error object's `message` says.
    message: str = "scripted fault"
    #: Extra response headers, such as the rate-limit ones.
    headers: Mapping[str, str] = field(default_factory=dict)
    #: The error object's `type`; by default the one that goes with the status.
    type: str | None = None
    #: How often it strikes in one conversation before the script goes on; None is for ever.
    times: int | None = None


@dataclass(frozen=True)
class Silence:
    """The answer begins and then nothing comes, until the stand-in is closed."""


#: One turn of the assistant: its text, one tool call (`{"name": ..., "input": {...}}`), several
#: calls at once, or something that goes wrong.
Turn = str | Mapping[str, Any] | Sequence[Mapping[str, Any]] | Fault | Silence


@dataclass(frozen=True)
class Request:
    """One request as it came in."""

    #: GET, HEAD or POST.
    method: str
    #: The path without its query, such as `/v1/messages`.
    path: str
    #: Header names in lower case.
    headers: Mapping[str, str]
    #: The parsed JSON body; None when there was none, or none that could be read.
    body: Any
    #: When it came in, in seconds of time.monotonic().
    at: float

    @property
    def session(self) -> str:
        """The client's session id, or an empty string."""
        return self.headers.get("x-claude-code-session-id", "")

    @property
    def system(self) -> str:
        """The system prompt as one text."""
        return "\n".join(_texts(self.body.get("system", "")))

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The conversation so far."""
        return list(self.body["messages"])

    @property
    def opening(self) -> str:
        """The system prompt and the first prompt: what tells one conversation from others.

        Without the client's own reminders: its git status names other agents' files and branches.
        """
        first = _texts(self.messages[0]["content"])
        said = [text for text in first if not text.startswith("<system-reminder>")]
        return "\n".join([self.system, *said])

    @property
    def prompts(self) -> list[str]:
        """Every text that the user's side said, the client's own reminders among them.

        The newest prompt is not always the last message: the client may add a `system` one.
        """
        return [block["text"] for block in self._blocks("user") if block["type"] == "text"]

    @property
    def tools(self) -> list[str]:
        """Names of the tools that the model may call."""
        return [tool["name"] for tool in self.body.get("tools", [])]

    @property
    def tool_results(self) -> list[dict[str, Any]]:
        """Every `tool_result` block of the conversation, in order."""
        return [block for block in self._blocks("user") if block["type"] == "tool_result"]

    @property
    def answers(self) -> list[str]:
        """Every text that the assistant said in the conversation, in order."""
        return [block["text"] for block in self._blocks("assistant") if block["type"] == "text"]

    @property
    def is_side_request(self) -> bool:
        """Whether the client asks for its own ends (a title, a summary) and not for the agent.

        The agent's own requests offer it tools that the client runs. Side requests offer none, or
        only one that the service runs itself: the client's web search is such a request.
        """
        return not any("input_schema" in tool for tool in self.body.get("tools", []))

    def _blocks(self, role: str) -> Iterator[dict[str, Any]]:
        for message in self.messages:
            if message["role"] == role:
                yield from _blocks(message["content"])


Script = Sequence[Turn] | Callable[[Request], Turn]


class MessagesAPI:
    """The stand-in; a context manager that listens on a free loopback port while it is open.

    `script`, if given, is followed by every conversation that no call of `script()` claims.
    `output_tokens` is what every answer is said to cost, by default a guess from its length.
    """

    def __init__(self, script: Script | None = None, *, output_tokens: int | None = None) -> None:
        self.requests: list[Request] = []
        #: Headers of every answer.
        self.headers: Mapping[str, str] = {}
        self._scripts: list[tuple[Callable[[Request], bool], Script]] = []
        self._default = script
        self.output_tokens = output_tokens
        self._struck: Counter[tuple[str, int]] = Counter()
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def url(self) -> str:
        """What ANTHROPIC_BASE_URL must be."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> MessagesAPI:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def script(self, which: str | Callable[[Request], bool], script: Script) -> None:
        """Let the conversations that `which` picks follow `script`.

        `which` is a predicate on the request, or a text looked for in its `opening`. The first
        that fits wins; the same script serves many conversations.
        """
        if isinstance(which, str):
            marker = which
            self._scripts.append((lambda request: marker in request.opening, script))
        else:
            self._scripts.append((which, script))

    def conversations(self, marker: str = "") -> list[Request]:
        """The agents' own requests whose opening holds `marker`, without side requests."""
        with self._changed:
            posts = [r for r in self.requests if r.path == "/v1/messages" and not _refusal(r)]
        return [r for r in posts if not r.is_side_request and marker in r.opening]

    def wait_for(self, happened: Callable[[MessagesAPI], Any], seconds: float = 60) -> None:
        """Wait until `happened(self)` is true; looked at again after every request.

        Raises TimeoutError after `seconds`.
        """
        deadline = time.monotonic() + seconds
        while not happened(self):
            with self._changed:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"not seen in {seconds} s, {len(self.requests)} requests")
                self._changed.wait(min(left, 0.2))

    def _record(self, request: Request) -> None:
        with self._changed:
            self.requests.append(request)
            self._changed.notify_all()

    def _turn(self, request: Request) -> Turn:
        if request.is_side_request:
            return _side_answer(request)
        fitting = (script for fits, script in self._scripts if fits(request))
        script = next(fitting, self._default)
        if script is None:
            return Fault(400, f"no script fits this conversation: {request.opening[-300:]}")
        if callable(script):
            return script(request)
        return self._next(script, request)

    def _next(self, script: Sequence[Turn], request: Request) -> Turn:
        """The first turn of the script that the conversation does not hold yet."""
        results = len(request.tool_results)
        said = Counter(request.answers)
        for place, turn in enumerate(script):
            if isinstance(turn, Fault):
                # A fault leaves no trace in the conversation: only here must one be remembered.
                with self._changed:
                    key = (request.session, place)
                    if turn.times is None or self._struck[key] < turn.times:
                        self._struck[key] += 1
                        return turn
            elif isinstance(turn, Silence):
                return turn
            elif isinstance(turn, str):
                if not said[turn]:
                    return turn
                said[turn] -= 1
            else:
                calls = _calls(turn)
                if results < len(calls):
                    return turn
                results -= len(calls)
        return SCRIPT_ENDED


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # A client killed in mid-answer leaves its handler's thread to the operating system.
    block_on_close = False

    def __init__(self, api: MessagesAPI) -> None:
        self.api = api
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: object) -> None:
        """Keep the tests' output free of access lines."""

    def do_HEAD(self) -> None:
        self.server.api._record(self._request(None))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        self.server.api._record(self._request(None))
        self._fail(Fault(404, f"no such path: {self.path}"))

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            body = json.loads(raw)
        except ValueError:
            body = None
        request = self._request(body)
        refusal = _refusal(request)
        self.server.api._record(request)
        try:
            if refusal:
                self._fail(refusal)
            elif request.path == "/v1/messages/count_tokens":
                self._json(200, {"input_tokens": _tokens(request.body)})
            else:
                self._answer(request, self.server.api._turn(request))
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the client was ended by a test: nobody to tell

    def _request(self, body: Any) -> Request:
        headers = {name.lower(): value for name, value in self.headers.items()}
        return Request(self.command, urlsplit(self.path).path, headers, body, time.monotonic())

    def _answer(self, request: Request, turn: Turn) -> None:
        if isinstance(turn, Fault):
            self._fail(turn)
            return
        message = _message(request, turn, self.server.api.output_tokens)
        if not request.body.get("stream"):
            self._json(200, message)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Cache-Control", "no-cache")
        for name, text in self.server.api.headers.items():
            self.send_header(name, text)
        self.send_header("request-id", "req_" + message["id"])
        self.send_header("Connection", "close")  # the end of the stream ends the connection
        self.end_headers()
        self.close_connection = True
        for event in _events(message):
            self.wfile.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())
            self.wfile.flush()
            if isinstance(turn, Silence):
                self.server.api._closing.wait()
                return

    def _fail(self, fault: Fault) -> None:
        kind = fault.type or ERROR_TYPES.get(fault.status, "api_error")
        error = {"type": "error", "error": {"type": kind, "message": fault.message}}
        self._json(fault.status, error, fault.headers)

    def _json(self, status: int, value: Any, headers: Mapping[str, str] | None = None) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("request-id", "req_stand_in")
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(data)


def _refusal(request: Request) -> Fault | None:
    """What the real service would refuse, as far as it is cheap to check."""
    if request.path not in ("/v1/messages", "/v1/messages/count_tokens"):
        return Fault(404, f"no such path: {request.path}")
    if not request.headers.get("x-api-key") and not request.headers.get("authorization"):
        return Fault(401, "x-api-key header is required")
    if not request.headers.get("anthropic-version"):
        return Fault(400, "anthropic-version: header is required")
    if not isinstance(request.body, dict):
        return Fault(400, "The request body is not valid JSON.")
    needed: dict[str, type] = {"model": str, "messages": list}
    if request.path == "/v1/messages":
        needed["max_tokens"] = int
    for name, kind in needed.items():
        if not isinstance(request.body.get(name), kind):
            return Fault(400, f"{name}: Field required")
    problem = _conversation_problem(request.body["messages"])
    return Fault(400, problem) if problem else None


def _conversation_problem(messages: list[Any]) -> str | None:
    """Why the service would refuse this conversation, or None: above all, calls without results."""
    if not messages:
        return "messages: at least one message is required"
    waiting: set[str] = set()
    seen: set[str] = set()
    for place, message in enumerate(messages):
        where = f"messages.{place}"
        role = message.get("role") if isinstance(message, dict) else None
        if role not in ("user", "assistant", "system") or not message.get("content"):
            return f"{where}: a role and non-empty content are required"
        if role == "assistant" and place == 0:
            return f"{where}: the first message must use the user role"
        blocks = _blocks(message["content"])
        if not all("type" in block for block in blocks):
            return f"{where}.content: every block needs a type"
        if any(block["type"] == "text" and not block.get("text") for block in blocks):
            return f"{where}: text content blocks must be non-empty"
        results = [b.get("tool_use_id") for b in blocks if b["type"] == "tool_result"]
        stray = [identity for identity in results if identity not in waiting]
        if stray:
            return f"{where}: unexpected tool_use_id found in tool_result blocks: {stray[0]}"
        waiting -= set(results)
        if waiting:
            return f"{where}: tool_use ids without tool_result blocks: {', '.join(sorted(waiting))}"
        calls = [b.get("id", "") for b in blocks if b["type"] == "tool_use"]
        if role == "user" and calls:
            return f"{where}: tool_use blocks can only be in assistant messages"
        if len({*seen, *calls}) != len(seen) + len(calls):
            return f"{where}: tool_use ids must be unique"
        seen.update(calls)
        waiting = set(calls)
    if waiting:
        return f"tool_use ids without tool_result blocks: {', '.join(sorted(waiting))}"
    return None


def _side_answer(request: Request) -> str:
    """A title or a summary: JSON where JSON is asked for."""
    schema = request.body.get("output_config", {}).get("format", {}).get("schema", {})
    if schema:
        return json.dumps(dict.fromkeys(schema.get("properties", {}), "Scripted work"))
    return "Scripted work"


def _message(request: Request, turn: Turn, output_tokens: int | None) -> dict[str, Any]:
    """The whole answer, as a request without streaming would get it."""
    number = len(request.messages)
    content: list[dict[str, Any]]
    if isinstance(turn, str):
        content = [{"type": "text", "text": turn}]
    elif isinstance(turn, Silence):
        content = [{"type": "text", "text": "…"}]
    else:
        # Session and place make ids unique in a conversation, and the same in a retry.
        stem = f"toolu_{request.session.replace('-', '')[:12]}_{number}"
        content = [
            {"type": "tool_use", "id": f"{stem}_{i}", "name": c["name"], "input": c["input"]}
            for i, c in enumerate(_calls(turn))
        ]
    return {
        "id": f"msg_{request.session.replace('-', '')[:12]}_{number}",
        "type": "message",
        "role": "assistant",
        "model": request.body["model"],
        "content": content,
        "stop_reason": "tool_use" if content[0]["type"] == "tool_use" else "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": _tokens(request.body),
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": output_tokens or _tokens(content),
        },
    }


def _events(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The answer as server-sent events, in the documented order."""
    usage = message["usage"]
    start = {**message, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
    yield {"type": "message_start", "message": start}
    for index, block in enumerate(message["content"]):
        empty: dict[str, Any]
        if block["type"] == "text":
            empty = {"type": "text", "text": ""}
            delta = {"type": "text_delta", "text": block["text"]}
        else:
            empty = {**block, "input": {}}
            delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
        yield {"type": "content_block_start", "index": index, "content_block": empty}
        yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    stop = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    yield {"type": "message_delta", "delta": stop, "usage": usage}
    yield {"type": "message_stop"}


def _calls(turn: Turn) -> list[Mapping[str, Any]]:
    return [turn] if isinstance(turn, Mapping) else list(turn)  # type: ignore[arg-type]


def _blocks(content: str | list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _texts(content: str | list[dict[str, Any]]) -> list[str]:
    return [block["text"] for block in _blocks(content) if block["type"] == "text"]


def _tokens(value: Any) -> int:
    """About four characters are a token."""
    return max(1, len(json.dumps(value)) // 4)
