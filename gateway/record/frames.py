# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames, and the header and footer of their files: docs/evidence-format.md as code."""

from __future__ import annotations

import base64
import json
import mmap
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from zlib import crc32

FORMAT = 1
Data = bytes | memoryview | mmap.mmap
KINDS: Mapping[str, int] = {
    "open": 1,
    "request": 2,
    "answer": 3,
    "sent": 4,
    "kept": 5,
    "event": 6,
    "close": 7,
    "gap": 8,
    "refused": 9,
    "node": 10,
    "grant": 11,
}
KIND_NAMES: Mapping[int, str] = {number: name for name, number in KINDS.items()}
PARTIES: Mapping[str, int] = {"client": 1, "target": 2, "own": 3}
PARTY_NAMES: Mapping[int, str] = {number: name for name, number in PARTIES.items()}
VIEWS: Mapping[str, int] = {"delivered": 1, "raw": 2}
VIEW_NAMES: Mapping[int, str] = {number: name for name, number in VIEWS.items()}

OPEN, CLOSE = KINDS["open"], KINDS["close"]
PREFIX_BYTES = 8
"""Length and CRC, in front of the clear part."""
CLEAR_BYTES = 100
"""The clear part without its metadata."""
SEAL_BYTES = 32
"""What sealing adds to a payload: the salt and the tag of AES-GCM."""
LEAST_FRAME = PREFIX_BYTES + CLEAR_BYTES + 2
MOST_FRAME = 64 << 20
MOST_HEADER = 65536

PREFIX = struct.Struct("<II")
CLEAR = struct.Struct("<5B3x16sQQIqQII32s")
_WHOLE = struct.Struct("<IIBBBBB3s16sQQIqQII32s")
_HEADER_MAGIC, _FOOTER_MAGIC = b"TGJRNL01", b"TGFOOT01"
_HEADER_START = struct.Struct("<8sI")
_FOOTER_END = struct.Struct("<II8s")
_NO_DIGEST = bytes(32)


class BadFrame(Exception):
    """These bytes are no frame, header or footer of this format; the text says why."""


def session_text(session: bytes) -> str:
    """A session's 16 bytes as people and paths have them: 26 characters."""
    return base64.b32encode(session).decode().rstrip("=").lower()


def session_bytes(text: str) -> bytes:
    """The 16 bytes of a session's id. Raises ValueError unless it is the one way to write them."""
    try:
        raw = base64.b32decode(text.upper() + "======")
    except ValueError:
        raw = b""
    if len(raw) != 16 or session_text(raw) != text:
        raise ValueError(f"{text!r} is no session id: 26 characters of a-z and 2-7")
    return raw


def canonical(value: Any) -> bytes:
    """The one JSON encoding of leaves, headers and footers."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8")


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of a file. `kind`, `party`, `view` and `compression` are the format's numbers."""

    kind: int
    party: int
    view: int
    compression: int
    session: bytes
    sequence: int
    operation: int
    stream: int
    wall_ns: int
    mono_ns: int
    payload_length: int
    digest: bytes
    meta: bytes
    sealed: bytes
    clear: bytes
    """The leaf of the session tree."""
    offset: int
    """Byte of the file where the frame begins."""
    length: int
    """Bytes of the whole frame."""

    @property
    def kind_name(self) -> str:
        return KIND_NAMES[self.kind]

    @property
    def party_name(self) -> str:
        return PARTY_NAMES[self.party]


def seed(generation: bytes) -> int:
    """Where the CRC of every frame of a file starts: the CRC of the file's generation."""
    return crc32(generation)


def encode(clear: bytes, sealed: bytes, crc_seed: int) -> bytes:
    """A whole frame of its clear part (metadata included) and its sealed part."""
    length = PREFIX_BYTES + len(clear) + len(sealed)
    return PREFIX.pack(length, crc32(sealed, crc32(clear, crc_seed))) + clear + sealed


