# SPDX-License-Identifier: GPL-3.0-or-later
"""Which key signs a log at which size: the first, and what rotations made of it.

A rotation is a leaf that the old key and the new one signed. It lies beside the log too, as
`rotated/<index>`, so that a reader knows the keys before it reads checkpoints.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.verify.leaves import LeafError, parse_leaf
from gateway.verify.note import NoteError, VerifierKey, exact_base64

ROTATED = "rotated/"
_SIZE = re.compile(rb"[^\n]*\n(0|[1-9]\d{0,18})\n")


class KeyChain:
    """The keys of one log, each with the size from which on it signs."""

    def __init__(self, first: VerifierKey) -> None:
        self._keys = [(0, first)]
        self.leaves: dict[int, bytes] = {}
        """Rotation leaves by their index, as they lie beside the log."""

    @property
    def keys(self) -> list[VerifierKey]:
        return [key for _, key in self._keys]

    def at(self, size: int) -> VerifierKey:
        """The key that signs a checkpoint of this size."""
        return next(key for since, key in reversed(self._keys) if since <= size)

    def of_note(self, note: bytes) -> VerifierKey:
        """The key that must have signed this checkpoint; the last one where it has no size."""
        match = _SIZE.match(note)
        return self.at(int(match[1])) if match else self._keys[-1][1]

    def rotate(self, index: int, leaf: bytes) -> None:
        """Follow the rotation leaf of that index. Raises NoteError, LeafError."""
        fields = parse_leaf(leaf)
        if fields["type"] != "rotation":
            raise NoteError("is no rotation")
        since, old = self._keys[-1]
        if index < since or fields["old"] != old.text():
            raise NoteError("rotates from another key than the log has at that place")
        self._keys.append((index + 1, new_key(fields, old)))
        self.leaves[index] = leaf


def new_key(fields: Mapping[str, Any], old: VerifierKey) -> VerifierKey:
    """The key that a rotation names, once both signatures are good. Raises NoteError."""
    new = VerifierKey.parse(str(fields["new"]))
    if new.name != old.name or new.public == old.public:
        raise NoteError("rotates to a key of another log, or to the same one")
    signed = f"trailgate/node-rotation/1\n{old.text()}\n{new.text()}\n".encode()
    for key, name in ((old, "by_old"), (new, "by_new")):
        try:
            signature = exact_base64(str(fields[name]))
            Ed25519PublicKey.from_public_bytes(key.public).verify(signature, signed)
        except InvalidSignature:
            raise NoteError(f"carries a signature ({name}) that does not verify") from None
    return new


def follow(key: VerifierKey, rotated: Mapping[int, bytes]) -> tuple[KeyChain, int, str]:
    """The chain from `key` on, and where it breaks: (index, why); -1 where it does not."""
    chain = KeyChain(key)
    for index in sorted(rotated):
        try:
            chain.rotate(index, rotated[index])
        except (NoteError, LeafError) as error:
            return chain, index, str(error)
    return chain, -1, ""
