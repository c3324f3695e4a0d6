# SPDX-License-Identifier: GPL-3.0-or-later
"""The recorded request stream, read again: which message stands at an offset, and what it means.

Joining messages with operations and answers is replay.py's.
"""

from __future__ import annotations

import struct
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import TypeVar

from gateway.protocols import WireError
from gateway.protocols.postgresql import wire
from gateway.protocols.postgresql.values import Value, decoded, text_or_base64

_NAMES_LIMIT = 4096
"""Portals and statements remembered; a session that left more unclosed loses the oldest."""
_ASKED_KINDS = frozenset({wire.QUERY, wire.PARSE, wire.BIND, wire.EXECUTE, wire.FUNCTION_CALL})
_ANSWERED_KINDS = _ASKED_KINDS | {wire.DESCRIBE, wire.CLOSE, wire.SYNC}


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    oid: int
    form: int
    """0 text, 1 binary."""


@dataclass(slots=True, eq=False)
class Prepared:
    """A statement as the client prepared it, and what Describe told of it."""

    text: Value = None
    types: tuple[int, ...] = ()
    columns: tuple[Column, ...] | None = None


@dataclass(slots=True, eq=False)
class Bound:
    """A portal: a statement with values and the formats that its answers shall have."""

    prepared: Prepared
    forms: tuple[int, ...] = ()
    values: tuple[bytes | None, ...] = ()
    result_forms: tuple[int, ...] = ()
    columns: tuple[Column, ...] | None = None

    def parameters(self, encoding: str) -> list[Value]:
        types, forms = self.prepared.types, self.forms
        return [
            decoded(value, types[i] if i < len(types) else 0, form_of(forms, i), encoding)
            for i, value in enumerate(self.values)
        ]

    def answer_columns(self) -> tuple[Column, ...] | None:
        """Formats are the portal's even where the columns were described with the statement."""
        if self.columns is not None:
            return self.columns
        if self.prepared.columns is None:
            return None
        return tuple(
            Column(column.name, column.oid, form_of(self.result_forms, i))
            for i, column in enumerate(self.prepared.columns)
        )


@dataclass(slots=True, eq=False)
class Message:
    """One message of the client that matters to a replay."""

    kind: int
    start: int
    end: int
    body: bytes = b""
    prepared: Prepared | None = None
    bound: Bound | None = None
    copied: list[bytearray] = field(default_factory=list)
    """What was sent by COPY FROM STDIN, one entry for each COPY of the message."""
    copies_sent: int = 0
    copies_answered: int = 0

    def copy_in(self) -> bytearray:
        """Where the data of the next COPY that the target began is, or will be."""
        self.copies_answered += 1
        while len(self.copied) < self.copies_answered:
            self.copied.append(bytearray())
        return self.copied[self.copies_answered - 1]

    def text(self, encoding: str) -> Value:
        if self.kind == wire.QUERY:
            return text_or_base64(self.body[:-1], encoding)
        prepared = self.prepared or (self.bound.prepared if self.bound else None)
        return prepared.text if prepared else None

    def parameters(self, encoding: str) -> list[Value]:
        return self.bound.parameters(encoding) if self.bound else []


def form_of(forms: tuple[int, ...], index: int) -> int:
    """Format codes as the protocol abbreviates them: none means text, one means all."""
    if not forms:
        return 0
    if len(forms) == 1:
        return forms[0]
    return forms[index] if index < len(forms) else 0


