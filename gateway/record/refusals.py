# SPDX-License-Identifier: GPL-3.0-or-later
"""Refused logins in the node's record: a burst singly, a flood as a count."""

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


class Refusals:
    """A token bucket in front of the node's session."""

    def __init__(self, node: RecordedSession, clock: Callable[[], float] = time.monotonic) -> None:
        self._node = node
        self._clock = clock
        self._tokens = float(BURST)
        self._filled = clock()
        self._untold = 0
        self.dropped = 0
        """Refusals that are only counted."""

    def record(self, event: Mapping[str, Any]) -> None:
        """Never raises: a refusal stands, whether or not it can be recorded."""
        now = self._clock()
        self._tokens = min(BURST, self._tokens + (now - self._filled) * PER_SECOND)
        self._filled = now
        if self._tokens < 1:
            self._drop()
            return
        self._tokens -= 1
        self.tell()
        self._append({"event": "refused", **event})

    def tell(self) -> None:
        """Record how many were only counted since the last time."""
        count, self._untold = self._untold, 0
        if count and not self._append({"event": "refused_not_recorded", "count": count}):
            self._untold = count

    def _drop(self) -> None:
        self.dropped += 1
        self._untold += 1

    def _append(self, fields: Mapping[str, Any]) -> bool:
        try:
            meta = json.dumps(fields, separators=(",", ":"), default=str).encode()
            if len(meta) > _MOST_META:
                short = {name: str(value)[:100] for name, value in list(fields.items())[:10]}
                meta = json.dumps(short, separators=(",", ":")).encode()
            self._node.append("refused", "own", b"", meta)
        except RecordFailed:
            if "count" not in fields:
                self._drop()
            return False
        except Exception:
            log.exception("a refusal could not be recorded")
            return False
        return True
