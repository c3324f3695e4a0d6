# SPDX-License-Identifier: GPL-3.0-or-later
"""Sessions that open, durably: their ordinals and wrapped keys, one fdatasync for all at once.

Lines in DATA/journal/<number>.openings, until the log has signed the leaves that say the same and
the wraps are durable in keys/. They never leave the machine: a wrap in a segment could not be
erased any more.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

from gateway.model import RecordFailed
from gateway.record import durable
from gateway.record.frames import canonical

OPENINGS = ".openings"


@dataclass(frozen=True, slots=True)
class Opening:
    """A session about to open. `wraps`: the wrap files by recipient."""

    session: str
    kind: str
    wraps: tuple[tuple[str, bytes], ...]
    ordinal: int = -1

    def line(self) -> bytes:
        data = canonical(
            {
                "session": self.session,
                "kind": self.kind,
                "ordinal": self.ordinal,
                "wraps": [[recipient, wrap.decode()] for recipient, wrap in self.wraps],
            }
        )
        return b"%08x %b\n" % (crc32(data), data)


def parse_lines(data: bytes) -> Iterator[Opening]:
    """The openings up to the first line that is torn: behind it nobody was let in."""
    for line in data.split(b"\n")[:-1]:
        mark, _, text = line.partition(b" ")
        if mark != b"%08x" % crc32(text):
            return
        fields = json.loads(text)
        wraps = tuple((recipient, wrap.encode()) for recipient, wrap in fields["wraps"])
        yield Opening(fields["session"], fields["kind"], wraps, fields["ordinal"])


def read_all(folder: Path) -> list[Opening]:
    """Every opening that is kept, in order; of one ordinal the last. Raises OSError."""
    found: dict[int, Opening] = {}
    for number in kept_numbers(folder):
        for opening in parse_lines((folder / f"{number}{OPENINGS}").read_bytes()):
            found[opening.ordinal] = opening
    return [found[ordinal] for ordinal in sorted(found)]


def kept_numbers(folder: Path) -> list[int]:
    """The numbers of the files that are there."""
    names = [path.stem for path in folder.glob(f"*{OPENINGS}")]
    return sorted(int(name) for name in names if name.isdigit())


def forget(folder: Path, before: int) -> None:
    """Remove the files below number `before`. Raises OSError."""
    for number in kept_numbers(folder):
        if number < before:
            (folder / f"{number}{OPENINGS}").unlink()


class Openings:
    """Gives ordinals and makes openings durable, those that wait together in one sync."""

    def __init__(
        self,
        folder: Path,
        number: int,
        ordinal: int,
        sync: Callable[[int], None],
        opened: Callable[[Opening], None],
        fail: Callable[[str], None],
    ) -> None:
        self._folder = folder
        self._number = number
        self._sync = sync
        self._opened = opened
        self._fail = fail
        self._descriptor = -1
        self._written = 0
        self._file_number = -1
        self._in_flight: int | None = None
        self._waiting: list[tuple[Opening, asyncio.Future[Opening]]] = []
        self._runner: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, "trailgate-openings")
        self.ordinal = ordinal
        """The next one to give."""

    def rotate(self, number: int) -> int:
        """Write into a new file from now on; the oldest file that may still get a line."""
        self._number = number
        return number if self._in_flight is None else self._in_flight

    async def add(self, opening: Opening) -> Opening:
        """The opening with its ordinal, once durable; `opened` was called, in order.

        Raises RecordFailed.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Opening] = loop.create_future()
        self._waiting.append((opening, done))
        if self._runner is None:
            self._runner = loop.create_task(self._run())
        return await done

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                await self._write(batch)
        finally:
            self._runner = None

    async def _write(self, batch: Sequence[tuple[Opening, asyncio.Future[Opening]]]) -> None:
        numbered = [
            Opening(one.session, one.kind, one.wraps, self.ordinal + index)
            for index, (one, _) in enumerate(batch)
        ]
        lines = b"".join(one.line() for one in numbered)
        loop = asyncio.get_running_loop()
        self._in_flight = self._number
        try:
            await loop.run_in_executor(self._thread, self._append, self._number, lines)
        except OSError as error:
            cause = await self._undo(error)
            for _, done in batch:
                if not done.done():
                    done.set_exception(RecordFailed(cause))
            return
        finally:
            self._in_flight = None
        self.ordinal += len(batch)
        for opening, (_, done) in zip(numbered, batch, strict=True):
            # Even when whoever asked is gone: the ordinal is taken.
            self._opened(opening)
            if not done.done():
                done.set_result(opening)

    def _append(self, number: int, lines: bytes) -> None:
        if number != self._file_number:
            self._turn(number)
        while lines:
            lines = lines[os.write(self._descriptor, lines) :]
        self._sync(self._descriptor)
        self._written = os.fstat(self._descriptor).st_size

    def _turn(self, number: int) -> None:
        path = self._folder / f"{number}{OPENINGS}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        durable.sync_folder(self._folder)
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor, self._file_number = descriptor, number
        self._written = os.fstat(descriptor).st_size

    async def _undo(self, error: OSError) -> str:
        """Take back what a write left for which there was no room; what else fails is final."""
        cause = durable.explain(self._folder, error)
        loop = asyncio.get_running_loop()
        try:
            if error.errno not in durable.FULL:
                raise error
            await loop.run_in_executor(self._thread, self._cut)
        except OSError:
            self._fail(cause)
        return cause

    def _cut(self) -> None:
        if self._descriptor >= 0:
            os.ftruncate(self._descriptor, self._written)
            self._sync(self._descriptor)

    async def stop(self) -> None:
        """Finish what waits and close."""
        if self._runner is not None:
            await self._runner
        self._thread.shutdown(wait=True)
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
