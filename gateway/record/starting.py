# SPDX-License-Identifier: GPL-3.0-or-later
"""Before anything is recorded: folders, locks, the node's key, its log, what was left."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from gateway.model import RecordFailed
from gateway.record import durable, nodekey
from gateway.record.choosing import Chosen, choose_log, is_retired
from gateway.record.frames import canonical
from gateway.record.log import TileLog
from gateway.record.options import RecorderOptions
from gateway.record.recovery import Recovery
from gateway.record.state import boot_id


@dataclass(slots=True)
class Started:
    """What the recorder goes on with; `release` lets the locks go."""

    chosen: Chosen
    recovery: Recovery
    readme: str
    """SHA-256 of README.json."""
    boot: str
    locks: list[int] = field(default_factory=list)

    @property
    def number(self) -> int:
        """Of the log."""
        return self.chosen.number

    @property
    def tiles(self) -> TileLog:
        return self.chosen.tiles

    def first_leaves(self, node: str, version: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """(type, members) of what this start says first."""
        if not self.tiles.signed and self.chosen.predecessor is not None:
            yield "succession", self.chosen.predecessor.leaf()
        start = {"node": node, "log": self.number, "version": version}
        yield "start", {**start, "readme": self.readme, "vkey": self.tiles.signer.vkey}

    def release(self) -> None:
        while self.locks:
            os.close(self.locks.pop())


def prepare(options: RecorderOptions) -> Started:
    """Take the node's places and read what an earlier run left. Raises RecordFailed, OSError."""
    data, evidence, node = options.data, options.evidence, options.node
    if not data.is_dir():
        raise RecordFailed(f"{data}: no such folder: make it, for the gateway's user alone")
    for folder, mode in ((data / "journal", 0o700), (data / "node", 0o700)):
        durable.make_folder(folder, mode)
        _require_writable(folder)
    durable.make_folder(evidence)
    durable.make_folder(evidence.parent / "keys")
    locks: list[int] = []
    try:
        locks.append(nodekey.lock_folder(data / "node"))
        chosen = choose_log(evidence, node, data / "node", options.predecessor)
        number, tiles = chosen.number, chosen.tiles
        durable.make_folder(tiles.folder)
        locks.append(nodekey.lock_folder(tiles.folder))
        for place in (evidence, evidence.parent / "keys", tiles.folder):
            (place / f".unfinished-{node}").unlink(missing_ok=True)
        tiles.resume()
        if is_retired(tiles.folder):
            raise RecordFailed(
                f"{tiles.folder}: is retired, and signs nothing more: give the node another name"
            )
        recovery = Recovery(data / "journal", tiles, node, number)
        recovery.plan()
        readme = _readme(evidence, node, options.keys_url)
        return Started(chosen, recovery, readme, boot_id(), locks)
    except BaseException:
        for descriptor in locks:
            os.close(descriptor)
        raise


def _require_writable(folder: Path) -> None:
    probe = folder / ".unfinished-probe"
    probe.write_bytes(b"")
    probe.unlink()


def _readme(evidence: Path, node: str, keys_url: str) -> str:
    """Make README.json unless it is there (nodes may share an evidence root); its SHA-256."""
    path = evidence / "README.json"
    if not path.exists():
        text = canonical({"format": 1, "product": "trailgate", "keys": keys_url})
        durable.put(path, text, evidence / f".unfinished-{node}")
    return sha256(path.read_bytes()).hexdigest()
