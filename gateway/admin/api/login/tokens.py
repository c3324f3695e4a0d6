# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a command gets the token of the person who logged in, and which providers there are."""

from __future__ import annotations

import logging
from functools import wraps

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.admin.api.calls import form_of, services_of
from gateway.admin.api.login.limits import Endpoint, client_of, limits_of, logins_of
from gateway.admin.api.oauth import token_response
from gateway.admin.api.problems import Problem
from gateway.identity.grants import Minted
from gateway.identity.login.asking import LoginError
from gateway.identity.login.flows import Logins
from gateway.model import Refused
from gateway.store.interface import StoreFailed

log = logging.getLogger(__name__)

NO_STORE = {"cache-control": "no-store", "pragma": "no-cache"}
DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"


def oauth_errors(endpoint: Endpoint) -> Endpoint:
    """What goes wrong is told as RFC 6749 5.2 has it."""

    @wraps(endpoint)
    async def answered(request: Request) -> Response:
        try:
            return await endpoint(request)
        except LoginError as error:
            return _error(error.code, error.description)
        except Problem as problem:
            return _error("invalid_request", problem.detail, problem.status)
        except Refused as error:
            log.warning("login refused", extra={"cause": str(error)})
            unavailable = error.refusal.kind == "unavailable"
            code = "temporarily_unavailable" if unavailable else "invalid_grant"
            return _error(code, error.refusal.reason, 503 if unavailable else 400)
        except StoreFailed as error:
            log.error("login failed", extra={"cause": str(error)})
            return _error("temporarily_unavailable", "the gateway's store does not answer", 503)

    return answered


def _error(code: str, description: str, status: int = 400) -> Response:
    return JSONResponse({"error": code, "error_description": description}, status, NO_STORE)


@oauth_errors
async def token(request: Request) -> Response:
    """POST /login/token: a code, or a device code, for the person's token."""
    logins, form = logins_of(request), await form_of(request)
    if not limits_of(request).redeem.allows(client_of(request)):
        raise Problem(429, "too many calls from this address: wait a minute")
    minted = await _redeemed(logins, form)
    document = token_response(minted, services_of(request).grants.now(), {})
    return JSONResponse(document, headers=NO_STORE)


async def _redeemed(logins: Logins, form: dict[str, str]) -> Minted:
    kind = form.get("grant_type")
    if kind == "authorization_code":
        return await logins.redeem_code(
            _given(form, "code"), _given(form, "code_verifier"), _given(form, "redirect_uri")
        )
    if kind == DEVICE_CODE:
        return await logins.poll_device(_given(form, "device_code"))
    raise LoginError("unsupported_grant_type", f"use authorization_code or {DEVICE_CODE}")


def _given(form: dict[str, str], name: str) -> str:
    if not form.get(name):
        raise LoginError("invalid_request", f"{name} is missing")
    return form[name]


async def issuers(request: Request) -> Response:
    """GET /login/issuers: the names of the issuers at which people log in."""
    return JSONResponse({"issuers": logins_of(request).providers})


ROUTES = [
    Route("/login/token", token, methods=["POST"]),
    Route("/login/issuers", issuers),
]
