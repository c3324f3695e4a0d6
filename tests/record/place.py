# SPDX-License-Identifier: GPL-3.0-or-later
"""A folder to record in, and what the independent verifier says of it."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway.model import Level
from gateway.record.recipients import Recipient, make_recipient
from gateway.record.recorder import NodeRecorder, RecorderOptions
from gateway.ship.folder import FolderPublisher
from gateway.verify.findings import Findings
from gateway.verify.run import Request, verify


class Place:
    """One node's data folder, with the auditor's key beside it."""

    node = "gw1"

    def __init__(self, root: Path) -> None:
        self.data = root / "data"
        self.data.mkdir(parents=True, exist_ok=True)
        self.evidence = self.data / "evidence"
        self.auditor = root / "auditor"
        self.journal = self.data / "journal"

    def recipient(self) -> Recipient:
        public = self.auditor / "recipient.pub"
        if public.exists():
            return Recipient.parse(public.read_text("ascii"))
        return make_recipient(self.auditor)

    def options(self, **changes: Any) -> RecorderOptions:
        publish = changes.pop("publish", FolderPublisher(self.evidence).publish)
        known = {"file_bytes": 1 << 20, "checkpoint_seconds": 0.02, **changes}
        return RecorderOptions(
            self.data, self.evidence, self.node, "0", (self.recipient(),), publish, **known
        )

    async def start(
        self, sync: Callable[[int], None] = os.fdatasync, **changes: Any
    ) -> NodeRecorder:
        return await NodeRecorder.start(self.options(**changes), sync)

    def as_killed(self, to: Path) -> Place:
        """A copy of everything as it lies there now: what a kill at this moment leaves.

        Only while no thread writes; a copy takes longer than a kill.
        """
        to.mkdir()
        shutil.copytree(self.auditor, to / "auditor")
        shutil.copytree(self.data, to / "data", ignore_dangling_symlinks=True)
        return Place(to)

    def verify(self, opened: bool = True) -> Findings:
        identity = self.auditor / "identity" if opened else None
        return verify(Request(str(self.data), identity=identity))

    def progress_leaves(self) -> int:
        """Of the one log; each has a frame of its own, and how many there are is a matter of time.

        For logs of fewer than 256 leaves."""
        entries = self.evidence.glob("log/*/*/tile/entries/000.p/*")
        newest = max(entries, key=lambda path: int(path.name))
        return newest.read_bytes().count(b'"type":"progress"')

    def assert_sound(self) -> Findings:
        """Nothing is wrong, with and without the identity; what was found."""
        closed = self.verify(opened=False)
        assert not closed.defects, closed.defects
        assert closed.content == "unopened"
        findings = self.verify()
        assert not findings.defects, findings.defects
        assert findings.content == "opened"
        return findings

    def assert_complete(self) -> Findings:
        """Sound, and a stopped gateway left nothing open or behind."""
        findings = self.assert_sound()
        left = [*findings.pending, *findings.open, *findings.lost]
        left += map(str, self.journal.glob("*.journal"))
        assert not left, left
        return findings


async def on_disk(recorder: NodeRecorder, position: int) -> bool:
    """Wait for a position at level `disk`."""
    told: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    recorder.when_reached(position, Level.DISK, told.set_result)
    return await told
