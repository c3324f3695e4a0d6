# SPDX-License-Identifier: GPL-3.0-or-later
"""Heads that a proxy before the gateway may read otherwise, and addresses spelled oddly."""

from __future__ import annotations

import socket
from typing import Any

import httpx
import pytest

HIDDEN = b"GET /healthz HTTP/1.1\r\nhost: hidden\r\n\r\n"
LINE = b"POST /oauth/revoke HTTP/1.1\r\nhost: a\r\n"


def answers(api: Any, sent: bytes) -> bytes:
    """All that comes until the gateway ends the link."""
    host, _, port = api.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=30) as link:
        link.sendall(sent)
        found = b""
        try:
            while chunk := link.recv(65536):
                found += chunk
        except ConnectionError:
            return found
    return found


@pytest.mark.parametrize(
    "sent",
    [
        LINE + b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
        LINE + b"transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n" + HIDDEN,
        LINE + b"content-length: 0\r\ncontent-length: 44\r\n\r\n" + HIDDEN,
        LINE + b"content-length: 0, 44\r\n\r\n" + HIDDEN,
        LINE + b"content-length: +0\r\n\r\n" + HIDDEN,
        LINE + b"content-length : 0\r\n\r\n" + HIDDEN,
        LINE + b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n" + HIDDEN,
        LINE + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n" + HIDDEN,
        LINE + b"transfer-encoding: chunked\r\ntransfer-encoding: x\r\n\r\n0\r\n\r\n" + HIDDEN,
        LINE + b"transfer-encoding: chunked\r\n\r\nzz\r\n\r\n" + HIDDEN,
        LINE + b"x: a\r\n content-length: 44\r\n\r\n" + HIDDEN,
        LINE + b"x: a\r\n\tb\r\ncontent-length: 0\r\n\r\n" + HIDDEN,
        LINE + b"x: a\ncontent-length: 44\r\n\r\n" + HIDDEN,
        LINE + b"x: a\rcontent-length: 44\r\n\r\n" + HIDDEN,
        LINE + b"content-length: 0\r\n\n" + HIDDEN,
        LINE.replace(b"\r\n", b"\n") + b"\n" + HIDDEN,
        LINE + b"host: b\r\ncontent-length: 0\r\n\r\n" + HIDDEN,
        b"POST /oauth/revoke HTTP/1.1\r\ncontent-length: 0\r\n\r\n" + HIDDEN,
        LINE + b"x\x00y: a\r\ncontent-length: 0\r\n\r\n" + HIDDEN,
        b"POST /oauth/revoke HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
        + HIDDEN,
    ],
)
def test_no_request_hides_another(api: Any, sent: bytes) -> None:
    found = answers(api, sent)
    status = found.partition(b"\r\n")[0].split(b" ")[1]
    assert status in (b"400", b"501"), found
    assert found.count(b"HTTP/1.1 ") == 1, "what came behind it was not answered"


def test_requests_one_after_another_are_each_answered(api: Any) -> None:
    """Otherwise the test above would prove nothing."""
    close = HIDDEN.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
    chunked = LINE + b"transfer-encoding: chunked\r\n\r\n3\r\na=b\r\n0\r\n\r\n"
    assert answers(api, HIDDEN + chunked + HIDDEN + close).count(b"HTTP/1.1 ") == 4


def test_heads_are_capped(api: Any) -> None:
    for sent in (
        b"GET /healthz HTTP/1.1\r\nhost: a\r\nx: " + b"a" * 200_000,
        b"GET /" + b"a" * 200_000,
        b"GET /healthz HTTP/1.1\r\nhost: a\r\n" + b"x: a\r\n" * 40_000,
    ):
        assert b"200 OK" not in answers(api, sent)
    assert api.http.get("/healthz").status_code == 200


ODD = [
    "//api/v1/sessions",
    "/api//v1/sessions",
    "/./api/v1/sessions",
    "/api/v1/x/../sessions",
    "/%2e%2e/api/v1/sessions",
    "/api%2fv1%2fsessions",
    "/api/v1%2Fsessions",
    "/api/v1/sessions/",
    "/API/v1/sessions",
    "/api/v1/sessions;x=1",
    "/api/v1/sessions%00",
    "/healthz/../api/v1/sessions",
    "/healthz%2f..%2fapi/v1/sessions",
    "http://elsewhere/api/v1/sessions",
]


@pytest.mark.parametrize("path", ODD)
@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_no_spelling_of_an_address_goes_round_the_token(api: Any, path: str, method: str) -> None:
    head = f"{method} {path} HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n"
    found = answers(api, head.encode())
    assert found.split(b" ")[1] in (b"400", b"401", b"404", b"405"), found
    assert b"location:" not in found.lower() and b"evil.example" not in found


@pytest.mark.parametrize(
    "name", ["x-http-method-override", "x-http-method", "x-method-override", "x-original-url"]
)
def test_headers_change_neither_method_nor_address(api: Any, name: str) -> None:
    value = "/api/v1/sessions" if name.endswith("url") else "DELETE"
    answer = api.http.get("/healthz", headers={name: value})
    assert answer.status_code == 200 and answer.text == "ok\n"


def test_no_other_site_is_let_in_and_answers_are_not_kept(api: Any) -> None:
    token = api.sign("kept")
    own = {"authorization": f"Bearer {token}", "origin": "https://evil.example"}
    given: list[httpx.Response] = [
        api.http.get("/api/v1/self", headers=own),
        api.http.post("/oauth/token", data=api.form(token), headers=own),
        api.http.post("/oauth/token", data={"grant_type": "x"}, headers=own),
        api.http.post("/oauth/introspect", data={"token": token}, headers=own),
        api.admin.post("/api/v1/token", json={"subject": "kept"}),
        api.http.get("/api/v1/none"),
        api.http.get("/healthz"),
        api.http.options(
            "/api/v1/self",
            headers={"origin": "https://evil.example", "access-control-request-method": "GET"},
        ),
    ]
    assert given[0].status_code == given[1].status_code == given[3].status_code == 200
    assert given[-1].status_code == 405
    for answer in given:
        assert answer.headers["cache-control"] == "no-store", answer.url
        assert answer.headers["x-content-type-options"] == "nosniff", answer.url
        assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.parametrize("path", ["/api/v1/self", "/api/v1/grants", "/api/v1/sessions"])
def test_head_asks_for_a_token_as_get_does(api: Any, path: str) -> None:
    assert api.http.head(path).status_code == 401
