# SPDX-License-Identifier: GPL-3.0-or-later
"""GET /api/v1/openapi.json: the API as OpenAPI 3.1, from its routes and the types of objects."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

import gateway
from gateway.admin.api.described import CALLS, SCHEMAS, Call, error_answers, ref
from gateway.config.schema import Schema, document_schema
from gateway.declare.orders import BY_PLURAL

TOKEN = {"token": {"type": "http", "scheme": "bearer"}}
_PLACE = re.compile(r"\{(\w+)\}")
KINDS = "{kinds}"


async def openapi(request: Request) -> Response:
    """GET /api/v1/openapi.json: this document."""
    state = request.app.state
    if not hasattr(state, "openapi"):
        state.openapi = document(request.app.routes)
    return JSONResponse(state.openapi)


def document(routes: Iterable[BaseRoute]) -> dict[str, Any]:
    """The OpenAPI document of these routes. Raises KeyError for one that is not described."""
    paths: dict[str, dict[str, Any]] = {}
    for method, path, summary in calls_of(routes):
        call = CALLS[f"{method} {path}"]
        if KINDS not in path:
            paths.setdefault(path, {})[method.lower()] = _operation(path, call, summary)
            continue
        for kinds, kind in BY_PLURAL.items():
            made = _operation(path, call, summary, kind)
            paths.setdefault(path.replace(KINDS, kinds), {})[method.lower()] = made
    documents = {_document_name(kind): _of_kind(kind) for kind in BY_PLURAL.values()}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Trailgate", "version": gateway.__version__},
        "paths": dict(sorted(paths.items())),
        "components": {"schemas": {**SCHEMAS, **documents}, "securitySchemes": TOKEN},
    }


def calls_of(routes: Iterable[BaseRoute]) -> Iterator[tuple[str, str, str]]:
    """Each call that is offered: method, path, and what it does."""
    for route in routes:
        if isinstance(route, Route):
            text = " ".join((route.endpoint.__doc__ or "").split())
            for method in sorted(set(route.methods or ()) - {"HEAD"}):
                yield method, route.path_format, text.partition(": ")[2] or text


def _operation(path: str, call: Call, summary: str, kind: str = "") -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": f"{summary.rstrip('.')} ({kind})" if kind else summary,
        "parameters": list(_parameters(path, call)),
        "responses": {str(status): _answer(*told) for status, told in call.good.items()},
    }
    operation["responses"]["default"] = error_answers(path)
    if not call.open:
        operation["security"] = [{"token": []}]
    if call.body is not None:
        media, schema = call.body
        schema = ref(_document_name(kind)) if kind else schema
        content = {media: {"schema": schema}}
        operation["requestBody"] = {"required": not call.body_optional, "content": content}
    return operation


def _parameters(path: str, call: Call) -> Iterator[dict[str, Any]]:
    for name in _PLACE.findall(path):
        if name != "kinds":
            schema = call.path.get(name, {"type": "string", "minLength": 1})
            yield {"name": name, "in": "path", "required": True, "schema": schema}
    for place, given in (("query", call.query), ("header", call.headers)):
        for name, schema in given.items():
            yield {"name": name, "in": place, "required": False, "schema": schema}


def _answer(media: str, schema: Schema | None) -> dict[str, Any]:
    content = {media: {"schema": schema}} if schema is not None else {}
    return {"description": "done", **({"content": content} if content else {})}


def _document_name(kind: str) -> str:
    return kind.title().replace("_", "") + "Document"


def _of_kind(kind: str) -> Schema:
    if kind == "policy":
        return {"type": "object", "required": ["rules"], "description": "a policy: docs/policy.md"}
    return document_schema(kind)


ROUTES = [Route("/api/v1/openapi.json", openapi)]
