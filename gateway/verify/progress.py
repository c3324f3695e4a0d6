# SPDX-License-Identifier: GPL-3.0-or-later
"""Progress: what the log says of sessions that are open, against their frames."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

from gateway.verify import tree
from gateway.verify.history import History
from gateway.verify.segment import BadSegment, SessionTree, session_text


class ProgressCheck:
    """Takes the frames that tell of progress, each before it grows its own session's tree."""

    def __init__(
        self,
        history: History,
        tree_of: Callable[[bytes], SessionTree | None],
        skipped: Callable[[str], bool],
    ) -> None:
        self._history = history
        self._tree_of = tree_of
        self._skipped = skipped
        self._seen: set[tuple[str, int]] = set()

    def frame(self, session: bytes, sequence: int, meta: bytes) -> None:
        """A frame of the kind `node`. Raises BadSegment."""
        rows = _rows(meta)
        if rows is None:
            return
        key = (session_text(session), sequence)
        self._seen.add(key)
        leaf = self._history.progress.get(key)
        peaks: list[bytes] = []
        for count, (one, frames, root) in enumerate(rows):
            hashed = tree.leaf_hash(one + frames.to_bytes(8, "little") + root)
            tree.push(peaks, count, hashed)
        if leaf is not None and (leaf.sessions, leaf.root) != (len(rows), tree.root(peaks).hex()):
            raise BadSegment("progress", f"tells of other progress than leaf {leaf.index} signs")
        for one, frames, root in rows:
            self._row(one, frames, root)

    def _row(self, session: bytes, frames: int, root: bytes) -> None:
        text, known = session_text(session), self._tree_of(session)
        if self._skipped(text):
            return
        if known is None or not known.broken:
            peaks, count = (known.peaks, known.count) if known is not None else ([], 0)
            there, closed = tree.root(peaks), self._history.closes.get(text)
            if count and not peaks and closed is not None:
                # All its frames were met in an earlier segment, and its tree was let go.
                there = bytes.fromhex(closed.root)
            if (count, there) != (frames, root):
                raise BadSegment(
                    "progress", f"{frames} frames of {text} were counted and signed, and the "
                    f"{count} that are there are not those"
                )  # fmt: skip

    def untold(self, session: str) -> list[int]:
        """Leaves of a node's session whose frame was not there."""
        told = self._history.progress.items()
        return [leaf.index for key, leaf in told if key[0] == session and key not in self._seen]


def _rows(meta: bytes) -> list[tuple[bytes, int, bytes]] | None:
    """The list of a progress frame; None for another frame. Raises BadSegment."""
    try:
        fields: Any = json.loads(meta)
        if fields.get("event") != "progress":
            return None
        return [_row(*row) for row in fields["sessions"]]
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        raise BadSegment("progress", "has a frame of progress that is not of this format") from None


def _row(session: str, frames: int, root: str) -> tuple[bytes, int, bytes]:
    raw, digest = base64.b32decode(session.upper() + "======"), bytes.fromhex(root)
    if session_text(raw) != session or len(digest) != 32 or not 0 < frames < 1 << 63:
        raise ValueError
    return raw, frames, digest
