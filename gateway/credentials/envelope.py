# SPDX-License-Identifier: GPL-3.0-or-later
"""Envelope encryption: data under a key of its own, that key under the master key.

Both layers are AES-256-GCM, and both bind what the data is for (NIST SP 800-38D's additional
authenticated data): a row that was changed, or put in another's place, does not open.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.credentials.master import KeyRing, VaultFailed

FORMAT = b"\x01"
KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16


@dataclass(frozen=True, slots=True)
class Envelope:
    """Sealed data and its wrapped key. `master`: the id of the master key that wraps."""

    master: str
    wrapped: bytes = field(repr=False)
    sealed: bytes = field(repr=False)


def context_of(*parts: str | int) -> bytes:
    """What data is for, as bytes that no other parts give: each has its length before it."""
    texts = [str(part).encode() for part in parts]
    return b"".join(len(text).to_bytes(4, "big") + text for text in texts)


def new_key() -> bytearray:
    """A data key; wipe it after use."""
    return bytearray(os.urandom(KEY_BYTES))


def wipe(key: bytearray) -> None:
    """Overwrite a key. What a library has copied meanwhile stays until its memory is used again."""
    key[:] = bytes(len(key))


def encrypt(key: bytearray | bytes, context: bytes, data: bytes) -> bytes:
    """format, nonce, ciphertext and tag."""
    nonce = os.urandom(NONCE_BYTES)
    return FORMAT + nonce + AESGCM(key).encrypt(nonce, data, FORMAT + context)


def decrypt(key: bytearray | bytes, context: bytes, sealed: bytes) -> bytes:
    """Raises VaultFailed: another key, another context, or changed bytes."""
    if len(sealed) < len(FORMAT) + NONCE_BYTES + TAG_BYTES or sealed[:1] != FORMAT:
        raise VaultFailed("sealed data is cut, or of a format that this version does not know")
    nonce = sealed[1 : 1 + NONCE_BYTES]
    try:
        return AESGCM(key).decrypt(nonce, sealed[1 + NONCE_BYTES :], FORMAT + context)
    except InvalidTag:
        raise VaultFailed(
            "sealed data does not open: it was changed, or stands in another's place; "
            "restore the store from a backup"
        ) from None


async def seal(ring: KeyRing, context: bytes, data: bytes) -> Envelope:
    """Seal under a new data key. Raises VaultFailed."""
    key = new_key()
    try:
        sealed = encrypt(key, context, data)
        master, wrapped = await ring.wrap(bytes(key), context)
    finally:
        wipe(key)
    return Envelope(master, wrapped, sealed)


async def unseal(ring: KeyRing, context: bytes, envelope: Envelope) -> bytes:
    """The data. Raises VaultFailed."""
    key = bytearray(await ring.unwrap(envelope.master, envelope.wrapped, context))
    try:
        return decrypt(key, context, envelope.sealed)
    finally:
        wipe(key)


async def rewrapped(
    ring: KeyRing, context: bytes, master: str, wrapped: bytes
) -> tuple[str, bytes]:
    """The same data key under the current master key: its id, and the key. Raises VaultFailed."""
    key = bytearray(await ring.unwrap(master, wrapped, context))
    try:
        return await ring.wrap(bytes(key), context)
    finally:
        wipe(key)
