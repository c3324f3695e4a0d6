# SPDX-License-Identifier: GPL-3.0-or-later
"""A grant as a JWT of the gateway's own (RFC 9068, with RFC 8693's act and RFC 9396's details)."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any

from gateway.identity.signing import LONGEST_JWT, SigningKeys
from gateway.model import Grant

TYP = "at+jwt"
TokenOf = Callable[[Grant], str]
"""Makes the token of a grant that is about to be kept."""


class OwnJwts:
    """Writes grants as JWTs. `url`: the gateway's, which is both issuer and audience."""

    longest = LONGEST_JWT

    def __init__(self, keys: SigningKeys, url: str) -> None:
        self._keys = keys
        self._url = url

    def token_of(self, grant: Grant) -> str:
        """A JWT that names the grant; it is good only once the store has its SHA-256."""
        origin = grant.origin
        claims: dict[str, Any] = {
            "iss": self._url,
            "aud": self._url,
            "sub": origin.subject,
            "sub_id": {"format": "iss_sub", "iss": origin.issuer, "sub": origin.subject},
            "client_id": grant.labels[-1],
            "iat": int(grant.issued_at),
            "exp": int(grant.expires_at),
            "jti": secrets.token_urlsafe(24),
            "grant": grant.id,
            **narrowed(grant),
        }
        if (act := act_claim(grant)) is not None:
            claims["act"] = act
        return self._keys.sign(claims, TYP)


def act_claim(grant: Grant) -> dict[str, Any] | None:
    """RFC 8693 4.1: nested, outermost the current actor."""
    act: dict[str, Any] | None = None
    for hop in grant.chain:
        who = hop.identity
        named = {"iss": who.issuer, "sub": who.subject} if who else {"sub": hop.name}
        act = {**named, "proved": hop.proved, **({"act": act} if act else {})}
    return act


def narrowed(grant: Grant) -> dict[str, Any]:
    """`scope` as it stands after every hop, and the details that were given last.

    An operation must be covered by every hop's details, which one list cannot say: all of them are
    `narrowing`, the entries from the root down.
    """
    said: dict[str, Any] = {}
    scopes = [entry["scope"] for entry in grant.narrowing if "scope" in entry]
    if scopes:
        said["scope"] = " ".join(_shared(scopes))
    details = [entry for entry in grant.narrowing if "authorization_details" in entry]
    if details:
        said["authorization_details"] = details[-1]["authorization_details"]
    if len(details) > 1:
        said["narrowing"] = [dict(entry) for entry in grant.narrowing]
    return said


def _shared(scopes: Sequence[object]) -> list[str]:
    """Targets that every hop names, in the order of the last."""
    lists = [scope if isinstance(scope, list) else [] for scope in scopes]
    return [name for name in lists[-1] if all(name in other for other in lists)]
