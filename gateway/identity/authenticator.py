# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is calling: a token of any kind to the grant in force."""

from __future__ import annotations

from gateway.identity.grants import Grants
from gateway.identity.handles import is_handle
from gateway.identity.oidc import Issuers, checked_header
from gateway.identity.refusal import refused, unavailable
from gateway.model import Grant, Refused


class TokenAuthenticator:
    """The gateway's `Authenticator`. Whatever goes wrong is a refusal, never a way in."""

    def __init__(self, issuers: Issuers, grants: Grants) -> None:
        self._issuers = issuers
        self._grants = grants

    async def login(self, token: str) -> Grant:
        """Validate a gateway handle or an issuer's JWT. Raises Refused."""
        try:
            return await self._login(token)
        except Refused:
            raise
        except Exception as error:
            # The type only: a library's text may quote what it was given.
            raise unavailable(
                "the gateway cannot check tokens now; try again",
                f"login failed: {type(error).__name__}",
            ) from error

    async def _login(self, token: str) -> Grant:
        if not token:
            raise refused("no token was given: put one in the password field", "empty token")
        if is_handle(token):
            return await self._grants.by_handle(token)
        if token.count(".") == 2:
            checked_header(token)
            # Ours are known by their hash, whatever they say; the rest must be an issuer's.
            if (own := await self._grants.by_own_jwt(token)) is not None:
                return own
            return await self._grants.login_root(await self._issuers.verify(token))
        raise refused(
            "this is neither a gateway token nor a JWT", "password is no token of any kind"
        )
