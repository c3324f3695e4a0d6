# SPDX-License-Identifier: GPL-3.0-or-later
"""Sealing of payloads, and the wrapping of session keys to recipients (HPKE, RFC 9180)."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from functools import cache
from hashlib import sha256
from typing import Any

import lz4.block
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from gateway.record.frames import FORMAT, Frame, canonical, session_text
from gateway.record.recipients import CannotOpen, Identity, Recipient

COMPRESS_FROM = 4096
"""Shorter payloads are sealed as they are."""
NONE, LZ4, ZSTD = 0, 1, 2
COMPRESSIONS = {"none": NONE, "lz4": LZ4, "zstd": ZSTD}
ZSTD_LEVEL = 1
"""The fastest: the relay waits for it."""
SALT_BYTES = 16
KEY_BYTES = 32
_SALTS_AT_ONCE = 256
_INFO = b"trailgate/1 seal"
_WRAP_INFO = b"trailgate/1 wrap "


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
    if compression != NONE and len(payload) >= COMPRESS_FROM:
        packed = _PACK[compression](payload)
        # An eighth less, or opening costs more than the space is worth.
        if len(packed) * 8 <= len(payload) * 7:
            digest = sha256(salt)
            digest.update(payload)
            return compression, digest.digest(), with_.encrypt(nonce, salt + packed, bound)
    salted = salt + payload
    return NONE, sha256(salted).digest(), with_.encrypt(nonce, salted, bound)


def _pack_lz4(payload: bytes) -> bytes:
    return bytes(lz4.block.compress(payload, store_size=False))


def _unpack_lz4(data: bytes, size: int) -> bytes:
    try:
        return bytes(lz4.block.decompress(data, uncompressed_size=size))
    except lz4.block.LZ4BlockError as error:
        raise ValueError(str(error)) from None


@cache
def _zstd_packer() -> Any:
    """Loaded where zstd is set. On the loop only: it is one context, used again and again."""
    import zstandard

    # The frame has the length, and every payload is checked by its seal and digest.
    return zstandard.ZstdCompressor(
        level=ZSTD_LEVEL, write_content_size=False, write_checksum=False
    )


def _pack_zstd(payload: bytes) -> bytes:
    return bytes(_zstd_packer().compress(payload))


def _unpack_zstd(data: bytes, size: int) -> bytes:
    import zstandard

    unpacker = zstandard.ZstdDecompressor()
    try:
        return unpacker.decompress(data, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from None


_PACK = {LZ4: _pack_lz4, ZSTD: _pack_zstd}
_UNPACK = {LZ4: _unpack_lz4, ZSTD: _unpack_zstd}


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
    try:
        return _UNPACK[frame.compression](data, frame.payload_length)
    except KeyError:
        raise SealError(f"{where}: is compressed in a way that this version cannot open") from None
    except (ValueError, MemoryError):
        raise SealError(f"{where}: its payload does not decompress") from None


def wrap(key: bytes, session: str, recipient: Recipient) -> bytes:
    """The wrap file of a session key for one recipient; a file is named by its SHA-256."""
    sealed = recipient.wrap(key, _WRAP_INFO + session.encode())
    return canonical(
        {
            "format": FORMAT,
            "session": session,
            "recipient": recipient.fingerprint,
            "suite": recipient.suite,
            "wrapped": base64.b64encode(sealed).decode(),
        }
    )


def unwrap(data: bytes, session: str, identity: Identity) -> bytes | None:
    """The session key of a wrap file; None when it is for others. Raises SealError."""
    try:
        fields = json.loads(data)
        private = identity.keys.get(fields["recipient"])
        if (fields["format"], fields["session"]) != (FORMAT, session):
            raise SealError(f"session {session}: the wrap is of another session or format")
        suite, sealed = fields["suite"], base64.b64decode(fields["wrapped"], validate=True)
    except (ValueError, KeyError, TypeError):
        raise SealError(f"session {session}: the wrap is not of this format") from None
    if private is None:
        return None
    if suite != private.suite:
        raise SealError(f"session {session}: the wrap is of another suite than its recipient's")
    try:
        key = private.unwrap(sealed, _WRAP_INFO + session.encode())
    except CannotOpen:
        raise SealError(f"session {session}: the identity does not open the wrap") from None
    if len(key) != KEY_BYTES:
        raise SealError(f"session {session}: the wrap holds no session key")
    return key
