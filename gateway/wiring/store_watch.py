# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of live sessions while the store is away: marked as stale, then ended.

Without the store no revocation is heard. Sessions go on for a grace, so that a failover does not
end them all, and their records say from where to where nobody could have revoked them.
"""

from __future__ import annotations

import asyncio
import logging
import time

from gateway.identity.grants import SWEEP_EVERY, Grants
from gateway.proxy.listener import Proxy

log = logging.getLogger("trailgate")

STALE_AFTER = 2.5 * SWEEP_EVERY
"""Seconds without an answer of the store: two looks that brought none."""
_STALE, _FRESH = b'{"ev":"stale"}', b'{"ev":"fresh"}'


async def watch_store(grants: Grants, proxy: Proxy, grace_seconds: float) -> None:
    """Until cancelled."""
    stale = False
    while True:
        await asyncio.sleep(SWEEP_EVERY)
        silent = time.monotonic() - grants.last_seen
        if (silent > STALE_AFTER) != stale:
            stale = not stale
            count = proxy.note(_STALE if stale else _FRESH)
            told = "sessions go on without the store" if stale else "the store answers again"
            # The watch of grants warns of the store itself.
            log.log(logging.WARNING if count else logging.INFO, told, extra={"sessions": count})
        if silent > grace_seconds + SWEEP_EVERY:
            end_all(proxy)


def end_all(proxy: Proxy) -> None:
    live = [view.session.grant.id for view in proxy.live()]
    if live and proxy.kill_grants(frozenset(live), "the gateway's store is away"):
        log.error("sessions ended: the store has not answered", extra={"sessions": len(live)})
