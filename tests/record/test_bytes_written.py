# SPDX-License-Identifier: GPL-3.0-or-later
"""What reaches the disk for what was recorded: a sync writes what was touched, no more."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.record.place import Place, on_disk

FRAMES, SYNCS = 300, 100


def _written() -> int:
    """Bytes that this process has sent to devices, less those of files that it removed."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["write_bytes"]) - int(fields["cancelled_write_bytes"])


async def test_a_sync_writes_the_pages_that_were_touched(tmp_path: Path) -> None:
    """Three pages a sync: of the frames before and behind, and of the log; not all around."""
    recorder = await Place(tmp_path).start(file_bytes=64 << 20, checkpoint_seconds=1.0)
    session = await recorder.open({"target": "orders"})
    journal, payload = recorder._journal, os.urandom(512)
    before, began = _written(), journal.position
    for _ in range(SYNCS):
        for _ in range(FRAMES):
            position = session.append("request", "client", payload)
        assert await on_disk(recorder, position)
    recorded, written = journal.position - began, _written() - before
    syncs = journal.syncs
    await session.close("client", {})
    await recorder.stop()
    if written < recorded:
        pytest.skip("nothing is counted as written here: the folder is no disk's")
    assert written <= recorded * 1.5 + 3 * syncs * os.sysconf("SC_PAGE_SIZE")
