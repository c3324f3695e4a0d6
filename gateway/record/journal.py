# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal: file after file, one line of positions, one fdatasync for all who wait.

Everything here runs on the loop, but for what is handed to the thread: making the next file,
closing a full one, and fdatasync. Every file keeps room for the close frame of each open session
and for its own footer, so that a full disk never keeps a session from being closed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gateway.model import Level, RecordFailed
from gateway.record import durable
from gateway.record.frames import MOST_FRAME, Header
from gateway.record.journal_file import JournalFile, make_file

log = logging.getLogger("trailgate.record")

CLOSE_BYTES = 1280
"""Kept for the close frame of each open session."""
_FOOTER_BYTES = 256
_HEADER_BYTES = 1024
_AGAIN_SECONDS = 1.0


class Journal:
    """The files one after the other, as one line of positions."""

    def __init__(
        self,
        folder: Path,
        make_header: Callable[[int], Header],
        number: int,
        *,
        file_bytes: int,
        rotate_seconds: float,
        sync_seconds: float,
        sync: Callable[[int], None],
        on_rotate: Callable[[int], None],
        on_closed: Callable[[Path, Header, int], None],
        on_failed: Callable[[str], None],
        may_grow: Callable[[], str] = lambda: "",
    ) -> None:
        self._folder = folder
        self._make_header = make_header
        self._number = number
        self._file_bytes = file_bytes
        self._rotate_seconds = rotate_seconds
        self._sync_seconds = sync_seconds
        self._sync_call = sync
        self._on_rotate = on_rotate
        self._on_closed = on_closed
        self._on_failed = on_failed
        self._may_grow = may_grow
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, "trailgate-journal")
        self._maker = ThreadPoolExecutor(1, "trailgate-journal-next")
        self._spare: JournalFile | None = None
        self._making: asyncio.Task[None] | None = None
        self._names = 0
        self._retired: list[JournalFile] = []
        self.timer: asyncio.TimerHandle | None = None
        """The next sync; None: call `arm` after a write."""
        self._aging: asyncio.TimerHandle | None = None
        self._again: asyncio.TimerHandle | None = None
        self._syncing: asyncio.Task[None] | None = None
        self._waiters: list[tuple[int, Callable[[bool], None]]] = []
        self._stopped = False
        self.reserved = 0
        """Bytes kept for open sessions: their close frames and footer rows."""
        self.failed = ""
        self.full = ""
        """Why there is no next file at the moment; empty: there is, or will be."""
        self.synced = 0
        self.syncs = 0
        self.sync_seconds = 0.0
        self.bytes = 0
        self.frames = 0
        self.file = self._make_now(file_bytes)
        self._begin(self.file, 0)

    # --- positions -------------------------------------------------------------------------------

    @property
    def next_number(self) -> int:
        """Of the file to come."""
        return self._number

    @property
    def position(self) -> int:
        """Behind the newest frame."""
        return self.file.base + self.file.at

    def reached(self, position: int, level: Level) -> bool:
        if self.failed:
            return False
        return position <= (self.synced if level >= Level.DISK else self.position)

    def when_reached(self, position: int, level: Level, then: Callable[[bool], None]) -> None:
        if self.failed or self.reached(position, level):
            self._loop.call_soon(then, not self.failed)
            return
        self._waiters.append((position, then))
        self.sync_now()

    # --- room ------------------------------------------------------------------------------------

    def reserve(self, change: int) -> None:
        """Keep more (or less) room in this file and those to come."""
        self.reserved += change
        self._limit()

    def row_closed(self, bytes_: int) -> None:
        """A session with a row in this file ended: its row is needed here, not in later files."""
        self.file.closed_rows += bytes_
        self.reserve(-bytes_)

    def _limit(self) -> None:
        file = self.file
        file.limit = file.size - _FOOTER_BYTES - self.reserved - file.closed_rows
        if self.failed:
            file.limit = -1

    def room(self, need: int) -> JournalFile:
        """The file with room for a frame of `need` bytes. Raises RecordFailed."""
        self.check()
        if need > MOST_FRAME:
            raise RecordFailed(f"a frame of {need} bytes: the format allows {MOST_FRAME}")
        if self.file.at + need <= self.file.limit:
            return self.file
        if cause := self._may_grow():
            raise RecordFailed(cause)
        size = need + self.reserved + _FOOTER_BYTES + _HEADER_BYTES
        if self._spare is None or self._spare.size < size:
            self._spare = self._make_or_raise(max(size, self._file_bytes))
        self._rotate()
        return self.file

    def room_to_close(self, need: int) -> JournalFile:
        """The file, for a close frame: it may use what is kept for it. Raises RecordFailed."""
        self.check()
        if need > CLOSE_BYTES:
            raise RecordFailed(f"a close frame of {need} bytes is longer than {CLOSE_BYTES}")
        return self.file

    def check(self) -> None:
        """Raise RecordFailed when nothing can be recorded."""
        if self.failed:
            raise RecordFailed(self.failed)
        if self._stopped:
            raise RecordFailed("the record was completed: the gateway is ending")

    def _make_or_raise(self, size: int) -> JournalFile:
        if self._spare is not None:
            self._spare.discard()
            self._spare = None
        try:
            return self._make_now(size)
        except OSError as error:
            self._no_room(error)
            raise RecordFailed(self.full) from error

    def _make_now(self, size: int) -> JournalFile:
        return make_file(self._spare_path(), size)

    def _spare_path(self) -> Path:
        self._names += 1
        return self._folder / f"spare-{self._names}"

    def _no_room(self, error: OSError) -> None:
        cause = durable.explain(self._folder, error)
        if not self.full:
            log.error("no room for the next journal file", extra={"cause": cause})
        self.full = cause
        if self._again is None and not self._stopped:
            self._again = self._loop.call_later(_AGAIN_SECONDS, self._try_again)

    def _try_again(self) -> None:
        self._again = None
        self._prepare()

    # --- rotation --------------------------------------------------------------------------------

    def _begin(self, file: JournalFile, base: int) -> None:
        header = self._make_header(self._number)
        file.begin(header, self._folder / f"{self._number}.journal", base)
        self.file = file
        self._number += 1
        self._limit()
        if self._aging is not None:
            self._aging.cancel()
        self._aging = self._loop.call_later(self._rotate_seconds, self._aged)
        self._prepare()

    def _prepare(self) -> None:
        if self._spare is None and self._making is None and not self._stopped and not self.failed:
            self._making = self._loop.create_task(self._make_spare(self._spare_path()))

    async def _make_spare(self, path: Path) -> None:
        try:
            made = await self._loop.run_in_executor(self._maker, make_file, path, self._file_bytes)
        except OSError as error:
            self._no_room(error)
            return
        finally:
            self._making = None
        if self._spare is not None or self._stopped:
            made.discard()
            return
        self._spare, self.full = made, ""

    def _rotate(self) -> None:
        """Close this file and go on in the next, which is there."""
        spare, self._spare = self._spare, None
        assert spare is not None
        old = self.file
        old.finish_rows()
        self.bytes += old.at
        self.frames += old.frames
        self._on_rotate(self._number)
        self._retired.append(old)
        self._begin(spare, old.base + old.size)
        self.arm()

    def _aged(self) -> None:
        self._aging = None
        if self._stopped or self.failed:
            return
        ready = self._spare is not None and self._fits(self._spare) and not self._may_grow()
        if self.file.frames and ready:
            self._rotate()
        else:
            wait = self._rotate_seconds if not self.file.frames else min(1.0, self._rotate_seconds)
            self._aging = self._loop.call_later(wait, self._aged)

    def _fits(self, spare: JournalFile) -> bool:
        return spare.size >= self.reserved + _FOOTER_BYTES + _HEADER_BYTES

    # --- sync ------------------------------------------------------------------------------------

    def arm(self) -> None:
        """Something was written: it is synced within `sync_seconds`."""
        if self.timer is None and not self.failed and not self._stopped:
            self.timer = self._loop.call_later(self._sync_seconds, self.sync_now)

    def sync_now(self) -> None:
        """Start a sync; one that runs already is followed by another."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if self._syncing is None and not self.failed and not self._stopped:
            self._syncing = self._loop.create_task(self._sync())

    async def _sync(self) -> None:
        try:
            while not self.failed:
                await self._sync_once()
                if not self._waiters and not self._retired:
                    break
        except OSError as error:
            # Never tried again: the kernel may have dropped the pages and call a second try good.
            self.fail(durable.explain(self._folder, error))
        except Exception as error:
            log.exception("a sync of the journal failed")
            self.fail(f"internal error ({type(error).__name__})")
        finally:
            self._syncing = None
        if self.position > self.synced and not self.failed:
            self.arm()

    async def _sync_once(self) -> None:
        retired, self._retired = self._retired, []
        file, position, started = self.file, self.position, time.perf_counter()
        await self._loop.run_in_executor(self._thread, self._sync_files, retired, file)
        self.syncs += 1
        self.sync_seconds += time.perf_counter() - started
        self.synced = position
        self._tell()
        for old in retired:
            assert old.header is not None
            self._on_closed(old.path, old.header, old.frames)

    def _sync_files(self, retired: Iterable[JournalFile], file: JournalFile) -> None:
        for old in retired:
            old.close(self._sync_call)
        file.settle()
        self._sync_call(file.descriptor)

    def _tell(self) -> None:
        ready = [then for position, then in self._waiters if position <= self.synced]
        self._waiters = [one for one in self._waiters if one[0] > self.synced]
        for then in ready:
            self._loop.call_soon(then, True)

    # --- the end ---------------------------------------------------------------------------------

    def fail(self, cause: str) -> None:
        """Nothing can be recorded any more. Told once."""
        if self.failed:
            return
        self.failed = cause
        self._limit()
        waiters, self._waiters = self._waiters, []
        for _, then in waiters:
            self._loop.call_soon(then, False)
        self._on_failed(cause)

    async def stop(self) -> None:
        """Close the file that is written; afterwards nothing can be appended."""
        self._stopped = True  # what waits for a sync is told at the end of this
        for timer in (self.timer, self._aging, self._again):
            if timer is not None:
                timer.cancel()
        self.timer = None
        if self._making is not None:
            await self._making
        if self._spare is not None:
            self._spare.discard()
        while self._syncing is not None:
            await self._syncing
        if not self.failed:
            await self._finish()
        self._thread.shutdown(wait=True)
        self._maker.shutdown(wait=True)

    async def _finish(self) -> None:
        file = self.file
        file.finish_rows()
        retired = [*self._retired, file]
        self.bytes += file.at
        self.frames += file.frames
        try:
            for old in retired:
                await self._loop.run_in_executor(self._thread, old.close, self._sync_call)
        except OSError as error:
            self.fail(durable.explain(self._folder, error))
            return
        self.synced = self.position
        self._tell()
        for old in retired:
            assert old.header is not None
            self._on_closed(old.path, old.header, old.frames)
