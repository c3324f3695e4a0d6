# SPDX-License-Identifier: GPL-3.0-or-later
"""The API as one ASGI app. Each file beside this one brings its routes."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.admin.api import (
    credentials,
    grants,
    health,
    keys,
    login,
    oauth,
    objects,
    openapi,
    sessions,
)
from gateway.admin.api.problems import (
    Problem,
    on_failure,
    on_http,
    on_problem,
    on_record_failed,
    on_refused,
    on_rejected,
    on_rotation_failed,
    on_store_failed,
    on_vault_failed,
)
from gateway.admin.api.services import Services
from gateway.credentials.master import VaultFailed
from gateway.credentials.rotation import RotationFailed
from gateway.declare.orders import Rejected
from gateway.model import RecordFailed, Refused
from gateway.store.interface import StoreFailed


class _Unkept:
    """Answers are for the caller: nobody on the way keeps them, unless a route says so."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("cache-control", "no-store")
                headers.setdefault("x-content-type-options", "nosniff")
            await send(message)

        await self._app(scope, receive, sent)


def build_api(services: Services, *, admin: bool = False) -> Starlette:
    """The API. `admin`: whoever reaches this app without a token is an admin, so it must be
    served only on a socket that nobody else can open (`serve_api(uds=...)`)."""
    app = Starlette(
        routes=[
            *oauth.ROUTES,
            *login.ROUTES,
            *grants.ROUTES,
            *objects.ROUTES,
            *openapi.ROUTES,
            *sessions.ROUTES,
            *keys.ROUTES,
            *credentials.ROUTES,
            *health.ROUTES,
        ],
        middleware=[Middleware(_Unkept)],
        exception_handlers={
            Problem: on_problem,
            Refused: on_refused,
            Rejected: on_rejected,
            RecordFailed: on_record_failed,
            HTTPException: on_http,
            StoreFailed: on_store_failed,
            VaultFailed: on_vault_failed,
            RotationFailed: on_rotation_failed,
            Exception: on_failure,
        },
    )
    # Its redirect would lead wherever the Host header says.
    app.router.redirect_slashes = False
    app.state.services = services
    app.state.admin = admin
    return app
