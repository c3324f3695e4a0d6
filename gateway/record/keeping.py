# SPDX-License-Identifier: GPL-3.0-or-later
"""How long the record's content is kept: what was declared, what expires, what is erased."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from gateway.record.declared import Declared, Hold, Retention
from gateway.record.erasing import Erasures
from gateway.record.expiry import Expiry
from gateway.record.log import NodeLog, TileLog
from gateway.record.options import RecorderOptions


class Keeping:
    """The parts, made in their order."""

    def __init__(
        self,
        options: RecorderOptions,
        keys: Path,
        tiles: TileLog,
        node_log: NodeLog,
        is_open: Callable[[str], bool],
    ) -> None:
        folder = options.data / "journal"
        self.erasures = Erasures(
            folder, keys, node_log, is_open, options.keys_elsewhere, options.unwitnessed
        )
        self.declared = Declared(folder, node_log)
        self.expiry = Expiry(tiles, keys, self.erasures, self.declared)

    async def put_in_force(self, holds: Mapping[str, Hold], retention: Retention) -> None:
        """Sign what was declared, then go on with erasures that an earlier run began.

        Raises RecordFailed, OSError.
        """
        await self.declared.put(holds, retention)
        await self.erasures.resume()

    def figures(self) -> Mapping[str, float]:
        """For /metrics."""
        return {"erasures_pending": self.erasures.pending, "erasures": self.erasures.done}
