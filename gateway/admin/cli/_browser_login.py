# SPDX-License-Identifier: GPL-3.0-or-later
"""The listener on loopback to which a browser brings the code of a login (RFC 8252)."""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qsl, urlsplit

from gateway.admin.cli.output import Failed, visible
from gateway.identity.login.relying import challenge_of, new_verifier

PATH = "/callback"
LASTS = 600.0
REQUEST_SECONDS = 5.0
DONE = (
    b"<!doctype html><title>Trailgate</title><p>The terminal goes on by itself."
    b" You can close this page."
)


@dataclass
class Started:
    """A login that waits for its browser."""

    server: HTTPServer = field(repr=False)
    verifier: str = field(default_factory=new_verifier, repr=False)
    state: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    answer: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def redirect(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}{PATH}"

    @property
    def challenge(self) -> str:
        return challenge_of(self.verifier)


class _Handler(BaseHTTPRequestHandler):
    """Takes the one answer that bears our state; whatever else comes is refused."""

    timeout = REQUEST_SECONDS
    started: Started

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        pairs = parse_qsl(parts.query, max_num_fields=16)
        given = dict(pairs)
        good = (
            parts.path == PATH
            and len(given) == len(pairs)
            and hmac.compare_digest(given.get("state", "").encode(), self.started.state.encode())
        )
        if good and not self.started.answer:
            self.started.answer.update(given)
        self.send_response(200 if good else 404)
        self.send_header("content-type", "text/html; charset=utf-8")
        self.send_header("content-security-policy", "default-src 'none'; frame-ancestors 'none'")
        self.send_header("referrer-policy", "no-referrer")
        self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(DONE if good else b"<!doctype html><title>Trailgate</title>")

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing: the line would hold the code."""


@contextmanager
def begin() -> Iterator[Started]:
    """Listen on a free port of 127.0.0.1, for this login only."""
    handler = type("Handler", (_Handler,), {})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        started = Started(server)
        handler.started = started  # type: ignore[attr-defined]
        yield started


def wait(started: Started, *, expected_iss: str) -> str:
    """The code, once the browser brought it. Raises Failed."""
    ends = time.monotonic() + LASTS
    while not started.answer:
        started.server.timeout = max(0.0, ends - time.monotonic())
        if started.server.timeout == 0.0:
            raise Failed("no browser came back in time", "trailgate login, or --device", 1)
        started.server.handle_request()
    answer = started.answer
    if answer.get("iss") != expected_iss:
        raise Failed("the answer is not this gateway's", "trailgate login", 1)
    if "error" in answer or not answer.get("code"):
        told = answer.get("error_description") or answer.get("error") or "no code"
        raise Failed(f"the login was refused: {visible(told[:300])}", "trailgate login", 1)
    return answer["code"]
