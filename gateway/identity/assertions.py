# SPDX-License-Identifier: GPL-3.0-or-later
"""Agents that sign for themselves (private_key_jwt: RFC 7523, OpenID Connect Core 9).

An agent object holds public keys. A JWT signed with one of them, for the token endpoint, good once
and for minutes, proves the agent: as a client that asks for a root grant, or as an actor.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from typing import Protocol as Interface

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from gateway.identity.handles import token_sha256
from gateway.identity.jwks import KEY_TYPES, FetchFailed, key_set, matching
from gateway.identity.oidc import LEEWAY, Proof, checked_header
from gateway.identity.refusal import check_first_use, refused, shown
from gateway.model import Identity, Use

AGENTS_ISSUER = "trailgate:agents"
"""Issuer of identities that agents prove by keys of their own; the subject is the agent's name."""
LONGEST_ASSERTION = 600.0
"""Seconds that an assertion may be good for."""
AGENT_LIFETIME = 3600.0
"""Seconds that the grant of a proved agent lives at most; then it signs again."""
_PEM = re.compile(r"-----BEGIN ([A-Z ]+)-----.+?-----END \1-----", re.DOTALL)
_REQUIRED = ("iss", "sub", "aud", "exp", "jti")
_MOST_JTI = 256


class ReplayCache(Interface):
    """Tokens that are good once (gateway/store/used_tokens.py)."""

    async def use(self, owner: str, token_id: str, until: float, now: float) -> Use:
        """Note that `owner` used a token, until then."""


def agent_keys(text: str) -> tuple[dict[str, Any], ...]:
    """Public keys as PEM (one or several) or as a JWK or JWK set. Raises ValueError."""
    if "PRIVATE" in text or '"d"' in text:
        raise ValueError("is a private key: only the agent may have it; give the public one")
    if text.lstrip().startswith("{"):
        return _jwk_set(text)
    blocks = [match[0] for match in _PEM.finditer(text)]
    if not blocks:
        raise ValueError("is neither a PEM public key nor a JWK set")
    return tuple(_jwk(block) for block in blocks)


def _jwk_set(text: str) -> tuple[dict[str, Any], ...]:
    try:
        document = json.loads(text)
        keys = key_set(document if "keys" in document else {"keys": [document]})
    except (ValueError, RecursionError):
        raise ValueError("is no JSON") from None
    except FetchFailed as error:
        raise ValueError(str(error)) from None
    if not any(matching(keys, None, name) for name in KEY_TYPES):
        raise ValueError("holds no key that can be used")
    return keys


