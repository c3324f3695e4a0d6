# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes of what is declared, in the node's own record; none is dropped, however many come.

A frame of the kind `node` says what and who, its sealed payload is the new document; the log has a
leaf `config` with the kind of object and the SHA-256 of the frame's metadata, which names no one.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.model import Level, RecordFailed
from gateway.record.journal import Journal
from gateway.record.session_record import RecordedSession


@dataclass(frozen=True, slots=True)
class ConfigChanges:
    """Implements declare.ports.ChangeRecord."""

    node: RecordedSession
    journal: Journal
    leaf: Callable[..., int]

    async def config_changed(self, event: Mapping[str, Any], document: bytes) -> None:
        """Record one change and wait until its frame is on disk. Raises RecordFailed.

        The nonce keeps a leaf's digest from being guessed from what the frame says.
        """
        meta = json.dumps({**event, "nonce": secrets.token_hex(16)}, separators=(",", ":")).encode()
        position = self.node.append("node", "own", document, meta)
        digest = hashlib.sha256(meta).hexdigest()
        self.leaf("config", kind=str(event.get("kind", "")), sha256=digest)
        synced: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def reached(kept: bool) -> None:
            if not synced.done():
                synced.set_result(kept)

        self.journal.when_reached(position, Level.DISK, reached)
        if not await synced:
            raise RecordFailed(self.journal.failed)
