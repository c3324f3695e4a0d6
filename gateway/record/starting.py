# SPDX-License-Identifier: GPL-3.0-or-later
"""Before anything is recorded: folders, locks, the node's key, its log, what was left."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from gateway.model import RecordFailed
from gateway.record import durable, nodekey
from gateway.record.frames import canonical
from gateway.record.log import TileLog, choose_log
from gateway.record.recovery import Recovery
from gateway.record.state import boot_id


@dataclass(slots=True)
class Started:
    """What the recorder goes on with; `release` lets the locks go."""

    number: int
    """Of the log."""
    tiles: TileLog
    recovery: Recovery
    readme: str
    """SHA-256 of README.json."""
    boot: str
    locks: list[int] = field(default_factory=list)

    def release(self) -> None:
        while self.locks:
            os.close(self.locks.pop())


def prepare(data: Path, evidence: Path, node: str, keys_url: str) -> Started:
    """Take the node's places and read what an earlier run left. Raises RecordFailed, OSError."""
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
        key = nodekey.load_or_make(data / "node" / "key")
        number, tiles = choose_log(evidence, node, key)
        durable.make_folder(tiles.folder)
        locks.append(nodekey.lock_folder(tiles.folder))
        for place in (evidence, evidence.parent / "keys"):
            (place / f".unfinished-{node}").unlink(missing_ok=True)
        tiles.resume()
        recovery = Recovery(data / "journal", tiles, node, number)
        recovery.plan()
        readme = _readme(evidence, node, keys_url)
        return Started(number, tiles, recovery, readme, boot_id(), locks)
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