def _jwk(block: str) -> dict[str, Any]:
    try:
        key = load_pem_public_key(block.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("is no PEM public key: write what `openssl pkey -pubout` prints") from None
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= 2048:
        return dict(RSAAlgorithm.to_jwk(key, as_dict=True))
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name.startswith("secp"):
        return dict(ECAlgorithm.to_jwk(key, as_dict=True))
    if isinstance(key, ed25519.Ed25519PublicKey):
        return dict(OKPAlgorithm.to_jwk(key, as_dict=True))
    raise ValueError("is of a kind that is not taken: use P-256, Ed25519 or RSA of 2048 bits")


class AgentAssertions:
    """The agents with keys, and the one place where what they signed is verified."""

    def __init__(
        self,
        keys: Mapping[str, Sequence[dict[str, Any]]],
        used: ReplayCache,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._keys = {name: tuple(own) for name, own in keys.items()}
        self._used = used
        self._now = now

    def replace(self, keys: Mapping[str, Sequence[dict[str, Any]]]) -> None:
        """Trust these from now on."""
        self._keys = {name: tuple(own) for name, own in keys.items()}

    def signs(self, token: str) -> bool:
        """True if a JWT claims to be one of these agents' own; that is not verified here."""
        try:
            claims = jwt.decode(token, options={"verify_signature": False})
        except (jwt.PyJWTError, ValueError, RecursionError):
            return False
        issuer = claims.get("iss")
        return isinstance(issuer, str) and issuer in self._keys

    async def verify(self, token: str, audience: Sequence[str]) -> Proof:
        """Verify an assertion that is for one of `audience`; it is used up. Raises Refused."""
        header = checked_header(token)
        name = self._agent_of(token)
        algorithm = header.get("alg")
        if not isinstance(algorithm, str) or algorithm not in KEY_TYPES:
            raise refused(
                "the assertion's signature algorithm is not accepted",
                f"agent {name}: algorithm {shown(algorithm)}",
            )
        key_id = header.get("kid")
        named = any(key.get("kid") is not None for key in self._keys[name])
        keys = matching(self._keys[name], key_id if named else None, algorithm)
        claims = self._claims(token, name, keys, algorithm, audience)
        await self._use(name, claims)
        return self._proof(token, name, header, claims)

    def _agent_of(self, token: str) -> str:
        try:
            # Only to choose whose keys to try; everything is verified with them below.
            claims = jwt.decode(token, options={"verify_signature": False})
        except (jwt.PyJWTError, ValueError, RecursionError) as error:
            raise refused("the assertion is malformed", type(error).__name__) from None
        name = claims.get("iss")
        if not isinstance(name, str) or name not in self._keys:
            raise refused("no agent with a key has this name", f"unknown agent {shown(name)}")
        if claims.get("sub") != name:
            raise refused("the assertion's iss and sub differ", f"agent {name}: sub is another")
        return name

    def _claims(
        self,
        token: str,
        name: str,
        keys: Sequence[jwt.PyJWK],
        algorithm: str,
        audience: Sequence[str],
    ) -> dict[str, Any]:
        for key in keys:
            try:
                claims: dict[str, Any] = jwt.decode(
                    token,
                    key,
                    algorithms=[algorithm],
                    audience=list(audience),
                    options={
                        "require": list(_REQUIRED),
                        "verify_exp": False,  # _check_times does these three
                        "verify_nbf": False,
                        "verify_iat": False,
                        "enforce_minimum_key_length": True,
                    },
                )
            except jwt.InvalidSignatureError:
                continue
            except jwt.InvalidAudienceError:
                raise refused(
                    "the assertion was made for another audience: use the token endpoint",
                    f"agent {name}: wrong audience",
                ) from None
            except jwt.MissingRequiredClaimError as error:
                raise refused(f"the assertion lacks the claim {error.claim!r}") from None
            except jwt.PyJWTError as error:
                raise refused("the assertion is malformed", type(error).__name__) from None
            self._check_times(name, claims)
            return claims
        raise refused(
            "the assertion is not signed with a key of this agent",
            f"agent {name}: tampered, forged, or signed with another key",
        )

    def _check_times(self, name: str, claims: Mapping[str, Any]) -> None:
        """RFC 7523 3, points 4 to 6: an assertion that is good for long is refused."""
        now = self._now()
        times = {one: claims.get(one, now) for one in ("exp", "nbf", "iat")}
        if not all(type(value) in (int, float) and abs(value) < 1e12 for value in times.values()):
            raise refused("the assertion is malformed", f"agent {name}: a time is no number")
        if now >= times["exp"] + LEEWAY:
            raise refused("the assertion has expired: sign a new one", code="expired")
        if times["nbf"] > now + LEEWAY or times["iat"] > now + LEEWAY:
            raise refused("the assertion is not valid yet: check the clocks")
        if times["exp"] > now + LONGEST_ASSERTION + LEEWAY:
            raise refused(f"the assertion is good for over {LONGEST_ASSERTION:.0f} seconds")

    async def _use(self, name: str, claims: Mapping[str, Any]) -> None:
        """RFC 7523 3, point 7: each jti once, until its assertion is too old anyway."""
        token_id = claims["jti"]
        if not isinstance(token_id, str) or not 0 < len(token_id) <= _MOST_JTI:
            raise refused("the assertion's jti is not a text of at most 256 characters")
        digest = hashlib.sha256(json.dumps([AGENTS_ISSUER, name, token_id]).encode()).hexdigest()
        use = await self._used.use(name, digest, float(claims["exp"]) + LEEWAY, self._now())
        check_first_use(use, "the assertion", f"agent {name}")

    def _proof(
        self, token: str, name: str, header: Mapping[str, Any], claims: Mapping[str, Any]
    ) -> Proof:
        sha256, key_id = token_sha256(token), header.get("kid")
        login: dict[str, object] = {
            "iss": AGENTS_ISSUER,
            "issuer": "agent",
            "kid": key_id[:256] if isinstance(key_id, str) else None,
            "jti": claims["jti"],
            "iat": claims.get("iat"),
            "token_sha256": sha256,
        }
        return Proof(
            identity=Identity(AGENTS_ISSUER, name, name, "workload"),
            groups=(),
            expires_at=self._now() + AGENT_LIFETIME,
            login=login,
            token_sha256=sha256,
            declared=name,
        )
