# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys whose time is over are erased by the gateway itself, signed as `expired`."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gateway.model import RecordFailed
from gateway.record.declared import Declared
from gateway.record.erasing import EXPIRED, EraseRefused, Erasures
from gateway.record.log import TileLog

log = logging.getLogger("trailgate.record")

EVERY_SECONDS = 3600.0
_TEXT = "%Y-%m-%dT%H:%M:%S.%fZ"
MOST_AT_ONCE = 1000
"""Sessions of one pass: each is a task until its key is gone."""


def _now() -> datetime:
    return datetime.now(UTC)


class Expiry:
    """Passes over the log's close leaves from where the last pass ended."""

    def __init__(
        self,
        tiles: TileLog,
        keys: Path,
        erasures: Erasures,
        declared: Declared,
        now: Callable[[], datetime] = _now,
    ) -> None:
        self._tiles = tiles
        self._keys = keys
        self._erasures = erasures
        self._declared = declared
        self._now = now
        self._from = 0
        self._held: list[str] = []

    async def run(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Pass after pass until cancelled."""
        while True:
            try:
                await self.expire()
            except (RecordFailed, OSError) as error:
                log.error("keys do not expire", extra={"cause": str(error)})
            await sleep(EVERY_SECONDS)

    async def expire(self) -> int:
        """One pass; how many sessions' keys it began to erase. Raises RecordFailed, OSError."""
        days = self._declared.retention.keys
        if not days:
            return 0
        before = (self._now() - timedelta(days=days)).strftime(_TEXT)
        sessions = [*self._held, *await asyncio.to_thread(self._closed_before, before)]
        self._held = []
        begun = 0
        for session in sessions:
            try:
                await self._erasures.erase(session, EXPIRED)
                begun += 1
            except EraseRefused:
                # Under a hold, which may be lifted: it is looked at again.
                if (self._keys / session).is_dir():
                    self._held.append(session)
        return begun

    def _closed_before(self, before: str) -> list[str]:
        """Sessions with a key here whose close leaf is older, up to the first that is not."""
        found: list[str] = []
        for index, data in self._tiles.leaves(self._from):
            leaf = json.loads(data)
            if leaf["at"] >= before or len(found) >= MOST_AT_ONCE:
                break
            self._from = index + 1
            if leaf["type"] == "close" and (self._keys / leaf["session"]).is_dir():
                found.append(leaf["session"])
        return found
