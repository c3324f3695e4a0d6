# SPDX-License-Identifier: GPL-3.0-or-later
"""Patience: tries again with back-off and jitter until shipped, and counts what waits."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from gateway.ship import Publisher, ShipConflict, ShipFailed

_log = logging.getLogger(__name__)


def delays(first: float = 0.2, most: float = 30.0) -> Iterator[float]:
    """Seconds to wait: doubling up to `most`, each between half and the whole of its step, so
    that nodes that failed together do not come back together."""
    step = first
    while True:
        yield step * random.uniform(0.5, 1.0)
        step = min(step * 2, most)


class Spool:
    """A Publisher around a Publisher: retries ShipFailed for ever, passes ShipConflict on.

    Nothing is kept but counters: after a crash the caller publishes again, which is safe.
    """

    def __init__(
        self,
        publisher: Publisher,
        *,
        first_delay: float = 0.2,
        most_delay: float = 30.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._publisher = publisher
        self._range = (first_delay, most_delay)
        self._sleep = sleep
        self.backlog = 0
        """Objects that were handed in and are not shipped yet."""
        self.backlog_bytes = 0
        self.failures = 0
        """Attempts that failed since the last success; above 0, the store is in trouble."""

    async def publish(self, path: Path, object_name: str, sha256: str) -> None:
        """As Publisher, but fails only with ShipConflict or by being cancelled."""
        size = _size(path)
        self.backlog += 1
        self.backlog_bytes += size
        try:
            await self._until_shipped(path, object_name, sha256)
        finally:
            self.backlog -= 1
            self.backlog_bytes -= size

    async def _until_shipped(self, path: Path, object_name: str, sha256: str) -> None:
        for delay in delays(*self._range):
            try:
                await self._publisher.publish(path, object_name, sha256)
            except ShipConflict:
                raise
            except ShipFailed as error:
                self.failures += 1
                _log.warning("not shipped yet, again in %.1f s: %s", delay, error)
                await self._sleep(delay)
            else:
                self.failures = 0
                return


def _size(path: Path) -> int:
    return path.stat().st_size
