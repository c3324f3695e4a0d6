# SPDX-License-Identifier: GPL-3.0-or-later
"""A strict S3 in front of moto, which is lenient where it matters here.

It compares checksums with bodies, keeps Object Locks itself (by a clock that tests can move),
refuses every delete in the evidence bucket, and breaks what a test asks it to break.
"""

from __future__ import annotations

import base64
import hashlib
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from urllib.request import urlopen

from moto.server import ThreadedMotoServer

EVIDENCE, KEYS = "evidence-bucket", "keys-bucket"
_LOCK_MODE, _LOCK_UNTIL = "x-amz-object-lock-mode", "x-amz-object-lock-retain-until-date"
_HOP = {"connection", "transfer-encoding", "content-length", "host", "date", "server"}


@dataclass(frozen=True)
class Asked:
    """One request as it came in."""

    method: str
    bucket: str
    key: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes

    @property
    def version(self) -> str:
        return self.query.get("versionId", [""])[0]


Fault = Callable[[Asked], str]
"""'' or one of: 503, reset (before anything is done), lost (done, the answer is not), flip (in
transit), wrong (other bytes are stored and the checksum is said to be ours), other (other bytes
are stored, with their own checksum), no-lock (the lock is taken and forgotten)."""


def _instant(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = parsedate_to_datetime(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _xml(code: str, text: str) -> bytes:
    return (
        f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{text}</Message></Error>".encode()
    )


@dataclass
class StrictS3:
    """Served on loopback by `start`; `fault` decides over each request."""

    fault: Fault = lambda asked: ""
    seen: list[Asked] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    """What was asked for and is never to be asked for."""
    passed: timedelta = timedelta()
    """How far the store's clock is ahead."""
    object_lock: bool = True
    down: bool = False
    gate: threading.Event = field(default_factory=threading.Event)
    """Cleared: puts wait."""

    def start(self) -> StrictS3:
        self.gate.set()
        self.locks: dict[tuple[str, str, str], datetime] = {}
        self.latest: dict[tuple[str, str], tuple[str, str]] = {}
        self.lies: dict[tuple[str, str], str] = {}
        self.moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self.moto.start()
        self.behind = self.moto.get_host_and_port()
        # What moto holds is the process's, not the server's.
        urlopen("http://{}:{}/moto-api/reset".format(*self.behind), data=b"").close()
        strict = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                strict.handle(self)

            do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = handle_any

            def log_message(self, *_: Any) -> None:
                """Nothing is to be printed."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def stop(self) -> None:
        self.gate.set()
        self.server.shutdown()
        self.server.server_close()
        self.moto.stop()

    @property
    def now(self) -> datetime:
        return datetime.now(UTC) + self.passed

    def puts(self, bucket: str = EVIDENCE) -> list[Asked]:
        return [
            one for one in self.seen if one.method == "PUT" and one.bucket == bucket and one.key
        ]

    # --- one request -----------------------------------------------------------------------------

    def handle(self, to: BaseHTTPRequestHandler) -> None:
        body = to.rfile.read(int(to.headers.get("content-length", 0)))
        parts = urlsplit(to.path)
        _, bucket, *rest = unquote(parts.path).split("/", 2)
        headers = {name.lower(): value for name, value in to.headers.items()}
        query = parse_qs(parts.query, keep_blank_values=True)
        asked = Asked(to.command, bucket, rest[0] if rest else "", query, headers, body)
        self.seen.append(asked)
        if asked.method == "PUT":
            self.gate.wait(60)
        fault = "reset" if self.down else self.fault(asked)
        if fault == "reset":
            _reset(to)
            return
        if fault == "503":
            _answer(to, 503, {}, _xml("SlowDown", "reduce your request rate"))
            return
        if refusal := self._refusal(asked, fault):
            _answer(to, *refusal)
            return
        status, answered, data = self._forward(asked, to.path, fault)
        self._note(asked, status, answered, fault)
        if fault == "lost":
            _reset(to)
            return
        if asked.method == "HEAD" and (lie := self.lies.get((asked.bucket, asked.key))):
            answered["x-amz-checksum-sha256"] = lie
        if asked.method == "HEAD" and (asked.bucket, asked.key) in self.latest:
            mode, until = self.latest[asked.bucket, asked.key]
            answered |= {_LOCK_MODE: mode, _LOCK_UNTIL: until}
        _answer(to, status, answered, data)

    def _refusal(self, asked: Asked, fault: str) -> tuple[int, dict[str, str], bytes] | None:
        if asked.method == "DELETE" or (asked.method == "POST" and "delete" in asked.query):
            return self._refuse_delete(asked)
        if asked.method != "PUT" or not asked.key:
            return None
        if "retention" in asked.query or "x-amz-bypass-governance-retention" in asked.headers:
            self.refused.append(f"a lock of {asked.key} was to be changed")
            return 403, {}, _xml("AccessDenied", "locks are not to be changed")
        body = _flipped(asked.body) if fault == "flip" else asked.body
        told = asked.headers.get("x-amz-checksum-sha256", "")
        if not told:
            self.refused.append(f"{asked.key} was put without a checksum")
            return 400, {}, _xml("InvalidRequest", "no checksum")
        if base64.b64decode(told) != hashlib.sha256(body).digest():
            return 400, {}, _xml("BadDigest", "the checksum is not that of the body")
        if _LOCK_MODE in asked.headers and not self.object_lock:
            text = "Bucket is missing Object Lock Configuration"
            return 400, {}, _xml("InvalidRequest", text)
        return None

    def _refuse_delete(self, asked: Asked) -> tuple[int, dict[str, str], bytes] | None:
        if asked.bucket == EVIDENCE or asked.method == "POST":
            self.refused.append(f"{asked.key} was to be deleted")
            return 403, {}, _xml("AccessDenied", "no right to delete")
        until = self.locks.get((asked.bucket, asked.key, asked.version))
        if until is not None and until > self.now:
            return 403, {}, _xml("AccessDenied", "the object is locked")
        return None

    def _forward(self, asked: Asked, path: str, fault: str) -> tuple[int, dict[str, str], bytes]:
        body, headers = asked.body, dict(asked.headers)
        for name in (_LOCK_MODE, _LOCK_UNTIL, "host", "content-length", "expect"):
            headers.pop(name, None)
        if fault in ("wrong", "other") and asked.method == "PUT":
            body = _flipped(body)
        if fault == "other" and asked.method == "PUT":
            digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
            headers["x-amz-checksum-sha256"] = digest
        connection = HTTPConnection(*self.behind, timeout=60)
        try:
            connection.request(asked.method, path, body=body, headers=headers)
            answer = connection.getresponse()
            data = answer.read()
            kept = {name.lower(): value for name, value in answer.getheaders()}
            length = kept.get("content-length", str(len(data)))
            kept = {name: value for name, value in kept.items() if name not in _HOP}
            if asked.method == "HEAD":
                kept["content-length"] = length
            return answer.status, kept, data
        finally:
            connection.close()

    def _note(self, asked: Asked, status: int, answered: dict[str, str], fault: str) -> None:
        """A lock that was taken, a lie that is to be kept up."""
        if fault == "wrong" and asked.method == "PUT" and status == 200:
            self.lies[asked.bucket, asked.key] = asked.headers["x-amz-checksum-sha256"]
        if asked.method != "PUT" or status != 200 or _LOCK_MODE not in asked.headers:
            return
        until = asked.headers[_LOCK_UNTIL]
        version = answered.get("x-amz-version-id", "")
        if fault != "no-lock":
            self.locks[asked.bucket, asked.key, version] = _instant(until)
            self.latest[asked.bucket, asked.key] = asked.headers[_LOCK_MODE], until


def _flipped(body: bytes) -> bytes:
    return bytes([body[0] ^ 1]) + body[1:] if body else b"x"


def _answer(to: BaseHTTPRequestHandler, status: int, headers: dict[str, str], body: bytes) -> None:
    to.send_response(status)
    if to.command != "HEAD" or "content-length" not in headers:
        headers = {**headers, "content-length": str(len(body))}
    for name, value in headers.items():
        to.send_header(name, value)
    to.end_headers()
    if to.command != "HEAD":
        to.wfile.write(body)


def _reset(to: BaseHTTPRequestHandler) -> None:
    """Not an orderly end: RST."""
    linger = struct.pack("ii", 1, 0)
    to.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    to.close_connection = True
    to.connection.close()
