# SPDX-License-Identifier: GPL-3.0-or-later
"""With an auditor's private key: opens wraps and payloads, and checks every salted digest."""

from __future__ import annotations

import base64
import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from gateway.verify.findings import CannotCheck
from gateway.verify.identities import Key, load
from gateway.verify.segment import MOST_FRAME, BadSegment, Frame, session_text

_CACHED_KEYS = 4096
_NONE, _LZ4, _ZSTD = 0, 1, 2


class Opener:
    """Opens what is sealed to one of the identity's keys."""

    def __init__(self, keys: dict[str, Key]) -> None:
        self._keys = keys
        self._seals: OrderedDict[tuple[bytes, int, bytes], AESGCM] = OrderedDict()
        self._session_key: Callable[[str], bytes | None] = lambda session: None
        self.payloads = 0
        """Payloads that were opened."""

    @staticmethod
    def load(path: Path) -> Opener:
        """An identity file. Raises CannotCheck."""
        return Opener(load(path))

    def unwrap(self, session: str, recipient: str, wrap: bytes) -> bytes | None:
        """The session key; None when the wrap is for someone else. Raises ValueError."""
        key = self._keys.get(recipient)
        if key is None:
            return None
        sealed = base64.b64decode(json.loads(wrap)["wrapped"], validate=True)
        try:
            opened = key.unwrap(sealed, b"trailgate/1 wrap " + session.encode())
        except InvalidTag:
            raise ValueError("does not open with the key that it names") from None
        if len(opened) != 32:
            raise ValueError("holds a key that is not 32 bytes")
        return opened

    def use(self, session_key: Callable[[str], bytes | None]) -> None:
        """Where keys of sessions come from, for the log that is read now."""
        self._session_key = session_key
        self._seals.clear()

    def check(self, frame: Frame) -> None:
        """Open one payload and check its digest. Raises BadSegment, CannotCheck."""
        seal = self._seal(frame)
        if seal is None:
            return
        head = bytes([1]) + frame.session
        bound = head + frame.sequence.to_bytes(8, "big") + bytes([frame.kind])
        where = f"frame {frame.sequence} of {session_text(frame.session)} at byte {frame.offset}"
        try:
            salted = seal.decrypt(frame.sequence.to_bytes(12, "big"), frame.sealed, bound)
        except InvalidTag:
            raise BadSegment("sealed", f"has {where}, which its session's key does not open") from (
                None
            )
        payload = _expand(frame, salted[16:], where)
        digest = hashlib.sha256(salted[:16] + payload).digest()
        if len(payload) != frame.payload_length or digest != frame.digest:
            raise BadSegment("sealed", f"has {where}, whose digest is not that of its payload")
        self.payloads += 1

    def _seal(self, frame: Frame) -> AESGCM | None:
        place = (frame.session, frame.view, frame.generation)
        if found := self._seals.get(place):
            self._seals.move_to_end(place)
            return found
        key = self._session_key(session_text(frame.session))
        if key is None:
            return None
        info = b"trailgate/1 seal" + bytes([frame.view]) + frame.generation
        seal = AESGCM(HKDF(SHA256(), 32, None, info).derive(key))
        self._seals[place] = seal
        if len(self._seals) > _CACHED_KEYS:
            self._seals.popitem(last=False)
        return seal


def _expand(frame: Frame, data: bytes, where: str) -> bytes:
    if frame.compression == _NONE:
        return data
    unpack = _UNPACK.get(frame.compression)
    if unpack is None:
        raise BadSegment("sealed", f"has {where}, compressed in a way that the format has not")
    if frame.payload_length > MOST_FRAME:
        raise BadSegment("sealed", f"has {where}, which claims more than a frame holds")
    try:
        return unpack(data, frame.payload_length)
    except ImportError as error:
        raise CannotCheck(f"{where} is compressed: to open it, pip install {error.name}") from None
    except (ValueError, MemoryError):
        raise BadSegment("sealed", f"has {where}, whose payload does not decompress") from None


def _unpack_lz4(data: bytes, size: int) -> bytes:
    import lz4.block

    try:
        return bytes(lz4.block.decompress(data, uncompressed_size=size))
    except lz4.block.LZ4BlockError as error:
        raise ValueError(str(error)) from None


def _unpack_zstd(data: bytes, size: int) -> bytes:
    import zstandard

    try:
        unpacker = zstandard.ZstdDecompressor()
        return unpacker.decompress(data, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from None


_UNPACK = {_LZ4: _unpack_lz4, _ZSTD: _unpack_zstd}
