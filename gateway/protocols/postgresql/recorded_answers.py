# SPDX-License-Identifier: GPL-3.0-or-later
"""The recorded answer stream, read again: rows, copies and errors, with the columns they belong to.

Whose results they are is said by the record's events, which replay.py follows.
"""

from __future__ import annotations

import struct
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from gateway.protocols import WireError
from gateway.protocols.postgresql import wire
from gateway.protocols.postgresql.recorded_requests import (
    Column,
    Message,
    RequestReader,
    read_columns,
    read_row,
)
from gateway.protocols.postgresql.values import Value, decoded, in_base64, text_or_base64

COPY_PIECE = 1024 * 1024
"""Bytes of a COPY that make a piece of their own."""
Error = dict[str, str | None]
_BATCH_ENDS = (wire.SYNC, wire.QUERY, wire.FUNCTION_CALL)


@dataclass(slots=True)
class Table:
    """Rows of one result. `at`: the offset where it began; `owner`: the message it answers."""

    at: int
    owner: Message | None
    columns: tuple[Column, ...] | None
    rows: list[list[Value]] = field(default_factory=list)

    def printed(self) -> dict[str, Any]:
        names = None if self.columns is None else [column.name for column in self.columns]
        return {"columns": names, "rows": self.rows}


@dataclass(slots=True)
class Copy:
    """Data of one COPY, in either direction."""

    at: int
    owner: Message | None
    direction: str
    data: bytearray
    encoding: str

    def printed(self) -> dict[str, Any]:
        raw = bytes(self.data)
        value = text_or_base64(raw, self.encoding)
        if b"\0" in raw:
            # The binary format of COPY; its signature alone is no valid text either.
            value = in_base64(raw)
        content = {"text": value} if isinstance(value, str) else value or {}
        return {"copy": {"direction": self.direction, "bytes": len(raw), **content}}


