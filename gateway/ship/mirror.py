# SPDX-License-Identifier: GPL-3.0-or-later
"""Mirrors the log, the policies and the wrapped keys to S3, so that no reader ever sees a
checkpoint whose tiles are missing. Segments are not its business: the record publishes them."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Protocol as Interface

from gateway.ship import ShipConflict, ShipFailed
from gateway.ship.spool import delays

COSIGNED_SECONDS = 60.0
WIDTH = 256
"""Hashes in a full tile (C2SP tlog-tiles)."""


class MirrorStore(Interface):
    """What the mirror needs of S3Publisher."""

    async def publish_bytes(self, object_name: str, body: bytes) -> None: ...
    async def overwrite(self, object_name: str, body: bytes) -> None: ...
    async def names(self, below: str) -> set[str]: ...
    async def find(self, object_name: str) -> bytes | None: ...
    async def wraps(self, session: str) -> dict[str, bytes]: ...
    async def erase_keys(self, session: str) -> None: ...


class LogMirror:
    """One pass ships whatever is new; `run` passes again and again until it is cancelled."""

    def __init__(self, evidence: Path, store: MirrorStore, keys: Path | None = None) -> None:
        self._evidence = evidence
        self._keys = keys or evidence.parent / "keys"
        self._store = store
        self._shipped: set[str] | None = None
        self._passing = asyncio.Lock()
        self._sizes: dict[str, int] = {}
        self._cosigned_at: dict[Path, float] = {}
        self.backlog = 0
        """Objects of the pass that runs now that are not shipped yet."""
        self.failures = 0

    async def run(
        self,
        every: float = 1.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Mirror until cancelled; backs off while the store fails. Raises ShipConflict."""
        waits = delays()
        while True:
            try:
                await self.mirror(last=False)
            except ShipConflict:
                raise
            except (ShipFailed, OSError):
                self.failures += 1
                await sleep(next(waits))
            else:
                self.failures, waits = 0, delays()
                await sleep(every)

    async def mirror(self, last: bool = True) -> None:
        """One pass. Safe to repeat after a crash at any point of an earlier one.

        `last`: nobody knows when the next one is, so the newest cosignature goes too.
        """
        async with self._passing:
            await self._pass(last)

    async def wraps(self, session: str) -> dict[str, bytes]:
        """The wrapped keys of a session that the store has. Raises ShipFailed."""
        return await self._store.wraps(session)

    async def erase(self, session: str) -> None:
        """Delete a session's wrapped keys in the store; those here must be gone before.

        Not while a pass runs: it may hold a wrap that it read before. Raises ShipFailed.
        """
        async with self._passing:
            await self._store.erase_keys(session)
            below = f"keys/{session}/"
            if self._shipped is not None:
                self._shipped = {one for one in self._shipped if not one.startswith(below)}

    async def _pass(self, last: bool) -> None:
        if self._shipped is None:
            for log in self._logs():
                await self._require_ours(log)
            # What an earlier process shipped; a name that is there was verified when it was put.
            self._shipped = await self._store.names("log/") | await self._store.names("policy/")
            self._shipped |= await self._store.names("keys/")
        # Checkpoints are read first: what they need was on disk before they were.
        heads = [(log, (log / "checkpoint").read_bytes()) for log in self._logs()]
        await self._immutable(self._beside())
        for log, head in heads:
            await self._mirror_log(log, head, last)

    async def _require_ours(self, log: Path) -> None:
        """What the store has of a log must be ours: names alone would not tell, and `checkpoint`
        would be written over. Raises ShipConflict."""
        name = _below(self._evidence, log)
        head = await self._store.find(f"{name}/checkpoint")
        if head is None:
            return
        size = head.split(b"\n", 2)[1].decode("ascii", "replace")
        ours = log / "checkpoints" / size
        if not size.isdigit() or not ours.is_file():
            raise ShipConflict(
                f"{name}: the store has a checkpoint of {size} leaves, and it is not here: this "
                "data folder is an older state or a copy; restore it, or start a new node"
            )
        if await asyncio.to_thread(ours.read_bytes) != head:
            raise ShipConflict(
                f"{name}: the store has another checkpoint of {size} leaves: two gateways write "
                "this log with one key; stop one of them, and give it a node of its own"
            )

    def _logs(self) -> list[Path]:
        return sorted(path.parent for path in self._evidence.glob("log/*/*/checkpoint"))

    def _beside(self) -> list[tuple[str, Path]]:
        """Wraps before everything: no open session may have a leaf and no key."""
        wraps = [("keys/" + _below(self._keys, p), p) for p in self._keys.glob("*/*.wrap")]
        policies = [(_below(self._evidence, p), p) for p in self._evidence.glob("policy/*")]
        policies = [(name, path) for name, path in policies if not path.name.startswith(".")]
        readme = self._evidence / "README.json"
        return wraps + policies + ([("README.json", readme)] if readme.exists() else [])

    async def _immutable(self, objects: list[tuple[str, Path]]) -> None:
        assert self._shipped is not None
        waiting = [(name, path) for name, path in objects if name not in self._shipped]
        self.backlog += len(waiting)
        try:
            for name, path in waiting:
                body = await asyncio.to_thread(path.read_bytes)
                await self._store.publish_bytes(name, body)
                self._shipped.add(name)
                self.backlog -= 1
        finally:
            self.backlog = 0

    async def _mirror_log(self, log: Path, head: bytes, last: bool) -> None:
        name = _below(self._evidence, log)
        size = int(head.split(b"\n")[1])
        if self._sizes.get(name) == size:
            await self._cosigned(log, size, last)
            return
        await self._immutable([(f"{name}/{tile}", log / tile) for tile in full_tiles(size)])
        for tile in partial_tiles(size):
            body = await asyncio.to_thread((log / tile).read_bytes)
            await self._store.overwrite(f"{name}/{tile}", body)
        newest, older = _copies(log, size)
        fixed = [*newest, log / "node.vkey", *_of_keys(log, size)]
        await self._immutable([(_below(self._evidence, path), path) for path in fixed])
        await self._store.overwrite(f"{name}/checkpoint", head)
        # Readers go by the newest that is signed, and of older sizes no tiles were put.
        await self._immutable([(_below(self._evidence, path), path) for path in older])
        self._sizes[name] = size
        await self._cosigned(log, size, last)

    async def _cosigned(self, log: Path, size: int, last: bool) -> None:
        """What a witness cosigned comes later than its checkpoint; none may be ahead of it."""
        folder = log / "cosigned"
        paths = [p for p in folder.iterdir() if p.name.isdigit()] if folder.is_dir() else []
        ready = sorted((p for p in paths if int(p.name) <= size), key=lambda p: int(p.name))
        now = time.monotonic()
        # The newest holds all before it: one a minute, and the last, are enough in the store.
        if ready and (last or now - self._cosigned_at.get(log, -math.inf) >= COSIGNED_SECONDS):
            await self._immutable([(_below(self._evidence, ready[-1]), ready[-1])])
            self._cosigned_at[log] = now


