# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys that the gateway signs JWTs with: made here, published ahead, rotated, kept from others.

A signature lets others read a token offline. Authority never comes from it: the gateway finds its
own JWTs by their SHA-256 in the store, as it finds handles, so a stolen key opens nothing here.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import stat
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from typing import Protocol as Interface

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from jwt.algorithms import ECAlgorithm

ALGORITHM = "ES256"
ROTATE_EVERY = 7 * 86400.0
"""Seconds that a key signs. The next one is published all that while."""
LONGEST_JWT = 86400.0
"""Seconds that a JWT of ours may live; a key stays published so long after its last signature."""
CHECK_EVERY = 3600.0
_KEPT_AFTER = LONGEST_JWT + 3600.0


class KeysFailed(ValueError):
    """The signing keys cannot be read or kept; the text names the place and the cure."""


class KeyPlace(Interface):
    """Where signing keys are kept between two runs. Raises KeysFailed."""

    async def read(self) -> bytes | None:
        """What was written last; None: nothing was."""

    async def write(self, data: bytes) -> None:
        """Keep it, durably, in the place of what was there."""


class KeyFile:
    """Signing keys in a file that only its owner may read."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def read(self) -> bytes | None:
        return await asyncio.to_thread(self._read)

    async def write(self, data: bytes) -> None:
        await asyncio.to_thread(self._write, data)

    def _read(self) -> bytes | None:
        try:
            with self._path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                data = file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise KeysFailed(f"{self._path}: {error.strerror}") from error
        if stat.S_IMODE(mode) & 0o077:
            raise KeysFailed(
                f"{self._path} can be read by others: remove it, new keys are made at the start"
            )
        return data

    def _write(self, data: bytes) -> None:
        beside = self._path.with_name(f".{self._path.name}-{os.getpid()}")
        try:
            beside.unlink(missing_ok=True)
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.rename(beside, self._path)
        except OSError as error:
            raise KeysFailed(f"{self._path}: {error.strerror}") from error


@dataclass(frozen=True, slots=True)
class _Key:
    """`private` is PEM; a retired key has none any more. Times are seconds since the epoch."""

    kid: str
    public: dict[str, Any]
    private: str | None
    since: float | None = None
    """When it began to sign; None: it is the next one."""
    until: float | None = None
    """When it may be forgotten; None: it is not retired."""

    def __repr__(self) -> str:
        return f"_Key({self.kid!r})"


def _new_key() -> _Key:
    private = ec.generate_private_key(ec.SECP256R1())
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    kid = secrets.token_hex(8)
    public = json.loads(ECAlgorithm.to_jwk(private.public_key()))
    return _Key(kid, {**public, "kid": kid, "use": "sig", "alg": ALGORITHM}, pem)


class SigningKeys:
    """One key that signs, one that will, and those whose tokens may still be about."""

    def __init__(
        self, place: KeyPlace, keys: tuple[_Key, ...], now: Callable[[], float] = time.time
    ) -> None:
        self._place = place
        self._now = now
        self._lock = asyncio.Lock()
        self._signer: tuple[str, ec.EllipticCurvePrivateKey] | None = None
        self._keys = keys

    @classmethod
    async def open(cls, place: KeyPlace, *, now: Callable[[], float] = time.time) -> SigningKeys:
        """Read the keys, make what is missing. Raises KeysFailed."""
        data = await place.read()
        try:
            keys = tuple(_Key(**one) for one in json.loads(data)["keys"]) if data else ()
        except (ValueError, TypeError, KeyError):
            raise KeysFailed("the signing keys are damaged: remove their file") from None
        signing = cls(place, keys, now)
        await signing.rotate_if_due()
        return signing

    def published(self) -> dict[str, Any]:
        """The JWK set (RFC 7517) of all that may have signed or will sign."""
        return {"keys": [one.public for one in self._keys]}

    async def rotate_if_due(self) -> bool:
        """Let the next key sign where its time has come; True if that was so. Raises KeysFailed."""
        async with self._lock:
            current = next((one for one in self._keys if one.since and not one.until), None)
            due = current is None or self._now() - (current.since or 0.0) >= ROTATE_EVERY
            if due:
                await self._rotate()
            return due

    async def rotate(self) -> None:
        """Let the next key sign from now on, before its time. Raises KeysFailed."""
        async with self._lock:
            await self._rotate()

    async def _rotate(self) -> None:
        now = self._now()
        keys = [one for one in self._keys if one.until is None or one.until > now]
        following = next((one for one in keys if one.since is None), None) or _new_key()
        # A retired key's private half is of no use to anybody but a thief.
        kept = [
            replace(one, private=None, until=one.until or now + _KEPT_AFTER)
            for one in keys
            if one.since is not None
        ]
        changed = (*kept, replace(following, since=now), _new_key())
        data = json.dumps({"format": 1, "keys": [asdict(one) for one in changed]}).encode()
        await self._place.write(data)
        self._keys, self._signer = changed, None

    def sign(self, claims: Mapping[str, Any], typ: str) -> str:
        """A JWT with the header `typ`, signed by the key of now."""
        if self._signer is None:
            current = next(one for one in self._keys if one.since and not one.until)
            loaded = load_pem_private_key((current.private or "").encode(), None)
            assert isinstance(loaded, ec.EllipticCurvePrivateKey)
            self._signer = current.kid, loaded
        kid, key = self._signer
        return jwt.encode(dict(claims), key, algorithm=ALGORITHM, headers={"kid": kid, "typ": typ})

    async def watch(self, failed: Callable[[str], None]) -> None:
        """Rotate when it is time, until cancelled; `failed` is told why it could not be."""
        while True:
            await asyncio.sleep(CHECK_EVERY)
            try:
                await self.rotate_if_due()
            except Exception as error:
                # Whatever keeps the keys; the key of now goes on signing.
                failed(f"{type(error).__name__}: {error}")
