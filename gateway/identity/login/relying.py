# SPDX-License-Identifier: GPL-3.0-or-later
"""The gateway as an OpenID relying party: authorization code with PKCE, refresh, userinfo."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import secrets
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import httpx
import jwt

from gateway.identity.claims import groups_claim, lookup
from gateway.identity.jwks import (
    DOCUMENT_CAP,
    FETCH_DEADLINE,
    TIMEOUT,
    FetchFailed,
    fetch_json,
)
from gateway.identity.login.ports import Verified
from gateway.identity.oidc import Issuer, Issuers, Proof
from gateway.identity.refusal import refused, shown, unavailable
from gateway.outgoing import LOOPBACK, checked_url, outgoing_client

DISCOVERY_LASTS = 300.0
SECRET_CAP = 16 * 1024
"""Codes, access tokens and refresh tokens of providers."""


@dataclass(frozen=True, slots=True)
class OidcProvider:
    """An OpenID provider at which people log in, and how the gateway is known there."""

    issuer: Issuer
    client_id: str
    client_secret: str = field(default="", repr=False)
    """Empty: a public client."""
    scopes: tuple[str, ...] = ("openid",)
    redirect: str = ""
    """Empty: below the gateway's own URL."""
    session_seconds: float = 28800.0

    @property
    def name(self) -> str:
        return self.issuer.name


class Ended(Exception):
    """The provider says that the login is over (RFC 6749 5.2, invalid_grant)."""


class Unconfirmed(Exception):
    """The provider did not answer, or not in a way that tells anything."""


def new_verifier() -> str:
    """RFC 7636 4.1: 256 random bits."""
    return secrets.token_urlsafe(32)


def challenge_of(verifier: str) -> str:
    """RFC 7636 4.2, S256."""
    digest = hashlib.sha256(verifier.encode("ascii")).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


