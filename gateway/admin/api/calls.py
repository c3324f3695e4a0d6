# SPDX-License-Identifier: GPL-3.0-or-later
"""What every endpoint asks of a request: who calls, and a body of bounded size."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
from collections.abc import Mapping, Set
from typing import Any, cast
from urllib.parse import parse_qsl

from starlette.requests import Request

from gateway.admin.api.connections import PEER
from gateway.admin.api.problems import Problem
from gateway.admin.api.services import Services
from gateway.declare.orders import Author
from gateway.declare.rights import Right
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
            _check_peer(request)
            return None
        raise Problem(401, "send a token: Authorization: Bearer TOKEN")
    scheme, _, token = given.partition(" ")
    if scheme.lower() != "bearer":
        raise Problem(401, "only Authorization: Bearer TOKEN is understood")
    return await services_of(request).authenticator.login(token.strip())


def _check_peer(request: Request) -> int:
    """The user at the other end of the admin socket. Raises Problem 403.

    The socket's mode keeps others out already; a folder that was opened too far must not be all
    that there is.
    """
    peer = request.client.host if request.client else ""
    kind, _, uid = peer.partition(":")
    if kind != PEER or int(uid) not in (0, os.geteuid()):
        raise Problem(403, "the admin socket is for root and the gateway's own user")
    return int(uid)


async def admin_only(request: Request) -> None:
    if await caller_of(request) is not None:
        raise Problem(403, "only the gateway's admin socket may do this: use --data DIR")


def label_of(caller: Grant | None) -> str:
    """Who did it, for the record: the whole chain."""
    return "admin" if caller is None else "/".join(caller.labels)


async def caller_with(request: Request, *rights: Right) -> Grant | None:
    """The caller, who has one of these rights. Raises Refused, Problem 401 or 403."""
    caller = await caller_of(request)
    may = services_of(request).rights.may
    if not any(may(caller, right) for right in rights):
        raise Problem(403, f"this needs the right {' or '.join(rights)}, by an access object")
    return caller


def author_of(request: Request, caller: Grant | None) -> Author:
    """Who changes something, for the record: the whole chain, or the user of this machine."""
    if caller is None:
        uid = _check_peer(request)
        return Author(f"uid {uid} ({_user_name(uid)})", {"uid": uid, "user": _user_name(uid)})
    origin = caller.origin
    return Author(
        label_of(caller),
        {
            "chain": list(caller.labels),
            "grant": caller.id,
            "origin": {"issuer": origin.issuer, "subject": origin.subject},
        },
    )


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""


async def body_of(request: Request, cap: int = BODY_CAP) -> bytes:
    """The body, of at most `cap` bytes and within a deadline. Raises Problem."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_DEADLINE):
            async for chunk in request.stream():
                body += chunk
                if len(body) > cap:
                    raise Problem(413, f"the body is over {cap} bytes")
    except TimeoutError:
        raise Problem(408, f"the body did not come within {BODY_DEADLINE:.0f} s") from None
    return bytes(body)


def _kind_of(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def json_of(request: Request, members: Set[str], cap: int = BODY_CAP) -> dict[str, Any]:
    """The body as a JSON object of these members; an empty body is an empty one."""
    document = await any_json_of(request, cap)
    if unknown := set(document) - members:
        shown = ", ".join(sorted(unknown))[:SHOWN]
        raise Problem(400, f"unknown members: {shown}; known are {', '.join(sorted(members))}")
    return document


async def any_json_of(request: Request, cap: int = BODY_CAP) -> dict[str, Any]:
    """The body as a JSON object; an empty body is an empty one. Raises Problem."""
    body = await body_of(request, cap)
    if body and _kind_of(request) != "application/json":
        raise Problem(415, "send application/json")
    try:
        large = len(body) > BODY_CAP
        document = await asyncio.to_thread(_parsed, body) if large else _parsed(body)
    except (ValueError, RecursionError):
        raise Problem(400, "the body is not JSON") from None
    if not isinstance(document, dict):
        raise Problem(400, "the body must be a JSON object")
    return document


def _parsed(body: bytes) -> Any:
    """Raises ValueError; also for half a surrogate pair, which no answer could repeat."""
    document = json.loads(
        body or b"{}", object_pairs_hook=_without_doubles, parse_constant=_no_constant
    )
    if b"\\u" in body:
        json.dumps(document, ensure_ascii=False).encode()
    return document


def _no_constant(name: str) -> None:
    """NaN and Infinity are Python's own, not JSON's (RFC 8259 6)."""
    raise ValueError(name)


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A member given twice means two things to two readers (RFC 8259 4)."""
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a member is given twice")
    return document


async def form_of(request: Request, cap: int = BODY_CAP) -> dict[str, str]:
    """The body as a form. RFC 6749 3.2: a parameter given twice is an error."""
    if _kind_of(request) != "application/x-www-form-urlencoded":
        raise Problem(415, "send application/x-www-form-urlencoded")
    body = await body_of(request, cap)
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


def query_of(request: Request, known: Set[str]) -> dict[str, str]:
    """The parameters in the address; one that is unknown or given twice is a Problem."""
    pairs = request.query_params.multi_items()
    query = dict(pairs)
    if len(query) != len(pairs):
        raise Problem(400, "a parameter is given twice")
    if unknown := sorted(set(query) - known):
        told = ", ".join(sorted(known)) or "none"
        raise Problem(400, f"unknown parameter {unknown[0][:100]!r}; known are {told}")
    return query


def flag_in(query: Mapping[str, str], name: str) -> bool:
    """`true` or `false`, which is the default. Raises Problem."""
    text = query.get(name, "false")
    if text not in ("true", "false"):
        raise Problem(400, f"{name} must be true or false")
    return text == "true"
