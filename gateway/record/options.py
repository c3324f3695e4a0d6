# SPDX-License-Identifier: GPL-3.0-or-later
"""Where and for whom a node records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gateway.record.backlog import Marks
from gateway.record.choosing import Predecessor
from gateway.record.erasing import Elsewhere, no_witness
from gateway.record.recipients import Recipient
from gateway.record.shipping import Publish


@dataclass(frozen=True, slots=True)
class RecorderOptions:
    """Where and for whom to record."""

    data: Path
    """journal/ and node/ lie here."""
    evidence: Path
    """The evidence root; wrapped keys lie beside it in keys/."""
    node: str
    version: str
    recipients: tuple[Recipient, ...]
    publish: Publish
    """(closed file, object name below the evidence root, SHA-256): returns once stored."""
    keys_url: str = "../keys"
    """Where README.json says that the wrapped keys lie."""
    predecessor: Predecessor | None = None
    """The newest log of the node that lies in a store and not on this machine."""
    compression: str = "lz4"
    refuse: Callable[[], str] = lambda: ""
    """Why no new session may be opened at the moment, for a reason outside the record; empty:
    it may."""
    keys_elsewhere: Elsewhere | None = None
    """Where wrapped keys lie besides the folder keys/."""
    unwitnessed: Callable[[int], str] = no_witness
    """Which witness has not cosigned so many leaves, and why; empty where none is missing."""
    marks: Marks = Marks()
    """Of what may wait to be published."""
    file_bytes: int = 64 << 20
    rotate_seconds: float = 60.0
    sync_seconds: float = 0.02
    checkpoint_seconds: float = 1.0
    progress_seconds: float = 5.0
    """A checkpoint for new frames alone, when no other leaf asks for one."""
    heartbeat_seconds: float = 60.0
