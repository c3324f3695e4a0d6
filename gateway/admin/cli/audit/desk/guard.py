# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may see the pages: the browser that was given the address, by the address itself.

A page of another site can make a browser ask 127.0.0.1, also under a name of its own (DNS
rebinding). So the Host header must be ours, and a cookie must be there that only the one-time
address sets.
"""

from __future__ import annotations

import hmac
import secrets
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers, QueryParams
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "trailgate-desk"
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Guard:
    """Around the pages. `port`: set once it is known."""

    def __init__(self, pages: ASGIApp) -> None:
        self._pages = pages
        self._token: str | None = secrets.token_urlsafe(32)
        self._cookie = secrets.token_urlsafe(32)
        self.port = 0

    @property
    def address(self) -> str:
        """The one-time address; a secret until it was used."""
        return f"http://127.0.0.1:{self.port}/?token={self._token}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._pages(scope, receive, send)
            return
        answer = self._refusal(scope) or self._entrance(scope)
        await (answer or self._pages)(scope, receive, _with_headers(send))

    def _refusal(self, scope: Scope) -> Response | None:
        host = Headers(scope=scope).get("host", "")
        if host not in (f"127.0.0.1:{self.port}", f"localhost:{self.port}"):
            return PlainTextResponse("these pages are served to this machine only\n", 421)
        if scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse("these pages are for reading\n", 405)
        return None

    def _entrance(self, scope: Scope) -> Response | None:
        """The token's first use gives the cookie; without either there is nothing to see."""
        if self._known(scope):
            return None
        given = QueryParams(scope["query_string"]).get("token", "")
        token = self._token
        if token is None or not hmac.compare_digest(given.encode(), token.encode()):
            text = "open the address that `trailgate audit open` printed; it works once\n"
            return PlainTextResponse(text, 403)
        self._token = None
        answer = RedirectResponse("/", 303)
        answer.set_cookie(COOKIE, self._cookie, httponly=True, samesite="strict", path="/")
        return answer

    def _known(self, scope: Scope) -> bool:
        try:
            cookies = SimpleCookie(Headers(scope=scope).get("cookie", ""))
        except CookieError:
            return False
        given = cookies[COOKIE].value if COOKIE in cookies else ""
        return hmac.compare_digest(given.encode(), self._cookie.encode())


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            ours = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
            message = {**message, "headers": [*message["headers"], *ours]}
        await send(message)

    return sending
