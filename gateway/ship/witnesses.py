# SPDX-License-Identifier: GPL-3.0-or-later
"""Several witnesses of one node, asked at the same moment for the same checkpoint.

Their cosignatures stand in one note then, where a quorum of them can be counted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from gateway.ship import ShipFailed
from gateway.ship.witness import WitnessClient


class WitnessGroup:
    """One that fails is left out until its time comes again, so that it holds up no other."""

    def __init__(self, clients: Sequence[WitnessClient]) -> None:
        self.clients = tuple(clients)
        self._not_before = [0.0] * len(self.clients)

    async def run(
        self, every: float = 1.0, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        """Pass after pass until cancelled."""
        while True:
            await asyncio.gather(*(self._one(number) for number in range(len(self.clients))))
            await sleep(every)

    async def _one(self, number: int) -> None:
        if time.monotonic() >= self._not_before[number]:
            wait = await self.clients[number].attempt()
            self._not_before[number] = time.monotonic() + wait

    async def latest(self, origin: str) -> bytes | None:
        """The largest checkpoint of a log that one of them tells of. Raises ShipFailed if none
        of them answers."""
        answers = await asyncio.gather(
            *(one.latest(origin) for one in self.clients), return_exceptions=True
        )
        notes = [one for one in answers if isinstance(one, bytes)]
        failed = [one for one in answers if isinstance(one, BaseException)]
        if failed and len(failed) == len(answers):
            raise ShipFailed(str(failed[0]))
        return max(notes, key=lambda note: int(note.split(b"\n")[1]), default=None)

    async def close(self) -> None:
        await asyncio.gather(*(one.close() for one in self.clients))
