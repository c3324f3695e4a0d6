# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects over HTTP: list, get, put and delete one, and apply a set of them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.admin.api.calls import (
    any_json_of,
    author_of,
    caller_with,
    flag_in,
    json_of,
    query_of,
    services_of,
)
from gateway.admin.api.problems import Problem
from gateway.config import ObjectName, Wrong
from gateway.declare.declarer import Declarer
from gateway.declare.orders import BY_PLURAL, Change, Order, Outcome, Shown, Wanted
from gateway.declare.plan import checked_manager, wanted_of
from gateway.identity.tree import rfc3339
from gateway.model import Grant

OBJECT_CAP = 1 << 20
SET_CAP = 4 << 20
"""Bytes of a body."""
PAGE, LARGEST_PAGE = 100, 1000
MANUAL = "api"
"""`managed_by` of whoever says nothing."""
LISTING = {"limit", "after"}
WRITING = {"managed_by", "adopt", "dry_run"}
SET = {"objects", "set", "managed_by", "adopt", "prune"}
_TAG = re.compile(r'\s*("[\x21\x23-\x7e]{0,128}")\s*')


class KindConvertor(Convertor[str]):
    """The kinds of objects in a path, in the plural."""

    regex = "|".join(BY_PLURAL)

    def convert(self, value: str) -> str:
        return BY_PLURAL[value]

    def to_string(self, value: str) -> str:
        return next(plural for plural, kind in BY_PLURAL.items() if kind == value)


register_url_convertor("kind", KindConvertor())


async def list_objects(request: Request) -> Response:
    """GET /api/v1/KINDS?limit=&after=: objects of a kind by name; Link names the next page."""
    await caller_with(request, "admin", "audit")
    query = query_of(request, LISTING)
    limit, after = _limit(query), query.get("after", "")
    found = await _declarer(request).shown(request.path_params["kinds"])
    rest = [one for one in found if one.name > after]
    page = rest[:limit]
    headers = {"cache-control": "no-store"}
    if len(rest) > limit:
        following = urlencode({"limit": limit, "after": page[-1].name})
        headers["link"] = f'<{request.url.path}?{following}>; rel="next"'
    return JSONResponse([object_document(one) for one in page], headers=headers)


async def get_object(request: Request) -> Response:
    """GET /api/v1/KINDS/NAME."""
    await caller_with(request, "admin", "audit")
    query_of(request, set())
    kind, name = _named(request)
    for one in await _declarer(request).shown(kind, name):
        return _with_etag(object_document(one), one)
    raise Problem(404, f"there is no {kind} {name}")


async def put_object(request: Request) -> Response:
    """PUT /api/v1/KINDS/NAME?managed_by=&adopt=&dry_run=: declare one object."""
    caller = await caller_with(request, "admin")
    kind, name = _named(request)
    document = await any_json_of(request, OBJECT_CAP)
    _, _, document = wanted_of(document, f"{kind} {name}", kind, name)
    match, absent = _conditions(request)
    wanted = Wanted(kind, name, document, match, absent)
    outcome = await _ordered(request, caller, wanted)
    (change,) = outcome.changes
    status = 201 if change.action == "create" and change.object is not None else 200
    return _with_etag(change_document(change), change.object, status)


async def delete_object(request: Request) -> Response:
    """DELETE /api/v1/KINDS/NAME?managed_by=&adopt=&dry_run=: take one object back."""
    caller = await caller_with(request, "admin")
    kind, name = _named(request)
    match, absent = _conditions(request)
    if absent:
        raise Problem(412, "what must not be there cannot be deleted")
    outcome = await _ordered(request, caller, Wanted(kind, name, None, match))
    return _with_etag(change_document(outcome.changes[0]), None)


async def _ordered(request: Request, caller: Grant | None, wanted: Wanted) -> Outcome:
    query = query_of(request, WRITING)
    order = Order(
        (wanted,),
        checked_manager(query.get("managed_by", MANUAL)),
        author_of(request, caller),
        adopt=flag_in(query, "adopt"),
        dry_run=flag_in(query, "dry_run"),
    )
    return await _declarer(request).order(order)


