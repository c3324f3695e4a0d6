# SPDX-License-Identifier: GPL-3.0-or-later
"""Sealing of payloads, and the wrapping of session keys to recipients (HPKE, RFC 9180)."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from hashlib import sha256

import lz4.block
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from gateway.record.frames import FORMAT, Frame, canonical, session_text
from gateway.record.recipients import Identity, Recipient

SUITE = "hpke-x25519-hkdf-sha256-aes-256-gcm"
COMPRESS_FROM = 4096
"""Shorter payloads are sealed as they are."""
NONE, LZ4, ZSTD = 0, 1, 2
COMPRESSIONS = {"none": NONE, "lz4": LZ4}
SALT_BYTES = 16
KEY_BYTES = 32
_SALTS_AT_ONCE = 256
_INFO = b"trailgate/1 seal"
_WRAP_INFO = b"trailgate/1 wrap "
_suite = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


class SealError(Exception):
    """What is sealed does not open, or is not what its digest says."""


def new_key() -> bytes:
    """A session key."""
    return os.urandom(KEY_BYTES)


def cipher(key: bytes, view: int, generation: bytes) -> AESGCM:
    """What seals one session's payloads of one view in one journal file."""
    info = _INFO + bytes([view]) + generation
    return AESGCM(HKDF(SHA256(), KEY_BYTES, None, info).derive(key))


def salt_source() -> Callable[[], bytes]:
    """A function that gives fresh salts; the system is asked for many at once."""
    pool: list[bytes] = []

    def salt() -> bytes:
        if not pool:
            many = os.urandom(SALT_BYTES * _SALTS_AT_ONCE)
            pool.extend(many[at : at + SALT_BYTES] for at in range(0, len(many), SALT_BYTES))
        return pool.pop()

    return salt


def associated_data(session: bytes, sequence: int, kind: int) -> bytes:
    """What a sealed payload is bound to."""
    return b"\x01" + session + sequence.to_bytes(8, "big") + kind.to_bytes(1, "big")


def seal(
    with_: AESGCM,
    salt: bytes,
    session: bytes,
    sequence: int,
    kind: int,
    payload: bytes,
    compression: int = LZ4,
) -> tuple[int, bytes, bytes]:
    """Seal a payload that is not empty: (compression used, salted digest, sealed bytes).

    The nonce is the sequence: under one cipher no sequence may ever be sealed twice.
    """
    nonce = sequence.to_bytes(12, "big")
    bound = associated_data(session, sequence, kind)
    if compression == LZ4 and len(payload) >= COMPRESS_FROM:
        packed: bytes = lz4.block.compress(payload, store_size=False)
        # An eighth less, or opening costs more than the space is worth.
        if len(packed) * 8 <= len(payload) * 7:
            digest = sha256(salt)
            digest.update(payload)
            return LZ4, digest.digest(), with_.encrypt(nonce, salt + packed, bound)
    salted = salt + payload
    return NONE, sha256(salted).digest(), with_.encrypt(nonce, salted, bound)


def open_payload(with_: AESGCM, frame: Frame) -> bytes:
    """The payload of a frame, its digest checked. Raises SealError."""
    if not frame.payload_length:
        return b""
    where = f"frame {frame.sequence} of {session_text(frame.session)}"
    bound = associated_data(frame.session, frame.sequence, frame.kind)
    try:
        salted = with_.decrypt(frame.sequence.to_bytes(12, "big"), frame.sealed, bound)
    except InvalidTag:
        raise SealError(f"{where}: its session's key does not open it") from None
    payload = _expand(frame, salted[SALT_BYTES:], where)
    digest = sha256(salted[:SALT_BYTES])
    digest.update(payload)
    if len(payload) != frame.payload_length or digest.digest() != frame.digest:
        raise SealError(f"{where}: its digest is not that of its payload")
    return payload


def _expand(frame: Frame, data: bytes, where: str) -> bytes:
    if frame.compression == NONE:
        return data
    if frame.compression != LZ4:
        raise SealError(f"{where}: is compressed with zstd, which this version cannot open")
    try:
        return bytes(lz4.block.decompress(data, uncompressed_size=frame.payload_length))
    except (lz4.block.LZ4BlockError, ValueError, MemoryError):
        raise SealError(f"{where}: its payload does not decompress") from None


def wrap(key: bytes, session: str, recipient: Recipient) -> bytes:
    """The wrap file of a session key for one recipient; a file is named by its SHA-256."""
    sealed = _suite.encrypt(key, recipient.public_key, _WRAP_INFO + session.encode())
    return canonical(
        {
            "format": FORMAT,
            "session": session,
            "recipient": recipient.fingerprint,
            "suite": SUITE,
            "wrapped": base64.b64encode(sealed).decode(),
        }
    )


def unwrap(data: bytes, session: str, identity: Identity) -> bytes | None:
    """The session key of a wrap file; None when it is for others. Raises SealError."""
    try:
        fields = json.loads(data)
        private = identity.keys.get(fields["recipient"])
        if (fields["format"], fields["session"], fields["suite"]) != (FORMAT, session, SUITE):
            raise SealError(f"session {session}: the wrap is of another session, suite or format")
        sealed = base64.b64decode(fields["wrapped"], validate=True)
    except (ValueError, KeyError, TypeError):
        raise SealError(f"session {session}: the wrap is not of this format") from None
    if private is None:
        return None
    try:
        key = _suite.decrypt(sealed, private, _WRAP_INFO + session.encode())
    except (InvalidTag, ValueError):
        raise SealError(f"session {session}: the identity does not open the wrap") from None
    if len(key) != KEY_BYTES:
        raise SealError(f"session {session}: the wrap holds no session key")
    return key
