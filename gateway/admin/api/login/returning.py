# SPDX-License-Identifier: GPL-3.0-or-later
"""Where providers send the browser back to, and what SAML providers need to know of us."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.admin.api.calls import form_of
from gateway.admin.api.login.browser import query_of
from gateway.admin.api.login.limits import as_page, base_of, check_returning, logins_of
from gateway.admin.api.login.pages import sent_away, ticket_of, with_posted, without_ticket
from gateway.admin.api.problems import Problem
from gateway.identity.login.asking import LoginOver
from gateway.identity.saml.parsing import XML_CAP
from gateway.model import Refusal

log = logging.getLogger(__name__)

ANSWER_CAP = XML_CAP * 4 // 3 * 3 + 4096
"""Base64, of which each character may be written as three."""


@as_page
async def by_code(request: Request) -> Response:
    """GET /login/oidc/{issuer}/callback: back from an OpenID provider."""
    check_returning(request)
    base, issuer = base_of(request), request.path_params["issuer"]
    ticket = ticket_of(request, base)
    try:
        await logins_of(request).back_by_code(issuer, ticket, query_of(request), base)
    except LoginOver as error:
        return _over(error, base)
    # The next page has no code in its address.
    return sent_away("/login/confirm")


def _over(error: LoginOver, base: str) -> Response:
    """To the command that waits, where there is one; else raises what it was."""
    if error.command is None:
        raise error
    log.warning("login refused", extra={"cause": str(error)})
    return without_ticket(_told(error.command, error.refusal, base), base)


def _told(command: Mapping[str, str], refusal: Refusal, base: str) -> Response:
    """RFC 6749 4.1.2.1: the command that waits hears why, and ends."""
    code = "temporarily_unavailable" if refusal.kind == "unavailable" else "access_denied"
    told = {"error": code, "error_description": refusal.reason, "state": command["state"]}
    return sent_away(f"{command['redirect']}?{urlencode({**told, 'iss': base})}")


@as_page
async def by_saml(request: Request) -> Response:
    """POST /login/saml/{issuer}/acs: back from a SAML provider."""
    check_returning(request)
    form = await form_of(request, ANSWER_CAP)
    if not form.get("SAMLResponse"):
        raise Problem(400, "SAMLResponse is missing")
    base, issuer = base_of(request), request.path_params["issuer"]
    try:
        posted = await logins_of(request).back_by_saml(issuer, form["SAMLResponse"], base)
    except LoginOver as error:
        return _over(error, base)
    return with_posted(sent_away("/login/confirm"), posted, base)


async def saml_metadata(request: Request) -> Response:
    """GET /login/saml/{issuer}/metadata: this gateway as a service provider."""
    text = logins_of(request).saml_metadata(request.path_params["issuer"], base_of(request))
    if text is None:
        raise Problem(404, "no SAML issuer has this name")
    return Response(text, media_type="application/samlmetadata+xml")


ROUTES = [
    Route("/login/oidc/{issuer}/callback", by_code),
    Route("/login/saml/{issuer}/acs", by_saml, methods=["POST"]),
    Route("/login/saml/{issuer}/metadata", saml_metadata),
]
