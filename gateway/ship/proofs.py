# SPDX-License-Identifier: GPL-3.0-or-later
"""Consistency and inclusion proofs out of a log's tiles (RFC 6962, 2.1.2; C2SP tlog-tiles)."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from gateway.ship import ShipFailed
from gateway.ship.mirror import WIDTH, tile_name

_LEVEL_BITS = 8


class TileHashes:
    """The hashes of a log of `size` leaves, read tile by tile; blocking.

    `read` gives a tile's bytes by its name below the log. Raises ShipFailed, as `root` then does.
    """

    def __init__(self, size: int, read: Callable[[str], bytes]) -> None:
        self._read = read
        self._size = size
        self._tiles: dict[tuple[int, int], bytes] = {}

    @staticmethod
    def of_folder(log: Path, size: int) -> TileHashes:
        """Of a log that lies in a folder."""

        def read(name: str) -> bytes:
            try:
                return (log / name).read_bytes()
            except OSError as error:
                raise ShipFailed(f"{log / name}: {error.strerror}") from error

        return TileHashes(size, read)

    def root(self, first: int, last: int) -> bytes:
        """RFC 6962 root of leaves `first` to `last` - 1. Raises ShipFailed."""
        count = last - first
        height = count.bit_length() - 1
        if count == 1 << height and first % count == 0:
            return self._subtree(height, first >> height)
        split = first + (1 << (count - 1).bit_length() - 1)
        return _parent(self.root(first, split), self.root(split, last))

    def _subtree(self, height: int, index: int) -> bytes:
        level, above = divmod(height, _LEVEL_BITS)
        start = index << above
        tile = self._tile(level, start // WIDTH)
        at = start % WIDTH * 32
        row = [tile[one : one + 32] for one in range(at, at + (32 << above), 32)]
        while len(row) > 1:
            row = [_parent(*pair) for pair in zip(row[::2], row[1::2], strict=True)]
        return row[0]

    def _tile(self, level: int, index: int) -> bytes:
        if (level, index) not in self._tiles:
            there = min((self._size >> _LEVEL_BITS * level) - index * WIDTH, WIDTH)
            name = tile_name(level, index, there)
            data = self._read(name)
            if len(data) != 32 * there:
                raise ShipFailed(f"{name}: is not of its size")
            self._tiles[level, index] = data
        return self._tiles[level, index]


def consistency_proof(old: int, size: int, root: Callable[[int, int], bytes]) -> list[bytes]:
    """That the first `old` leaves are the beginning of all; empty where nothing is to be shown."""
    return [] if old in (0, size) else _subproof(old, 0, size, True, root)


def _subproof(
    old: int, first: int, last: int, known: bool, root: Callable[[int, int], bytes]
) -> list[bytes]:
    """RFC 6962, 2.1.2: `known` says that the old tree's root is this subtree's."""
    if old == last - first:
        return [] if known else [root(first, last)]
    split = 1 << (last - first - 1).bit_length() - 1
    middle = first + split
    if old <= split:
        return [*_subproof(old, first, middle, known, root), root(middle, last)]
    return [*_subproof(old - split, middle, last, False, root), root(first, middle)]


def siblings(index: int, size: int) -> list[tuple[int, int]]:
    """RFC 6962, 2.1.1: the spans of leaves whose roots are the inclusion proof of leaf `index`.

    From the leaf's sibling up to the root's child; each span is (first, behind the last).
    """
    spans, first, last = list[tuple[int, int]](), 0, size
    while last - first > 1:
        middle = first + (1 << (last - first - 1).bit_length() - 1)
        left = index < middle
        spans.append((middle, last) if left else (first, middle))
        first, last = (first, middle) if left else (middle, last)
    return spans[::-1]


def _parent(left: bytes, right: bytes) -> bytes:
    return sha256(b"\1" + left + right).digest()
