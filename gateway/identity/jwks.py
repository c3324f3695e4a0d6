# SPDX-License-Identifier: GPL-3.0-or-later
"""The keys of one OpenID issuer: found by discovery, cached, and asked again when they rotate."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
import jwt

from gateway.identity.refusal import shown, unavailable
from gateway.outgoing import LOOPBACK, checked_url, outgoing_client

log = logging.getLogger(__name__)

DOCUMENT_CAP = 1 << 20
KEYS_CAP = 100
TIMEOUT = httpx.Timeout(5.0)
FETCH_DEADLINE = 8.0

KEY_TYPES = {
    "RS256": ("RSA", None),
    "RS384": ("RSA", None),
    "RS512": ("RSA", None),
    "PS256": ("RSA", None),
    "PS384": ("RSA", None),
    "PS512": ("RSA", None),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "EdDSA": ("OKP", "Ed25519"),
}
"""Algorithm -> (kty, crv). Only asymmetric ones: an issuer's key set is public."""
SMALLEST_RSA_BITS = 2048


class FetchFailed(Exception):
    """A document of the issuer could not be had, or is not what it must be."""


@dataclass(frozen=True, slots=True)
class Pace:
    """When keys are asked for again, in seconds."""

    refresh_after: float = 300.0
    """A key that the issuer withdrew stops working after this at the latest, while it answers."""
    between_fetches: float = 5.0
    """Unknown key ids, which anyone can send, cause no more fetches than this."""


PACE = Pace()


class IssuerKeys:
    """Finds an issuer's public keys by key id; keeps those it has while the issuer is down."""

    def __init__(
        self,
        url: str,
        *,
        jwks_url: str = "",
        use: str = "sig",
        ca_path: str | None = None,
        pace: Pace = PACE,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.url = url if jwks_url else checked_url(url)
        self._jwks_url = checked_url(jwks_url) if jwks_url else ""
        self._use = use
        self._ca_path = ca_path
        self._pace = pace
        self._now = now
        self._lock = asyncio.Lock()
        self._keys: tuple[dict[str, Any], ...] = ()
        self._fetched_at = float("-inf")
        self._tried_at = float("-inf")
        self._failure = "never asked"
        self._background: asyncio.Task[None] | None = None
        self._tls: ssl.SSLContext | None = None

    async def candidates(self, key_id: str | None, algorithm: str) -> list[jwt.PyJWK]:
        """Keys that may have made a signature. Empty: the issuer has no such key.

        Raises Refused when the issuer's keys cannot be had at all.
        """
        if not self._keys:
            await self.refresh()
        elif self._now() - self._fetched_at > self._pace.refresh_after:
            self._refresh_behind()
        found = matching(self._keys, key_id, algorithm)
        if not found and self._keys and await self.refresh():
            found = matching(self._keys, key_id, algorithm)
        if not self._keys:
            raise unavailable(
                "the token's issuer cannot be reached to check it; try again",
                f"issuer {self.url}: {self._failure}",
            )
        return found

    def _refresh_behind(self) -> None:
        """Ask again without keeping anyone waiting; the keys at hand serve meanwhile."""
        if self._background is None or self._background.done():
            self._background = asyncio.create_task(self._refreshed())

    async def _refreshed(self) -> None:
        await self.refresh()

    async def refresh(self) -> bool:
        """Fetch the keys, at most once per `between_fetches`; True if that brought an answer."""
        asked_at = self._now()
        async with self._lock:
            if self._tried_at >= asked_at:
                return self._fetched_at >= asked_at  # somebody fetched while we waited
            if asked_at - self._tried_at < self._pace.between_fetches:
                return False
            self._tried_at = self._now()
            try:
                async with asyncio.timeout(FETCH_DEADLINE):
                    keys = await self._fetch()
            except (FetchFailed, httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError) as error:
                self._failure = f"{type(error).__name__}: {error}"
                log.warning("issuer %s: keys not refreshed: %s", self.url, self._failure)
                return False
            self._keys = keys
            self._fetched_at = self._now()
            return True

    async def _fetch(self) -> tuple[dict[str, Any], ...]:
        async with await self._client() as client:
            if self._jwks_url:
                return key_set(await fetch_json(client, self._jwks_url), self._use)
            document = await fetch_json(
                client, self.url.rstrip("/") + "/.well-known/openid-configuration"
            )
            # OpenID Connect Discovery 4.3: must be the very issuer that was asked.
            if document.get("issuer") != self.url:
                raise FetchFailed(
                    f"discovery names another issuer: {shown(document.get('issuer'))}"
                )
            return key_set(await fetch_json(client, self._keys_url(document)), self._use)

    async def _client(self) -> httpx.AsyncClient:
        if self._tls is None:
            # Reads a few hundred certificates: once, and not on the loop.
            self._tls = await asyncio.to_thread(_tls_context, self._ca_path)
        # A proxy from the environment cannot reach this machine's loopback.
        loopback = urlsplit(self._jwks_url or self.url).hostname in LOOPBACK
        return outgoing_client(self._tls, TIMEOUT, proxied=not loopback)

    def _keys_url(self, document: dict[str, Any]) -> str:
        url = document.get("jwks_uri")
        try:
            checked = checked_url(url if isinstance(url, str) else "")
        except ValueError as error:
            raise FetchFailed(f"jwks_uri {error}") from error
        if checked.startswith("http://") and not self.url.startswith("http://"):
            raise FetchFailed("jwks_uri leaves https")
        return checked

    async def close(self) -> None:
        if self._background is not None:
            self._background.cancel()
            await asyncio.gather(self._background, return_exceptions=True)


def _tls_context(ca_path: str | None) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=ca_path) if ca_path else httpx.create_ssl_context()


