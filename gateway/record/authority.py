# SPDX-License-Identifier: GPL-3.0-or-later
"""What the operator asks of the node's key: certificates into the log, and rotation.

Asked by files in DATA/node, which only the gateway's user may write, and done within a second by a
running gateway, or at its next start:

request            made here: for the root, of which it makes a certificate
key.next           the next key, made by `trailgate node request --next`
rotate             do it now
incoming/<sha256>  a certificate that is to be in the log; then it lies in certificates/
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from gateway.model import RecordFailed
from gateway.record import durable, nodekey
from gateway.record.choosing import finish_rotation
from gateway.record.log import NodeLog, TileLog
from gateway.record.nodekey import NoteSigner

log = logging.getLogger("trailgate.record")

INCOMING, CERTIFICATES = "incoming", "certificates"
_MOST_CERTIFICATE = 4096
_EVERY_SECONDS = 1.0


def certified_vkey(note: bytes) -> str:
    """The key that a certificate names. The root's signature is the auditors' to check.

    Raises ValueError.
    """
    lines = note.decode("utf-8").split("\n")
    if lines[0] != "trailgate/node-certificate/1" or len(lines) != 7 or len(lines[1]) > 500:
        raise ValueError("is no node certificate")
    return lines[1]


def second_now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def write_request(path: Path, signer: NoteSigner) -> None:
    """For the root; the time in it is that of the key's first request. Raises OSError."""
    since = second_now()
    with suppress(FileNotFoundError):
        lines = path.read_text("utf-8").split("\n")
        if lines[1:2] == [signer.vkey]:
            since = lines[2]
    note = signer.request(since)
    durable.put(path, note, path.with_name(f".{path.name}"))


class NodeAuthority:
    """One node's key at work. On the loop only."""

    def __init__(self, folder: Path, node_log: NodeLog, tiles: TileLog) -> None:
        """`folder`: DATA/node."""
        self._folder = folder
        self._log = node_log
        self._signer = tiles.signer
        self._log_path = tiles.folder
        self._added: dict[str, int] = {}
        """Leaves that are not signed yet, by what they were made of: each is made once, though
        signing fails while there is no room."""
        self._task: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """What was asked for while nobody ran; its leaves are signed with the start's.

        Raises OSError, RecordFailed.
        """
        await asyncio.to_thread(write_request, self._folder / "request", self._signer)
        await self._settle()

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_EVERY_SECONDS)
            try:
                await self._settle()
            except OSError as error:
                log.error(
                    "the node's folder", extra={"cause": durable.explain(self._folder, error)}
                )
            except RecordFailed as error:
                log.error("the node's key", extra={"cause": str(error)})

    async def _settle(self) -> None:
        incoming = await asyncio.to_thread(self._incoming)
        if incoming:
            await self._certify(incoming)
        if (self._folder / "rotate").exists():
            await self._rotate()

    # --- certificates -----------------------------------------------------------------------------

    def _incoming(self) -> list[tuple[Path, bytes]]:
        folder = self._folder / INCOMING
        paths = sorted(folder.glob("[0-9a-f]*")) if folder.is_dir() else []
        return [(path, path.read_bytes()[: _MOST_CERTIFICATE + 1]) for path in paths]

    async def _certify(self, incoming: Iterable[tuple[Path, bytes]]) -> None:
        index = -1
        taken = []
        for path, note in incoming:
            try:
                if sha256(note).hexdigest() != path.name:
                    raise ValueError("is not named by its SHA-256")
                if certified_vkey(note) not in self._vkeys():
                    raise ValueError("is of another key than this node's")
                text = note.decode()
            except ValueError as error:
                log.error("a certificate was not taken", extra={"cause": f"{path} {error}"})
                await asyncio.to_thread(path.unlink)
                continue
            if path.name not in self._added:
                beside = (self._log_path / CERTIFICATES / path.name, note, True)
                self._added[path.name] = self._log.append("certificate", [beside], note=text)
            index = max(index, self._added[path.name])
            taken.append(path)
        await self._signed(index)
        await asyncio.to_thread(self._keep, taken)

    def _vkeys(self) -> set[str]:
        vkeys = {self._signer.vkey}
        if (self._folder / "key.next").exists():
            following = nodekey.load_or_make(self._folder / "key.next")
            vkeys.add(NoteSigner(following, self._signer.origin).vkey)
        return vkeys

    def _keep(self, taken: Iterable[Path]) -> None:
        kept = self._folder / CERTIFICATES
        durable.make_folder(kept, 0o700)
        for path in taken:
            os.rename(path, kept / path.name)
        durable.sync_folder(kept)

    # --- rotation ---------------------------------------------------------------------------------

    async def _rotate(self) -> None:
        path = self._folder / "key.next"
        following = await asyncio.to_thread(nodekey.load_or_make, path)
        signer = NoteSigner(following, self._signer.origin)
        if signer.vkey not in self._added:
            self._added[signer.vkey] = self._log.rotate(signer)
        await self._signed(self._added[signer.vkey])
        await asyncio.to_thread(finish_rotation, self._folder)
        old, self._signer = self._signer, signer
        (self._folder / "request.next").unlink(missing_ok=True)
        await asyncio.to_thread(write_request, self._folder / "request", signer)
        log.warning("the node's key was rotated", extra={"old": old.vkey, "new": signer.vkey})

    async def _signed(self, index: int) -> None:
        """Sign now, so that nothing is told done that a kill could undo."""
        if index >= 0:
            await self._log.sign()
            await self._log.durable(index)
