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
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from gateway.verify.findings import CannotCheck
from gateway.verify.segment import BadSegment, Frame, session_text

_MARK = "trailgate-identity-x25519 "
_CACHED_KEYS = 4096
_NONE, _LZ4 = 0, 1


class Opener:
    """Opens what is sealed to one of the identity's keys."""

    def __init__(self, keys: dict[str, X25519PrivateKey]) -> None:
        self._keys = keys
        self._suite = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
        self._seals: OrderedDict[tuple[bytes, int, bytes], AESGCM] = OrderedDict()
        self._session_key: Callable[[str], bytes | None] = lambda session: None
        self.payloads = 0
        """Payloads that were opened."""

    @staticmethod
    def load(path: Path) -> Opener:
        """An identity file. Raises CannotCheck."""
        keys: dict[str, X25519PrivateKey] = {}
        try:
            lines = path.read_text("ascii").splitlines()
            for line in (line for line in lines if line.startswith(_MARK)):
                key = X25519PrivateKey.from_private_bytes(base64.b64decode(line[len(_MARK) :]))
                public = key.public_key().public_bytes_raw()
                keys["x25519:" + hashlib.sha256(public).hexdigest()] = key
        except OSError as error:
            raise CannotCheck(f"{path}: {error.strerror}") from error
        except ValueError:
            raise CannotCheck(f"{path}: not an identity file; nothing of it is shown") from None
        if not keys:
            raise CannotCheck(f"{path}: holds no line that begins with {_MARK.strip()}")
        return Opener(keys)

    def unwrap(self, session: str, recipient: str, wrap: bytes) -> bytes | None:
        """The session key; None when the wrap is for someone else. Raises ValueError."""
        key = self._keys.get(recipient)
        if key is None:
            return None
        sealed = base64.b64decode(json.loads(wrap)["wrapped"], validate=True)
        try:
            opened = self._suite.decrypt(sealed, key, b"trailgate/1 wrap " + session.encode())
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
    if frame.compression != _LZ4:
        raise CannotCheck(f"{where} is compressed with zstd, which this verifier cannot open")
    try:
        import lz4.block
    except ImportError:
        raise CannotCheck(f"{where} is compressed: to open it, pip install lz4") from None
    try:
        return bytes(lz4.block.decompress(data, uncompressed_size=frame.payload_length))
    except (lz4.block.LZ4BlockError, ValueError, MemoryError):
        raise BadSegment("sealed", f"has {where}, whose payload does not decompress") from None
