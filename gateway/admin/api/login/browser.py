# SPDX-License-Identifier: GPL-3.0-or-later
"""A login in the browser: sent to the provider by a command, and confirmed by the person."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import urlencode, urlsplit

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.admin.api.calls import form_of
from gateway.admin.api.login.limits import as_page, base_of, check_begin, client_of, logins_of
from gateway.admin.api.login.pages import (
    STYLE,
    choice_page,
    confirm_page,
    done_page,
    posted_of,
    security_headers,
    sent_away,
    ticket_of,
    with_ticket,
    without_ticket,
)
from gateway.admin.api.problems import Problem
from gateway.identity.login.asking import Command
from gateway.identity.login.flows import csrf_of, subject_of
from gateway.model import PendingLogin

ASKED = {"response_type", "redirect_uri", "code_challenge", "code_challenge_method", "state"}


def query_of(request: Request) -> dict[str, str]:
    """The query; a parameter given twice means two things to two readers. Raises Problem."""
    pairs = request.query_params.multi_items()
    query = dict(pairs)
    if len(query) != len(pairs):
        raise Problem(400, "a parameter is given twice")
    return query


@as_page
async def authorize(request: Request) -> Response:
    """GET /login/authorize: where a command on the same computer sends the browser."""
    logins, query = logins_of(request), query_of(request)
    if missing := ASKED - set(query):
        raise Problem(400, f"missing: {', '.join(sorted(missing))}")
    if query["response_type"] != "code" or query["code_challenge_method"] != "S256":
        raise Problem(400, "only response_type=code with an S256 challenge is understood")
    command = Command(query["redirect_uri"], query["code_challenge"], query["state"])
    issuer = query.get("issuer") or (logins.providers[0] if len(logins.providers) == 1 else "")
    if not issuer:
        kept = {name: query[name] for name in sorted(ASKED)}
        return choice_page(logins.providers, kept, "/login/authorize")
    check_begin(request)
    base = base_of(request)
    sent = await logins.begin_loopback(issuer, command, client_of(request), base)
    return with_ticket(sent_away(sent.url), sent.ticket, base)


@as_page
async def confirm(request: Request) -> Response:
    """GET /login/confirm: who logged in; the person says yes or no."""
    base = base_of(request)
    ticket = ticket_of(request, base)
    login = await logins_of(request).waiting(ticket, posted_of(request, base))
    redirect = str(login.document.get("command", {}).get("redirect", ""))
    return confirm_page(
        facts_of(login), csrf_of(ticket), device=login.kind == "device", redirect=redirect
    )


def facts_of(login: PendingLogin) -> dict[str, str]:
    who = subject_of(login)
    name = who["name"] or who["subject"]
    facts = {"You are": name if name == who["subject"] else f"{name} ({who['subject']})"}
    facts["Logged in at"] = f"{login.document['issuer']} ({who['issuer']})"
    began = datetime.fromtimestamp(login.document["began"], UTC)
    asking = f"{login.client}, at {began:%H:%M:%S} UTC"
    facts["Asked for by"] = (
        f"a terminal at {asking}" if login.kind == "device" else f"this computer ({asking})"
    )
    return facts


@as_page
async def answered(request: Request) -> Response:
    """POST /login/confirm: the person's word."""
    check_origin(request)
    base = base_of(request)
    form = await form_of(request)
    yes = form.get("answer") == "yes"
    login, code = await logins_of(request).answer(
        ticket_of(request, base), posted_of(request, base), form.get("csrf", ""), yes
    )
    if login.kind == "device":
        return without_ticket(done_page(yes), base)
    command = login.document["command"]
    told = {"code": code} if yes else {"error": "access_denied"}
    query = urlencode({**told, "state": command["state"], "iss": base})
    return without_ticket(sent_away(f"{command['redirect']}?{query}"), base)


def check_origin(request: Request) -> None:
    """A form of ours was sent by a page of ours, as far as the browser tells. Raises Problem.

    Pages have `no-referrer`, with which browsers send `Origin: null`.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        good = site == "same-origin"
    else:
        origin = request.headers.get("origin", "null")
        own = urlsplit(base_of(request))
        good = origin in ("null", f"{own.scheme}://{own.netloc}")
    if not good:
        raise Problem(403, "the form came from another site")


async def style(request: Request) -> Response:
    """GET /login/style.css"""
    headers = {**security_headers(), "cache-control": "max-age=3600"}
    return Response(STYLE, media_type="text/css", headers=headers)


ROUTES = [
    Route("/login/authorize", authorize),
    Route("/login/confirm", confirm),
    Route("/login/confirm", answered, methods=["POST"]),
    Route("/login/style.css", style),
]
