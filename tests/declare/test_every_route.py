# SPDX-License-Identifier: GPL-3.0-or-later
"""Every call of the API, as its own OpenAPI document and its routes have it: who may make it."""

from __future__ import annotations

import re
from typing import Any

from gateway.admin.api.app import build_api
from tests.declare.conftest import World

PUBLIC = {
    "POST /oauth/token",
    "POST /oauth/revoke",
    "GET /.well-known/oauth-authorization-server",
    "GET /.well-known/jwks.json",
    "GET /login/issuers",
    "GET /login/authorize",
    "POST /login/device_authorization",
    "POST /login/token",
    "GET /login/device",
    "POST /login/device",
    "GET /login/confirm",
    "POST /login/confirm",
    "GET /login/oidc/{issuer}/callback",
    "POST /login/saml/{issuer}/acs",
    "GET /login/saml/{issuer}/metadata",
    "GET /login/style.css",
    "GET /api/v1/openapi.json",
    "GET /healthz",
    "GET /readyz",
    "GET /metrics",
}
"""They give a token for a proof, or tell what anybody may know."""
OWN = {
    "GET /api/v1/self": 200,
    "GET /api/v1/grants": 200,
    "GET /api/v1/sessions": 200,
    "POST /oauth/introspect": 415,
    "DELETE /api/v1/grants/{id}": 404,
    "DELETE /api/v1/sessions/{id}": 404,
    "POST /api/v1/grants/{id}/lease": 404,
}
"""About the caller's own: of others' it is said that they are not there."""
METHODS = {"GET", "PUT", "POST", "DELETE", "PATCH", "HEAD"}


async def calls(world: World) -> set[str]:
    """Of the document that is served, and of the routes themselves."""
    told = (await world.anybody.get("/api/v1/openapi.json")).json()["paths"]
    found = {f"{method.upper()} {path}" for path, ways in told.items() for method in ways}
    app: Any = build_api(None)  # type: ignore[arg-type]
    for route in app.routes:
        for method in route.methods - {"HEAD"}:
            found.add(f"{method} {route.path_format}")
    return {call for call in found if call.partition(" ")[0] in METHODS}


async def made(world: World, call: str, headers: dict[str, str]) -> Any:
    method, _, path = call.partition(" ")
    return await world.anybody.request(
        method,
        re.sub(r"\{kinds\}", "targets", re.sub(r"\{(?!kinds)\w+\}", "x", path)),
        headers=headers,
    )


async def test_without_a_token_all_but_the_public_is_refused(world: World) -> None:
    offered = await calls(world)
    assert PUBLIC <= offered
    for call in sorted(offered - PUBLIC):
        assert (await made(world, call, {})).status_code == 401, call
    for call in sorted(PUBLIC):
        assert (await made(world, call, {})).status_code not in (401, 500), call


async def test_a_token_without_rights_gets_no_further_than_its_own(world: World) -> None:
    stranger = world.bearer("nobody")
    offered = await calls(world)
    assert set(OWN) <= offered
    for call in sorted(offered - PUBLIC):
        answer = await made(world, call, stranger)
        assert answer.status_code == OWN.get(call, 403), (call, answer.text)


async def test_head_is_guarded_as_get_is(world: World) -> None:
    for call in sorted(await calls(world) - PUBLIC):
        if call.startswith("GET "):
            answer = await made(world, call.replace("GET", "HEAD", 1), {})
            assert answer.status_code == 401, call
