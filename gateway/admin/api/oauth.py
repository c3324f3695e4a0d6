# SPDX-License-Identifier: GPL-3.0-or-later
"""OAuth endpoints: exchange (RFC 8693), revoke (RFC 7009), introspect (RFC 7662), metadata."""

from __future__ import annotations

import json
import logging
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.admin.api.calls import caller_of, form_of, label_of, services_of
from gateway.admin.api.problems import Problem
from gateway.identity.delegation import ACCESS_TOKEN, GRANT_TYPE, ExchangeError
from gateway.identity.grants import Minted
from gateway.identity.tree import rfc3339
from gateway.model import Grant, Refused
from gateway.store.interface import StoreFailed

log = logging.getLogger(__name__)

NO_STORE = {"cache-control": "no-store", "pragma": "no-cache"}
ROUTABLE = {"resource", "audience"}


async def token(request: Request) -> Response:
    """POST /oauth/token: a narrower token for a child."""
    try:
        form = await form_of(request)
        if ROUTABLE & set(form):
            raise ExchangeError("invalid_target", "name targets in scope, not audience or resource")
        exchange = services_of(request).exchange()
        minted = await exchange.exchange(form)
    except Problem as problem:
        return _oauth_error("invalid_request", problem.detail, problem.status)
    except StoreFailed as error:
        log.error("exchange failed", extra={"cause": str(error)})
        return _oauth_error("temporarily_unavailable", "the gateway's store does not answer", 503)
    except ExchangeError as error:
        log.warning("exchange refused", extra={"code": error.code, "cause": str(error)})
        status = 503 if error.code == "temporarily_unavailable" else 400
        return _oauth_error(error.code, error.description, status)
    now = services_of(request).grants.now()
    return JSONResponse(token_response(minted, now), headers=NO_STORE)


def token_response(minted: Minted, now: float) -> dict[str, Any]:
    """RFC 8693 2.2.1, RFC 9396 7, and the grant's own id and chain."""
    grant = minted.grant
    response: dict[str, Any] = {
        "access_token": minted.token,
        "issued_token_type": ACCESS_TOKEN,
        "token_type": "Bearer",
        "expires_in": max(0, int(grant.expires_at - now)),
        "grant": grant.id,
        "chain": list(grant.labels),
        "expires": rfc3339(grant.expires_at),
        "lease_until": rfc3339(minted.lease_until),
        "lease_seconds": minted.lease_seconds,
    }
    narrowed = grant.narrowing[-1] if grant.narrowing else {}
    if isinstance(scope := narrowed.get("scope"), list):
        response["scope"] = " ".join(scope)
    if "authorization_details" in narrowed:
        response["authorization_details"] = narrowed["authorization_details"]
    return response


def _oauth_error(code: str, description: str, status: int = 400) -> Response:
    """RFC 6749 5.2."""
    return JSONResponse({"error": code, "error_description": description}, status, NO_STORE)


async def revoke(request: Request) -> Response:
    """POST /oauth/revoke: whoever holds a token may end it, with all below it."""
    services = services_of(request)
    try:
        form = await _form_with_token(request)
    except Problem as problem:
        return _oauth_error("invalid_request", problem.detail, problem.status)
    try:
        grant = await services.authenticator.login(form["token"])
    except Refused as refused:
        if refused.refusal.kind == "unavailable":
            raise
        return Response(status_code=200)  # RFC 7009 2.2: an invalid token needs no revoking
    await services.grants.revoke(grant.id, label_of(grant), "revoked by its holder")
    return Response(status_code=200)


async def introspect(request: Request) -> Response:
    """POST /oauth/introspect: about the caller's own token and those below it."""
    services = services_of(request)
    caller = await caller_of(request)
    try:
        form = await _form_with_token(request)
    except Problem as problem:
        return _oauth_error("invalid_request", problem.detail, problem.status)
    try:
        grant = await services.authenticator.login(form["token"])
    except Refused as refused:
        if refused.refusal.kind == "unavailable":
            raise
        return JSONResponse({"active": False}, headers=NO_STORE)
    seen = caller is None or await services.grants.governs(caller, grant.id, itself=True)
    return JSONResponse(introspection(grant) if seen else {"active": False}, headers=NO_STORE)


def introspection(grant: Grant) -> dict[str, Any]:
    origin = grant.origin
    document: dict[str, Any] = {
        "active": True,
        "iss": origin.issuer,
        "sub": origin.subject,
        "username": origin.label,
        "token_type": "Bearer",
        "iat": int(grant.issued_at),
        "exp": int(grant.expires_at),
        "grant": grant.id,
        "chain": list(grant.labels),
    }
    if (act := act_claim(grant)) is not None:
        document["act"] = act
    return document


def act_claim(grant: Grant) -> dict[str, Any] | None:
    """RFC 8693 4.1: nested, outermost the current actor."""
    act: dict[str, Any] | None = None
    for hop in grant.chain:
        who = hop.identity
        named = {"iss": who.issuer, "sub": who.subject} if who else {"sub": hop.name}
        act = {**named, "proved": hop.proved, **({"act": act} if act else {})}
    return act


async def _form_with_token(request: Request) -> dict[str, str]:
    form = await form_of(request)
    if not form.get("token"):
        raise Problem(400, "token is missing")
    return form


async def metadata(request: Request) -> Response:
    """GET /.well-known/oauth-authorization-server (RFC 8414)."""
    url = services_of(request).url
    document = {
        "issuer": url,
        "token_endpoint": url + "/oauth/token",
        "revocation_endpoint": url + "/oauth/revoke",
        "introspection_endpoint": url + "/oauth/introspect",
        "grant_types_supported": [GRANT_TYPE],
        "token_endpoint_auth_methods_supported": ["none"],
        "revocation_endpoint_auth_methods_supported": ["none"],
        "authorization_details_types_supported": ["trailgate"],
        "response_types_supported": [],
    }
    return Response(json.dumps(document), media_type="application/json")


ROUTES = [
    Route("/oauth/token", token, methods=["POST"]),
    Route("/oauth/revoke", revoke, methods=["POST"]),
    Route("/oauth/introspect", introspect, methods=["POST"]),
    Route("/.well-known/oauth-authorization-server", metadata),
]
