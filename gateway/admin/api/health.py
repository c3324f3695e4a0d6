# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the gateway lives, whether it is ready, and its counters. No token is asked for."""

from __future__ import annotations

import asyncio
import logging

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from gateway.admin.api.calls import services_of
from gateway.admin.api.services import ReadyCheck

log = logging.getLogger(__name__)

CHECK_DEADLINE = 2.0


async def healthz(request: Request) -> Response:
    """GET /healthz: the loop turns."""
    return PlainTextResponse("ok\n")


async def readyz(request: Request) -> Response:
    """GET /readyz: 200 if every check passes, else 503 with what does not."""
    ready = services_of(request).ready
    answers = await asyncio.gather(*(_ask(name, check) for name, check in ready.items()))
    complaints = dict(zip(ready, answers, strict=True))
    good = not any(complaints.values())
    checks = {name: complaint or "ok" for name, complaint in complaints.items()}
    return JSONResponse({"ready": good, "checks": checks}, 200 if good else 503)


async def _ask(name: str, check: ReadyCheck) -> str | None:
    try:
        async with asyncio.timeout(CHECK_DEADLINE):
            return await check()
    except TimeoutError:
        return f"no answer within {CHECK_DEADLINE:.0f} s"
    except Exception:
        log.exception("ready check failed", extra={"check": name})
        return "failed; the log has the cause"


async def metrics(request: Request) -> Response:
    """GET /metrics, in Prometheus' text format."""
    return Response(
        generate_latest(services_of(request).metrics), headers={"content-type": CONTENT_TYPE_LATEST}
    )


ROUTES = [
    Route("/healthz", healthz),
    Route("/readyz", readyz),
    Route("/metrics", metrics),
]
