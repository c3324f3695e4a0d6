# SPDX-License-Identifier: GPL-3.0-or-later
"""One segment, streamed: header, frames, footer, and the session trees that its frames continue."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from zlib import crc32

from gateway.verify import tree
from gateway.verify.source import Chunks

CHUNK = 4 << 20
MOST_FRAME = 64 << 20
MOST_FOOTER = 256 << 20
_CLEAR = 108
_FRAME = struct.Struct("<IIBBBBB3s16sQQIqQII32s")
_ZERO = bytes(32)
OPEN, CLOSE, NODE, GRANT = 1, 7, 10, 11


class BadSegment(Exception):
    """The segment is not what it must be. `kind` names the sort of defect."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind


def session_text(session: bytes) -> str:
    """A session's id as people and paths have it."""
    return base64.b32encode(session).decode().rstrip("=").lower()


@dataclass(slots=True)
class Frame:
    """What the opener needs of a frame."""

    session: bytes
    sequence: int
    kind: int
    view: int
    compression: int
    payload_length: int
    digest: bytes
    sealed: memoryview
    generation: bytes
    offset: int


@dataclass(slots=True)
class SessionTree:
    """A session's frames so far, over all segments."""

    count: int = 0
    """Frames seen."""
    next: int = 0
    """Sequence that the next frame must have."""
    peaks: list[bytes] = field(default_factory=list)
    ended: bool = False
    broken: bool = False
    """Frames are missing: the root can't be computed."""
    gapped: bool = False
    """A signed gap says that frames are lost: sequences may jump."""


@dataclass(slots=True)
class Part:
    """A session's frames in one segment."""

    first: int
    next: int
    offset: int
    tree: SessionTree | None


class Window:
    """A sliding view of the file; every byte passes the hash once, in large pieces."""

    def __init__(self, chunks: Chunks, progress: Callable[[int], None]) -> None:
        self._chunks = chunks
        self._progress = progress
        self.hash = sha256()
        self.data = b""
        self.pos = 0
        self.base = 0

    def more(self, need: int) -> bool:
        """Have at least `need` bytes from `pos` on; False when the file ends before."""
        pieces = [self.data[self.pos :]]
        have = len(pieces[0])
        self.base += self.pos
        self.pos = 0
        while have < need:
            piece = self._chunks.read(max(CHUNK, need - have))
            if not piece:
                break
            self.hash.update(piece)
            self._progress(len(piece))
            pieces.append(piece)
            have += len(piece)
        self.data = b"".join(pieces) if len(pieces) > 1 else pieces[0]
        return have >= need

    def take(self, size: int, what: str) -> bytes:
        if len(self.data) - self.pos < size and not self.more(size):
            raise BadSegment("truncated", f"ends inside its {what}")
        taken = self.data[self.pos : self.pos + size]
        self.pos += size
        return taken

    def rest(self, most: int) -> bytes:
        if self.more(most + 1):
            raise BadSegment("footer", f"has more than {most} bytes behind its last frame")
        taken, self.pos = self.data[self.pos :], len(self.data)
        return taken