def _copies(log: Path, size: int) -> tuple[list[Path], list[Path]]:
    """Copies of checkpoints: that of this size, if there is one, and the older ones."""
    signed = [p for p in (log / "checkpoints").iterdir() if p.name.isdigit()]
    signed = sorted((p for p in signed if int(p.name) <= size), key=lambda p: int(p.name))
    return [p for p in signed if int(p.name) == size], [p for p in signed if int(p.name) < size]


def _of_keys(log: Path, size: int) -> list[Path]:
    """Certificates, and the rotations that the first `size` leaves hold."""
    rotated = [path for path in log.glob("rotated/*") if path.name.isdigit()]
    certificates = [path for path in log.glob("certificates/*") if path.name[0] != "."]
    return [*certificates, *(path for path in rotated if int(path.name) < size)]


def _below(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()


def tile_name(level: int | str, index: int, width: int = WIDTH) -> str:
    """A tile's path in its log (C2SP tlog-tiles): groups of three digits, all but the last x-ed."""
    groups = [f"{index % 1000:03}"]
    while index := index // 1000:
        groups.insert(0, f"x{index % 1000:03}")
    partial = "" if width == WIDTH else f".p/{width}"
    return f"tile/{level}/{'/'.join(groups)}{partial}"


def _levels(size: int) -> Iterator[tuple[int | str, int]]:
    """Every level of the log with its count of hashes; the entries first, as readers need them."""
    yield "entries", size
    level = 0
    while size:
        yield level, size
        level, size = level + 1, size // WIDTH


def full_tiles(size: int) -> list[str]:
    """The full tiles of a log of `size` leaves."""
    return [tile_name(level, n) for level, count in _levels(size) for n in range(count // WIDTH)]


def partial_tiles(size: int) -> list[str]:
    """The partial tiles that a log of `size` leaves ends with."""
    return [
        tile_name(level, count // WIDTH, count % WIDTH)
        for level, count in _levels(size)
        if count % WIDTH
    ]
