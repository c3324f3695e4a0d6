# SPDX-License-Identifier: GPL-3.0-or-later
"""Tokens of OpenID issuers. PyJWT verifies; this adds what the gateway insists on before it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jwt

from gateway.identity.claims import groups_claim, name_claim, text_claim
from gateway.identity.handles import token_sha256
from gateway.identity.jwks import (
    KEY_TYPES,
    PACE,
    FetchFailed,
    GivenKeys,
    IssuerKeys,
    Pace,
    key_set,
)
from gateway.identity.names import Names
from gateway.identity.refusal import refused, shown
from gateway.identity.spiffe import SPIFFE, checked_trust_domain, trust_domain_of
from gateway.model import Identity, Refused
from gateway.outgoing import checked_url

TOKEN_CAP = 16 * 1024
LEEWAY = 60.0
"""Seconds that an issuer's clock may differ from ours."""
TYPES = {"jwt", "at+jwt", "jose"}
"""Header `typ` of bearer tokens; logout, DPoP and event tokens are other types (RFC 8725 3.11)."""
OWN_KEYS = {"jwk", "jku", "x5u", "x5c"}
"""Header members by which a token would bring its own key."""
KEPT_CLAIMS = ("act", "may_act")
KEPT_CAP = 4096


@dataclass(frozen=True, slots=True)
class Issuer:
    """An OpenID issuer that the gateway trusts. Raises ValueError for what cannot be safe."""

    name: str
    url: str
    """Compared to `iss` as it stands, so (issuer, subject) is the same whatever `name` says."""
    audience: str
    algorithms: tuple[str, ...] = ("ES256", "RS256")
    claims: Mapping[str, str] = field(default_factory=dict)
    """Where to find subject, groups and name; defaults sub, groups, name."""
    kind: str = "person"
    """person or workload."""
    ca_path: str | None = None
    jwks_url: str = ""
    """Where its keys are, for an issuer that has no discovery."""
    given_keys: tuple[Mapping[str, Any], ...] = ()
    """Its keys, for an issuer that cannot be asked from here."""

    @property
    def spiffe(self) -> bool:
        """Its URL is a SPIFFE trust domain; its tokens are JWT-SVIDs."""
        return self.url.startswith(SPIFFE)

    def usable_keys(self) -> tuple[dict[str, Any], ...]:
        """Those of `given_keys` that may sign its tokens. Raises ValueError for none."""
        try:
            return key_set({"keys": [dict(key) for key in self.given_keys]}, self.key_use)
        except FetchFailed as error:
            raise ValueError(f"issuer {self.name}: {error}") from error

    @property
    def key_use(self) -> str:
        """`use` of its keys, where they have one (JWT-SVID 3.1 has its own)."""
        return "jwt-svid" if self.spiffe else "sig"

    def __post_init__(self) -> None:
        if self.spiffe:
            checked_trust_domain(self.url)
        else:
            checked_url(self.url)
        if self.spiffe and not (self.jwks_url or self.given_keys):
            raise ValueError(f"issuer {self.name}: a trust domain needs jwks, its bundle")
        if self.jwks_url:
            checked_url(self.jwks_url)
        if self.given_keys:
            self.usable_keys()
        unsafe = [name for name in self.algorithms if name not in KEY_TYPES]
        if unsafe or not self.algorithms:
            raise ValueError(
                f"issuer {self.name}: algorithms {unsafe} are not among {', '.join(KEY_TYPES)}"
            )
        if not self.audience:
            raise ValueError(f"issuer {self.name}: audience is empty")
        if unknown := set(self.claims) - {"subject", "groups", "name", "triggered_by"}:
            raise ValueError(f"issuer {self.name}: claims {sorted(unknown)} are not known")
        if self.kind not in ("person", "workload"):
            raise ValueError(f"issuer {self.name}: kind must be person or workload")


@dataclass(frozen=True, slots=True)
class Proof:
    """What a verified token proves."""

    identity: Identity
    groups: tuple[str, ...]
    expires_at: float
    """`exp` and the leeway: until then the same token would be let in."""
    login: Mapping[str, object]
    token_sha256: str
    declared: str = ""
    """The name of the agent or person object that this identity has; empty: none."""


