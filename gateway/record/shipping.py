# SPDX-License-Identifier: GPL-3.0-or-later
"""Closed journal files on their way to be segments: published, named by a leaf, dropped here."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gateway.record.backlog import Backlog
from gateway.record.frames import Header
from gateway.record.log import NodeLog

log = logging.getLogger("trailgate.record")

Publish = Callable[[Path, str, str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Closed:
    path: Path
    header: Header
    frames: int
    bytes: int


@dataclass(frozen=True, slots=True)
class _Named:
    """Its leaf is written; the file goes once that is signed and no recovery would need it."""

    path: Path
    leaf: int


class Shipper:
    """Publishes one file after another. What cannot be published is kept for the next start."""

    def __init__(self, node_log: NodeLog, publish: Publish, backlog: Backlog) -> None:
        self._log = node_log
        self._publish = publish
        self._backlog = backlog
        self._queue: asyncio.Queue[_Closed] = asyncio.Queue()
        self._named: dict[int, _Named] = {}
        self._task: asyncio.Task[None] | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self.needed_from = 0
        """Files from this number on are what a recovery reads."""
        self.failures = 0
        self.published = 0

    @property
    def named(self) -> tuple[int, ...]:
        """Files whose leaf is written and that may still be here."""
        return tuple(sorted(self._named))

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    def add(self, path: Path, header: Header, frames: int) -> None:
        """A file that was closed and synced."""
        found = path.stat()
        closed = _Closed(path, header, frames, found.st_size)
        self._backlog.add(header.number, found.st_size, max(0.0, time.time() - found.st_mtime))
        self._idle.clear()
        self._queue.put_nowait(closed)

    def add_named(self, path: Path, number: int) -> None:
        """A file that an earlier run published, and whose leaf is signed."""
        self._named[number] = _Named(path, -1)

    async def _run(self) -> None:
        while True:
            closed = await self._queue.get()
            try:
                await self._ship(closed)
            except Exception as error:
                self.failures += 1
                log.error(
                    "a segment could not be published: its file is kept for the next start",
                    extra={"file": str(closed.path), "cause": f"{type(error).__name__}: {error}"},
                )
            if self._queue.empty():
                self._idle.set()

    async def _ship(self, closed: _Closed) -> None:
        header, path = closed.header, closed.path
        if closed.frames:
            digest = await asyncio.to_thread(_digest, path)
            day = header.created[:10].replace("-", "")
            name = f"seg/{header.node}/{day}/{digest}"
            await self._publish(path, name, digest)
            leaf = self._log.append(
                "segment", object=name, sha256=digest, bytes=closed.bytes, frames=closed.frames,
                number=header.number,
            )  # fmt: skip
            self._named[header.number] = _Named(path, leaf)
            self.published += 1
        else:
            path.unlink()
        self._backlog.remove(header.number)
        self.sweep()

    def sweep(self) -> None:
        """Drop the files that nobody needs here any more."""
        for number, named in list(self._named.items()):
            if named.leaf < self._log.signed and number < self.needed_from:
                named.path.unlink(missing_ok=True)
                del self._named[number]

    async def stop(self, seconds: float) -> None:
        """Give what waits this long; a publication that is cut is repeated at the next start."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), seconds)
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


def _digest(path: Path) -> str:
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
