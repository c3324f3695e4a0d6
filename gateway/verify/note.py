# SPDX-License-Identifier: GPL-3.0-or-later
"""C2SP signed notes with Ed25519: verifier keys and checkpoints, canonical or refused."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

_ED25519 = b"\x01"


class NoteError(Exception):
    """A key or a note is not what the specification says, or its signature is wrong."""


def exact_base64(text: str) -> bytes:
    """Decode base64 that is exactly what encoding gives: spare bits must be zero (RFC 4648, 3.5).

    Raises NoteError.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        raise NoteError("is not base64") from None
    if base64.b64encode(data).decode() != text:
        raise NoteError("is base64 with spare bits set: not the canonical encoding")
    return data


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A C2SP vkey: name, four bytes of hash, and an Ed25519 public key."""

    name: str
    hash: bytes
    public: bytes

    @staticmethod
    def parse(line: str) -> VerifierKey:
        """`NAME+HEX+BASE64`. Raises NoteError."""
        match = re.fullmatch(r"([^+\s]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/=]+)", line)
        if not match:
            raise NoteError("is no verifier key (NAME+HASH+BASE64)")
        name, digest, text = match.groups()
        data = exact_base64(text)
        if data[:1] != _ED25519 or len(data) != 33:
            raise NoteError("is not an Ed25519 verifier key (type 1)")
        expected = hashlib.sha256(name.encode() + b"\n" + data).digest()[:4]
        if expected.hex() != digest:
            raise NoteError("is a verifier key whose hash does not fit its name and key")
        return VerifierKey(name, expected, data[1:])

    def text(self) -> str:
        encoded = base64.b64encode(_ED25519 + self.public).decode()
        return f"{self.name}+{self.hash.hex()}+{encoded}"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What the log signed: so many leaves have this root."""

    origin: str
    size: int
    root: bytes


def open_checkpoint(data: bytes, key: VerifierKey) -> Checkpoint:
    """Decode a signed checkpoint, check its one signature, and that re-encoding gives these bytes.

    A second signature line is refused too: nothing that nobody vouches for may lie in evidence.
    Raises NoteError.
    """
    try:
        lines = data.decode("utf-8").split("\n")
    except UnicodeDecodeError:
        raise NoteError("is not UTF-8") from None
    if len(lines) != 6 or lines[3] or lines[5]:
        raise NoteError("is not origin, size, root, an empty line and one signature, and no more")
    origin, size, root = lines[0], lines[1], exact_base64(lines[2])
    if not re.fullmatch(r"0|[1-9][0-9]{0,18}", size) or len(root) != 32:
        raise NoteError("has no proper size or root")
    body = f"{origin}\n{size}\n{lines[2]}\n".encode()
    _check_signature(lines[4], body, key)
    if origin != key.name:
        raise NoteError(f"is of the log {origin!r}, but lies in that of {key.name!r}")
    return Checkpoint(origin, int(size), root)


def _check_signature(line: str, body: bytes, key: VerifierKey) -> None:
    mark = f"\u2014 {key.name} "
    if not line.startswith(mark):
        raise NoteError(f"is not signed by {key.name}")
    data = exact_base64(line[len(mark) :])
    if len(data) != 68 or data[:4] != key.hash:
        raise NoteError(f"carries a signature that is not of the key of {key.name}")
    try:
        Ed25519PublicKey.from_public_bytes(key.public).verify(data[4:], body)
    except InvalidSignature:
        raise NoteError(f"carries a signature of {key.name} that does not verify") from None


def read_trust(text: str) -> dict[str, VerifierKey]:
    """The trust file: a vkey a line; empty lines and lines that begin with # are skipped.

    Returns the keys by name. Raises NoteError, naming the line.
    """
    keys: dict[str, VerifierKey] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            try:
                key = VerifierKey.parse(line.strip())
            except NoteError as error:
                raise NoteError(f"line {number} {error}") from None
            if keys.setdefault(key.name, key) != key:
                raise NoteError(f"line {number} names a second key for {key.name}")
    if not keys:
        raise NoteError("names no key")
    return keys
