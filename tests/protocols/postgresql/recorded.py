# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds the frames of a session as the record would hold them, for tests of replay."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Any

from gateway.model import RecordedFrame
from gateway.protocols.postgresql import wire

START_NS = 1_790_000_000_123_456_789


def query(text: str) -> bytes:
    return wire.message(wire.QUERY, wire.cstring(text))


def parse(name: str, text: str, types: tuple[int, ...] = ()) -> bytes:
    body = wire.cstring(name) + wire.cstring(text) + struct.pack("!H", len(types))
    return wire.message(wire.PARSE, body + struct.pack(f"!{len(types)}I", *types))


def shorts(values: tuple[int, ...]) -> bytes:
    return struct.pack(f"!H{len(values)}H", len(values), *values)


def fields(values: Iterable[bytes | None]) -> bytes:
    items = list(values)
    body = struct.pack("!H", len(items))
    for value in items:
        body += struct.pack("!i", -1) if value is None else struct.pack("!i", len(value)) + value
    return body


def bind(
    portal: str,
    statement: str,
    values: tuple[bytes | None, ...] = (),
    forms: tuple[int, ...] = (),
    results: tuple[int, ...] = (),
) -> bytes:
    body = wire.cstring(portal) + wire.cstring(statement) + shorts(forms)
    return wire.message(wire.BIND, body + fields(values) + shorts(results))


def execute(portal: str = "", rows: int = 0) -> bytes:
    return wire.execute(portal.encode(), rows)


def describe(kind: str, name: str = "") -> bytes:
    return wire.message(wire.DESCRIBE, kind.encode() + wire.cstring(name))


SYNC = wire.SYNC_MESSAGE


def columns(*described: tuple[str, int, int]) -> bytes:
    body = struct.pack("!H", len(described))
    for name, oid, form in described:
        body += wire.cstring(name) + struct.pack("!IhIhih", 0, 0, oid, -1, -1, form)
    return wire.message(wire.ROW_DESCRIPTION, body)


def row(*values: bytes | None) -> bytes:
    return wire.message(wire.DATA_ROW, fields(values))


def complete(tag: str) -> bytes:
    return wire.message(wire.COMMAND_COMPLETE, wire.cstring(tag))


def copy_data(data: bytes) -> bytes:
    return wire.message(wire.COPY_DATA, data)


PARSED = wire.message(wire.PARSE_COMPLETE)
BOUND = wire.message(wire.BIND_COMPLETE)
READY = wire.ready_for_query("I")


class Record:
    """Appends frames; offsets of both streams are counted as the relay counts them."""

    def __init__(self) -> None:
        self.frames: list[RecordedFrame] = []
        self.asked = 0
        self.answered = 0
        self._operations = 0

    def _append(
        self, kind: str, payload: bytes, at: int | None, events: list[dict[str, Any]]
    ) -> None:
        meta: dict[str, Any] = {"events": events}
        if at is not None:
            meta["at"] = at
        number = len(self.frames) + 1
        party = {"request": "client", "answer": "target"}.get(kind, "own")
        self.frames.append(
            RecordedFrame(
                number, kind, party, START_NS + number * 1000, meta, payload, number + 100
            )
        )

    def request(self, data: bytes, *events: dict[str, Any]) -> None:
        self._append("request", data, self.asked, list(events))
        self.asked += len(data)

    def answer(self, data: bytes, *events: dict[str, Any]) -> None:
        self._append("answer", data, self.answered, list(events))
        self.answered += len(data)

    def event(self, *events: dict[str, Any]) -> None:
        self._append("event", b"", None, list(events))

    def ask(self, kind: str, start: int, end: int, **more: Any) -> dict[str, Any]:
        self._operations += 1
        verdict = more.pop("verdict", "allow")
        decision = {
            "verdict": verdict,
            "policy": "p",
            "version": "v1",
            "rule": "r",
            "reason": "",
            "masks": [],
            "level": "process",
            "clear": {"text": "CLEAR ?", "shape": "x", "statements": []},
        }
        return {
            "ev": "ask",
            "op": self._operations,
            "kind": kind,
            "start": start,
            "end": end,
            "name": "",
            "prepared_by": 0,
            "decision": decision,
            **more,
        }

    def done(self, operation: int, start: int, end: int, **more: Any) -> dict[str, Any]:
        return {
            "ev": "done",
            "op": operation,
            "start": start,
            "end": end,
            "status": "ok",
            "tag": "",
            "rows": 0,
            "sqlstate": "",
            **more,
        }

    def simple(self, text: str, answer: bytes, **done: Any) -> None:
        """One simple query and its whole answer."""
        message, start = query(text), self.asked
        ask = self.ask("query", start, start + len(message))
        self.request(message, ask)
        begin = self.answered
        self.answer(
            answer + READY,
            self.done(ask["op"], begin, begin + len(answer), **done),
            {"ev": "settled", "state": "I"},
        )


def recut(frames: list[RecordedFrame], size: int) -> Iterator[RecordedFrame]:
    """The same record in frames of at most `size` payload bytes; events stay with the last cut."""
    for frame in frames:
        payload, meta = frame.payload or b"", dict(frame.meta)
        events = meta.pop("events", [])
        cuts = range(0, len(payload), size) if payload else range(1)
        for at in cuts:
            part = payload[at : at + size]
            more = dict(meta, events=events if at + size >= len(payload) else [])
            if "at" in meta:
                more["at"] = meta["at"] + at
            yield RecordedFrame(
                frame.sequence, frame.kind, frame.party, frame.wall_ns, more, part, frame.leaf
            )
