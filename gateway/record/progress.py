# SPDX-License-Identifier: GPL-3.0-or-later
"""How far every session has come, told in the node's record and signed in its log.

Without it a session's frames are only vouched for by its close leaf: until then, pages that are
lost at the end of a journal would be missed by nobody.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence

from gateway.model import RecordFailed
from gateway.record import tree
from gateway.record.frames import canonical
from gateway.record.log import NodeLog
from gateway.record.session_record import RecordedSession

MOST_SESSIONS = 512
"""Of one frame and leaf: so long the loop does nothing else."""


def row_leaf(session: bytes, frames: int, root: bytes) -> bytes:
    """A row of the list as the leaf of its tree."""
    return session + frames.to_bytes(8, "little") + root


def rows_root(leaves: Sequence[bytes]) -> bytes:
    """RFC 6962 root over rows."""
    peaks: list[bytes] = []
    for count, leaf in enumerate(leaves):
        tree.append(peaks, count, tree.leaf_hash(leaf))
    return tree.root(peaks)


class Progress:
    """Tells of each session that has new frames, the node's own among them."""

    def __init__(
        self,
        node: RecordedSession,
        sessions: Mapping[bytes, RecordedSession],
        node_log: NodeLog,
        seconds: float,
    ) -> None:
        self._node = node
        self._sessions = sessions
        self._log = node_log
        self._seconds = seconds
        self._told = time.monotonic()

    async def before_sign(self, signing: bool) -> None:
        """Called before leaves are signed; `signing`: there are some. On the loop."""
        if not signing and time.monotonic() - self._told < self._seconds:
            return
        self._told = time.monotonic()
        fresh = [one for one in self._sessions.values() if one.next > one.told]
        for at in range(0, len(fresh), MOST_SESSIONS):
            if at:
                await asyncio.sleep(0)
            if not self._tell(fresh[at : at + MOST_SESSIONS]):
                return

    def _tell(self, sessions: Sequence[RecordedSession]) -> bool:
        """Rows of the sessions as they are when the frame is written; False: it was not."""
        live = [one for one in sessions if one.raw in self._sessions]
        if not live:
            return True
        node, rows, leaves = self._node, [], []
        for one in live:
            root = tree.root(one.peaks)
            rows.append([one.id, one.next, root.hex()])
            leaves.append(row_leaf(one.raw, one.next, root))
        sequence = node.next
        try:
            node.append("node", "own", b"", canonical({"event": "progress", "sessions": rows}))
        except RecordFailed:
            # No room, or the end: then nothing is claimed, and no other frame gets in either.
            return False
        for one in live:
            one.told = one.next
        node.told = node.next
        self._log.append(
            "progress", session=node.id, sequence=sequence, sessions=len(rows),
            root=rows_root(leaves).hex(),
        )  # fmt: skip
        return True
