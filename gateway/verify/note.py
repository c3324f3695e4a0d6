# SPDX-License-Identifier: GPL-3.0-or-later
"""C2SP signed notes with Ed25519: verifier keys and checkpoints, canonical or refused."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

ED25519, COSIGNATURE = b"\x01", b"\x04"
"""Signature types: a log's own, and cosignature/v1 of a witness (C2SP tlog-cosignature)."""
MOST_LINES = 64


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
    kind: bytes = ED25519

    @staticmethod
    def make(name: str, public: bytes, kind: bytes) -> VerifierKey:
        digest = hashlib.sha256(name.encode() + b"\n" + kind + public).digest()[:4]
        return VerifierKey(name, digest, public, kind)

    @staticmethod
    def parse(line: str, kind: bytes = ED25519) -> VerifierKey:
        """`NAME+HEX+BASE64`. Raises NoteError."""
        match = re.fullmatch(r"([^+\s]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/=]+)", line)
        if not match:
            raise NoteError("is no verifier key (NAME+HASH+BASE64)")
        name, digest, text = match.groups()
        data = exact_base64(text)
        if data[:1] != kind or len(data) != 33:
            raise NoteError(f"is not an Ed25519 verifier key of type {kind[0]}")
        key = VerifierKey.make(name, data[1:], kind)
        if key.hash.hex() != digest:
            raise NoteError("is a verifier key whose hash does not fit its name and key")
        return key

    def text(self) -> str:
        encoded = base64.b64encode(self.kind + self.public).decode()
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


@dataclass(frozen=True, slots=True)
class Note:
    """A signed note: its text with the last newline, and its signatures by key name."""

    body: bytes
    signatures: tuple[tuple[str, bytes], ...]


def parse_note(data: bytes) -> Note:
    """A note of which nothing is checked but its form. Raises NoteError."""
    try:
        body, found, rest = data.decode("utf-8").rpartition("\n\n")
    except UnicodeDecodeError:
        raise NoteError("is not UTF-8") from None
    lines = rest.removesuffix("\n").split("\n")
    if not found or not rest.endswith("\n") or len(lines) > MOST_LINES:
        raise NoteError("is no signed note")
    return Note(body.encode() + b"\n", tuple(signature_line(line) for line in lines))


def signature_line(line: str) -> tuple[str, bytes]:
    """Key name, and key hash with signature. Raises NoteError."""
    match = re.fullmatch(r"\u2014 ([^+\s]+) ([A-Za-z0-9+/=]+)", line)
    if not match:
        raise NoteError("has a line that is no signature")
    return match[1], exact_base64(match[2])


def cosigned_at(body: bytes, signature: bytes, key: VerifierKey) -> int:
    """The time (POSIX seconds) of a witness's cosignature/v1. Raises NoteError."""
    if len(signature) != 76 or signature[:4] != key.hash:
        raise NoteError(f"carries a cosignature that is not of the key of {key.name}")
    at = int.from_bytes(signature[4:12], "big")
    try:
        public = Ed25519PublicKey.from_public_bytes(key.public)
        public.verify(signature[12:], b"cosignature/v1\ntime %d\n" % at + body)
    except InvalidSignature:
        raise NoteError(f"carries a cosignature of {key.name} that does not verify") from None
    return at


def own_checkpoint(note: Note, key: VerifierKey) -> Checkpoint:
    """The checkpoint of a note that others may have cosigned. Raises NoteError."""
    for name, signature in note.signatures:
        if (name, signature[:4]) == (key.name, key.hash):
            encoded = base64.b64encode(signature).decode()
            return open_checkpoint(note.body + f"\n\u2014 {name} {encoded}\n".encode(), key)
    raise NoteError(f"is not signed by {key.name}")
