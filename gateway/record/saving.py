# SPDX-License-Identifier: GPL-3.0-or-later
"""Saves where recovery would have to start, each time that a journal file begins."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from gateway.model import RecordFailed
from gateway.record import openings as kept_openings
from gateway.record.durable import explain, sync_file_system
from gateway.record.log import NodeLog
from gateway.record.openings import Openings
from gateway.record.state import State

log = logging.getLogger("trailgate.record")


class StateSaver:
    """The newest state wins; `saved` hears which file a recovery would start with."""

    def __init__(
        self,
        folder: Path,
        keys: Path,
        node_log: NodeLog,
        openings: Openings,
        state: Callable[[int], State],
        saved: Callable[[int], None],
        journal_synced: Callable[[], Awaitable[None]],
    ) -> None:
        self._folder = folder
        self._keys = keys
        self._log = node_log
        self._openings = openings
        self._state = state
        self._saved = saved
        self._journal_synced = journal_synced
        self._waiting: State | None = None
        self._oldest_openings = 0
        self._task: asyncio.Task[None] | None = None

    def rotated(self, number: int) -> None:
        """Journal file `number` is about to begin."""
        self._oldest_openings = self._openings.rotate(number)
        self._waiting = self._state(number)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        try:
            while self._waiting is not None:
                state, oldest = self._waiting, self._oldest_openings
                self._waiting = None
                await self._log.durable(state.leaves - 1)
                # A recovery takes what the state counts for read: the files before `state.file`
                # must have their footers, on disk.
                await self._journal_synced()
                await asyncio.to_thread(self.write, state, oldest)
                self._saved(state.file)
        except RecordFailed:
            log.debug("the state is not saved: the record failed")
        except OSError as error:
            # Files stay, and recovery reads more: nothing is lost.
            log.error("state not saved", extra={"cause": explain(self._folder, error)})
        finally:
            self._task = None

    def write(self, state: State, oldest_openings: int) -> None:
        """Make it so, and drop the openings that it covers. Raises OSError. Blocks."""
        sync_file_system(self._keys)
        state.write(self._folder)
        kept_openings.forget(self._folder, oldest_openings)

    async def finish(self) -> None:
        """Wait for what is being saved. Raises OSError."""
        if (task := self._task) is not None:
            await self._log.sign()
            await task

    async def write_last(self, number: int) -> None:
        """The stop leaf is signed: nothing before file `number` is needed. Raises OSError."""
        state = self._state(number)
        await asyncio.to_thread(self.write, state, state.file)
        self._saved(state.file)
