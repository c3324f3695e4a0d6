# SPDX-License-Identifier: GPL-3.0-or-later
"""The kinds of keys that session keys are wrapped to: HPKE (RFC 9180) by three KEMs, and age.

HPKE binds a wrap to its session by `info`. age has no such input: what is encrypted there begins
with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import shake_256
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec, mlkem
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

AGE = "age"
_MLKEM_PUBLIC_BYTES = 1184


class CannotOpen(Exception):
    """The private key does not open what was wrapped."""


def _load_p256(raw: bytes) -> ec.EllipticCurvePublicKey:
    if raw[0] != 4:
        raise ValueError("not an uncompressed point")
    return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), raw)


def _dump_p256(key: Any) -> bytes:
    return bytes(key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint))


def _load_hybrid(raw: bytes) -> MLKEM768X25519PublicKey:
    return MLKEM768X25519PublicKey(
        mlkem.MLKEM768PublicKey.from_public_bytes(raw[:_MLKEM_PUBLIC_BYTES]),
        X25519PublicKey.from_public_bytes(raw[_MLKEM_PUBLIC_BYTES:]),
    )


def _hybrid_parts(seed: bytes) -> tuple[mlkem.MLKEM768PrivateKey, X25519PrivateKey]:
    """The two keys of a 32-byte seed (draft-connolly-cfrg-xwing-kem, expandDecapsulationKey)."""
    expanded = shake_256(seed).digest(96)
    return (
        mlkem.MLKEM768PrivateKey.from_seed_bytes(expanded[:64]),
        X25519PrivateKey.from_private_bytes(expanded[64:]),
    )


def _hybrid_public(seed: bytes) -> bytes:
    first, second = _hybrid_parts(seed)
    return first.public_key().public_bytes_raw() + second.public_key().public_bytes_raw()


def _p256_private(raw: bytes) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int.from_bytes(raw, "big"), ec.SECP256R1())


@dataclass(frozen=True, slots=True)
class HpkeKind:
    """One KEM. Private keys are 32 bytes in all of them."""

    name: str
    suite: str
    kem: KEM
    public_bytes: int
    load_public: Callable[[bytes], Any]
    load_private: Callable[[bytes], Any]
    """Raises ValueError."""
    public_of: Callable[[bytes], bytes]
    """The public key of a private one."""

    def wrap(self, public: Any, key: bytes, info: bytes) -> bytes:
        return self._suite().encrypt(key, public, info)

    def unwrap(self, private: Any, sealed: bytes, info: bytes) -> bytes:
        """Raises CannotOpen."""
        try:
            return self._suite().decrypt(sealed, private, info)
        except (InvalidTag, ValueError):
            raise CannotOpen from None

    def _suite(self) -> Suite:
        return Suite(self.kem, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


def _x25519_public(raw: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(raw).public_key().public_bytes_raw()


HPKE: Mapping[str, HpkeKind] = {
    kind.name: kind
    for kind in (
        HpkeKind(
            "x25519",
            "hpke-x25519-hkdf-sha256-aes-256-gcm",
            KEM.X25519,
            32,
            X25519PublicKey.from_public_bytes,
            X25519PrivateKey.from_private_bytes,
            _x25519_public,
        ),
        HpkeKind(
            "p256",
            "hpke-p256-hkdf-sha256-aes-256-gcm",
            KEM.P256,
            65,
            _load_p256,
            _p256_private,
            lambda raw: _dump_p256(_p256_private(raw).public_key()),
        ),
        HpkeKind(
            "mlkem768-x25519",
            "hpke-mlkem768-x25519-hkdf-sha256-aes-256-gcm",
            KEM.MLKEM768_X25519,
            _MLKEM_PUBLIC_BYTES + 32,
            _load_hybrid,
            lambda seed: MLKEM768X25519PrivateKey(*_hybrid_parts(seed)),
            _hybrid_public,
        ),
    )
}
"""By the word in key files and fingerprints."""


class AgeKind:
    """An `age` recipient (age-encryption.org/v1, X25519). pyrage is loaded at its first use."""

    name = AGE
    suite = "age-encryption.org/v1"

    def load_public(self, text: str) -> Any:
        """Raises ValueError."""
        import pyrage

        try:
            return pyrage.x25519.Recipient.from_str(text)
        except pyrage.RecipientError as error:
            raise ValueError(str(error)) from None

    def load_private(self, text: str) -> Any:
        """Raises ValueError, whose text shows nothing of the key."""
        import pyrage

        try:
            return pyrage.x25519.Identity.from_str(text)
        except pyrage.IdentityError:
            raise ValueError("no age identity") from None

    def wrap(self, public: Any, key: bytes, info: bytes) -> bytes:
        import pyrage

        return bytes(pyrage.encrypt(info + key, [public]))

    def unwrap(self, private: Any, sealed: bytes, info: bytes) -> bytes:
        """Raises CannotOpen."""
        import pyrage

        try:
            opened = bytes(pyrage.decrypt(sealed, [private]))
        except pyrage.DecryptError:
            raise CannotOpen from None
        if not opened.startswith(info):
            raise CannotOpen
        return opened.removeprefix(info)


AGE_KIND = AgeKind()
KINDS: Mapping[str, HpkeKind | AgeKind] = {**HPKE, AGE: AGE_KIND}
