# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets of credentials over HTTP: write-only, with their versions; re-wrapping of their keys."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.admin.api.calls import author_of, caller_with, json_of, services_of
from gateway.admin.api.problems import Problem
from gateway.admin.api.services import CredentialDesk
from gateway.model import Grant

NOT_THERE = "no credential has this name"
LONGEST_SECONDS = 3650 * 86400.0


async def listed(request: Request) -> Response:
    """GET /api/v1/vault/credentials: each with its source and version, none with its secret."""
    caller = await caller_with(request, "operate")
    rights, found = services_of(request).rights, await _desk(request).listed()
    return JSONResponse([o for o in found if rights.on_credential(caller, "operate", o["name"])])


async def versions(request: Request) -> Response:
    """GET /api/v1/credentials/NAME/versions: their states and times."""
    name, _ = await _operated(request)
    found = await _desk(request).versions(name)
    return JSONResponse(list(found))


async def set_secret(request: Request) -> Response:
    """PUT /api/v1/credentials/NAME/secret {"secret": ..., "account": ...}."""
    by = author_of(request, await caller_with(request, "admin")).label
    name = _known(request)
    asked = await json_of(request, {"secret", "account"})
    secret, account = _text(asked, "secret"), _text(asked, "account", "")
    return JSONResponse(dict(await _desk(request).set_secret(name, secret, by, account)))


async def drop_secret(request: Request) -> Response:
    """DELETE /api/v1/credentials/NAME/secret: every version is destroyed."""
    by = author_of(request, await caller_with(request, "admin")).label
    name = request.path_params["name"]
    desk = _desk(request)
    if desk.declared(name) is None and not await desk.versions(name):
        raise Problem(404, NOT_THERE)
    await desk.drop_secret(name, by)
    return JSONResponse({"name": name})


async def rotate(request: Request) -> Response:
    """POST /api/v1/credentials/NAME/rotate {"max_age": seconds, "force": false}.

    It answers once sessions sign in with the new secret, or after 8 seconds; `rotations` tells
    what became of it.
    """
    name, caller = await _operated(request)
    by = author_of(request, caller).label
    asked = await json_of(request, {"max_age", "force"})
    max_age, force = asked.get("max_age"), asked.get("force", False)
    if max_age is not None and (
        type(max_age) not in (int, float) or not 0 <= max_age <= LONGEST_SECONDS
    ):
        raise Problem(400, f"max_age must be a number of seconds, 0 to {LONGEST_SECONDS:.0f}")
    if not isinstance(force, bool):
        raise Problem(400, "force must be true or false")
    return JSONResponse(dict(await _desk(request).rotate(name, by, max_age, force)))


async def rotations(request: Request) -> Response:
    """GET /api/v1/credentials/NAME/rotations: the latest first."""
    name, _ = await _operated(request)
    return JSONResponse(list(await _desk(request).rotations(name)))


async def rewrap(request: Request) -> Response:
    """POST /api/v1/vault/rewrap {"all": false, "after": ""}: keys under the current one."""
    await caller_with(request, "admin")
    asked = await json_of(request, {"all", "after"})
    everything = asked.get("all", False)
    if not isinstance(everything, bool):
        raise Problem(400, "all must be true or false")
    return JSONResponse(dict(await _desk(request).rewrap(everything, _text(asked, "after", ""))))


def _desk(request: Request) -> CredentialDesk:
    desk = services_of(request).credentials
    if desk is None:
        raise Problem(404, "this gateway has no vault")
    return desk


async def _operated(request: Request) -> tuple[str, Grant | None]:
    """The credential named, and the caller, who may operate on every target that names it.
    Raises Problem: to others it is not there."""
    caller, name = await caller_with(request, "operate"), _known(request)
    if not services_of(request).rights.on_credential(caller, "operate", name):
        raise Problem(404, NOT_THERE)
    return name, caller


def _known(request: Request) -> str:
    name = str(request.path_params["name"])
    if _desk(request).declared(name) is None:
        raise Problem(404, NOT_THERE)
    return name


def _text(asked: dict[str, Any], name: str, default: str | None = None) -> str:
    value = asked.get(name, default)
    if not isinstance(value, str) or (default is None and not value):
        raise Problem(400, f"{name} must be text" + ("" if name in asked else ": it is missing"))
    return value


ROUTES = [
    Route("/api/v1/vault/credentials", listed),
    Route("/api/v1/credentials/{name}/versions", versions),
    Route("/api/v1/credentials/{name}/secret", set_secret, methods=["PUT"]),
    Route("/api/v1/credentials/{name}/secret", drop_secret, methods=["DELETE"]),
    Route("/api/v1/credentials/{name}/rotate", rotate, methods=["POST"]),
    Route("/api/v1/credentials/{name}/rotations", rotations),
    Route("/api/v1/vault/rewrap", rewrap, methods=["POST"]),
]
