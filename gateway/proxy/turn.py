# SPDX-License-Identifier: GPL-3.0-or-later
"""One turn of a session as frames: what one chunk brought about, and its metadata as JSON bytes.

No dictionary is built on the way: a plain query costs two frames and two formatted strings.
"""

from __future__ import annotations

from json.encoder import encode_basestring_ascii

from gateway.model import Decision, Level, Operation, Verdict
from gateway.protocols import Done
from gateway.proxy.ports import SessionRecord

FRAME_BYTES = 1 << 20
"""Longest payload of one frame."""

_FEW_EVENTS = 16
"""So many fit one frame at any length that a decision's record has."""

_quoted = encode_basestring_ascii


def ask_event(operation: Operation, decision: bytes) -> bytes:
    """An `ask` event; `decision` is a JSON object."""
    return b'{"ev":"ask","op":%d,"kind":%b,"start":%d,"end":%d,"name":%b,"prepared_by":%d,' % (
        operation.id,
        _quoted(operation.kind).encode(),
        operation.start,
        operation.end,
        _quoted(operation.name).encode(),
        operation.prepared_by,
    ) + b'"decision":%b}' % (decision,)


def done_event(done: Done) -> bytes:
    """A `done` event."""
    outcome = done.outcome
    return (
        b'{"ev":"done","op":%d,"start":%d,"end":%d,"status":%b,"tag":%b,"rows":%d,"sqlstate":%b}'
        % (
            done.operation,
            done.start,
            done.end,
            _quoted(outcome.status).encode(),
            _quoted(outcome.tag).encode(),
            outcome.rows,
            _quoted(outcome.sqlstate).encode(),
        )
    )


def settled_event(state: str) -> bytes:
    """A `settled` event."""
    return b'{"ev":"settled","state":%b}' % _quoted(state).encode()


def decision_record(decision: Decision) -> bytes:
    """`Decision.record` for a decision that policy did not make."""
    return (
        b'{"verdict":%b,"policy":%b,"version":%b,"rule":%b,"reason":%b,"masks":[],"level":%b,'
        b'"clear":{"text":"","shape":"","statements":[]}}'
        % (
            _quoted(decision.verdict.value).encode(),
            _quoted(decision.policy).encode(),
            _quoted(decision.version).encode(),
            _quoted(decision.rule).encode(),
            _quoted(decision.reason).encode(),
            _quoted(decision.level.name.lower()).encode(),
        )
    )


NOT_DECIDED = decision_record(Decision(Verdict.HOLD, reason="the client left before a decision"))
"""Of an operation that ended without a decision: it was held, and did not run."""


def joined_bytes(parts: list[bytes]) -> bytes:
    return parts[0] if len(parts) == 1 else b"".join(parts)


class Streams:
    """Offsets of a session's streams, and the frames that carry them."""

    __slots__ = ("_at", "_record")

    def __init__(self, record: SessionRecord) -> None:
        self._record = record
        self._at = {"request": 0, "answer": 0, "sent": 0, "kept": 0}

    def append(
        self, kind: str, party: str, data: bytes, events: list[bytes], operation: int
    ) -> int:
        """Record the next bytes of stream `kind`; the position of the last frame."""
        at = self._at[kind]
        self._at[kind] = at + len(data)
        if len(data) > FRAME_BYTES:
            last = (len(data) - 1) // FRAME_BYTES * FRAME_BYTES
            for start in range(0, last, FRAME_BYTES):
                piece, where = data[start : start + FRAME_BYTES], at + start
                self._record.append(kind, party, piece, b'{"at":%d,"events":[]}' % where, operation)
            at, data = at + last, data[last:]
        first, *rest = _batches(events) if len(events) > _FEW_EVENTS else (events,)
        meta = b'{"at":%d,"events":[%b]}' % (at, b",".join(first))
        position = self._record.append(kind, party, data, meta, operation)
        for batch in rest:
            position = self._append_events(batch, operation)
        return position

    def event(self, events: list[bytes], operation: int) -> int:
        """Record what happened without bytes; the frame's position."""
        position = 0
        for batch in _batches(events):
            position = self._append_events(batch, operation)
        return position

    def _append_events(self, events: list[bytes], operation: int) -> int:
        meta = b'{"events":[%b]}' % b",".join(events)
        return self._record.append("event", "own", b"", meta, operation)


def _batches(events: list[bytes]) -> list[list[bytes]]:
    """Runs of events that fit a frame: a chunk may hold thousands of questions."""
    batches: list[list[bytes]] = [[]]
    size = 0
    for event in events:
        size += len(event)
        if size > FRAME_BYTES and batches[-1]:
            batches.append([])
            size = len(event)
        batches[-1].append(event)
    return batches


class Turn:
    """What one call of a dialog, and all that followed from it, has to record and to send.

    Everything is recorded before anything is sent.
    """

    __slots__ = (
        "asks",
        "close",
        "events",
        "first_ask",
        "first_done",
        "level",
        "pieces",
        "to_client",
        "to_target",
    )

    def __init__(self, level: Level) -> None:
        self.level = level
        """How durable its frames must be before its bytes move on."""
        self.asks: list[bytes] = []
        self.events: list[bytes] = []
        self.pieces: list[tuple[str, str, bytes]] = []
        """(frame kind, party, bytes) in order."""
        self.to_client: list[bytes] = []
        self.to_target: list[bytes] = []
        self.first_ask = 0
        self.first_done = 0
        self.close: tuple[str, str] | None = None

    def append(self, streams: Streams, received: bytes) -> int:
        """Write every frame of the turn; the last position. Raises RecordFailed."""
        position = 0
        if received:
            position = streams.append("request", "client", received, self.asks, self.first_ask)
        elif self.asks:
            position = streams.event(self.asks, self.first_ask)
        pieces = self.pieces if len(self.pieces) < 2 else _runs(self.pieces)
        last_answer = _last_answer(pieces)
        for index, (kind, party, data) in enumerate(pieces):
            events = self.events if index == last_answer else []
            position = streams.append(kind, party, data, events, self.first_done)
        if self.events and last_answer < 0:
            position = streams.event(self.events, self.first_done)
        return position


def _last_answer(pieces: list[tuple[str, str, bytes]]) -> int:
    for index in range(len(pieces) - 1, -1, -1):
        if pieces[index][0] == "answer":
            return index
    return -1


def _runs(pieces: list[tuple[str, str, bytes]]) -> list[tuple[str, str, bytes]]:
    """Neighbours of one kind and party become one frame."""
    runs: list[tuple[str, str, list[bytes]]] = []
    for kind, party, data in pieces:
        if runs and runs[-1][0] == kind and runs[-1][1] == party:
            runs[-1][2].append(data)
        else:
            runs.append((kind, party, [data]))
    return [(kind, party, b"".join(parts)) for kind, party, parts in runs]