def decode(data: Data, offset: int, crc_seed: int) -> Frame:
    """The frame that begins at `offset`. Raises BadFrame."""
    if offset + LEAST_FRAME > len(data):
        raise BadFrame(f"byte {offset}: no room for a frame")
    (length, crc, format_, kind, party, view, compression, zero, session, sequence, operation,
     stream, wall, mono, meta, payload, digest) = _WHOLE.unpack_from(data, offset)  # fmt: skip
    if not LEAST_FRAME <= length <= min(MOST_FRAME, len(data) - offset):
        raise BadFrame(f"byte {offset}: no frame has {length} bytes here")
    body = memoryview(data)[offset + PREFIX_BYTES : offset + length]
    if crc32(body, crc_seed) != crc:
        raise BadFrame(f"byte {offset}: the frame's CRC is wrong")
    sealed = length - PREFIX_BYTES - CLEAR_BYTES - meta
    if (
        format_ != FORMAT
        or kind not in KIND_NAMES
        or party not in PARTY_NAMES
        or view not in VIEW_NAMES
        or compression > 2
        or zero != b"\0\0\0"
        or meta < 2
        or (sealed < SEAL_BYTES if payload else sealed != 0 or digest != _NO_DIGEST)
    ):
        raise BadFrame(f"byte {offset}: the frame is not of this format")
    clear = bytes(body[: CLEAR_BYTES + meta])
    return Frame(kind, party, view, compression, session, sequence, operation, stream, wall, mono,
                 payload, digest, clear[CLEAR_BYTES:], bytes(body[CLEAR_BYTES + meta :]), clear,
                 offset, length)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Header:
    """The start of a journal file."""

    node: str
    log: int
    number: int
    generation: bytes
    created: str

    def encode(self) -> bytes:
        data = canonical(
            {
                "format": FORMAT,
                "node": self.node,
                "log": self.log,
                "number": self.number,
                "generation": self.generation.hex(),
                "created": self.created,
            }
        )
        start = _HEADER_START.pack(_HEADER_MAGIC, len(data))
        return start + data + crc32(data).to_bytes(4, "little")


def decode_header(data: Data) -> tuple[Header, int]:
    """The header and the byte where frames begin. Raises BadFrame."""
    if len(data) < _HEADER_START.size:
        raise BadFrame("too short for a journal file")
    magic, length = _HEADER_START.unpack_from(data)
    end = _HEADER_START.size + length
    if magic != _HEADER_MAGIC or length > MOST_HEADER or end + 4 > len(data):
        raise BadFrame("does not begin as a journal file")
    text = bytes(data[_HEADER_START.size : end])
    if crc32(text) != int.from_bytes(data[end : end + 4], "little"):
        raise BadFrame("the header's CRC is wrong")
    try:
        fields = json.loads(text)
        generation = bytes.fromhex(fields["generation"])
        header = Header(
            fields["node"], fields["log"], fields["number"], generation, fields["created"]
        )
    except (ValueError, KeyError, TypeError):
        raise BadFrame("the header is no JSON of this format") from None
    if fields["format"] != FORMAT or len(generation) != 16:
        raise BadFrame("the header is of another format")
    return header, end + 4


@dataclass(frozen=True, slots=True)
class FooterRow:
    """A session's frames in one file; `peaks` of its tree after the frame `last`."""

    session: bytes
    first: int
    last: int
    offset: int
    peaks: tuple[bytes, ...]


def encode_footer(frames: int, rows: list[FooterRow]) -> bytes:
    """The end of a closed file, the zero that ends its frames included."""
    sessions = [
        {
            "session": session_text(row.session),
            "first": row.first,
            "last": row.last,
            "offset": row.offset,
            "peaks": [peak.hex() for peak in row.peaks],
        }
        for row in rows
    ]
    data = canonical({"frames": frames, "sessions": sessions})
    return bytes(4) + data + _FOOTER_END.pack(len(data), crc32(data), _FOOTER_MAGIC)


def decode_footer(data: Data) -> tuple[int, list[FooterRow], int]:
    """Of a whole closed file: frames, sessions, and the byte where its frames end.

    Raises BadFrame: a file that is still written, or was cut, has no footer.
    """
    at = len(data) - _FOOTER_END.size
    if at < 4:
        raise BadFrame("too short for a footer")
    length, crc, magic = _FOOTER_END.unpack_from(data, at)
    if magic != _FOOTER_MAGIC or length + 4 > at:
        raise BadFrame("has no footer")
    text = bytes(data[at - length : at])
    if crc32(text) != crc or bytes(data[at - length - 4 : at - length]) != bytes(4):
        raise BadFrame("the footer's CRC is wrong")
    try:
        fields = json.loads(text)
        rows = [_row(row) for row in fields["sessions"]]
        return int(fields["frames"]), rows, at - length - 4
    except (ValueError, KeyError, TypeError):
        raise BadFrame("the footer is no JSON of this format") from None


def _row(row: dict[str, Any]) -> FooterRow:
    peaks = tuple(bytes.fromhex(peak) for peak in row["peaks"])
    return FooterRow(session_bytes(row["session"]), row["first"], row["last"], row["offset"], peaks)


def walk(data: Data) -> Iterator[Frame]:
    """Every frame of a file, closed or still written, up to the zero length. Raises BadFrame."""
    header, at = decode_header(data)
    crc_seed = seed(header.generation)
    while at + 4 <= len(data) and any(data[at : at + 4]):
        frame = decode(data, at, crc_seed)
        yield frame
        at += frame.length
