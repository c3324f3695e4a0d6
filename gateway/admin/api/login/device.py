# SPDX-License-Identifier: GPL-3.0-or-later
"""Terminals without a browser (RFC 8628): a code to type, on a page that warns."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.admin.api.calls import form_of
from gateway.admin.api.login.browser import check_origin
from gateway.admin.api.login.limits import (
    as_page,
    base_of,
    check_begin,
    client_of,
    limits_of,
    logins_of,
)
from gateway.admin.api.login.pages import code_page, sent_away, with_ticket
from gateway.admin.api.login.tokens import NO_STORE, oauth_errors
from gateway.admin.api.problems import Problem
from gateway.identity.login.flows import LASTS, POLL_EVERY
from gateway.model import Refused


@oauth_errors
async def device_authorization(request: Request) -> Response:
    """POST /login/device_authorization: a terminal begins (RFC 8628 3.1)."""
    await form_of(request)
    logins = logins_of(request)
    check_begin(request)
    start = await logins.begin_device(client_of(request))
    document = {
        "device_code": start.device_code,
        "user_code": start.user_code,
        "verification_uri": base_of(request) + "/login/device",
        "expires_in": int(LASTS),
        "interval": POLL_EVERY,
    }
    return JSONResponse(document, headers=NO_STORE)


@as_page
async def code(request: Request) -> Response:
    """GET /login/device: where the code is typed. No link fills it in: that would help a thief."""
    return code_page(logins_of(request).providers)


@as_page
async def typed(request: Request) -> Response:
    """POST /login/device: the code, and where to log in."""
    check_origin(request)
    logins, form, base = logins_of(request), await form_of(request), base_of(request)
    limits, client = limits_of(request), client_of(request)
    check_begin(request)
    # Taken beforehand: else many tries at once would all find one left.
    if not limits.wrong_codes.allows(client) or not limits.all_wrong_codes.allows(""):
        raise Problem(429, "too many wrong codes: wait a minute")
    try:
        sent = await logins.claim_device(form.get("user_code", ""), form.get("issuer", ""), base)
    except Refused as refused:
        if refused.refusal.kind == "unavailable":
            limits.code_was_right(client)
            raise
        return code_page(logins.providers, refused.refusal.reason, 400)
    limits.code_was_right(client)
    return with_ticket(sent_away(sent.url), sent.ticket, base)


ROUTES = [
    Route("/login/device_authorization", device_authorization, methods=["POST"]),
    Route("/login/device", code),
    Route("/login/device", typed, methods=["POST"]),
]
