# SPDX-License-Identifier: GPL-3.0-or-later
"""The client's bytes as they wait, go on or are dropped; what they mean is requests.py's."""

from __future__ import annotations

from gateway.protocols import Effect, ToTarget
from gateway.protocols.postgresql import wire
from gateway.protocols.postgresql.scan import frame


class ClientStream:
    """One chunk at a time, and what it left over. Whole runs of messages go on as one effect."""

    def __init__(self) -> None:
        self._effects: list[Effect] = []
        self._data = b""
        self._at = 0
        """Where the next message begins in `_data`; beyond its end while one streams."""
        self._from = 0
        """What stands before is sent, or dropped."""
        self._base = 0
        """Stream offset of the first byte of `_data`."""
        self._left = 0
        self._left_goes = False
        self._parts: list[bytes] = []
        self._missing = 0
        self._holds: tuple[int, ...] = ()
        self._inbox: list[bytes] = []
        self._inbox_bytes = 0

    @property
    def at_border(self) -> bool:
        """The target has whole messages only, so that one of our own may follow."""
        return self._left == 0 or not self._left_goes

    def take_effects(self) -> list[Effect]:
        """What was done before a WireError was raised."""
        effects, self._effects = self._effects, []
        return effects

    def _take(self, data: bytes) -> bool:
        """Go on with more bytes of the client; True when a whole message may be there."""
        if self._parts:
            self._parts.append(data)
            self._missing -= len(data)
            if self._missing > 0:
                return False
            data = b"".join(self._parts)
            self._parts = []
        self._data, self._at, self._from = data, 0, 0
        if self._left:
            self._pass_left(data)
        return True

    def _pass_left(self, data: bytes) -> None:
        taken = min(self._left, len(data))
        self._left -= taken
        self._at = taken
        if not self._left_goes:
            self._from = taken

    def _end_of_chunk(self, missing: int) -> None:
        """All whole messages are used: what streams on, or is incomplete, is remembered."""
        size = len(self._data)
        if self._at > size:
            self._left = self._at - size
            self._left_goes = self._from < self._at
            self._at = size
        self._flush_out(self._at)
        if missing:
            self._parts = [self._data[self._at :]]
            self._missing = missing
        self._base += self._at
        self._data, self._at, self._from = b"", 0, 0

    def _flush_out(self, to: int) -> None:
        """Send what is allowed and not yet sent, up to `to`."""
        if self._from < to:
            self._effects.append(ToTarget(self._data[self._from : to]))
        self._from = to

    def _pass(self, end: int) -> bool:
        self._at = end
        return True

    def _drop(self, end: int) -> bool:
        self._flush_out(self._at)
        self._at = self._from = end
        return True

    def _send_own(self, data: bytes) -> None:
        self._flush_out(self._at)
        self._effects.append(ToTarget(data, True))

    def _join_inbox(self) -> None:
        """Put what came meanwhile behind what was kept back."""
        used = min(self._from, len(self._data))
        self._data = b"".join((self._data[used:], *self._inbox))
        self._base += used
        self._at -= used
        self._from -= used
        self._inbox.clear()
        self._inbox_bytes = 0

    def _leaves(self, data: bytes) -> bool:
        """While an operation is held, a Terminate behind it ends the hold."""
        return data.endswith(wire.TERMINATE_MESSAGE) and self._ends_with_terminate()

    def _ends_with_terminate(self) -> bool:
        """Whether the bytes kept back, read as messages, end with a Terminate."""
        data = b"".join((self._data[self._at :], *self._inbox))
        at, size = 0, len(data)
        while at < size:
            kind, end, missing = frame(data, at, self._holds)
            if missing:
                return False
            if kind == wire.TERMINATE:
                return end == size
            at = end
        return False
