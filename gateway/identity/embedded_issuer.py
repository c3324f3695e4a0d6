# SPDX-License-Identifier: GPL-3.0-or-later
"""A small real OpenID provider for `demo` and tests: discovery, rotating keys, signed tokens.

It has no login page: whoever holds its admin secret has tokens signed. Serve `app` on loopback.
"""

from __future__ import annotations

import hmac
import json
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

BODY_CAP = 16 * 1024
LONGEST = 86400.0


class EmbeddedIssuer:
    """Signs ES256 tokens as `url`, which is set once its server has an address."""

    def __init__(
        self, url: str = "", *, audience: str = "trailgate", now: Callable[[], float] = time.time
    ) -> None:
        self.url = url
        self.audience = audience
        self.admin_secret = secrets.token_urlsafe(32)
        self._now = now
        self._keys: dict[str, ec.EllipticCurvePrivateKey] = {}
        self.rotate()
        self.app = Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self._discovery),
                Route("/jwks", self._jwks),
                Route("/admin/tokens", self._tokens, methods=["POST"]),
                Route("/admin/rotate", self._rotate, methods=["POST"]),
            ]
        )

    def rotate(self, *, withdraw: bool = False) -> str:
        """Sign with a new key from now on; the old ones stay published unless withdrawn."""
        if withdraw:
            self._keys.clear()
        key_id = secrets.token_hex(8)
        self._keys[key_id] = ec.generate_private_key(ec.SECP256R1())
        return key_id

    def sign(
        self,
        subject: str,
        *,
        lifetime: float = 3600.0,
        audience: str | None = None,
        claims: Mapping[str, Any] | None = None,
    ) -> str:
        """A token for `subject`; `claims` are added to it, or stand in for its own."""
        now = int(self._now())
        key_id, key = next(reversed(self._keys.items()))
        body = {
            "iss": self.url,
            "sub": subject,
            "aud": audience or self.audience,
            "iat": now,
            "exp": now + int(lifetime),
            "jti": secrets.token_hex(16),
            **(claims or {}),
        }
        return jwt.encode(body, key, algorithm="ES256", headers={"kid": key_id})

    async def _discovery(self, request: Request) -> Response:
        return JSONResponse(
            {
                "issuer": self.url,
                "jwks_uri": self.url.rstrip("/") + "/jwks",
                "id_token_signing_alg_values_supported": ["ES256"],
                "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"],
            }
        )

    async def _jwks(self, request: Request) -> Response:
        return JSONResponse({"keys": [_public(name, key) for name, key in self._keys.items()]})

    async def _tokens(self, request: Request) -> Response:
        if not self._is_admin(request):
            return JSONResponse({"error": "admin secret wanted"}, 401)
        asked = await _asked(request)
        subject = asked.get("subject")
        lifetime = asked.get("lifetime", 3600)
        claims = asked.get("claims", {})
        if not isinstance(subject, str) or not isinstance(claims, dict):
            return JSONResponse({"error": "subject (text) and claims (object) wanted"}, 400)
        if type(lifetime) not in (int, float) or not 0 < lifetime <= LONGEST:
            return JSONResponse({"error": f"lifetime must be 1 to {LONGEST:.0f} seconds"}, 400)
        token = self.sign(subject, lifetime=lifetime, audience=asked.get("audience"), claims=claims)
        return JSONResponse({"token": token})

    async def _rotate(self, request: Request) -> Response:
        if not self._is_admin(request):
            return JSONResponse({"error": "admin secret wanted"}, 401)
        return JSONResponse({"kid": self.rotate()})

    def _is_admin(self, request: Request) -> bool:
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        return hmac.compare_digest(given.encode(), self.admin_secret.encode())


def _public(key_id: str, key: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
    public = json.loads(ECAlgorithm.to_jwk(key.public_key()))
    return {**public, "kid": key_id, "use": "sig", "alg": "ES256"}


async def _asked(request: Request) -> dict[str, Any]:
    """The request's JSON object; anything else, or too much of it, is an empty one."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_CAP:
            return {}
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return asked if isinstance(asked, dict) else {}
