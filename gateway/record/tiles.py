# SPDX-License-Identifier: GPL-3.0-or-later
"""C2SP tlog-tiles as data: which files a log of so many leaves consists of, and its root."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.record import tree

WIDTH = 256
"""Hashes in a full tile."""
HASH_BYTES = 32


def tile_name(level: int, index: int, width: int = WIDTH) -> str:
    """A tile's path in its log; level -1 holds the entries."""
    groups = [f"{index % 1000:03}"]
    rest = index
    while rest := rest // 1000:
        groups.insert(0, f"x{rest % 1000:03}")
    partial = "" if width == WIDTH else f".p/{width}"
    return f"tile/{'entries' if level < 0 else level}/{'/'.join(groups)}{partial}"


def edge(size: int) -> Iterator[tuple[int, int, int]]:
    """(level, index, width) of the partial tile that each level ends with; width may be 0."""
    yield -1, size // WIDTH, size % WIDTH
    level, count = 0, size
    while count:
        yield level, count // WIDTH, count % WIDTH
        level, count = level + 1, count // WIDTH


class TileTree:
    """The right edge of a log: the open tile of each level, and the open bundle of entries."""

    def __init__(self) -> None:
        self.size = 0
        self._bundle = bytearray()
        self._rows: list[bytearray] = []
        self._full: dict[str, bytes] = {}

    @staticmethod
    def resume(size: int, bundle: bytes, rows: list[bytes]) -> TileTree:
        """The tree of a log of `size` leaves from its partial tiles, level 0 first."""
        edge_tree = TileTree()
        edge_tree.size = size
        edge_tree._bundle = bytearray(bundle)
        edge_tree._rows = [bytearray(row) for row in rows]
        return edge_tree

    def append(self, leaf: bytes) -> None:
        """Add a leaf (at most 65,535 bytes)."""
        self._bundle += len(leaf).to_bytes(2, "big") + leaf
        self.size += 1
        if self.size % WIDTH == 0:
            self._full[tile_name(-1, self.size // WIDTH - 1)] = bytes(self._bundle)
            self._bundle.clear()
        self._hash(0, tree.leaf_hash(leaf))

    def _hash(self, level: int, hashed: bytes) -> None:
        if level == len(self._rows):
            self._rows.append(bytearray())
        row = self._rows[level]
        row += hashed
        if len(row) == WIDTH * HASH_BYTES:
            index = (self.size >> 8 * (level + 1)) - 1
            self._full[tile_name(level, index)] = bytes(row)
            peaks = _peaks(row)
            row.clear()
            self._hash(level + 1, peaks[0])

    def take_files(self) -> dict[str, bytes]:
        """Every tile that appends since the last call made or changed, by name."""
        files, self._full = self._full, {}
        for level, index, width in edge(self.size):
            if width:
                data = self._bundle if level < 0 else self._rows[level]
                files[tile_name(level, index, width)] = bytes(data)
        return files

    def root(self) -> bytes:
        """RFC 6962 root over all leaves."""
        peaks: list[bytes] = []
        for row in reversed(self._rows):
            peaks += _peaks(row)
        return tree.root(peaks)


def _peaks(row: bytearray) -> list[bytes]:
    peaks: list[bytes] = []
    for count, at in enumerate(range(0, len(row), HASH_BYTES)):
        tree.append(peaks, count, bytes(row[at : at + HASH_BYTES]))
    return peaks


def split_bundle(data: bytes) -> list[bytes]:
    """The leaves of an entry bundle. Raises ValueError when it ends inside one."""
    leaves: list[bytes] = []
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 2], "big")
        leaf = data[at + 2 : at + 2 + size]
        if at + 2 > len(data) or len(leaf) != size:
            raise ValueError("the entry bundle ends inside a leaf")
        leaves.append(leaf)
        at += 2 + size
    return leaves
