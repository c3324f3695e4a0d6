# SPDX-License-Identifier: GPL-3.0-or-later
"""Session keys over the admin socket: erasing one."""

from __future__ import annotations

import re

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.admin.api.calls import admin_only, services_of
from gateway.admin.api.problems import Problem
from gateway.model import RecordFailed

_SESSION = re.compile(r"[a-z2-7]{26}")


async def erase(request: Request) -> Response:
    """DELETE /api/v1/keys/SESSION: 200 once erased, 202 while it is pending; admins only."""
    await admin_only(request)
    session = request.path_params["session"]
    keeping = services_of(request).keeping
    if keeping is None or not _SESSION.fullmatch(session):
        raise Problem(404, "that is no session's whole id")
    try:
        answer = await keeping.erase(session)
    except ValueError as error:
        raise Problem(409, str(error)) from None
    except (RecordFailed, OSError) as error:
        raise Problem(503, f"the record cannot be written: {error}") from None
    return JSONResponse(dict(answer), 200 if answer["state"] == "erased" else 202)


ROUTES = [Route("/api/v1/keys/{session}", erase, methods=["DELETE"])]
