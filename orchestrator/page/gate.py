"""Who may see the page: a token in the start address, a cookie, the names of this machine.

A page of another site can send requests to loopback, and a name that its owner points to 127.0.0.1
(DNS rebinding) makes them same-origin: the names in `Host` and `Origin` tell them apart.
"""

from __future__ import annotations

import hmac
import re
import secrets
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Names of this machine, with any port: a tunnel (`ssh -L`) changes the port.
_HOST = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d{1,5})?", re.IGNORECASE)
#: The page loads scripts, styles and data from itself only, and is in no frame.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
NO_COOKIE = (
    "Open the address that `orchestrator dashboard` printed: it holds the token. "
    "If you have just done so, reload this page.\n"
)
FOREIGN = "This page answers only to 127.0.0.1, localhost and [::1], and to its own pages.\n"


class Gate:
    """The ASGI application around the page's own: 401 without the cookie, 403 for foreign names."""

    def __init__(self, app: ASGIApp, token: str, *, port: int) -> None:
        self._app, self._token = app, token
        self._session = secrets.token_urlsafe(32)
        # Cookies do not know ports: two pages on this machine must not overwrite each other's.
        self._cookie = f"orchestrator-{port}"
        #: Further tokens, each for one exchange (`--open`: processes' arguments are public).
        self._once: set[str] = set()

    def one_time_token(self) -> str:
        """Return a token that is valid for one exchange."""
        found = secrets.token_urlsafe(32)
        self._once.add(found)
        return found

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # no websocket
        answer = self._refusal(scope)
        await (answer or self._app)(scope, receive, _with_headers(send))

    def _refusal(self, scope: Scope) -> Response | None:
        """Return the answer to a request that does not reach the page; None for the others."""
        headers = Headers(scope=scope)
        if not is_own(headers.getlist("host"), headers.getlist("origin")):
            return PlainTextResponse(FOREIGN, 403)
        if scope["path"] == "/" and scope["method"] == "GET":
            given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
            if given and self._takes(given[-1]):
                answer = RedirectResponse("/", 303)
                cookie = f"{self._cookie}={self._session}; HttpOnly; Path=/; SameSite=Strict"
                answer.headers.append("Set-Cookie", cookie)
                return answer
        sent = cookie_parser("; ".join(headers.getlist("cookie"))).get(self._cookie, "")
        if not _same(sent, self._session):
            return PlainTextResponse(NO_COOKIE, 401)
        return None

    def _takes(self, token: str) -> bool:
        if token in self._once:
            self._once.discard(token)
            return True
        return _same(token, self._token)


def is_own(hosts: list[str], origins: list[str]) -> bool:
    """Return whether a request names this machine, and comes from its own pages or no page. Pure.

    The parameters are the values of the headers `Host` and `Origin`.
    """
    if len(hosts) != 1 or len(origins) > 1 or not _HOST.fullmatch(hosts[0]):
        return False
    return not origins or origins[0].lower() == f"http://{hosts[0]}".lower()


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode())


def _with_headers(send: Send) -> Send:
    """Return a `send` that adds the headers of every answer."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
            headers.setdefault("Cache-Control", "no-store")
        await send(message)

    return sending
