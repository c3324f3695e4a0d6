# SPDX-License-Identifier: GPL-3.0-or-later
"""TLS handshakes of the API, under a cap: who stalls in one holds no room that others need.

An event loop's own server counts no link before its handshake is done, and lets it take a minute.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable

from gateway.identity.login.throttle import network_of

log = logging.getLogger(__name__)

HANDSHAKE_SECONDS = 10.0
AT_ONCE = 256
"""Handshakes that may be under way."""
OF_ONE_NETWORK = 128
WITHOUT_FILES_SECONDS = 0.5
"""Between tries to accept, where the process or the machine has no more descriptors."""


class TlsDoor:
    """Accepts links on a listening socket; each becomes a connection once it speaks TLS."""

    def __init__(
        self,
        bound: socket.socket,
        context: ssl.SSLContext,
        seconds: float,
        connection: Callable[[], asyncio.Protocol],
    ) -> None:
        self._bound = bound
        self._context = context
        self._seconds = seconds
        self._connection = connection
        self._under_way: dict[asyncio.Task[None], str] = {}
        """And whose network it is; the oldest first."""
        self._accepting = asyncio.create_task(self._accept())

    def __len__(self) -> int:
        """Handshakes that are under way."""
        return len(self._under_way)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                link, peer = await loop.sock_accept(self._bound)
            except OSError as error:
                log.warning("the API cannot accept a link: %s", error.strerror)
                await asyncio.sleep(WITHOUT_FILES_SECONDS)
                continue
            network = network_of(peer[0])
            self._make_room(network)
            task = loop.create_task(self._shake(link))
            self._under_way[task] = network
            task.add_done_callback(self._ended)

    def _make_room(self, network: str) -> None:
        """Where the network or all have too many, the oldest of these gives way."""
        its_own = [task for task, where in self._under_way.items() if where == network]
        if len(its_own) >= OF_ONE_NETWORK:
            its_own[0].cancel()
            del self._under_way[its_own[0]]
        elif len(self._under_way) >= AT_ONCE:
            oldest = next(iter(self._under_way))
            oldest.cancel()
            del self._under_way[oldest]

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._under_way.pop(task, None)

    async def _shake(self, link: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                self._connection,
                link,
                ssl=self._context,
                ssl_handshake_timeout=self._seconds,
            )
        except OSError as error:  # ssl's errors are such, too
            log.debug("a TLS handshake failed: %s", error)
        except BaseException:
            link.close()  # where it was given up before it began
            raise

    async def close(self) -> None:
        tasks = [self._accepting, *self._under_way]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._bound.close()
