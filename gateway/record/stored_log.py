# SPDX-License-Identifier: GPL-3.0-or-later
"""A node's log as it lies in a place, read leaf by leaf and tile by tile. It proves nothing."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator

from gateway.record.places import Gone, Place, Unreadable
from gateway.record.tiles import HASH_BYTES, WIDTH, split_bundle, tile_name

MOST_NOTE = 65536
_MOST_TILE = WIDTH * (2 + 65535)
_LOG = re.compile(r"log/[^/]+/(?:0|[1-9]\d*)(?=/)")
_PARTIAL = re.compile(r"(.+)\.p/(\d+)")


class StoredLog:
    """`log/<node>/<n>`. Methods raise Unreadable, and Gone where a live gateway moved a file."""

    def __init__(self, place: Place, path: str, names: list[str]) -> None:
        """`stored_logs` makes it; `names` are those below the path."""
        self.path = path
        self.origin = "trailgate/" + path.removeprefix("log/")
        self._place = place
        self._names = names
        self._widths: dict[str, list[int]] = defaultdict(list)
        for name in names:
            if found := _PARTIAL.fullmatch(name):
                self._widths[found[1]].append(int(found[2]))

    def read(self, name: str, most: int = MOST_NOTE) -> bytes:
        """An object below the log."""
        return self._place.read(f"{self.path}/{name}", 0, most)

    def checkpoint(self) -> tuple[int, bytes]:
        """Size and note of the latest checkpoint, whatever its signature is worth."""
        return self._sized("checkpoint", self.read("checkpoint"))

    def cosigned(self) -> tuple[int, bytes] | None:
        """Size and note of the newest checkpoint that lies here with a cosignature."""
        sizes = [int(one) for one in self.below("cosigned/") if one.isdecimal()]
        if not sizes:
            return None
        name = f"cosigned/{max(sizes)}"
        return self._sized(name, self.read(name))

    def below(self, folder: str) -> list[str]:
        """What lies in a folder of the log, which ends with a slash."""
        return [name.removeprefix(folder) for name in self._names if name.startswith(folder)]

    def _sized(self, name: str, note: bytes) -> tuple[int, bytes]:
        lines = note.split(b"\n")
        if len(lines) < 5 or not lines[1].isdigit():
            raise Unreadable(f"{self._place.shown}/{self.path}/{name}: is no checkpoint")
        return int(lines[1]), note

    def tile(self, name: str) -> bytes:
        """A tile by its C2SP name; out of a wider one where a live gateway removed it."""
        found = _PARTIAL.fullmatch(name)
        full, width = (found[1], int(found[2])) if found else (name, WIDTH)
        hashes = not full.startswith("tile/entries/")
        for candidate in self._candidates(full, width):
            try:
                data = self.read(candidate, _MOST_TILE)
            except Gone:
                continue
            return data[: width * HASH_BYTES] if hashes else _first_leaves(data, width)
        raise Gone(f"{self.path}/{name}")

    def _candidates(self, full: str, width: int) -> list[str]:
        wider = sorted(one for one in self._widths[full] if one >= width)
        return [*(f"{full}.p/{one}" for one in wider), full]

    def leaf(self, index: int) -> bytes:
        """One leaf. Raises ValueError for a bundle that makes no sense."""
        bundle, width = index // WIDTH, index % WIDTH + 1
        leaves = split_bundle(self.tile(tile_name(-1, bundle, width)))
        if len(leaves) != width:
            raise ValueError(f"{self.path}: bundle {bundle} has {len(leaves)} leaves")
        return leaves[-1]

    def leaves(self, size: int) -> Iterator[bytes]:
        """The first `size` leaves in order. Raises ValueError for a bundle that makes no sense."""
        for index in range(-(-size // WIDTH)):
            width = min(WIDTH, size - index * WIDTH)
            leaves = split_bundle(self.tile(tile_name(-1, index, width)))
            if len(leaves) != width:
                raise ValueError(f"{self.path}: bundle {index} has {len(leaves)} leaves")
            yield from leaves


def _first_leaves(bundle: bytes, count: int) -> bytes:
    at = 0
    for _ in range(count):
        at += 2 + int.from_bytes(bundle[at : at + 2], "big")
    return bundle[:at]


def stored_logs(place: Place, node: str = "") -> list[StoredLog]:
    """Every log of a place, or of one node, in the order of their paths' numbers."""
    names: dict[str, list[str]] = defaultdict(list)
    for name in place.names(f"log/{node}/" if node else "log/"):
        if found := _LOG.match(name):
            names[found[0]].append(name.removeprefix(found[0] + "/"))
    order = sorted(names, key=lambda path: (path.split("/")[1], int(path.split("/")[2])))
    return [StoredLog(place, path, names[path]) for path in order]