class AnswerReader:
    """Reads the answer stream once; what it found waits for `take`."""

    def __init__(self, requests: RequestReader) -> None:
        self.at = 0
        """Offset behind the last byte that was fed."""
        self.lost = False
        self.results: list[Table | Copy] = []
        self._errors: deque[tuple[int, Error]] = deque()
        self._requests = requests
        self._buffer = bytearray()
        self._message_at = 0
        """Offset of the message that is read now."""
        self._table: Table | None = None
        self._copy: Copy | None = None

    def feed(self, at: int, data: bytes | None) -> None:
        """Bytes at offset `at`; None where they cannot be opened."""
        if self.lost or data is None or at != self.at:
            self.lost = True
            self._buffer.clear()
            return
        self.at += len(data)
        self._buffer += data
        try:
            self._read()
        except (WireError, struct.error, IndexError):
            self.lost = True
            self._buffer.clear()

    def kept(self, data: bytes) -> None:
        """What answered the gateway's own messages: columns for which no client had asked."""
        head = self._head()
        if head is None or head.bound is None or data[:1] != b"T":
            return
        try:
            columns = read_columns(data[5:])
        except (WireError, struct.error, IndexError):
            return  # the columns stay unknown; the rows are shown without them
        head.bound.columns = head.bound.prepared.columns = columns

    def take(self, end: int) -> tuple[list[dict[str, Any]], Error | None]:
        """Results and the last error that began before the offset `end`, as they are printed."""
        taken = [result for result in self.results if result.at < end]
        self.results = [result for result in self.results if result.at >= end]
        error = None
        while self._errors and self._errors[0][0] < end:
            _, error = self._errors.popleft()
        return [result.printed() for result in taken], error

    def cut(self, rows: int) -> list[dict[str, Any]]:
        """A piece of at most `rows` rows, or the copied data so far; [] if there is not enough.

        Of the message that is answered first only: what answers a later one is not its.
        """
        for result in self.results:
            if result.owner is not self.results[0].owner:
                break
            if isinstance(result, Table) and len(result.rows) >= rows:
                piece = Table(0, None, result.columns, result.rows[:rows])
                del result.rows[:rows]
                return [piece.printed()]
            if isinstance(result, Copy) and len(result.data) >= COPY_PIECE:
                printed = result.printed()
                result.data.clear()
                return [printed]
        return []

    # --- messages ---------------------------------------------------------------------------------

    def _read(self) -> None:
        view, position = self._buffer, 0
        while len(view) - position >= 5:
            length = int.from_bytes(view[position + 1 : position + 5], "big")
            if length < 4:
                raise WireError("impossible length in the recorded answer stream")
            end = position + 1 + length
            if end > len(view):
                break
            self._message(view[position], bytes(view[position + 5 : end]))
            self._message_at += 1 + length
            position = end
        del view[:position]

    def _message(self, kind: int, body: bytes) -> None:
        if kind == wire.DATA_ROW:
            self._row(body)
        elif kind == wire.COPY_DATA:
            if self._copy is not None:
                self._copy.data += body
        elif kind in (wire.COPY_IN_RESPONSE, wire.COPY_OUT_RESPONSE):
            self._begin_copy(kind)
        elif kind in (wire.COMMAND_COMPLETE, wire.EMPTY_QUERY_RESPONSE, wire.PORTAL_SUSPENDED):
            self._ended(kind)
        elif kind == wire.FUNCTION_CALL_RESPONSE:
            self._function_result(body)
        elif kind == wire.ERROR_RESPONSE:
            self._failed(body)
        elif kind == wire.READY_FOR_QUERY:
            self._batch_ended()
        elif kind == wire.PARAMETER_STATUS:
            name, value = wire.read_parameter(body, 0, len(body))
            if name == "client_encoding":
                self._requests.encoding = value
        else:
            self._description(kind, body)

    def _head(self) -> Message | None:
        return self._requests.awaited[0] if self._requests.awaited else None

    def _pop(self, kind: int) -> Message | None:
        """Take the awaited message that this answers, if it is the next."""
        head = self._head()
        if head is None or head.kind != kind:
            return None
        return self._requests.awaited.popleft()

    def _description(self, kind: int, body: bytes) -> None:
        head = self._head()
        if kind == wire.PARSE_COMPLETE:
            self._pop(wire.PARSE)
        elif kind == wire.BIND_COMPLETE:
            self._pop(wire.BIND)
        elif kind == wire.CLOSE_COMPLETE:
            self._pop(wire.CLOSE)
        elif kind == wire.NO_DATA:
            self._pop(wire.DESCRIBE)
        elif kind == wire.PARAMETER_DESCRIPTION:
            if head is not None and head.prepared is not None:
                (count,) = struct.unpack_from("!H", body)
                head.prepared.types = struct.unpack_from(f"!{count}I", body, 2)
        elif kind == wire.ROW_DESCRIPTION:
            self._described(read_columns(body))

    def _described(self, columns: tuple[Column, ...]) -> None:
        described = self._pop(wire.DESCRIBE)
        if described is None:
            self._begin_table(columns)
        elif described.prepared is not None:
            described.prepared.columns = columns
        elif described.bound is not None:
            described.bound.columns = columns

    def _begin_table(self, columns: tuple[Column, ...] | None) -> Table:
        self._table = table = Table(self._message_at, self._head(), columns)
        self.results.append(table)
        return table

    def _columns_of_head(self) -> tuple[Column, ...] | None:
        head = self._head()
        return head.bound.answer_columns() if head is not None and head.bound else None

    def _row(self, body: bytes) -> None:
        table = self._table or self._begin_table(self._columns_of_head())
        encoding = self._requests.encoding
        columns = table.columns
        if columns is None:
            table.rows.append([_guessed(raw, encoding) for raw in read_row(body)])
            return
        table.rows.append(
            [
                decoded(raw, column.oid, column.form, encoding)
                for raw, column in zip(read_row(body), columns, strict=False)
            ]
        )

    def _begin_copy(self, kind: int) -> None:
        at, head = self._message_at, self._head()
        if kind == wire.COPY_OUT_RESPONSE:
            self._copy = Copy(at, head, "out", bytearray(), self._requests.encoding)
            self.results.append(self._copy)
            return
        data = head.copy_in() if head is not None else bytearray()
        self.results.append(Copy(at, head, "in", data, self._requests.encoding))

    def _ended(self, kind: int) -> None:
        """One statement ended; without rows, its columns still say that it could have had some."""
        if self._table is None and kind != wire.EMPTY_QUERY_RESPONSE:
            columns = self._columns_of_head()
            if columns:
                self._begin_table(columns)
        self._table = self._copy = None
        self._pop(wire.EXECUTE)

    def _function_result(self, body: bytes) -> None:
        (length,) = struct.unpack_from("!i", body)
        value = None if length < 0 else _guessed(body[4 : 4 + length], self._requests.encoding)
        column = Column("result", 0, 0)
        self.results.append(Table(self._message_at, self._head(), (column,), [[value]]))

    def _failed(self, body: bytes) -> None:
        fields = wire.read_fields(body, 0, len(body))
        error: Error = {
            "sqlstate": fields.get("C"),
            "message": fields.get("M"),
            "severity": fields.get("V") or fields.get("S"),
            "detail": fields.get("D"),
            "hint": fields.get("H"),
        }
        self._errors.append((self._message_at, error))
        self._table = self._copy = None
        awaited = self._requests.awaited
        while awaited:
            self._requests.failed(awaited[0])
            if awaited[0].kind in _BATCH_ENDS:
                break
            awaited.popleft()

    def _batch_ended(self) -> None:
        awaited = self._requests.awaited
        while awaited and awaited.popleft().kind not in _BATCH_ENDS:
            pass


def _guessed(raw: bytes | None, encoding: str) -> Value:
    """A value of unknown type: text if it reads as text."""
    if raw is None:
        return None
    return in_base64(raw) if b"\0" in raw else text_or_base64(raw, encoding)
