# SPDX-License-Identifier: GPL-3.0-or-later
"""An answer of many bytes while the store is slow: all of it is recorded, at bounded memory, or the
session ends where the marks say so. TRAILGATE_ANSWER_MIB says how many; 10,240 takes long."""

from __future__ import annotations

import asyncio
import os
import resource
from pathlib import Path

import pytest

from gateway.model import RecordFailed
from gateway.record.backlog import Marks
from gateway.ship.folder import FolderPublisher
from tests.record.place import Place

pytestmark = [pytest.mark.fault, pytest.mark.slow, pytest.mark.timeout(7200)]
MIB = 1 << 20
ANSWER_MIB = int(os.environ.get("TRAILGATE_ANSWER_MIB", "256"))
CHUNK = os.urandom(MIB - 4096)


class Slow:
    """A store that takes a while for each file."""

    def __init__(self, place: Place, seconds: float) -> None:
        self._folder = FolderPublisher(place.evidence)
        self._seconds = seconds

    async def publish(self, path: Path, object_name: str, sha256: str) -> None:
        await asyncio.sleep(self._seconds)
        await self._folder.publish(path, object_name, sha256)


def anonymous() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("/proc/self/status has no RssAnon")


async def test_an_answer_of_any_length_is_recorded_whole(tmp_path: Path) -> None:
    place = Place(tmp_path)
    slow = Slow(place, 0.05)
    recorder = await place.start(
        publish=slow.publish, file_bytes=16 * MIB, marks=Marks(1 << 40, 2 << 40)
    )
    session = await recorder.open({"target": "t"})
    before = most = anonymous()
    for number in range(ANSWER_MIB):
        session.append("answer", "target", CHUNK, b'{"at":%d,"events":[]}' % (number * len(CHUNK)))
        await asyncio.sleep(0)
        most = max(most, anonymous())
    await session.close("client", {})
    await recorder.stop(publish_seconds=600.0)
    # Files are maps of the page cache; nothing that is recorded stays in the process.
    assert most - before < 64 * MIB, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    findings = place.assert_complete()
    assert findings.frames >= ANSWER_MIB + 2
    assert findings.bytes > ANSWER_MIB * len(CHUNK)
    # Every byte that lies in the evidence, over the bytes of the answer.
    assert findings.bytes / (ANSWER_MIB * len(CHUNK)) < 1.02


async def test_at_the_hard_mark_it_ends_with_its_close_frame(tmp_path: Path) -> None:
    place = Place(tmp_path)
    slow = Slow(place, 3600.0)
    recorder = await place.start(
        publish=slow.publish, file_bytes=8 * MIB, marks=Marks(16 * MIB, 48 * MIB)
    )
    session = await recorder.open({"target": "t"})
    written = 0
    with pytest.raises(RecordFailed, match="hard mark"):
        for _ in range(ANSWER_MIB):
            session.append("answer", "target", CHUNK, b'{"at":0,"events":[]}')
            written += 1
            await asyncio.sleep(0.005)
    await session.close("record", {})
    await recorder.stop(publish_seconds=0.1)
    again = await place.start()
    await again.stop(publish_seconds=600.0)
    assert place.assert_complete().frames >= written + 2
