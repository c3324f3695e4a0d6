# SPDX-License-Identifier: GPL-3.0-or-later
"""Sessions of all nodes that share a database: each tells its own, shows all, and may end any."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from gateway.outage import Outage
from gateway.store.interface import StoreFailed
from gateway.store.sessions import StoredSessions
from gateway.wiring.directory import LiveSessions, live_document

log = logging.getLogger("trailgate")

TELL_EVERY = 1.0
TOLD_AT_ONCE = 200
"""Documents that are made and written in one go: neither the loop nor other nodes wait long."""


class NodeSessions:
    """`SessionsView` over all nodes; what another node has open is a second old or two."""

    def __init__(self, own: LiveSessions, store: StoredSessions) -> None:
        self._own = own
        self._store = store
        self._told: dict[str, None] = {}
        """Ids in the order in which they were told: the next to be told anew is the first."""
        self._look = asyncio.Event()

    async def live(self, *, own: bool = False) -> Sequence[Mapping[str, Any]]:
        mine = await self._own.live()
        if own:
            return mine
        try:
            return [*mine, *await self._store.elsewhere()]
        except StoreFailed as error:
            # What is open here can be seen and ended without the others.
            log.warning("other nodes' sessions are not shown", extra={"cause": str(error)})
            return mine

    async def kill_session(self, session_id: str, reason: str) -> bool:
        if await self._own.kill_session(session_id, reason):
            return True
        return await self._store.ask_to_end(session_id, reason)

    def look_now(self) -> None:
        """Something may have been asked for: the watch need not wait for its second."""
        self._look.set()

    async def watch(self) -> None:
        """Tell what is open here, and end what is asked for, until cancelled."""
        over = "sessions are told to other nodes again"
        outage = Outage(log, "sessions are not told to other nodes", over)
        while True:
            try:
                await self._end_what_is_asked()
                await self._tell()
                outage.worked()
            except Exception as error:
                outage.failed(error)
            await self._pause()

    async def _pause(self) -> None:
        try:
            await asyncio.wait_for(self._look.wait(), TELL_EVERY)
        except TimeoutError:
            return  # nobody asked: tell all the same
        self._look.clear()

    async def _end_what_is_asked(self) -> None:
        for session_id, reason in await self._store.asked_to_end():
            await self._own.kill_session(session_id, reason)

    async def _tell(self) -> None:
        open_now = self._own.views()
        closed = [one for one in self._told if one not in open_now]
        new = [one for one in open_now if one not in self._told]
        again = [one for one in self._told if one in open_now]
        chosen = [*new, *again][:TOLD_AT_ONCE]
        documents = {one: live_document(open_now[one](), self._own.node) for one in chosen}
        await self._store.keep(documents, closed)
        for one in [*closed, *documents]:
            self._told.pop(one, None)
        self._told.update(dict.fromkeys(documents))