async def apply_set(request: Request) -> Response:
    """POST /api/v1/apply?dry_run=: declare a set of objects together, or nothing of it."""
    caller = await caller_with(request, "admin")
    query = query_of(request, {"dry_run"})
    asked = await json_of(request, SET, SET_CAP)
    documents = asked.get("objects")
    if not isinstance(documents, list):
        raise Problem(400, "objects must be a list of documents")
    named = [wanted_of(one, f"objects[{index}]") for index, one in enumerate(documents)]
    order = Order(
        [Wanted(kind, name, document) for kind, name, document in named],
        _manager_of(asked),
        author_of(request, caller),
        adopt=_true(asked, "adopt"),
        prune=_true(asked, "prune"),
        dry_run=flag_in(query, "dry_run"),
    )
    if order.prune and not (asked.get("set") or asked.get("managed_by")):
        raise Problem(
            400, "prune needs a set or managed_by: it deletes what the same one declared before"
        )
    outcome = await _declarer(request).order(order)
    return await asyncio.to_thread(_set_answer, order, outcome)


def _set_answer(order: Order, outcome: Outcome) -> Response:
    """A big one takes a while, so it is made on a thread."""
    return JSONResponse(
        {
            "dry_run": order.dry_run,
            "managed_by": order.managed_by,
            "revision": outcome.revision,
            "changes": [change_document(change) for change in outcome.changes],
        },
        headers={"cache-control": "no-store"},
    )


def _manager_of(asked: Mapping[str, Any]) -> str:
    given, by = asked.get("set"), asked.get("managed_by")
    if given is not None and by is not None:
        raise Problem(400, "give set or managed_by: a set S is managed by apply:S")
    if not isinstance(given, str | None) or not isinstance(by, str | None):
        raise Problem(400, "set and managed_by must be text")
    return checked_manager(f"apply:{given}" if given is not None else by or "apply")


def object_document(one: Shown) -> dict[str, Any]:
    return {
        "kind": one.kind,
        "name": one.name,
        "version": one.version,
        "etag": one.etag,
        "managed_by": one.managed_by,
        "changed_by": one.changed_by,
        "changed_at": rfc3339(one.changed_at),
        "document": one.document,
    }


def change_document(change: Change) -> dict[str, Any]:
    return {
        "action": change.action,
        "changed": change.action != "none",
        "kind": change.kind,
        "name": change.name,
        "before": change.before,
        "after": change.after,
        "secret": change.secret,
        "object": object_document(change.object) if change.object is not None else None,
    }


def _with_etag(document: Mapping[str, Any], one: Shown | None, status: int = 200) -> Response:
    headers = {"cache-control": "no-store"}
    if one is not None:
        headers["etag"] = one.etag
    return JSONResponse(document, status, headers=headers)


# --- what a request says -------------------------------------------------------------------------


def _declarer(request: Request) -> Declarer:
    declarer = services_of(request).declarer
    if declarer is None:
        raise Problem(503, "this gateway has no objects that could be asked for")
    return declarer


def _named(request: Request) -> tuple[str, str]:
    kind, name = request.path_params["kinds"], request.path_params["name"]
    try:
        return kind, str(ObjectName.parse(name))
    except Wrong:
        raise Problem(404, f"there is no {kind} of that name") from None


def _limit(query: Mapping[str, str]) -> int:
    text = query.get("limit", str(PAGE))
    if not re.fullmatch(r"[0-9]{1,4}", text) or not 1 <= int(text) <= LARGEST_PAGE:
        raise Problem(400, f"limit must be a number from 1 to {LARGEST_PAGE}")
    return int(text)


def _true(asked: Mapping[str, Any], name: str) -> bool:
    value = asked.get(name, False)
    if not isinstance(value, bool):
        raise Problem(400, f"{name} must be true or false")
    return value


def _conditions(request: Request) -> tuple[tuple[str, ...] | None, bool]:
    """If-Match and If-None-Match (RFC 9110 13.1). Raises Problem."""
    absent = request.headers.get("if-none-match")
    if absent is not None and absent.strip() != "*":
        raise Problem(400, "If-None-Match can only be * here: the object must not be there yet")
    given = request.headers.get("if-match")
    if given is None:
        return None, absent is not None
    if given.strip() == "*":
        return ("*",), absent is not None
    tags = [_TAG.fullmatch(part) for part in given.split(",")]
    if not all(tags):
        raise Problem(400, "If-Match must be * or entity tags, as an answer's ETag gave them")
    return tuple(tag[1] for tag in tags if tag), absent is not None


ROUTES = [
    Route("/api/v1/apply", apply_set, methods=["POST"]),
    Route("/api/v1/{kinds:kind}", list_objects),
    Route("/api/v1/{kinds:kind}/{name}", get_object),
    Route("/api/v1/{kinds:kind}/{name}", put_object, methods=["PUT"]),
    Route("/api/v1/{kinds:kind}/{name}", delete_object, methods=["DELETE"]),
]
