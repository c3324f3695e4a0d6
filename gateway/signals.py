# SPDX-License-Identifier: GPL-3.0-or-later
"""The signals that end a process in order."""

from __future__ import annotations

import asyncio
import signal


class EndSignals:
    """Hears SIGINT and SIGTERM from the moment it is made, so that none is missed in between."""

    def __init__(self) -> None:
        self._asked = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._asked.set)

    async def wait(self, *also: asyncio.Event) -> None:
        """Return once one has come, or when one of the events is set."""
        waits = [asyncio.ensure_future(event.wait()) for event in (self._asked, *also)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
