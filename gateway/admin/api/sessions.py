# SPDX-License-Identifier: GPL-3.0-or-later
"""Live sessions over HTTP: what is open below the caller, and ending it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.admin.api.calls import caller_of, flag_in, label_of, query_of, services_of
from gateway.admin.api.problems import Problem
from gateway.admin.api.reads import note_read
from gateway.declare.rights import Right
from gateway.model import Grant


async def live(request: Request) -> Response:
    """GET /api/v1/sessions?own=: open sessions of the caller and of all below it, and others' by
    the right read_sessions or operate on their target. `own=true`: of this node alone."""
    caller, own = await caller_of(request), flag_in(query_of(request, {"own"}), "own")
    found = await _visible(request, caller, "read_sessions", "operate", own=own)
    note_read(request, caller, "sessions", len(found))
    return JSONResponse(found)


async def kill(request: Request) -> Response:
    """DELETE /api/v1/sessions/ID, by one in its chain, or by the right operate on its target."""
    caller = await caller_of(request)
    session_id = request.path_params["id"]
    seen = [session["id"] for session in await _visible(request, caller, "operate")]
    sessions, reason = services_of(request).sessions, f"killed by {label_of(caller)}"
    if session_id not in seen or not await sessions.kill_session(session_id, reason):
        raise Problem(404, "no open session below yours has this id")
    return JSONResponse({"killed": session_id})


async def _visible(
    request: Request, caller: Grant | None, *rights: Right, own: bool = False
) -> list[Mapping[str, Any]]:
    services = services_of(request)
    sessions = list(await services.sessions.live(own=own))
    if caller is None:
        return sessions
    below = {stored.grant.id for stored in await services.grants.visible(caller)}
    may = services.rights.may
    return [
        session
        for session in sessions
        if session["grant"] in below
        or any(may(caller, right, session["target"]) for right in rights)
    ]


ROUTES = [
    Route("/api/v1/sessions", live),
    Route("/api/v1/sessions/{id}", kill, methods=["DELETE"]),
]
