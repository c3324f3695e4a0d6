# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors of the API as application/problem+json (RFC 9457)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway.declare.orders import Rejected
from gateway.model import Refused

log = logging.getLogger(__name__)


class Problem(Exception):
    """An answer other than success: status, and what went wrong and what to do."""

    def __init__(self, status: int, detail: str, **members: object) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.members = members


def problem_response(
    status: int, detail: str, given: Mapping[str, str] | None = None, **members: object
) -> Response:
    """`given`: headers that belong to the status, such as `allow` to a 405."""
    title = HTTPStatus(status).phrase
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, **members}
    headers = {"cache-control": "no-store", "x-content-type-options": "nosniff", **(given or {})}
    if status == 401:
        headers["www-authenticate"] = 'Bearer realm="trailgate"'
    return JSONResponse(body, status, headers, media_type="application/problem+json")


async def on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return problem_response(error.status, error.detail, None, **error.members)


async def on_rejected(request: Request, error: Exception) -> Response:
    """An order that was not carried out; `errors` name each mistake and where it is."""
    assert isinstance(error, Rejected)
    errors = {"errors": list(error.findings)} if error.findings else {}
    return problem_response(error.status, error.detail, None, **errors)


async def on_record_failed(request: Request, error: Exception) -> Response:
    log.error("api call failed", extra={"path": request.url.path, "cause": str(error)})
    return problem_response(503, "the change could not be recorded, so nothing was changed")


async def on_refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    log.warning("api call refused", extra={"path": request.url.path, "cause": str(error)})
    refusal = error.refusal
    status = 503 if refusal.kind == "unavailable" else 401
    return problem_response(
        status, refusal.reason, trailgate=refusal.kind, code=refusal.code, reason=refusal.reason
    )


async def on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return problem_response(error.status_code, error.detail, error.headers)


async def on_store_failed(request: Request, error: Exception) -> Response:
    log.error("api call failed", extra={"path": request.url.path, "cause": str(error)})
    told = "the gateway's store does not answer; "
    if request.method not in ("GET", "HEAD"):
        told += "the change may be done all the same: see what is there, and "
    return problem_response(503, told + "try again")


async def on_vault_failed(request: Request, error: Exception) -> Response:
    """Its text names places and cures, never a secret; only who may change secrets sees it."""
    log.error("api call failed", extra={"path": request.url.path, "cause": str(error)})
    return problem_response(503, str(error))


async def on_rotation_failed(request: Request, error: Exception) -> Response:
    log.warning("a rotation was not begun", extra={"cause": str(error)})
    return problem_response(409, str(error))


async def on_failure(request: Request, error: Exception) -> Response:
    """Anything unforeseen; the server logs it, the caller learns nothing of it."""
    return problem_response(500, "the gateway failed at this call; its log has the cause")
