# SPDX-License-Identifier: GPL-3.0-or-later
"""The end of a node: a last leaf, behind which its log says nothing more."""

from __future__ import annotations

import os
from pathlib import Path

from gateway.model import RecordFailed
from gateway.record import nodekey
from gateway.record.choosing import choose_log, is_retired, own_log
from gateway.record.frames import canonical
from gateway.record.log import now_text


def retire(data: Path, evidence: Path, node: str) -> str:
    """Sign the retirement of a node whose gateway was stopped; the log's origin. Blocks.

    Raises RecordFailed, OSError.
    """
    if own_log(data / "node", evidence, node) is None:
        raise RecordFailed(f"{data}/node: no log here is of this node's key: nothing to retire")
    lock = nodekey.lock_folder(data / "node")
    try:
        chosen = choose_log(evidence, node, data / "node", None)
        tiles = chosen.tiles
        tiles.resume()
        if is_retired(tiles.folder):
            raise RecordFailed(f"{tiles.folder}: is retired already")
        _require_stopped(data, tiles.folder, [leaf for _, leaf in tiles.leaves(tiles.signed - 1)])
        tiles.add([canonical({"type": "retirement", "at": now_text()})])
        tiles.sign(keep=True)
        return tiles.signer.origin
    finally:
        os.close(lock)


def _require_stopped(data: Path, log: Path, last: list[bytes]) -> None:
    left = sorted(path.name for path in (data / "journal").glob("*.journal"))
    if left or not last or b'"type":"stop"' not in last[0]:
        why = f"{len(left)} journal files are not shipped" if left else "it was not stopped"
        raise RecordFailed(
            f"{log}: {why}: start the gateway once more and end it, so that its record is whole"
        )
