# SPDX-License-Identifier: GPL-3.0-or-later
"""Physical lines of a log at bounded memory: of each, the beginning and its number."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol as Interface

MOST_ENTRY = 64 << 10
"""Bytes of an entry that are kept."""
_PIECE = 64 << 10


class Source(Interface):
    """A file open for reading bytes."""

    def readline(self, limit: int, /) -> bytes: ...


class Lines:
    """Lines without their end, each cut at MOST_ENTRY; `quotes` counts a whole line's.

    Reads at most `size` bytes, so that a log that grows meanwhile is read as it was.
    """

    def __init__(self, source: Source, size: int | None = None) -> None:
        self._source = source
        self._left = size
        self.number = 0
        """Of the line that was read last, from 1."""
        self.read = 0
        """Bytes so far."""
        self.quotes = 0

    def __iter__(self) -> Iterator[bytes]:
        while piece := self._piece():
            self.number += 1
            self.quotes = piece.count(b'"')
            kept = piece
            while not piece.endswith(b"\n") and (piece := self._piece()):
                self.quotes += piece.count(b'"')
                kept += piece[: max(0, MOST_ENTRY - len(kept))]
            yield kept.rstrip(b"\r\n")

    def _piece(self) -> bytes:
        if self._left is None:
            piece = self._source.readline(_PIECE)
        else:
            piece = self._source.readline(min(_PIECE, self._left)) if self._left else b""
            self._left -= len(piece)
        self.read += len(piece)
        return piece
