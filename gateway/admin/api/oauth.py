# SPDX-License-Identifier: GPL-3.0-or-later
"""OAuth endpoints: token (RFC 8693, RFC 7523), revoke (RFC 7009), introspect (RFC 7662), metadata
(RFC 8414) and keys."""

from __future__ import annotations

import json
import logging
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.admin.api.calls import caller_of, form_of, label_of, services_of
from gateway.admin.api.problems import Problem
from gateway.admin.api.services import Services
from gateway.identity.client_credentials import GRANT_TYPE as CLIENT_CREDENTIALS
from gateway.identity.delegation import ACCESS_TOKEN, GRANT_TYPE, TOKEN_PATH, ExchangeError
from gateway.identity.grants import Minted
from gateway.identity.jwks import KEY_TYPES
from gateway.identity.own_jwt import act_claim, narrowed
from gateway.identity.tree import rfc3339
from gateway.model import Grant, Refused
from gateway.store.interface import StoreFailed

log = logging.getLogger(__name__)

NO_STORE = {"cache-control": "no-store", "pragma": "no-cache"}
JWKS_PATH = "/.well-known/jwks.json"
STATUS = {"temporarily_unavailable": 503, "invalid_client": 401}


async def token(request: Request) -> Response:
    """POST /oauth/token: a narrower token for a child, or an agent's first one."""
    services = services_of(request)
    try:
        form = await form_of(request)
        _check_resource(form, services.url)
        minted, own = await _minted(services, form)
    except Problem as problem:
        return _oauth_error("invalid_request", problem.detail, problem.status)
    except StoreFailed as error:
        log.error("exchange failed", extra={"cause": str(error)})
        return _oauth_error("temporarily_unavailable", "the gateway's store does not answer", 503)
    except ExchangeError as error:
        log.warning("exchange refused", extra={"code": error.code, "cause": str(error)})
        return _oauth_error(error.code, error.description, STATUS.get(error.code, 400))
    response = token_response(minted, services.grants.now(), form)
    if own:
        del response["issued_token_type"]
    return JSONResponse(response, headers=NO_STORE)


async def _minted(services: Services, form: dict[str, str]) -> tuple[Minted, bool]:
    """What was asked for, and whether it was the caller's own login. Raises ExchangeError."""
    if form.get("grant_type") != CLIENT_CREDENTIALS:
        return await services.exchange().exchange(form), False
    own = services.client_credentials()
    if own is None:
        raise ExchangeError("unsupported_grant_type", f"grant_type must be {GRANT_TYPE}")
    return await own.login(form), True


def _check_resource(form: dict[str, str], url: str) -> None:
    """RFC 8693 2.1, RFC 8707: a token is for this gateway; targets are named in scope."""
    for name in ("resource", "audience"):
        if name in form and (not url or form[name].rstrip("/") != url):
            description = f"{name} can only be this gateway's URL: name targets in scope"
            raise ExchangeError("invalid_target", description)


def token_response(minted: Minted, now: float, form: dict[str, str]) -> dict[str, Any]:
    """RFC 8693 2.2.1, RFC 9396 7, and the grant's own id and chain."""
    grant = minted.grant
    response: dict[str, Any] = {
        "access_token": minted.token,
        "issued_token_type": form.get("requested_token_type", ACCESS_TOKEN),
        "token_type": "Bearer",
        "expires_in": max(0, int(grant.expires_at - now)),
        "grant": grant.id,
        "chain": list(grant.labels),
        "expires": rfc3339(grant.expires_at),
        "lease_until": rfc3339(minted.lease_until),
        "lease_seconds": minted.lease_seconds,
    }
    return {**response, **narrowed(grant)}


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
    return JSONResponse(
        introspection(grant, services.url) if seen else {"active": False}, headers=NO_STORE
    )


def introspection(grant: Grant, url: str) -> dict[str, Any]:
    """RFC 7662 2.2; who that is stands in `sub_id` too (RFC 9493), since `sub` is its issuer's."""
    origin = grant.origin
    document: dict[str, Any] = {
        "active": True,
        "iss": url or origin.issuer,
        "sub": origin.subject,
        "sub_id": {"format": "iss_sub", "iss": origin.issuer, "sub": origin.subject},
        "client_id": grant.labels[-1],
        "username": origin.label,
        "token_type": "Bearer",
        "iat": int(grant.issued_at),
        "exp": int(grant.expires_at),
        "grant": grant.id,
        "chain": list(grant.labels),
        **narrowed(grant),
    }
    if (act := act_claim(grant)) is not None:
        document["act"] = act
    return document


async def _form_with_token(request: Request) -> dict[str, str]:
    form = await form_of(request)
    if not form.get("token"):
        raise Problem(400, "token is missing")
    return form


async def metadata(request: Request) -> Response:
    """GET /.well-known/oauth-authorization-server (RFC 8414)."""
    services = services_of(request)
    url = services.url
    document: dict[str, Any] = {
        "issuer": url,
        "token_endpoint": url + TOKEN_PATH,
        "revocation_endpoint": url + "/oauth/revoke",
        "introspection_endpoint": url + "/oauth/introspect",
        "grant_types_supported": [GRANT_TYPE],
        "token_endpoint_auth_methods_supported": ["none"],
        "revocation_endpoint_auth_methods_supported": ["none"],
        "introspection_endpoint_auth_methods_supported": ["Bearer"],
        "authorization_details_types_supported": ["trailgate"],
        "response_types_supported": [],
    }
    if services.agents is not None:
        document["grant_types_supported"].append(CLIENT_CREDENTIALS)
        document["token_endpoint_auth_methods_supported"].append("private_key_jwt")
        document["token_endpoint_auth_signing_alg_values_supported"] = sorted(KEY_TYPES)
    if services.signing is not None:
        document["jwks_uri"] = url + JWKS_PATH
    return Response(json.dumps(document), media_type="application/json")


async def keys(request: Request) -> Response:
    """GET /.well-known/jwks.json: public keys of the JWTs that are made here (RFC 7517)."""
    signing = services_of(request).signing
    document = signing.published() if signing else {"keys": []}
    return Response(
        json.dumps(document),
        media_type="application/jwk-set+json",
        headers={"cache-control": "public, max-age=3600"},
    )


ROUTES = [
    Route(TOKEN_PATH, token, methods=["POST"]),
    Route("/oauth/revoke", revoke, methods=["POST"]),
    Route("/oauth/introspect", introspect, methods=["POST"]),
    Route("/.well-known/oauth-authorization-server", metadata),
    Route(JWKS_PATH, keys),
]