class RequestReader:
    """Reads the request stream once, front to back. Holds what is not yet asked or answered."""

    def __init__(self) -> None:
        self.at = 0
        """Offset of the first byte that was not yet read as part of a message."""
        self.lost = False
        """True once bytes were missing or malformed: what follows cannot be framed."""
        self.encoding = "UTF8"
        self.awaited: deque[Message] = deque()
        """Messages whose answers have not come, in their order."""
        self._unasked: deque[Message] = deque()
        self._buffer = bytearray()
        self._statements: OrderedDict[bytes, Prepared] = OrderedDict()
        self._portals: OrderedDict[bytes, Bound] = OrderedDict()
        self._copying: Message | None = None

    def feed(self, at: int, data: bytes | None) -> None:
        """Bytes at offset `at`; None where they cannot be opened."""
        if self.lost or data is None or at != self.at + len(self._buffer):
            self.lost = True
            self._buffer.clear()
            return
        self._buffer += data
        try:
            self._read()
        except (WireError, struct.error, IndexError):
            self.lost = True
            self._buffer.clear()

    def message(self, start: int, end: int) -> Message | None:
        """The message of an operation: the last that can be one in [start, end).

        Offsets never go back: what lies before `start` is forgotten.
        """
        while self._unasked and self._unasked[0].end <= start:
            self._unasked.popleft()
        inside = [m for m in self._unasked if m.start >= start and m.end <= end]
        return inside[-1] if inside else None

    def _read(self) -> None:
        view, position = self._buffer, 0
        while len(view) - position >= 5:
            length = int.from_bytes(view[position + 1 : position + 5], "big")
            if length < 4:
                raise WireError("impossible length in the recorded request stream")
            end = position + 1 + length
            if end > len(view):
                break
            self._message(view[position], self.at, bytes(view[position + 5 : end]))
            self.at += 1 + length
            position = end
        del view[:position]

    def _message(self, kind: int, start: int, body: bytes) -> None:
        if kind == wire.COPY_DATA:
            self._copied(body)
            return
        if kind in (wire.COPY_DONE, wire.COPY_FAIL):
            self._copy_ended()
            return
        message = Message(kind, start, start + 5 + len(body))
        if kind == wire.QUERY:
            message.body = body
            self._statements.pop(b"", None)
        elif kind == wire.FUNCTION_CALL:
            message.bound = _arguments(body)
        elif kind == wire.PARSE:
            message.prepared = self._parse(body)
        elif kind == wire.BIND:
            message.bound = self._bind(body)
        elif kind == wire.EXECUTE:
            message.bound = self._portals.get(wire.read_cstring(body, 0, len(body))[0])
        elif kind == wire.DESCRIBE:
            self._describe(message, body)
        elif kind == wire.CLOSE:
            names = self._statements if body[:1] == b"S" else self._portals
            names.pop(body[1:-1], None)
        self._note(message)

    def _note(self, message: Message) -> None:
        if message.kind in _ASKED_KINDS:
            self._unasked.append(message)
        if message.kind in _ANSWERED_KINDS:
            self.awaited.append(message)
        if message.kind in (wire.QUERY, wire.EXECUTE):
            self._copying = message

    def _copied(self, body: bytes) -> None:
        message = self._copying
        if message is not None:
            self._copy_buffer(message).extend(body)

    def _copy_buffer(self, message: Message) -> bytearray:
        """The COPY now sent: one for each CopyDone before it, and this one."""
        while len(message.copied) <= message.copies_sent:
            message.copied.append(bytearray())
        return message.copied[message.copies_sent]

    def _copy_ended(self) -> None:
        """The next COPY of the same text is another one. A Sync sent before was ignored."""
        message = self._copying
        if message is None:
            return
        message.copies_sent += 1
        while self.awaited and self.awaited[-1].kind == wire.SYNC and message in self.awaited:
            self.awaited.pop()

    def failed(self, message: Message) -> None:
        """The target refused it: copy data that is still under way goes nowhere."""
        if self._copying is message:
            self._copying = None

    def _parse(self, body: bytes) -> Prepared:
        name, at = wire.read_cstring(body, 0, len(body))
        text, at = wire.read_cstring(body, at, len(body))
        (count,) = struct.unpack_from("!H", body, at)
        types = struct.unpack_from(f"!{count}I", body, at + 2)
        prepared = Prepared(text_or_base64(text, self.encoding), types)
        _remember(self._statements, name, prepared)
        return prepared

    def _bind(self, body: bytes) -> Bound:
        portal, at = wire.read_cstring(body, 0, len(body))
        statement, at = wire.read_cstring(body, at, len(body))
        forms, at = _shorts(body, at)
        values, at = _values(body, at)
        result_forms, at = _shorts(body, at)
        prepared = self._statements.get(statement) or Prepared()
        bound = Bound(prepared, forms, values, result_forms)
        _remember(self._portals, portal, bound)
        return bound

    def _describe(self, message: Message, body: bytes) -> None:
        if body[:1] == b"S":
            message.prepared = self._statements.get(body[1:-1])
        else:
            message.bound = self._portals.get(body[1:-1])


_Named = TypeVar("_Named", Prepared, Bound)


def _remember(names: OrderedDict[bytes, _Named], name: bytes, value: _Named) -> None:
    names.pop(name, None)
    names[name] = value
    if len(names) > _NAMES_LIMIT:
        names.popitem(last=False)


def _shorts(body: bytes, at: int) -> tuple[tuple[int, ...], int]:
    (count,) = struct.unpack_from("!H", body, at)
    return struct.unpack_from(f"!{count}H", body, at + 2), at + 2 + 2 * count


def _values(body: bytes, at: int) -> tuple[tuple[bytes | None, ...], int]:
    (count,) = struct.unpack_from("!H", body, at)
    at += 2
    values: list[bytes | None] = []
    for _ in range(count):
        (length,) = struct.unpack_from("!i", body, at)
        at += 4
        if length > len(body) - at:
            raise WireError("a value reaches behind its message")
        values.append(body[at : at + length] if length >= 0 else None)
        at += max(length, 0)
    return tuple(values), at


def _arguments(body: bytes) -> Bound:
    """Arguments of a FunctionCall, whose types only the target knows."""
    forms, at = _shorts(body, 4)
    values, _ = _values(body, at)
    return Bound(Prepared(), forms, values)


def read_columns(body: bytes) -> tuple[Column, ...]:
    """Columns of a RowDescription."""
    (count,) = struct.unpack_from("!H", body)
    columns, at = [], 2
    for _ in range(count):
        name, at = wire.read_cstring(body, at, len(body))
        _, _, oid, _, _, form = struct.unpack_from("!IhIhih", body, at)
        at += 18
        columns.append(Column(name.decode("utf-8", "replace"), oid, form))
    return tuple(columns)


def read_row(body: bytes) -> tuple[bytes | None, ...]:
    """Fields of a DataRow."""
    return _values(body, 0)[0]