class SegmentReader:
    """Reads one segment. `find` gives the tree to continue for a session that is followed, None
    for one that is not; it raises BadSegment for a session that the log does not know."""

    def __init__(
        self,
        chunks: Chunks,
        find: Callable[[bytes], SessionTree | None],
        progress: Callable[[int], None] = lambda size: None,
        check_payload: Callable[[Frame], None] | None = None,
        hole: Callable[[bytes, int, int], None] = lambda session, expected, found: None,
        told: Callable[[bytes, int, bytes], None] = lambda session, sequence, meta: None,
        granted: Callable[[bytes, int, bytes], None] = lambda session, kind, meta: None,
    ) -> None:
        self._window = Window(chunks, progress)
        self._find = find
        self._check_payload = check_payload
        self._hole = hole
        self._told = told
        self._granted = granted
        self._generation = b""
        self._seed = 0
        self.parts: dict[bytes, Part] = {}
        self.frames = 0
        self.last_wall_ns = 0

    def read(self, node: str, log: int, number: int) -> tuple[str, int]:
        """Check all of it; return SHA-256 (hex) and bytes. Raises BadSegment."""
        self._header({"format": 1, "node": node, "log": log, "number": number})
        self._all_frames()
        self._footer()
        window = self._window
        return window.hash.hexdigest(), window.base + window.pos

    def _header(self, expected: dict[str, Any]) -> None:
        window = self._window
        magic, length = struct.unpack("<8sI", window.take(12, "header"))
        if magic != b"TGJRNL01" or length > 65536:
            raise BadSegment("header", "does not begin as a journal file")
        data = window.take(length, "header")
        if crc32(data) != int.from_bytes(window.take(4, "header"), "little"):
            raise BadSegment("header", "has a header whose CRC is wrong")
        try:
            header = json.loads(data)
            self._generation = bytes.fromhex(header["generation"])
        except (ValueError, TypeError, KeyError):
            raise BadSegment("header", "has a header that is no JSON of this format") from None
        names = {*expected, "generation", "created"}
        shown = {name: header.get(name) for name in expected}
        if shown != expected or set(header) != names or len(self._generation) != 16:
            raise BadSegment("header", f"is of {shown}, where the log has {expected}")
        self._seed = crc32(self._generation)

    def _all_frames(self) -> None:
        window = self._window
        while True:
            data, pos, need = window.data, window.pos, 4
            end = len(data)
            view = memoryview(data)
            while end - pos >= 4:
                length = int.from_bytes(data[pos : pos + 4], "little")
                if not length:
                    window.pos = pos + 4
                    return
                if not 110 <= length <= MOST_FRAME:
                    at = window.base + pos
                    raise BadSegment("frame", f"has a frame of {length} bytes at byte {at}")
                if end - pos < length:
                    need = length
                    break
                self._frame(data, view, pos, pos + length)
                pos += length
            window.pos = pos
            if not window.more(need):
                raise BadSegment("truncated", "ends without a footer: it was cut")

    def _frame(self, data: bytes, view: memoryview, pos: int, end: int) -> None:
        (length, crc, format_, kind, party, seen, compression, zero, session, sequence, operation,
         _, wall, _, meta, payload, digest) = _FRAME.unpack_from(data, pos)  # fmt: skip
        offset = self._window.base + pos
        if crc32(view[pos + 8 : end], self._seed) != crc:
            raise BadSegment("frame", f"has a frame at byte {offset} whose CRC is wrong")
        sealed = length - _CLEAR - meta
        if (
            format_ != 1
            or not 1 <= kind <= 11
            or not 1 <= party <= 3
            or not 1 <= seen <= 2
            or compression > 2
            or zero != b"\0\0\0"
            or meta < 2
            or (sealed < 32 if payload else sealed != 0 or digest != _ZERO)
            or (payload and not compression and sealed != payload + 32)
        ):
            raise BadSegment("frame", f"has a frame at byte {offset} that is not of this format")
        if kind == NODE:
            self._told(session, sequence, data[pos + _CLEAR : pos + _CLEAR + meta])
        elif kind in (OPEN, CLOSE, GRANT):
            self._granted(session, kind, data[pos + _CLEAR : pos + _CLEAR + meta])
        part = self.parts.get(session)
        if part is None:
            part = self.parts[session] = Part(sequence, sequence, offset, self._find(session))
        if part.tree is not None:
            if part.tree.next != sequence or part.tree.ended:
                self._odd(session, part, sequence, offset)
            leaf = sha256(b"\0" + data[pos + 8 : pos + _CLEAR + meta]).digest()
            self._grow(part.tree, sequence, kind, leaf, offset)
        elif part.next != sequence and part.next != -1:
            text = session_text(session)
            raise BadSegment("order", f"has frame {sequence} of {text} after {part.next - 1}")
        part.next = sequence + 1
        self.frames += 1
        self.last_wall_ns = wall
        if self._check_payload is not None and payload:
            frame = Frame(session, sequence, kind, seen, compression, payload, digest,
                          view[pos + _CLEAR + meta : end], self._generation, offset)  # fmt: skip
            self._check_payload(frame)

    def _odd(self, session: bytes, part: Part, sequence: int, offset: int) -> None:
        """A sequence that is not the next one: a hole, or something that cannot be."""
        known, text = part.tree, session_text(session)
        assert known is not None
        if known.ended:
            raise BadSegment("order", f"has frame {sequence} of {text} behind its close frame")
        if sequence < known.next:
            raise BadSegment("order", f"has frame {sequence} of {text} twice, or out of order")
        if not known.gapped:
            known.broken = True
            self._hole(session, known.next, sequence)

    def _grow(self, known: SessionTree, sequence: int, kind: int, leaf: bytes, offset: int) -> None:
        if (kind == OPEN) != (sequence == 0):
            raise BadSegment(
                "order", f"has an open frame at byte {offset} that is not frame 0, or the reverse"
            )
        tree.push(known.peaks, known.count, leaf)
        known.count += 1
        known.next = sequence + 1
        known.ended = kind == CLOSE

    def _footer(self) -> None:
        tail = self._window.rest(MOST_FOOTER)
        if len(tail) < 16 or tail[-8:] != b"TGFOOT01":
            raise BadSegment("truncated", "does not end with a footer: it was cut or added to")
        data, length, crc = tail[:-16], *struct.unpack("<II", tail[-16:-8])
        if len(data) != length or crc32(data) != crc:
            raise BadSegment("footer", "has a footer of a wrong length or CRC")
        try:
            footer = json.loads(data)
            rows = {row["session"]: row for row in footer["sessions"]}
            proper = set(footer) == {"frames", "sessions"} and len(rows) == len(footer["sessions"])
        except (ValueError, TypeError, KeyError, RecursionError):
            raise BadSegment("footer", "has a footer that is no JSON of this format") from None
        texts = {session_text(session): part for session, part in self.parts.items()}
        if not proper or footer["frames"] != self.frames or rows.keys() != texts.keys():
            raise BadSegment("footer", "has a footer that counts other frames or sessions")
        for text, part in texts.items():
            self._row(text, part, rows[text])

    def _row(self, text: str, part: Part, row: dict[str, Any]) -> None:
        expected: dict[str, Any] = {
            "session": text,
            "first": part.first,
            "last": part.next - 1,
            "offset": part.offset,
        }
        known = part.tree
        if known is None or known.broken:
            row = {name: value for name, value in row.items() if name != "peaks"}
        else:
            expected["peaks"] = [peak.hex() for peak in known.peaks]
        if row != expected:
            raise BadSegment("footer", f"has a footer that says other things of session {text}")
