# SPDX-License-Identifier: GPL-3.0-or-later
"""RFC 6962 consistency proofs, checked (RFC 9162, 2.1.4.2)."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

MOST_HASHES = 63
"""Of one proof (C2SP tlog-witness)."""


def is_consistent(
    old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: Sequence[bytes]
) -> bool:
    """Whether the proof shows that the tree of `new_size` leaves extends that of `old_size`."""
    if old_size > new_size or len(proof) > MOST_HASHES:
        return False
    if old_size in (0, new_size):
        return not proof and (old_size == 0 or old_root == new_root)
    path = list(proof) if old_size & (old_size - 1) else [old_root, *proof]
    if not path:
        return False
    first, last = old_size - 1, new_size - 1
    while first & 1:
        first, last = first >> 1, last >> 1
    old = new = path[0]
    for hashed in path[1:]:
        if last == 0:
            return False
        if first & 1 or first == last:
            old, new = _parent(hashed, old), _parent(hashed, new)
            while not first & 1 and first:
                first, last = first >> 1, last >> 1
        else:
            new = _parent(new, hashed)
        first, last = first >> 1, last >> 1
    return (old, new, last) == (old_root, new_root, 0)


def _parent(left: bytes, right: bytes) -> bytes:
    return sha256(b"\1" + left + right).digest()
