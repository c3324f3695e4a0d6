# SPDX-License-Identifier: GPL-3.0-or-later
"""A node is retired, and the end of its log reaches witness and store."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from gateway.config import Settings
from gateway.data_folder import StartFailed, locked
from gateway.model import RecordFailed
from gateway.record.retirement import retire
from gateway.wiring.evidence import opened_evidence, witnessed


async def retire_node(settings: Settings) -> str:
    """Retire the node of these settings; its log's origin. Raises StartFailed.

    What witness or store did not take is logged, and goes out when it is done again.
    """
    async with AsyncExitStack() as stack:
        try:
            stack.enter_context(locked(settings.data))
            evidence = await stack.enter_async_context(opened_evidence(settings))
            await stack.enter_async_context(witnessed(settings, evidence.folder))
            return await asyncio.to_thread(retire, settings.data, evidence.folder, settings.node)
        except (RecordFailed, OSError) as error:
            raise StartFailed(str(error)) from error
