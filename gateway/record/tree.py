# SPDX-License-Identifier: GPL-3.0-or-later
"""RFC 6962 Merkle trees that grow at the right and keep only their peaks."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

EMPTY_ROOT = sha256(b"").digest()


def leaf_hash(leaf: bytes) -> bytes:
    """RFC 6962, 2.1."""
    return sha256(b"\0" + leaf).digest()


def append(peaks: list[bytes], count: int, hashed: bytes) -> None:
    """Add the hash of leaf number `count` (from 0); the largest subtree's root stands first."""
    while count & 1:
        hashed = sha256(b"\1" + peaks.pop() + hashed).digest()
        count >>= 1
    peaks.append(hashed)


def root(peaks: Sequence[bytes]) -> bytes:
    """The tree's root, joined from the smallest subtree to the largest."""
    if not peaks:
        return EMPTY_ROOT
    joined = peaks[-1]
    for peak in reversed(peaks[:-1]):
        joined = sha256(b"\1" + peak + joined).digest()
    return joined
