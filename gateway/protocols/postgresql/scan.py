# SPDX-License-Identifier: GPL-3.0-or-later
"""Framing of PostgreSQL's byte streams: where messages begin and end, and nothing of meaning.

Takes bytes and ints, returns ints and tuples, so that it compiles (Cython, mypyc) as it stands.
"""

from __future__ import annotations

import struct

from gateway.protocols import WireError
from gateway.protocols.postgresql.wire import TooLarge

TEXT_CAP = 16 * 1024 * 1024
"""Bytes of a message that must be understood whole; longer ones are refused."""
BIND_HEAD = 256 * 1024
"""Bytes of a Bind that are read for names, formats and counts; its values stream."""

_header = struct.Struct(">BI").unpack_from
_row_header = struct.Struct(">Bi").unpack_from  # signed: one comparison finds what is impossible
_LONGEST = 0x7FFFFFFF
_SHORT = 1024
_LONG_RUN = 4096
_FEW_EQUAL = 16

# What is held of a message before it is looked at: 0 unknown type, below 0 the message streams
# once that many bytes are there (all of it, when it is shorter).
_SMALL = 1024 * 1024


def _table(
    texts: str, small: str, streams: str, bind: bool, text_cap: int = TEXT_CAP
) -> tuple[int, ...]:
    holds = [0] * 256
    for letter in texts:
        holds[ord(letter)] = text_cap
    for letter in small:
        holds[ord(letter)] = _SMALL
    for letter in streams:
        holds[ord(letter)] = -5
    if bind:
        holds[ord("B")] = -BIND_HEAD
    return tuple(holds)


def client_table(text_cap: int = TEXT_CAP) -> tuple[int, ...]:
    """What a client may send after login, its texts up to `text_cap` bytes."""
    return _table("QPFf", "CDEHScX", "d", True, text_cap)


CLIENT = client_table()
TARGET = _table("TtENSA", "123CInsZGHWc", "DdV", False)
"""What a target may send after login."""


def whole(data: bytes, at: int, size: int) -> tuple[int, int, int]:
    """The usual case of `frame`, cheaper: a short message wholly in `data`, else end 0."""
    if size - at >= 5:
        kind, length = _header(data, at)
        end = at + 1 + length
        if 4 <= length <= _SHORT and end <= size:
            return kind, end, 0
    return 0, 0, 0


def frame(data: bytes, at: int, holds: tuple[int, ...]) -> tuple[int, int, int]:
    """The message at `at`: (type, its end, bytes still missing before it may be looked at).

    Type 0 and end 0 while the header itself is incomplete. `end` may lie beyond `data` where a
    message streams. Raises WireError on an unknown type or impossible length,
    TooLarge over the cap.
    """
    size = len(data)
    if size - at < 5:
        return (0, 0, 5 - (size - at)) if size == at or holds[data[at]] else _unknown(data[at])
    kind, length = _header(data, at)
    hold = holds[kind]
    if hold == 0:
        return _unknown(kind)
    if length < 4 or length > _LONGEST:
        raise WireError(f"message {chr(kind)!r} has the impossible length {length}")
    end = at + 1 + length
    if hold < 0:
        missing = min(end, at - hold) - size
    elif length > hold:
        raise TooLarge(f"message {chr(kind)!r} of {length} bytes is over the cap of {hold} bytes")
    else:
        missing = end - size
    return kind, end, missing if missing > 0 else 0


def _unknown(kind: int) -> tuple[int, int, int]:
    raise WireError(f"message of unknown type 0x{kind:02x}")


def equal_run(data: bytes, at: int, end: int) -> tuple[int, int]:
    """How many messages with the header of the one at `at` follow each other from there, begun
    before `end`; and how long each is. 0 and 0 where its length is impossible.

    No loop over messages: the first bytes of all headers are one slice, the second bytes another.
    """
    _, length = _row_header(data, at)
    if length < 4:
        return 0, 0
    size = length + 1
    if data[at : at + 5] != data[at + size : at + size + 5]:
        return 1, size
    most = end - at
    for offset in range(5):
        column = data[at + offset : end : size]
        equal = len(column) - len(column.lstrip(column[:1]))
        most = equal if equal < most else most
    return most, size


def skip_run(data: bytes, at: int, kind_a: int, kind_b: int) -> tuple[int, int]:
    """Skip consecutive messages of two streaming types: (where the run ends, how many began).

    The end may lie beyond `data`: the rest of the last message is still to come. Stops before an
    incomplete header.
    """
    last = len(data) - 5
    count = 0
    header = _row_header
    while last - at > _LONG_RUN and (data[at] == kind_a or data[at] == kind_b):
        equal, size = equal_run(data, at, len(data))
        if equal < _FEW_EQUAL:
            break  # each has its own length: read them one by one
        at += equal * size
        count += equal
    while at <= last:
        kind, length = header(data, at)
        if kind != kind_a and kind != kind_b:
            break
        if length < 4:
            raise WireError(f"message {chr(kind)!r} has the impossible length {length}")
        at += length + 1
        count += 1
    return at, count


def scan_target(data: bytes, at: int) -> tuple[list[tuple[int, int, int, int]], int, int, int]:
    """Walk one chunk of the target from the border `at`.

    Returns the events (type, start, end, rows that stood before it), where the walk stopped (beyond
    `data`: bytes of a streaming message are to come), rows behind the last event, and how many
    bytes are missing before the message at the stop can be looked at (0: the stop is a border).
    DataRow and CopyData never become events.
    """
    events: list[tuple[int, int, int, int]] = []
    size = len(data)
    last = size - 5
    rows = 0
    while at <= last:
        kind, length = _header(data, at)
        if kind == 68 or kind == 100:  # DataRow, CopyData
            at, count = skip_run(data, at, 68, 100)
            rows += count
            continue
        end = at + 1 + length
        if end > size or length < 4 or length > _SMALL or TARGET[kind] <= 0:
            kind, end, missing = frame(data, at, TARGET)
            if missing:
                return events, at, rows, missing
        events.append((kind, at, end, rows))
        rows = 0
        at = end
    if at < size:
        return events, at, rows, frame(data, at, TARGET)[2]
    return events, at, rows, 0
