# SPDX-License-Identifier: GPL-3.0-or-later
"""The full texts of a recorded session's operations, by where they stand in its request stream."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from gateway.model import RecordedFrame
from gateway.protocols.postgresql import wire
from gateway.protocols.postgresql.recorded_requests import Message, RequestReader

REMEMBERED = 4096
"""Operations whose text is kept because they may end more than once."""
_WITH_TEXT = frozenset({wire.QUERY, wire.PARSE, wire.BIND, wire.EXECUTE})


class RecordedTexts:
    """Takes the frames of one session in their order, and tells texts by operation."""

    def __init__(self) -> None:
        self._reader = _Statements()
        self._waiting: OrderedDict[int, tuple[int, int]] = OrderedDict()
        self._found: OrderedDict[int, str | None] = OrderedDict()

    def frame(self, frame: RecordedFrame) -> None:
        """One frame, with its payload opened; once one is sealed, no text is told any more."""
        if frame.kind == "request":
            self._reader.feed(int(frame.meta.get("at", 0)), frame.payload)
        for event in frame.meta.get("events", ()):
            if event.get("ev") == "ask":
                self._waiting[event["op"]] = event["start"], event["end"]
            elif event.get("ev") == "backend" and isinstance(event.get("parameters"), Mapping):
                told = event["parameters"].get("client_encoding")
                self._reader.encoding = told if isinstance(told, str) else "UTF8"
        self._look()

    def of(self, operation: int) -> str | None:
        """The text of an operation; None where it has none, or stays sealed."""
        return self._found.get(operation)

    def _look(self) -> None:
        """In the order of the stream: what lies before a message asked for is forgotten."""
        for operation, (start, end) in list(self._waiting.items()):
            message = self._reader.message(start, end)
            if message is None and self._reader.at < end and not self._reader.lost:
                return
            del self._waiting[operation]
            text = message.text(self._reader.encoding) if message is not None else None
            self._found[operation] = text if isinstance(text, str) else None
            if len(self._found) > REMEMBERED:
                self._found.popitem(last=False)


class _Statements(RequestReader):
    """Without what was copied in, and without waiting for answers."""

    def _note(self, message: Message) -> None:
        if message.kind in _WITH_TEXT:
            self._unasked.append(message)
