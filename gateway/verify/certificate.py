# SPDX-License-Identifier: GPL-3.0-or-later
"""Node certificates: C2SP signed notes in which an offline root vouches for a log's key.

CERTIFICATE = "trailgate/node-certificate/1" LF vkey LF not before LF not after LF, signed by the
root; REQUEST = "trailgate/node-request/1" LF vkey LF since LF, signed by the key itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.verify.note import Note, NoteError, VerifierKey, parse_note

CERTIFICATE = "trailgate/node-certificate/1"
REQUEST = "trailgate/node-request/1"
MOST_CERTIFICATE = 4096
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_ORIGIN = re.compile(r"trailgate/([^/+\s]+)/(0|[1-9]\d{0,8})")


class UnknownRoot(NoteError):
    """A certificate of a root that nobody named."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """`not_before` and `not_after` as leaves write times, so that they compare as text."""

    key: VerifierKey
    not_before: str
    not_after: str
    root: str
    """Name of the root; empty: its signature was not checked."""

    @property
    def node(self) -> str:
        return node_of(self.key.name)

    def holds_at(self, at: str) -> bool:
        """Whether it vouches for the key at this time."""
        return self.not_before <= at < self.not_after


def node_of(origin: str) -> str:
    """The node of a log's origin `trailgate/NODE/N`. Raises NoteError."""
    match = _ORIGIN.fullmatch(origin)
    if not match:
        raise NoteError(f"is of {origin!r}: an origin is trailgate/NODE/N")
    return match[1]


def open_certificate(data: bytes, roots: Iterable[VerifierKey]) -> Certificate:
    """Decode a certificate and check that one of `roots` signed it; any root, where none is named.

    Raises UnknownRoot, NoteError.
    """
    note, lines = _lines(data, CERTIFICATE, 4)
    key, (since, until) = VerifierKey.parse(lines[1]), (_time(lines[2]), _time(lines[3]))
    node_of(key.name)
    if since >= until:
        raise NoteError("is a certificate that ends before it begins")
    return Certificate(key, since, until, _signed_by(note, list(roots)))


def open_request(data: bytes) -> tuple[VerifierKey, str]:
    """The key that asks for a certificate, and since when it is used. Raises NoteError."""
    note, lines = _lines(data, REQUEST, 3)
    key, since = VerifierKey.parse(lines[1]), _time(lines[2])
    node_of(key.name)
    check_signature(note, key)
    return key, since


def body(*lines: str) -> bytes:
    """The text of a note."""
    return "".join(line + "\n" for line in lines).encode()


def _lines(data: bytes, kind: str, count: int) -> tuple[Note, list[str]]:
    if len(data) > MOST_CERTIFICATE:
        raise NoteError(f"is larger than {MOST_CERTIFICATE} bytes")
    note = parse_note(data)
    lines = note.body.decode().split("\n")
    if len(note.signatures) != 1 or len(lines) != count + 1 or lines[0] != kind:
        raise NoteError(f"is no {kind} with one signature")
    return note, lines


def _time(text: str) -> str:
    try:
        if not _TIME.fullmatch(text):
            raise ValueError
        datetime.fromisoformat(text)
    except ValueError:
        raise NoteError(f"has {text!r} where a time belongs: 2026-11-24T12:00:00Z") from None
    return text.removesuffix("Z") + ".000000Z"


def _signed_by(note: Note, roots: list[VerifierKey]) -> str:
    if not roots:
        return ""
    ((name, signature),) = note.signatures
    for root in roots:
        if (root.name, root.hash) == (name, signature[:4]):
            check_signature(note, root)
            return name
    raise UnknownRoot(f"is signed by {name}, which is no root that is trusted")


def check_signature(note: Note, key: VerifierKey) -> None:
    """That the note's one signature is this key's. Raises NoteError."""
    ((name, signature),) = note.signatures
    if (name, signature[:4]) != (key.name, key.hash) or len(signature) != 68:
        raise NoteError(f"is not signed by {key.name}")
    try:
        Ed25519PublicKey.from_public_bytes(key.public).verify(signature[4:], note.body)
    except InvalidSignature:
        raise NoteError(f"carries a signature of {key.name} that does not verify") from None
