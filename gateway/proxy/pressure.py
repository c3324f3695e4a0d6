# SPDX-License-Identifier: GPL-3.0-or-later
"""Back-pressure between two links: who is not read, why, and whether he is still there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.proxy.link import Link

# Why a link is not read.
PEER_FULL, GATE_FULL, ASKING = 1, 2, 4

_LOOK_SECONDS = 0.5


class Pressure:
    """Pauses and resumes reading. `on_hung_up`: the client left while it was not read."""

    __slots__ = ("_client", "_look_timer", "_on_hung_up", "_target")

    def __init__(self, client: Link, target: Link, on_hung_up: Callable[[], None]) -> None:
        self._client = client
        self._target = target
        self._on_hung_up = on_hung_up
        self._look_timer: asyncio.TimerHandle | None = None

    def press(self, link: Link, why: int, full: bool) -> None:
        """Read `link` no more because of `why`, or forget that reason."""
        if not full:
            link.resume(why)
            return
        link.pause(why)
        if link is self._client and self._look_timer is None:
            self._look_later()

    def takes(self, link: Link, why: int, free: bool) -> None:
        """Unless `free`, `link` takes no more for now: nothing is read that would end up there.

        A client that does not read is not read either: our own answers would pile up (denials).
        """
        if link is self._target:
            self.press(self._client, why, not free)
        else:
            self.press(self._client, why << 3, not free)
            self.press(self._target, why, not free)

    def stop(self) -> None:
        """The session is over."""
        if self._look_timer is not None:
            self._look_timer.cancel()

    def _look_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._look_timer = loop.call_later(_LOOK_SECONDS, self._look)

    def _look(self) -> None:
        """No loop reports a hang-up while reading is paused: ask the kernel.

        While a decision is awaited an ended stream means that nobody waits for it. Otherwise there
        may be bytes behind the pause that are to be relayed, and only a broken link counts.
        """
        self._look_timer = None
        if not self._client.paused:
            return
        if self._client.hung_up(half=bool(self._client.paused & ASKING)):
            self._on_hung_up()
        else:
            self._look_later()
