# SPDX-License-Identifier: GPL-3.0-or-later
"""The node's log: one writer of C2SP tlog-tiles (docs/evidence-format.md).

Tiles are durable before the checkpoint that covers them, so that a reader of any moment's disk
finds a whole log. What no checkpoint covers was promised to nobody: it is removed at the next
start, and recovery makes those leaves again from the journal.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gateway.model import RecordFailed
from gateway.record import durable, nodekey
from gateway.record.frames import canonical
from gateway.record.tiles import WIDTH, TileTree, edge, split_bundle, tile_name

log = logging.getLogger("trailgate.record")

MOST_LEAF = 65535
ROTATED = "rotated"
"""Folder of the log with its rotation leaves, named by their index."""
_RETRY_SECONDS = 1.0
_COPY_SECONDS = 60.0
"""Of a busy log so far apart checkpoints are kept; each is extended by those behind it."""
_READER_SECONDS = 600.0
"""For so long whoever read a checkpoint finds its partial tiles."""
File = tuple[Path, bytes, bool]
"""Path, content, and whether it is synced (or left to `sync_file_system`)."""


def now_text() -> str:
    """The time as leaves have it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class TileLog:
    """The files of one log. Blocking; one thread at a time."""

    def __init__(
        self,
        folder: Path,
        signer: nodekey.NoteSigner,
        put: Callable[[Path, bytes, Path], None] = durable.put,
    ) -> None:
        self.folder = folder
        self._put = put
        self.signer = signer
        self._unfinished = folder / ".unfinished"
        self._tree = TileTree()
        self._dirty: dict[str, bytes] = {}
        self._edges: deque[tuple[int, float]] = deque()
        self._copied = -math.inf
        self.signed = 0
        """Leaves that the latest checkpoint covers."""

    def resume(self) -> None:
        """Take up the log at its latest checkpoint. Raises RecordFailed, OSError."""
        durable.make_folder(self.folder / "checkpoints")
        self._unfinished.unlink(missing_ok=True)
        if not nodekey.read_vkey(self.folder):
            vkey = self.signer.vkey.encode() + b"\n"
            self._put(self.folder / "node.vkey", vkey, self._unfinished)
        note = self._latest()
        if note is not None:
            size, root = self.signer.open(note)
            self._tree = self._load(size)
            if self._tree.root() != root:
                raise RecordFailed(
                    f"{self.folder}: the tiles do not have the root that was signed: verify the "
                    "evidence; restore the folder, or move the node's key away to start a new log"
                )
            self.signed = size
            if self._read("checkpoint") != note:
                self._put(self.folder / "checkpoint", note, self._unfinished)
        self._remove_beyond()
        self._edges.append((self.signed, time.monotonic()))

    def _read(self, name: str) -> bytes | None:
        try:
            return (self.folder / name).read_bytes()
        except FileNotFoundError:
            return None

    def _latest(self) -> bytes | None:
        """The newest checkpoint: a copy may be ahead of `checkpoint`, which is replaced last."""
        names = [name for name in os.listdir(self.folder / "checkpoints") if name.isdigit()]
        copy = self._read(f"checkpoints/{max(names, key=int)}") if names else None
        notes = [note for note in (copy, self._read("checkpoint")) if note is not None]
        if not notes:
            return None
        newest = max(notes, key=_claimed)
        try:
            self.signer.open(newest)
        except ValueError as error:
            place = self.folder / "checkpoint"
            raise RecordFailed(f"{place}: {error}: restore it from a copy") from None
        return newest

    def _load(self, size: int) -> TileTree:
        bundle, rows = b"", []
        for level, index, width in edge(size):
            name = tile_name(level, index, width)
            data = self._read(name) if width else b""
            if data is None:
                raise RecordFailed(f"{self.folder / name}: is missing: restore it from a copy")
            if level < 0:
                bundle = data
            else:
                rows.append(data)
        return TileTree.resume(size, bundle, rows)

    def _remove_beyond(self) -> None:
        for path in (self.folder / ROTATED).glob("[0-9]*"):
            if int(path.name) >= self.signed:
                path.unlink()
        edges = {level: (index, width) for level, index, width in edge(self.signed)}
        for level in range(-1, 8):
            index, width = edges.get(level, (0, 0))
            while self._remove_tile(level, index, width):
                index, width = index + 1, 0

    def _remove_tile(self, level: int, index: int, beyond: int) -> bool:
        """Leave at most the partial tile of `beyond` hashes in a tile's place; False: none was."""
        whole = self.folder / tile_name(level, index)
        partial = whole.with_name(whole.name + ".p")
        found = whole.exists() or partial.is_dir()
        whole.unlink(missing_ok=True)
        if partial.is_dir():
            for path in list(partial.iterdir()):
                if path.name != str(beyond):
                    path.unlink()
            if not beyond:
                partial.rmdir()
        return found

    def leaves(self, start: int) -> Iterator[tuple[int, bytes]]:
        """Every signed leaf from number `start` on."""
        for index in range(start // WIDTH, -(-self.signed // WIDTH)):
            width = min(WIDTH, self.signed - index * WIDTH)
            name = tile_name(-1, index, width)
            data = self._read(name)
            if data is None:
                raise RecordFailed(f"{self.folder / name}: is missing: restore it from a copy")
            for offset, leaf in enumerate(split_bundle(data)):
                if index * WIDTH + offset >= start:
                    yield index * WIDTH + offset, leaf

    def add(self, leaves: Sequence[bytes]) -> None:
        """Take leaves in; nothing is written before `sign`."""
        for leaf in leaves:
            self._tree.append(leaf)
        self._dirty.update(self._tree.take_files())

    def sign(self, keep: bool = False) -> None:
        """Write all tiles, then the checkpoint. Raises OSError; then it may be called again.

        `keep` a copy of this checkpoint, as is done once a minute.
        """
        if self._tree.size == self.signed:
            return
        for name in list(self._dirty):
            path = self.folder / name
            durable.make_folder(path.parent)
            self._put(path, self._dirty[name], self._unfinished)
            del self._dirty[name]
        size = self._tree.size
        note = self.signer.checkpoint(size, self._tree.root())
        now = time.monotonic()
        if keep or now - self._copied >= _COPY_SECONDS:
            self._put(self.folder / "checkpoints" / str(size), note, self._unfinished)
            self._copied = now
        self._put(self.folder / "checkpoint", note, self._unfinished)
        self.signed = size
        self._edges.append((size, time.monotonic()))
        self._forget_edges()

    def _forget_edges(self) -> None:
        """Remove the partial tiles of checkpoints that no reader can still be at."""
        before = time.monotonic() - _READER_SECONDS
        while len(self._edges) > 2 and self._edges[0][1] < before:
            old, kept = self._edges.popleft()[0], set(edge(self._edges[0][0]))
            for tile in edge(old):
                if tile[2] and tile not in kept:
                    path = self.folder / tile_name(*tile)
                    path.unlink(missing_ok=True)
                    if not any(path.parent.iterdir()):
                        path.parent.rmdir()


@dataclass(slots=True)
class _Pending:
    leaf: bytes
    files: Sequence[File]
    signer: nodekey.NoteSigner | None = None
    """Who signs from this leaf on, where that changes."""
    last: bool = False
    """Nothing may follow for long: its checkpoint is kept."""


class NodeLog:
    """Takes leaves at any moment, on the loop; signs them about every `seconds` in a thread."""

    def __init__(
        self,
        tiles: TileLog,
        node: str,
        seconds: float,
        fail: Callable[[str], None],
        heartbeat_seconds: float = 60.0,
    ) -> None:
        self._tiles = tiles
        self._node = node
        self._seconds = seconds
        self._fail = fail
        self._heartbeat_seconds = heartbeat_seconds
        self._heard = time.monotonic()
        self._pending: list[_Pending] = []
        self._files: list[File] = []
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._thread = ThreadPoolExecutor(1, "trailgate-log")
        self._stopping = asyncio.Event()
        self._dead = False
        self._keep = False
        self._task: asyncio.Task[None] | None = None
        self._busy = asyncio.Lock()
        self.size = tiles.signed
        """Leaves in all, signed or not."""
        self.on_signed: Callable[[], None] = lambda: None
        self.before_sign: Callable[[bool], Awaitable[None]] | None = None
        """May add leaves of what was written; told whether others wait to be signed."""
        self.journal_synced: Callable[[], Awaitable[None]] | None = None
        """Waits until every frame so far is on disk: no leaf is signed ahead of what it counts."""
        self.stuck = ""
        """Why the log cannot be written at the moment (no room); empty: it can."""

    @property
    def signed(self) -> int:
        return self._tiles.signed

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    def append(self, kind: str, files: Sequence[File] = (), /, **members: Any) -> int:
        """Add a leaf; `files` are put (when missing) before it is signed. Its number."""
        leaf = canonical({"type": kind, "at": now_text(), **members})
        if len(leaf) > MOST_LEAF:
            raise RecordFailed(f"a leaf {kind!r} of {len(leaf)} bytes is too long")
        return self._add(_Pending(leaf, files, last=kind == "stop"))

    def rotate(self, signer: nodekey.NoteSigner) -> int:
        """Add the leaf that two keys sign; checkpoints that hold it are the new key's. Its number.

        The leaf lies beside the log too, so that readers know the key before they read on.
        """
        old = self._tiles.signer
        leaf = canonical({"type": "rotation", "at": now_text(), **old.rotation(signer)})
        path = self._tiles.folder / ROTATED / str(self.size)
        return self._add(_Pending(leaf, [(path, leaf, True)], signer))

    def _add(self, pending: _Pending) -> int:
        self._pending.append(pending)
        self._heard = time.monotonic()
        self.size += 1
        return self.size - 1

    async def durable(self, index: int) -> None:
        """Wait until leaf `index` is signed. Raises RecordFailed."""
        if self._tiles.signed > index:
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append((index, waiter))
        await waiter

    async def sign(self) -> None:
        """Sign everything so far, now. Raises OSError."""
        async with self._busy:
            if self.before_sign is not None:
                await self.before_sign(bool(self._pending))
            if not self._pending and not self._files and self._tiles.signed == self.size:
                return
            batch, self._pending = self._pending, []
            self._files += [file for one in batch for file in one.files]
            leaves = [one.leaf for one in batch]
            signers = [one.signer for one in batch if one.signer is not None]
            self._keep = self._keep or any(one.signer or one.last for one in batch)
            if self.journal_synced is not None:
                await self.journal_synced()
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._thread, self._work, leaves, signers)
            self.stuck = ""
        self._settle()

    def _work(self, leaves: list[bytes], signers: list[nodekey.NoteSigner]) -> None:
        self._tiles.add(leaves)
        self._tiles.signer = signers[-1] if signers else self._tiles.signer
        while self._files:
            put_missing(*self._files[-1], self._node)
            self._files.pop()
        self._tiles.sign(self._keep)
        self._keep = False

    def _settle(self) -> None:
        signed = self._tiles.signed
        for index, waiter in self._waiters:
            if index < signed and not waiter.done():
                waiter.set_result(None)
        self._waiters = [one for one in self._waiters if not one[1].done()]
        self.on_signed()

    async def _run(self) -> None:
        while not self._stopping.is_set():
            seconds = _RETRY_SECONDS if self.stuck else self._seconds
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), seconds)
                return
            try:
                if time.monotonic() - self._heard >= self._heartbeat_seconds and not self.stuck:
                    self.append("heartbeat")
                await self.sign()
            except OSError as error:
                self.hear(error)
            except RecordFailed:
                return
            except Exception as error:
                log.exception("the log cannot be written")
                self._fail(f"internal error ({type(error).__name__})")
                return

    def hear(self, error: OSError) -> None:
        """A write failed: no room is waited out, anything else ends the record."""
        said = durable.explain(self._tiles.folder, error)
        if error.errno in durable.FULL:
            if not self.stuck:
                log.error("the log cannot be written", extra={"cause": said})
            self.stuck = said
        else:
            self._fail(said)

    def failed(self, cause: str) -> None:
        """Sign nothing any more: recovery makes the leaves of what really is on disk."""
        self._dead = True
        self._stopping.set()
        for _, waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(RecordFailed(cause))
        self._waiters.clear()

    async def stop(self) -> None:
        """Sign what is left and let go. Raises OSError."""
        if self._task is not None:
            self._stopping.set()
            await self._task
        try:
            if not self._dead:
                await self.sign()
        finally:
            self._thread.shutdown(wait=True)


def _claimed(note: bytes) -> int:
    """The size that a checkpoint says it is of; -1 for anything else."""
    lines = note.split(b"\n", 2)
    return int(lines[1]) if len(lines) > 1 and lines[1].isdigit() else -1


def put_missing(path: Path, data: bytes, synced: bool, node: str) -> None:
    """Put a file that is named by its content, unless it is there."""
    if path.exists():
        return
    folder = path.parent
    folder.mkdir(parents=True, exist_ok=True)
    # Above the folder of one session, so that what a crash leaves is found at the next start.
    unfinished = folder.parent / f".unfinished-{node}"
    if synced:
        durable.put(path, data, unfinished)
        durable.sync_folder(folder.parent)
    else:
        durable.put_unsynced(path, data, unfinished)