async def fetch_json(client: httpx.AsyncClient, url: str) -> dict[str, Any]:
    """GET a JSON object of at most 1 MiB; redirects are not followed."""
    body = bytearray()
    async with client.stream("GET", url, headers={"accept": "application/json"}) as answer:
        if answer.status_code != 200:
            raise FetchFailed(f"{url} answered {answer.status_code}")
        async for chunk in answer.aiter_bytes(65536):
            body += chunk
            if len(body) > DOCUMENT_CAP:
                raise FetchFailed(f"{url} is over {DOCUMENT_CAP} bytes")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise FetchFailed(f"{url} is not JSON") from error
    if not isinstance(document, dict):
        raise FetchFailed(f"{url} is not a JSON object")
    return document


class GivenKeys:
    """Keys that stand in the objects: for an issuer that cannot be asked from here."""

    def __init__(self, keys: Sequence[dict[str, Any]]) -> None:
        self._keys = tuple(keys)

    async def candidates(self, key_id: str | None, algorithm: str) -> list[jwt.PyJWK]:
        """As IssuerKeys."""
        return matching(self._keys, key_id, algorithm)

    async def close(self) -> None:
        return None


def key_set(document: dict[str, Any], use: str = "sig") -> tuple[dict[str, Any], ...]:
    """The public signature keys of a JWK set (RFC 7517); others are left out.

    `use`: what their `use` must be where they have one. Raises FetchFailed.
    """
    keys = document.get("keys")
    if not isinstance(keys, list):
        raise FetchFailed("the key set has no list of keys")
    usable = tuple(key for key in keys[:KEYS_CAP] if isinstance(key, dict) and _is_public(key, use))
    if not usable:
        raise FetchFailed("the key set holds no usable signature key")
    return usable


def _is_public(key: dict[str, Any], use: str) -> bool:
    operations = key.get("key_ops")
    return (
        key.get("kty") in ("RSA", "EC", "OKP")
        and key.get("use", use) == use
        and (operations is None or isinstance(operations, list) and "verify" in operations)
        and "d" not in key
    )


def matching(
    keys: tuple[dict[str, Any], ...], key_id: str | None, algorithm: str
) -> list[jwt.PyJWK]:
    """Keys of that id (any, if the token names none) whose type fits the algorithm."""
    kty, curve = KEY_TYPES[algorithm]
    found = []
    for key in keys:
        named = key_id is None or key.get("kid") == key_id
        fits = key.get("kty") == kty and (curve is None or key.get("crv") == curve)
        if named and fits and key.get("alg", algorithm) == algorithm:
            found += _loaded(key, algorithm)
    return found


def _loaded(key: dict[str, Any], algorithm: str) -> list[jwt.PyJWK]:
    try:
        loaded = jwt.PyJWK(key, algorithm)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError) as error:
        log.warning("key %s of a key set is left out: %s", shown(key.get("kid")), type(error))
        return []
    if key["kty"] == "RSA" and loaded.key.key_size < SMALLEST_RSA_BITS:
        log.warning("key %s of a key set is left out: RSA below 2048 bits", shown(key.get("kid")))
        return []
    return [loaded]