class RelyingParty:
    """Speaks with one provider. Its endpoints come from discovery, asked again every 5 minutes."""

    def __init__(
        self,
        provider: OidcProvider,
        issuers: Issuers,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.provider = provider
        self._issuers = issuers
        self._now = now
        self._document: Mapping[str, Any] = {}
        self._asked_at = float("-inf")
        self._lock = asyncio.Lock()
        self._tls: ssl.SSLContext | None = None

    # --- what the browser is sent to -------------------------------------------------------------

    async def authorization_url(
        self, *, redirect: str, state: str, nonce: str, verifier: str
    ) -> str:
        """Where the person logs in. Raises Refused if the provider cannot be asked."""
        document = await self._discovery()
        given = {
            "response_type": "code",
            "client_id": self.provider.client_id,
            "redirect_uri": redirect,
            "scope": " ".join(self.provider.scopes),
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge_of(verifier),
            "code_challenge_method": "S256",
        }
        if "offline_access" in self.provider.scopes:
            # OpenID Connect Core 11: without it a provider leaves the scope out.
            given["prompt"] = "consent"
        endpoint = self._endpoint(document, "authorization_endpoint")
        return f"{endpoint}{'&' if urlsplit(endpoint).query else '?'}{urlencode(given)}"

    async def check_sender(self, iss: str | None) -> None:
        """RFC 9207 2.4: the answer must come from the issuer that was asked."""
        document = await self._discovery()
        promised = document.get("authorization_response_iss_parameter_supported") is True
        if iss is None and not promised:
            return
        if iss != self.provider.issuer.url:
            raise refused(
                "the answer came from another provider than was asked",
                f"issuer {self.provider.name}: iss is {shown(iss)}",
            )

    # --- what the gateway asks itself ------------------------------------------------------------

    async def redeem(self, code: str, *, redirect: str, nonce: str, verifier: str) -> Verified:
        """Who logged in, for a code. Raises Refused."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect,
            "code_verifier": verifier,
        }
        try:
            answer = await self._token(form)
            return await self._verified(answer, nonce)
        except Ended as error:
            raise refused(
                "the provider did not accept the login's code: log in again", str(error)
            ) from None
        except Unconfirmed as error:
            raise unavailable("the provider cannot be asked now; try again", str(error)) from None

    async def refresh(self, token: str, subject: str) -> tuple[str, tuple[str, ...] | None]:
        """Confirm a login: the refresh token to use from now on, and the groups (None: not told).

        Raises Ended, Unconfirmed, Refused (a token that does not verify).
        """
        answer = await self._token({"grant_type": "refresh_token", "refresh_token": token})
        fresh = answer.get("refresh_token")
        following = fresh if isinstance(fresh, str) and 0 < len(fresh) <= SECRET_CAP else token
        id_token = answer.get("id_token")
        claims: Mapping[str, Any] = {}
        if isinstance(id_token, str):
            proof, claims = await self._proved(id_token)
            if proof.identity.subject != subject:
                # OpenID Connect Core 12.2: it must be the same person.
                raise Ended("the refreshed token is another person's")
        path = self.provider.issuer.claims.get("groups", "groups")
        if lookup(claims, path) is None:
            about = await self._userinfo(answer)
            if about is not None:
                self._same_subject(about, claims, subject)
                claims = about
        told = isinstance(id_token, str) or bool(claims)
        return following, groups_claim(claims, path) if told else None

    async def _verified(self, answer: Mapping[str, Any], nonce: str) -> Verified:
        id_token = answer.get("id_token")
        if not isinstance(id_token, str):
            raise refused("the provider sent no ID token: is the scope openid asked for?")
        proof, claims = await self._proved(id_token)
        if claims.get("nonce") != nonce:
            raise refused(
                "the login's answer belongs to another login",
                f"issuer {self.provider.name}: nonce is {shown(claims.get('nonce'))}",
            )
        groups = proof.groups
        path = self.provider.issuer.claims.get("groups", "groups")
        if lookup(claims, path) is None and (about := await self._userinfo(answer)) is not None:
            self._same_subject(about, claims, proof.identity.subject)
            groups = groups_claim(about, path)
        refresh = answer.get("refresh_token")
        known = isinstance(refresh, str) and 0 < len(refresh) <= SECRET_CAP
        ends = self._now() + self.provider.session_seconds
        return Verified(
            identity=proof.identity,
            groups=groups,
            expires_at=ends if known else min(ends, float(claims["exp"])),
            login=_login(proof, claims),
            refresh_token=str(refresh) if known else "",
        )

    async def _proved(self, id_token: str) -> tuple[Proof, Mapping[str, Any]]:
        """An ID token of this provider, made for this client. Raises Refused."""
        provider = self.provider
        proof = await self._issuers.verify(id_token, (provider.client_id,))
        # The same text was verified a line above.
        claims = jwt.decode(id_token, options={"verify_signature": False})
        if claims.get("iss") != provider.issuer.url:
            raise refused(
                "the token is another provider's", f"issuer {provider.name}: {shown(claims['iss'])}"
            )
        audiences = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
        # OpenID Connect Core 3.1.3.7, 4 and 5.
        party = claims.get("azp", provider.client_id if len(audiences) == 1 else None)
        if party != provider.client_id:
            raise refused("the token was made for another client", f"issuer {provider.name}: azp")
        return proof, claims

    def _same_subject(
        self, about: Mapping[str, Any], claims: Mapping[str, Any], subject: str
    ) -> None:
        """OpenID Connect Core 5.3.2: `sub` of userinfo must be the ID token's."""
        path = self.provider.issuer.claims.get("subject", "sub")
        expected = claims.get("sub", subject if path == "sub" else None)
        if about.get("sub") != expected:
            raise refused(
                "the provider's userinfo is another person's",
                f"issuer {self.provider.name}: userinfo has sub {shown(about.get('sub'))}",
            )

    async def _userinfo(self, answer: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """What the userinfo endpoint says; None where there is none. Raises Unconfirmed."""
        document, token = await self._discovery(), answer.get("access_token")
        if "userinfo_endpoint" not in document or not isinstance(token, str):
            return None
        endpoint = self._endpoint(document, "userinfo_endpoint")
        return await self._asked("GET", endpoint, {"authorization": f"Bearer {token}"})

    async def _token(self, form: Mapping[str, str]) -> Mapping[str, Any]:
        """The token endpoint's answer. Raises Ended, Unconfirmed."""
        document = await self._discovery()
        provider, sent = self.provider, dict(form)
        headers: dict[str, str] = {}
        offered = document.get("token_endpoint_auth_methods_supported")
        if not provider.client_secret:
            sent["client_id"] = provider.client_id
        elif isinstance(offered, list) and "client_secret_basic" not in offered:
            sent |= {"client_id": provider.client_id, "client_secret": provider.client_secret}
        else:
            # RFC 6749 2.3.1: both are form-encoded before they are joined.
            pair = f"{quote(provider.client_id, safe='')}:{quote(provider.client_secret, safe='')}"
            headers["authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        return await self._asked(
            "POST", self._endpoint(document, "token_endpoint"), headers, urlencode(sent)
        )

    async def _asked(
        self, method: str, url: str, headers: Mapping[str, str], form: str = ""
    ) -> Mapping[str, Any]:
        given = {"accept": "application/json", **headers}
        if form:
            given["content-type"] = "application/x-www-form-urlencoded"
        body = bytearray()
        try:
            async with asyncio.timeout(FETCH_DEADLINE), await self._client() as client:
                async with client.stream(method, url, headers=given, content=form) as answer:
                    async for chunk in answer.aiter_bytes(65536):
                        body += chunk
                        if len(body) > DOCUMENT_CAP:
                            raise Unconfirmed(f"{url} sent over {DOCUMENT_CAP} bytes")
        except (httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError) as error:
            raise Unconfirmed(f"{url}: {type(error).__name__}") from None
        return _answer(url, answer.status_code, bytes(body))

    async def _discovery(self) -> Mapping[str, Any]:
        """The discovery document, of this very issuer. Raises Refused."""
        async with self._lock:
            if time.monotonic() - self._asked_at < DISCOVERY_LASTS:
                return self._document
            url = self.provider.issuer.url
            try:
                async with asyncio.timeout(FETCH_DEADLINE), await self._client() as client:
                    document = await fetch_json(
                        client, url.rstrip("/") + "/.well-known/openid-configuration"
                    )
            except (FetchFailed, httpx.HTTPError, OSError, TimeoutError) as error:
                if self._document:
                    return self._document  # an outage of the provider: what it said before holds
                raise unavailable(
                    "the provider cannot be reached; try again",
                    f"issuer {self.provider.name}: {type(error).__name__}: {error}",
                ) from None
            if document.get("issuer") != url:
                raise unavailable(
                    "the provider's discovery document names another issuer",
                    f"issuer {self.provider.name}: {shown(document.get('issuer'))}",
                )
            self._document, self._asked_at = document, time.monotonic()
            return document

    def _endpoint(self, document: Mapping[str, Any], name: str) -> str:
        url, own = document.get(name), self.provider.issuer.url
        try:
            checked = checked_url(url if isinstance(url, str) else "")
        except ValueError:
            checked = ""
        if not checked or checked.startswith("http://") and not own.startswith("http://"):
            raise unavailable(
                "the provider's discovery document is not usable",
                f"issuer {self.provider.name}: {name} is {shown(url)}",
            )
        return checked

    async def _client(self) -> httpx.AsyncClient:
        ca_path = self.provider.issuer.ca_path
        if self._tls is None:
            self._tls = await asyncio.to_thread(
                lambda: (
                    ssl.create_default_context(cafile=ca_path)
                    if ca_path
                    else httpx.create_ssl_context()
                )
            )
        loopback = urlsplit(self.provider.issuer.url).hostname in LOOPBACK
        return outgoing_client(self._tls, TIMEOUT, proxied=not loopback)


def _answer(url: str, status: int, body: bytes) -> Mapping[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise Unconfirmed(f"{url} answered {status} without a JSON object")
    if status == 200:
        return document
    code = document.get("error")
    # `error_description` may quote what was sent.
    if status == 400 and code in ("invalid_grant", "interaction_required", "login_required"):
        raise Ended(f"{url} answered {shown(code)}")
    raise Unconfirmed(f"{url} answered {status}, {shown(code)}")


def _login(proof: Proof, claims: Mapping[str, Any]) -> dict[str, object]:
    methods = claims.get("amr")
    named = isinstance(methods, list) and all(isinstance(one, str) for one in methods)
    context, at = claims.get("acr"), claims.get("auth_time")
    return {
        **proof.login,
        "method": "oidc",
        "proof_sha256": proof.token_sha256,
        "auth_time": at if type(at) in (int, float) else None,
        "acr": context[:256] if isinstance(context, str) else None,
        "amr": [one[:64] for one in methods[:16]] if named and isinstance(methods, list) else None,
    }
