# SPDX-License-Identifier: GPL-3.0-or-later
"""What recovery found: sessions as their frames tell, and journal files with and without footer."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from gateway.record import tree
from gateway.record.frames import CLOSE, OPEN, FooterRow, Frame, Header, encode_footer

_MOST_GAPS = 1000
Span = tuple[int, int]
"""First byte, and the one behind the last."""


@dataclass(slots=True)
class Tracked:
    """A session as its frames tell."""

    frames: int = 0
    next: int = 0
    peaks: list[bytes] = field(default_factory=list)
    reason: str | None = None
    """Of its close frame."""
    holes: list[str] = field(default_factory=list)

    def accept(self, frame: Frame) -> bool:
        """Take the session's next frame; False when it cannot be one."""
        if (
            self.reason is not None
            or frame.sequence < self.next
            or (frame.kind == OPEN) != (frame.sequence == 0)
        ):
            return False
        if frame.sequence > self.next:
            self.holes.append(f"frames {self.next} to {frame.sequence - 1} are lost")
        tree.append(self.peaks, self.frames, tree.leaf_hash(frame.clear))
        self.frames += 1
        self.next = frame.sequence + 1
        if frame.kind == CLOSE:
            self.reason = _reason(frame.meta)
        return True


def _reason(meta: bytes) -> str:
    try:
        return str(json.loads(meta)["reason"])
    except (ValueError, KeyError, TypeError):
        return "protocol"


def progress_rows(meta: bytes) -> list[tuple[str, int]]:
    """Sessions and the frames that they had, by a frame of the node's session."""
    fields = json.loads(meta)
    if fields.get("event") != "progress":
        return []
    return [(session, frames) for session, frames, _ in fields["sessions"]]


@dataclass(slots=True)
class Unclosed:
    """A journal file that has no footer, as scanned."""

    path: Path
    number: int
    header: Header | None = None
    kept: list[Span] = field(default_factory=list)
    kept_bytes: int = 0
    rows: dict[bytes, FooterRow] = field(default_factory=dict)
    frames: int = 0
    gaps: list[Span] = field(default_factory=list)
    start: int = 0

    def told(self) -> list[Span]:
        """The gaps, as many as fit in a leaf; the last one covers the rest."""
        if len(self.gaps) <= _MOST_GAPS:
            return self.gaps
        return [*self.gaps[: _MOST_GAPS - 1], (self.gaps[_MOST_GAPS - 1][0], self.gaps[-1][1])]

    def footer(self) -> bytes:
        return encode_footer(self.frames, list(self.rows.values()))


@dataclass(frozen=True, slots=True)
class Closed:
    """A journal file with its footer: a segment to be."""

    path: Path
    header: Header
    frames: int
