# SPDX-License-Identifier: GPL-3.0-or-later
"""The clear part of segments that were verified before, streamed once more for the lake's rows."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from gateway.verify.history import History
from gateway.verify.lake_rows import SessionRows
from gateway.verify.segment import session_text
from gateway.verify.source import Chunks, Missing, Source

_CLEAR = 108
_FRAME = struct.Struct("<IIBBBBB3s16sQQIqQII32s")
_CHUNK = 1 << 20
Row = dict[str, Any]


def evidence_rows(source: Source, history: History, size: int, settled: set[str]) -> Iterator[Row]:
    """The rows of the log's sessions that were closed within its first `size` leaves.

    Those sessions are added to `settled`, once all of their frames were read. Rows of others, and
    of sessions whose frames are not all shipped, are left out.
    """
    closed = {
        one
        for one, leaf in history.closes.items()
        if leaf.index < size and history.opens[one].kind == "session"
    }
    going: dict[str, tuple[SessionRows, int]] = {}
    for shipped in sorted(history.segments, key=lambda one: one.number):
        for raw, sequence, kind, wall_ns, meta in _frames(source, shipped.object):
            session = session_text(raw)
            if session not in closed:
                continue
            rows, count = going.get(session) or (SessionRows(session), 0)
            yield from rows.frame(sequence, kind, wall_ns, meta)
            going[session] = rows, count + 1
            if count + 1 == history.closes[session].frames:
                yield from _end(rows, history)
                settled.add(session)
                del going[session]
    for session in sorted(closed - settled - going.keys()):
        if history.closes[session].frames == 0:
            rows = SessionRows(session)
            opened = {"gateway": history.node, "opened": history.opens[session].at}
            yield from rows.known_by_its_log(opened)
            yield from _end(rows, history)
            settled.add(session)


def _end(rows: SessionRows, history: History) -> Iterator[Row]:
    leaf = history.closes[rows.session]
    if not rows.closed:
        yield from rows.rest()
        if leaf.reason != "interrupted":
            yield from rows.login("close", leaf.at, leaf.reason)


def _frames(source: Source, name: str) -> Iterator[tuple[bytes, int, int, int, bytes]]:
    """(session, sequence, kind, wall time, metadata) of each frame; nothing of what is missing.

    What is wrong with the segment was found before.
    """
    try:
        with source.open(name) as chunks:
            yield from _parsed(chunks)
    except (Missing, struct.error, ValueError):
        return


def _parsed(chunks: Chunks) -> Iterator[tuple[bytes, int, int, int, bytes]]:
    window = _Window(chunks)
    _, length = struct.unpack("<8sI", window.take(12))
    window.take(length + 4)
    while int.from_bytes(window.peek(4), "little") >= _CLEAR:
        data = window.take(int.from_bytes(window.peek(4), "little"))
        head = _FRAME.unpack_from(data)
        kind, session, sequence, wall_ns, meta = head[3], head[8], head[9], head[12], head[14]
        yield session, sequence, kind, wall_ns, data[_CLEAR : _CLEAR + meta]


class _Window:
    def __init__(self, chunks: Chunks) -> None:
        self._chunks = chunks
        self._data = b""
        self._at = 0

    def peek(self, size: int) -> bytes:
        while len(self._data) - self._at < size:
            piece = self._chunks.read(max(_CHUNK, size))
            if not piece:
                break
            self._data, self._at = self._data[self._at :] + piece, 0
        return self._data[self._at : self._at + size]

    def take(self, size: int) -> bytes:
        taken = self.peek(size)
        if len(taken) < size:
            raise ValueError("ends early")
        self._at += size
        return taken
