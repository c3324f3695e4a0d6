# SPDX-License-Identifier: GPL-3.0-or-later
"""C2SP tlog-tiles: their names, entry bundles, and each tile compared with the entries."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass

from gateway.verify import tree
from gateway.verify.source import Missing, Source

WIDTH = 256
MOST_BUNDLE = WIDTH * (2 + 65535)
_TILE = re.compile(
    r"tile/(?P<level>entries|[0-9]|[1-5][0-9]|6[0-3])/"
    r"(?P<index>(?:x\d{3}/)*\d{3})(?:\.p/(?P<width>[1-9]\d{0,2}))?"
)


class BadBundle(Exception):
    """An entry bundle does not hold what it must."""


@dataclass(frozen=True, slots=True)
class TileName:
    """Which tile a path names. `level` is -1 for entries; `width` is WIDTH for a full tile."""

    level: int
    index: int
    width: int

    @staticmethod
    def parse(path: str) -> TileName | None:
        """A path below the log, in its one canonical form; None when it names no tile."""
        match = _TILE.fullmatch(path)
        if not match:
            return None
        index = int(match["index"].replace("/", "").replace("x", ""))
        level = -1 if match["level"] == "entries" else int(match["level"])
        name = TileName(level, index, int(match["width"] or WIDTH))
        return name if name.path() == path else None

    def path(self) -> str:
        index, groups = self.index, [f"{self.index % 1000:03}"]
        while index := index // 1000:
            groups.insert(0, f"x{index % 1000:03}")
        level = "entries" if self.level < 0 else str(self.level)
        partial = "" if self.width == WIDTH else f".p/{self.width}"
        return f"tile/{level}/{'/'.join(groups)}{partial}"

    def within(self, size: int) -> bool:
        """Whether a log of `size` leaves reaches to this tile's last hash."""
        return self.index * WIDTH + self.width <= size >> (8 * max(self.level, 0))


def split_bundle(data: bytes, count: int) -> list[bytes]:
    """The leaves of an entry bundle that must hold exactly `count`. Raises BadBundle."""
    leaves: list[bytes] = []
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 2], "big")
        leaf = data[at + 2 : at + 2 + size]
        if at + 2 > len(data) or len(leaf) != size:
            raise BadBundle(f"ends inside its leaf {len(leaves)}")
        leaves.append(leaf)
        at += 2 + size
    if len(leaves) != count:
        raise BadBundle(f"holds {len(leaves)} leaves where {count} belong")
    return leaves


@dataclass(slots=True)
class Mismatch:
    """A tile that differs from what the entries give."""

    tile: str
    level: int
    index: int
    detail: str


class TileChecker:
    """Takes the leaves in order, keeps one open tile a level, and compares each one's files."""

    def __init__(self, source: Source, log: str, tiles: list[TileName], size: int) -> None:
        self._source = source
        self._log = log
        self._open: list[bytearray] = []
        self._peaks: list[bytes] = []
        self.count = 0
        self.mismatches: list[Mismatch] = []
        self._partial: dict[tuple[int, int], set[int]] = defaultdict(set)
        for tile in tiles:
            if tile.width != WIDTH and tile.within(size):
                self._partial[tile.level, tile.index].add(tile.width)

    def root(self) -> bytes:
        return tree.root(self._peaks)

    def bundle(self, index: int, data: bytes, leaves: list[bytes]) -> None:
        """Compare the smaller partial bundles that are left from earlier with this one."""
        for width in self._partial[-1, index] - {len(leaves)}:
            size = sum(2 + len(leaf) for leaf in leaves[:width])
            self._compare(TileName(-1, index, width), data[:size], gone=True)

    def leaf(self, leaf: bytes) -> None:
        hashed = tree.leaf_hash(leaf)
        tree.push(self._peaks, self.count, hashed)
        self.count += 1
        self._hash(0, hashed)

    def _hash(self, level: int, hashed: bytes) -> None:
        if level == len(self._open):
            self._open.append(bytearray())
        self._open[level] += hashed
        if len(self._open[level]) == WIDTH * 32:
            full = bytes(self._open[level])
            self._open[level].clear()
            index = (self.count >> (8 * (level + 1))) - 1
            self._tile(level, index, full)
            self._hash(level + 1, tree.full_root(full))

    def finish(self) -> None:
        """Compare the tiles that stay partial."""
        for level, hashes in enumerate(self._open):
            if hashes:
                self._tile(level, self.count >> (8 * (level + 1)), bytes(hashes))

    def _tile(self, level: int, index: int, hashes: bytes) -> None:
        widths = self._partial[level, index] | {len(hashes) // 32}
        for width in sorted(widths, reverse=True):
            # A live writer removes what a wider tile replaces.
            gone = width * 32 < len(hashes)
            self._compare(TileName(level, index, width), hashes[: width * 32], gone)

    def _compare(self, name: TileName, expected: bytes, gone: bool = False) -> None:
        path = f"{self._log}/{name.path()}"
        detail = "differs from what the log's entries give"
        try:
            if self._source.read(path, len(expected)) == expected:
                return
        except Missing:
            if gone:
                return
            detail = "is missing: readers of the log need it"
        except ValueError:
            detail = "is longer than what the log's entries give"
        self.mismatches.append(Mismatch(path, name.level, name.index, detail))
