# SPDX-License-Identifier: GPL-3.0-or-later
"""What every call of a login passes first: logins are there, the caller is not too eager."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import wraps

from starlette.requests import Request
from starlette.responses import Response

from gateway.admin.api.calls import services_of
from gateway.admin.api.login.pages import refusal_page
from gateway.admin.api.problems import Problem
from gateway.identity.login.flows import Logins
from gateway.identity.login.throttle import LoginLimits, network_of
from gateway.model import Refused
from gateway.store.interface import StoreFailed

log = logging.getLogger(__name__)

Endpoint = Callable[[Request], Awaitable[Response]]


def logins_of(request: Request) -> Logins:
    logins = services_of(request).logins
    if logins is None or not logins.providers:
        raise Problem(404, "nobody logs in here: no issuer has a client_id or is of kind saml")
    return logins


def limits_of(request: Request) -> LoginLimits:
    return services_of(request).login_limits


def client_of(request: Request) -> str:
    return network_of(request.client.host if request.client else "")


def check_begin(request: Request) -> None:
    """Raises Problem 429."""
    if not limits_of(request).begin.allows(client_of(request)):
        raise Problem(429, "too many logins from this address: wait a minute")


def check_returning(request: Request) -> None:
    """Reading an answer takes signatures and calls: raises Problem 429 for a flood of them."""
    if not limits_of(request).returning.allows(client_of(request)):
        raise Problem(429, "too many answers from this address: wait a minute")


def base_of(request: Request) -> str:
    """The gateway's own URL by its settings, never by what the request's Host says."""
    return services_of(request).url


def as_page(endpoint: Endpoint) -> Endpoint:
    """What goes wrong is told as a page, in words that anyone may read."""

    @wraps(endpoint)
    async def answered(request: Request) -> Response:
        try:
            return await endpoint(request)
        except Problem as problem:
            return refusal_page(problem.detail, problem.status)
        except Refused as error:
            log.warning("login refused", extra={"cause": str(error)})
            status = 503 if error.refusal.kind == "unavailable" else 400
            return refusal_page(error.refusal.reason, status)
        except StoreFailed:
            return refusal_page("the gateway's store does not answer; try again", 503)

    return answered