class Issuers:
    """All trusted issuers, and the one place where their tokens are verified."""

    def __init__(
        self,
        issuers: Iterable[Issuer],
        *,
        names: Names | None = None,
        pace: Pace = PACE,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.names = names or Names()
        self._pace = pace
        self._now = now
        self._issuers: dict[str, Issuer] = {}
        self._keys: dict[str, IssuerKeys | GivenKeys] = {}
        self._put_in_force(issuers)

    def _put_in_force(self, issuers: Iterable[Issuer]) -> list[IssuerKeys | GivenKeys]:
        """Trust these and no others; the key sets that nobody needs any more."""
        before, known = self._issuers, self._keys
        self._issuers = {issuer.url: issuer for issuer in issuers}
        self._keys = {
            url: known[url]
            if url in known and _keys_from(before[url]) == _keys_from(issuer)
            else self._keys_of(issuer)
            for url, issuer in self._issuers.items()
        }
        return [keys for keys in known.values() if keys not in self._keys.values()]

    def _keys_of(self, issuer: Issuer) -> IssuerKeys | GivenKeys:
        if issuer.given_keys:
            return GivenKeys(issuer.usable_keys())
        return IssuerKeys(
            issuer.url,
            jwks_url=issuer.jwks_url,
            use=issuer.key_use,
            ca_path=issuer.ca_path,
            pace=self._pace,
        )

    async def replace(self, issuers: Iterable[Issuer], names: Names) -> None:
        """Trust these from now on; keys that are known of an issuer that stays are kept."""
        self.names = names
        for keys in self._put_in_force(issuers):
            await keys.close()

    async def verify(self, token: str, audience: Sequence[str] = ()) -> Proof:
        """Verify a token for the issuer's audience, or for one of `audience`. Raises Refused."""
        header = checked_header(token)
        issuer = self._issuer_of(token)
        algorithm = self._algorithm(header, issuer)
        key_id = header.get("kid")
        keys = await self._keys[issuer.url].candidates(key_id, algorithm)
        if not keys:
            raise refused(
                "the token is signed with a key that its issuer does not publish",
                f"issuer {issuer.name}: no {algorithm} key with id {shown(key_id)}",
            )
        claims = self._claims(token, keys, algorithm, issuer, audience or (issuer.audience,))
        return _proof(token, header, claims, issuer, self.names)

    def _issuer_of(self, token: str) -> Issuer:
        try:
            # Only to choose whose keys to try; everything is verified with them below.
            claims = jwt.decode(token, options={"verify_signature": False})
        except (jwt.PyJWTError, ValueError, RecursionError) as error:
            raise refused("the token is malformed", f"unreadable: {type(error).__name__}") from None
        claimed = claims.get("iss")
        issuer = self._issuers.get(claimed) if isinstance(claimed, str) else None
        if issuer is None or issuer.spiffe:
            # A JWT-SVID need not name an issuer: its subject's trust domain says whose it is.
            issuer = self._issuers.get(trust_domain_of(claims.get("sub")))
        if issuer is None:
            raise refused(
                "the token's issuer is not trusted here", f"unknown issuer {shown(claimed)}"
            )
        return issuer

    def _algorithm(self, header: Mapping[str, Any], issuer: Issuer) -> str:
        algorithm = header.get("alg")
        if not isinstance(algorithm, str) or algorithm not in issuer.algorithms:
            raise refused(
                "the token's signature algorithm is not accepted",
                f"issuer {issuer.name}: algorithm {shown(algorithm)}",
            )
        return algorithm

    def _claims(
        self,
        token: str,
        keys: Sequence[jwt.PyJWK],
        algorithm: str,
        issuer: Issuer,
        audience: Sequence[str],
    ) -> dict[str, Any]:
        for key in keys:
            try:
                claims = _decoded(token, key, algorithm, issuer, audience)
            except jwt.InvalidSignatureError:
                continue  # a token without key id: another key of the set may fit
            except jwt.PyJWTError as error:
                raise _as_refused(error, issuer) from None
            self._check_times(claims, issuer)
            return claims
        raise refused(
            "the token's signature is not valid", f"issuer {issuer.name}: tampered or forged"
        )

    def _check_times(self, claims: Mapping[str, Any], issuer: Issuer) -> None:
        """RFC 7519 4.1.4 to 4.1.6, by our own clock so that tests and stores share it."""
        now = self._now()
        times = {name: claims.get(name, now) for name in ("exp", "nbf", "iat")}
        if not all(type(value) in (int, float) and abs(value) < 1e12 for value in times.values()):
            raise refused("the token is malformed", f"issuer {issuer.name}: a time is no number")
        if now >= times["exp"] + LEEWAY:
            raise refused(
                "the token has expired: get a new one from its issuer",
                f"issuer {issuer.name}: expired {now - times['exp']:.0f} s ago",
                code="expired",
            )
        for name in ("nbf", "iat"):
            if times[name] > now + LEEWAY:
                raise refused(
                    "the token is not valid yet: check the clocks",
                    f"issuer {issuer.name}: {name} is {times[name] - now:.0f} s ahead",
                )

    async def close(self) -> None:
        for keys in self._keys.values():
            await keys.close()


def checked_header(token: str) -> dict[str, Any]:
    """The unverified header, if it is one that we would act on at all. Raises Refused."""
    if len(token) > TOKEN_CAP:
        raise refused("the token is too long", f"token over {TOKEN_CAP} bytes")
    if not token.isascii() or token.count(".") != 2:
        raise refused("the token is malformed", "not three base64url parts")
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, RecursionError) as error:
        raise refused("the token is malformed", f"header: {type(error).__name__}") from None
    if "crit" in header or "b64" in header:
        # RFC 7515 4.1.11: we understand no extension, so whatever it names is refused.
        raise refused("the token uses an extension that is not supported", "header has crit or b64")
    if brought := OWN_KEYS & set(header):
        raise refused("the token brings its own key", f"header has {', '.join(sorted(brought))}")
    typ = header.get("typ", "JWT")
    if not isinstance(typ, str) or typ.lower().removeprefix("application/") not in TYPES:
        raise refused("the token is not an access token", f"header typ is {shown(typ)}")
    return header


