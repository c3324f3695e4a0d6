# SPDX-License-Identifier: GPL-3.0-or-later
"""What every endpoint asks of a request: who calls, and a body of bounded size."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Set
from typing import Any, cast
from urllib.parse import parse_qsl

from starlette.requests import Request

from gateway.admin.api.problems import Problem
from gateway.admin.api.services import Services
from gateway.identity.refusal import SHOWN
from gateway.model import Grant

BODY_CAP = 64 * 1024
FIELDS_CAP = 32
BODY_DEADLINE = 10.0
"""Seconds; whoever sends more slowly would hold a connection that others need."""


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
    """The body, of bounded size and within a deadline. Raises Problem."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_DEADLINE):
            async for chunk in request.stream():
                body += chunk
                if len(body) > BODY_CAP:
                    raise Problem(413, f"the body is over {BODY_CAP} bytes")
    except TimeoutError:
        raise Problem(408, f"the body did not come within {BODY_DEADLINE:.0f} s") from None
    return bytes(body)


def _kind_of(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def json_of(request: Request, members: Set[str]) -> dict[str, Any]:
    """The body as a JSON object of these members; an empty body is an empty one."""
    body = await body_of(request)
    if body and _kind_of(request) != "application/json":
        raise Problem(415, "send application/json")
    try:
        document = json.loads(body or b"{}", object_pairs_hook=_without_doubles)
    except (ValueError, RecursionError):
        raise Problem(400, "the body is not JSON") from None
    if not isinstance(document, dict):
        raise Problem(400, "the body must be a JSON object")
    if unknown := set(document) - members:
        shown = ", ".join(sorted(unknown))[:SHOWN]
        raise Problem(400, f"unknown members: {shown}; known are {', '.join(sorted(members))}")
    return document


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A member given twice means two things to two readers (RFC 8259 4)."""
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a member is given twice")
    return document


async def form_of(request: Request) -> dict[str, str]:
    """The body as a form. RFC 6749 3.2: a parameter given twice is an error."""
    if _kind_of(request) != "application/x-www-form-urlencoded":
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
