# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node does outside of sessions, in its own record: who read what, logins of its own.

A burst is written singly, a flood as a count, so that nobody can fill the record by reading.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from gateway.model import RecordFailed
from gateway.record.session_record import RecordedSession

log = logging.getLogger("trailgate.record")

BURST = 200
PER_SECOND = 20.0
_MOST_META = 4096
_MOST_TEXT = 200


class Noted:
    """A token bucket in front of the node's session."""

    def __init__(self, node: RecordedSession, clock: Callable[[], float] = time.monotonic) -> None:
        self._node = node
        self._clock = clock
        self._tokens = float(BURST)
        self._filled = clock()
        self._untold = 0

    def write(self, event: Mapping[str, Any]) -> bool:
        """A frame of the kind `node` with this metadata; False where it was only counted.

        `event` names what happened by its member `event`. Never raises.
        """
        now = self._clock()
        self._tokens = min(BURST, self._tokens + (now - self._filled) * PER_SECOND)
        self._filled = now
        if self._tokens < 1:
            self._untold += 1
            return False
        self._tokens -= 1
        self.tell()
        if self._append(event):
            return True
        self._untold += 1
        return False

    def tell(self) -> None:
        """Record how many were only counted since the last time."""
        count, self._untold = self._untold, 0
        if count and not self._append({"event": "not_recorded", "count": count}):
            self._untold = count

    def _append(self, event: Mapping[str, Any]) -> bool:
        meta = json.dumps(event, separators=(",", ":"), default=str).encode()
        if len(meta) > _MOST_META:
            short = {name: str(value)[:_MOST_TEXT] for name, value in list(event.items())[:10]}
            meta = json.dumps(short, separators=(",", ":")).encode()
        try:
            self._node.append("node", "own", b"", meta)
        except RecordFailed:
            return False
        except Exception:
            log.exception("an event of the node could not be recorded")
            return False
        return True