def _decoded(
    token: str, key: jwt.PyJWK, algorithm: str, issuer: Issuer, audience: Sequence[str]
) -> dict[str, Any]:
    named = ["sub"] if issuer.spiffe else ["iss"]
    return jwt.decode(
        token,
        key,
        algorithms=[algorithm],
        audience=list(audience),
        issuer=None if issuer.spiffe else issuer.url,
        options={
            "require": ["exp", "aud", *named],
            "verify_exp": False,  # _check_times does these three
            "verify_nbf": False,
            "verify_iat": False,
            "enforce_minimum_key_length": True,
        },
    )


def _keys_from(issuer: Issuer) -> object:
    return issuer.jwks_url, issuer.given_keys, issuer.ca_path


def _as_refused(error: jwt.PyJWTError, issuer: Issuer) -> Refused:
    where = f"issuer {issuer.name}"
    if isinstance(error, jwt.InvalidAudienceError):
        return refused("the token was made for another audience", f"{where}: wrong audience")
    if isinstance(error, jwt.MissingRequiredClaimError):
        return refused(f"the token lacks the claim {error.claim!r}", f"{where}: no {error.claim}")
    if isinstance(error, jwt.InvalidAlgorithmError | jwt.InvalidKeyError):
        return refused(
            "the token's signature algorithm does not fit its key", f"{where}: alg and key differ"
        )
    return refused("the token is malformed", f"{where}: {type(error).__name__}")


def _proof(
    token: str,
    header: Mapping[str, Any],
    claims: Mapping[str, Any],
    issuer: Issuer,
    names: Names,
) -> Proof:
    sha256 = token_sha256(token)
    subject = text_claim(claims, issuer.claims.get("subject", "sub"))
    if issuer.spiffe and trust_domain_of(subject) != issuer.url:
        raise refused("the token's subject is no SPIFFE ID of its trust domain")
    claimed = name_claim(claims, issuer.claims.get("name", "name"))
    name = names.shown(issuer.url, issuer.name, subject, claimed)
    login: dict[str, object] = {
        "iss": issuer.url,
        "issuer": issuer.name,
        "kid": _plain(header.get("kid")),
        "jti": _plain(claims.get("jti")),
        "iat": claims.get("iat"),
        "token_sha256": sha256,
    }
    login.update({kept: _kept(claims, kept) for kept in KEPT_CLAIMS if kept in claims})
    if "triggered_by" in issuer.claims:
        # Whoever started a CI job is in its chain, where it is asked who may approve.
        login["triggered_by"] = name_claim(claims, issuer.claims["triggered_by"]) or None
    return Proof(
        identity=Identity(issuer.url, subject, name, issuer.kind),
        groups=groups_claim(claims, issuer.claims.get("groups", "groups")),
        expires_at=float(claims["exp"]) + LEEWAY,
        login=login,
        token_sha256=sha256,
        declared=names.declared(issuer.url, subject),
    )


def _plain(value: object) -> str | None:
    return value[:256] if isinstance(value, str) else None


def _kept(claims: Mapping[str, Any], name: str) -> object:
    """A claim that is kept and shown; one that cannot be kept whole refuses the token."""
    value = claims[name]
    if not isinstance(value, dict) or len(json.dumps(value)) > KEPT_CAP:
        raise refused(f"the token's claim {name!r} is not understood", f"{name}: type or size")
    return value
