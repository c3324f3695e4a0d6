# SPDX-License-Identifier: GPL-3.0-or-later
"""RFC 6962 inclusion proofs, checked (RFC 9162, 2.1.3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from gateway.verify.tree import leaf_hash


def root_of(leaf: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes | None:
    """The root that a tree of `size` leaves has if `leaf` is its leaf `index`; None: no proof."""
    if not 0 <= index < size:
        return None
    at, last, hashed = index, size - 1, leaf_hash(leaf)
    for other in proof:
        if last == 0:
            return None
        if at & 1 or at == last:
            hashed = sha256(b"\1" + other + hashed).digest()
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            hashed = sha256(b"\1" + hashed + other).digest()
        at, last = at >> 1, last >> 1
    return hashed if last == 0 else None
