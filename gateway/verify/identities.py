# SPDX-License-Identifier: GPL-3.0-or-later
"""An auditor's private keys, of every kind: what their fingerprints are, and how they unwrap."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.verify.findings import CannotCheck

_MARK = "trailgate-identity-"
_AGE_MARK = "AGE-SECRET-KEY-1"
SUITES = {
    "x25519": "hpke-x25519-hkdf-sha256-aes-256-gcm",
    "p256": "hpke-p256-hkdf-sha256-aes-256-gcm",
    "mlkem768-x25519": "hpke-mlkem768-x25519-hkdf-sha256-aes-256-gcm",
    "age": "age-encryption.org/v1",
}
"""How a wrap for a recipient of each kind is made; the kind begins the fingerprint."""

Unwrap = Callable[[bytes, bytes], bytes]
"""(wrapped, info) to the key. Raises ValueError, InvalidTag."""


@dataclass(frozen=True, slots=True)
class Key:
    """One private key."""

    suite: str
    unwrap: Unwrap = field(repr=False)


def load(path: Path) -> dict[str, Key]:
    """The keys of an identity file by fingerprint. Raises CannotCheck."""
    keys: dict[str, Key] = {}
    try:
        for line in path.read_text("ascii").splitlines():
            if found := _line(line.split()):
                keys[found[0]] = found[1]
    except OSError as error:
        raise CannotCheck(f"{path}: {error.strerror}") from error
    except ValueError:
        raise CannotCheck(f"{path}: not an identity file; nothing of it is shown") from None
    if not keys:
        raise CannotCheck(f"{path}: holds no line that begins with {_MARK}KIND or {_AGE_MARK}")
    return keys


def _line(words: list[str]) -> tuple[str, Key] | None:
    if len(words) == 1 and words[0].upper().startswith(_AGE_MARK):
        return _age(words[0])
    kind = words[0].removeprefix(_MARK) if words and words[0].startswith(_MARK) else ""
    if kind not in _LOADERS:
        return None
    raw = base64.b64decode(words[1], validate=True) if len(words) == 2 else b""
    if len(raw) != 32:
        raise ValueError("no key")
    public, unwrap = _LOADERS[kind](raw)
    return _fingerprint(kind, public), Key(SUITES[kind], unwrap)


def _fingerprint(kind: str, public: bytes) -> str:
    return f"{kind}:{hashlib.sha256(public).hexdigest()}"


def _hpke(kem: KEM, private: Any) -> Unwrap:
    suite = Suite(kem, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
    return lambda sealed, info: suite.decrypt(sealed, private, info)


def _x25519(raw: bytes) -> tuple[bytes, Unwrap]:
    key = X25519PrivateKey.from_private_bytes(raw)
    return key.public_key().public_bytes_raw(), _hpke(KEM.X25519, key)


def _p256(raw: bytes) -> tuple[bytes, Unwrap]:
    key = ec.derive_private_key(int.from_bytes(raw, "big"), ec.SECP256R1())
    public = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return public, _hpke(KEM.P256, key)


def _mlkem768_x25519(seed: bytes) -> tuple[bytes, Unwrap]:
    """X-Wing: the seed gives both keys (draft-connolly-cfrg-xwing-kem)."""
    try:
        from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
        from cryptography.hazmat.primitives.hpke import MLKEM768X25519PrivateKey
    except ImportError:
        raise CannotCheck("for a key of ML-KEM: pip install 'cryptography>=48'") from None
    expanded = hashlib.shake_256(seed).digest(96)
    first = MLKEM768PrivateKey.from_seed_bytes(expanded[:64])
    second = X25519PrivateKey.from_private_bytes(expanded[64:])
    public = first.public_key().public_bytes_raw() + second.public_key().public_bytes_raw()
    return public, _hpke(KEM.MLKEM768_X25519, MLKEM768X25519PrivateKey(first, second))


_LOADERS: dict[str, Callable[[bytes], tuple[bytes, Unwrap]]] = {
    "x25519": _x25519,
    "p256": _p256,
    "mlkem768-x25519": _mlkem768_x25519,
}


def _age(text: str) -> tuple[str, Key]:
    try:
        import pyrage
    except ImportError:
        raise CannotCheck("for an identity of age: pip install pyrage") from None
    try:
        key = pyrage.x25519.Identity.from_str(text)
    except pyrage.IdentityError:
        raise ValueError("no age identity") from None

    def unwrap(sealed: bytes, info: bytes) -> bytes:
        try:
            opened = bytes(pyrage.decrypt(sealed, [key]))
        except pyrage.DecryptError:
            raise InvalidTag from None
        if not opened.startswith(info):
            raise ValueError("is of another session")
        return opened.removeprefix(info)

    return _fingerprint("age", str(key.to_public()).encode()), Key(SUITES["age"], unwrap)
