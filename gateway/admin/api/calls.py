# SPDX-License-Identifier: GPL-3.0-or-later
"""What every endpoint asks of a request: who calls, and a body of bounded size."""

from __future__ import annotations

import json
from typing import Any, cast
from urllib.parse import parse_qsl

from starlette.requests import Request

from gateway.admin.api.problems import Problem
from gateway.admin.api.services import Services
from gateway.model import Grant

BODY_CAP = 64 * 1024
FIELDS_CAP = 32


def services_of(request: Request) -> Services:
    return cast(Services, request.app.state.services)


async def caller_of(request: Request) -> Grant | None:
    """The caller's grant; None: an admin, who came by the admin socket with no token.

    Raises Refused for a token that is not in force, Problem 401 for none at all.
    """
    given = request.headers.get("authorization")
    if given is None:
        if request.app.state.admin:
            return None
        raise Problem(401, "send a token: Authorization: Bearer TOKEN")
    scheme, _, token = given.partition(" ")
    if scheme.lower() != "bearer":
        raise Problem(401, "only Authorization: Bearer TOKEN is understood")
    return await services_of(request).authenticator.login(token.strip())


async def admin_only(request: Request) -> None:
    if await caller_of(request) is not None:
        raise Problem(403, "only the gateway's admin socket may do this: use --data DIR")


def label_of(caller: Grant | None) -> str:
    """Who did it, for the record: the whole chain."""
    return "admin" if caller is None else "/".join(caller.labels)


async def body_of(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_CAP:
            raise Problem(413, f"the body is over {BODY_CAP} bytes")
    return bytes(body)


async def json_of(request: Request) -> dict[str, Any]:
    """The body as a JSON object; an empty body is an empty one."""
    body = await body_of(request)
    try:
        document = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        raise Problem(400, "the body is not JSON") from None
    if not isinstance(document, dict):
        raise Problem(400, "the body must be a JSON object")
    return document


async def form_of(request: Request) -> dict[str, str]:
    """The body as a form. RFC 6749 3.2: a parameter given twice is an error."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise Problem(415, "send application/x-www-form-urlencoded")
    body = await body_of(request)
    try:
        pairs = parse_qsl(
            body.decode("utf-8"),
            keep_blank_values=True,
            strict_parsing=bool(body),
            encoding="utf-8",
            errors="strict",
            max_num_fields=FIELDS_CAP,
        )
    except ValueError:
        raise Problem(400, "the form is malformed") from None
    form = dict(pairs)
    if len(form) != len(pairs):
        raise Problem(400, "a parameter is given twice")
    return form
