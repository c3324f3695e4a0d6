# SPDX-License-Identifier: GPL-3.0-or-later
"""The API as one ASGI app. Each file beside this one brings its routes."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException

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
    app.state.services = services
    app.state.admin = admin
    return app
