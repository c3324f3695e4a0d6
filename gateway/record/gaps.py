# SPDX-License-Identifier: GPL-3.0-or-later
"""A session that may go on while nothing can be recorded, because its policies say so.

Only while there is no room (a full disk, the backlog's hard mark): a record that failed for good
ends the gateway. The gap is a record itself: a frame from room that was kept for it before the
first byte moves on unrecorded, a frame with what is missing once there is room again or the session
ends, and a signed leaf for each.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol as Interface

from gateway.model import RecordFailed
from gateway.record.frames import CLEAR_BYTES, PREFIX_BYTES, SEAL_BYTES, canonical
from gateway.record.journal import Journal
from gateway.record.log import now_text

GAP_BYTES = 1024
"""Kept for each of a gap's two frames."""
MOST_CAUSE = 200
_AGAIN_SECONDS = 0.25
"""So often the journal is asked whether there is room again."""
_OVERHEAD = PREFIX_BYTES + CLEAR_BYTES + SEAL_BYTES

Tell = Callable[[str], None]
"""Signs a `gap` leaf with this detail."""


class Writer(Interface):
    """The session, past all checks."""

    def write_gap(self, meta: bytes) -> int:
        """Write a frame of the kind `gap` from what is kept; its position. Raises RecordFailed."""


class Gaps:
    """Whether a session's gap is open, and what is missing in it. On the loop only."""

    __slots__ = (
        "_again", "_allowed", "_cause", "_counts", "_frames", "_journal", "_position", "_reserved",
        "_since", "_tell", "_writer", "open",
    )  # fmt: skip

    def __init__(
        self, writer: Writer, journal: Journal, allowed: Callable[[], bool], tell: Tell
    ) -> None:
        self._writer = writer
        self._journal = journal
        self._allowed = allowed
        self._tell = tell
        self._reserved = 0
        self._since = self._cause = ""
        self._frames = 0
        self._counts: dict[str, int] = {}
        self._again = 0.0
        self._position = 0
        self.open = False
        self._reserve(2 * GAP_BYTES)

    def _reserve(self, bytes_: int) -> None:
        self._journal.reserve(bytes_ - self._reserved)
        self._reserved = bytes_

    def begin(self, kind: str, payload: bytes, error: RecordFailed) -> int:
        """A frame found no room: go on without it, if that is allowed. Raises RecordFailed."""
        if self._journal.failed or not self._reserved or not self._allowed():
            raise error
        cause = str(error).encode("ascii", "replace").decode()
        self._since, self._cause = now_text(), cause[:MOST_CAUSE]
        self._frames, self._counts = 0, {}
        meta = {"event": "begun", "since": self._since, "cause": self._cause}
        self._position = self._writer.write_gap(canonical(meta))
        self._reserve(GAP_BYTES)
        self.open = True
        self._again = time.monotonic() + _AGAIN_SECONDS
        self._tell(f"nothing is recorded since {self._since}: {self._cause}")
        return self.lost(kind, payload)

    def lost(self, kind: str, payload: bytes) -> int:
        """Count a frame that is not recorded; where the journal stands. Raises RecordFailed."""
        if self._journal.failed or not self._allowed():
            raise RecordFailed(self._journal.failed or self._cause)
        self._frames += 1
        self._counts[kind] = self._counts.get(kind, 0) + len(payload)
        return self._position

    def over(self, need: int) -> bool:
        """Whether there is room for a frame of `need` bytes again; then the gap is ended."""
        now = time.monotonic()
        if now < self._again:
            return False
        self._again = now + _AGAIN_SECONDS
        try:
            self._journal.room(need + _OVERHEAD + 3 * GAP_BYTES)
        except RecordFailed:
            return False
        self.end()
        self._reserve(2 * GAP_BYTES)
        return True

    def end(self) -> None:
        """Say what is missing. Raises RecordFailed."""
        if not self.open:
            return
        until, missing = now_text(), sum(self._counts.values())
        meta = {
            "event": "ended",
            "since": self._since,
            "until": until,
            "frames": self._frames,
            "bytes": self._counts,
        }
        self._writer.write_gap(canonical(meta))
        self._reserve(0)
        self.open = False
        self._tell(
            f"not recorded from {self._since} to {until}: {self._frames} frames of {missing} bytes"
        )

    def close(self) -> None:
        """The session ends: what is still open is told, what was kept is let go."""
        self.end()
        self._reserve(0)
