# SPDX-License-Identifier: GPL-3.0-or-later
"""Sessions that may go on while there is no room for their record: the gap is a record itself."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.model import RecordFailed
from gateway.record.backlog import Marks
from gateway.record.reader import Evidence
from gateway.record.recorder import NodeRecorder
from gateway.record.session_record import RecordedSession
from gateway.ship.folder import FolderPublisher
from tests.faults.auditor import until
from tests.record.place import Place

pytestmark = pytest.mark.fault
PIECE = 50_000


class Jam:
    """A store that takes nothing until it is let go."""

    def __init__(self, place: Place) -> None:
        self._folder = FolderPublisher(place.evidence)
        self.free = asyncio.Event()

    async def publish(self, path: Path, object_name: str, sha256: str) -> None:
        await self.free.wait()
        await self._folder.publish(path, object_name, sha256)


async def jammed(place: Place) -> tuple[NodeRecorder, Jam]:
    jam = Jam(place)
    marks = Marks(1 << 20, 2 << 20)
    return await place.start(publish=jam.publish, marks=marks, file_bytes=1 << 20), jam


async def fill(session: RecordedSession, true: Callable[[], bool]) -> int:
    """Write until it is so; how many frames."""
    for count in range(1000):
        if true():
            return count
        session.append("answer", "target", os.urandom(PIECE), b'{"at":0,"events":[]}')
        await asyncio.sleep(0.001)
    raise AssertionError("it never came true")


def events(place: Place, session: str) -> list[dict[str, object]]:
    frames = Evidence(place.data, place.auditor / "identity").frames(session)
    return [dict(frame.meta) for frame in frames if frame.kind == "gap"]


async def test_a_gap_is_begun_counted_ended_and_signed(place: Place) -> None:
    recorder, jam = await jammed(place)
    session = await recorder.open({"target": "t"})
    session.allow_gaps(lambda: True)
    gaps = session._gaps
    assert gaps is not None
    await fill(session, lambda: gaps.open)
    await fill(session, lambda: gaps._frames >= 20)
    missing = gaps._frames
    assert not recorder.failed
    before = session.next
    jam.free.set()
    await until(lambda: recorder.figures()["backlog_level"] == 0)
    await fill(session, lambda: not gaps.open)
    assert session.next > before
    session.append("answer", "target", b"recorded again", b'{"at":0,"events":[]}')
    await session.close("client", {})
    await recorder.stop()
    begun, ended = events(place, session.id)
    assert (begun["event"], ended["event"]) == ("begun", "ended")
    assert "hard mark" in str(begun["cause"])
    assert isinstance(ended["frames"], int) and ended["frames"] >= missing
    assert ended["bytes"] == {"answer": ended["frames"] * PIECE}
    findings = place.assert_complete()
    told = [gap for gap in findings.gaps if gap.get("session") == session.id]
    assert len(told) == 2 and f"{ended['frames']} frames" in told[1]["detail"]


async def test_a_gap_that_is_open_at_the_end_is_told_from_the_reserve(place: Place) -> None:
    recorder, jam = await jammed(place)
    session = await recorder.open({"target": "t"})
    session.allow_gaps(lambda: True)
    await fill(session, lambda: session._gaps is not None and session._gaps.open)
    await session.close("client", {"detail": "x" * 500})
    assert recorder.figures()["backlog_level"] == 2
    jam.free.set()
    await recorder.stop()
    assert [one["event"] for one in events(place, session.id)] == ["begun", "ended"]
    assert len([gap for gap in place.assert_complete().gaps if "session" in gap]) == 2


async def test_without_leave_nothing_goes_on_and_leave_may_be_taken_back(place: Place) -> None:
    recorder, jam = await jammed(place)
    plain, allowed = await recorder.open({"target": "t"}), await recorder.open({"target": "u"})
    leave = [True]
    allowed.allow_gaps(lambda: leave[0])
    with pytest.raises(RecordFailed, match="hard mark"):
        await fill(plain, lambda: False)
    await fill(allowed, lambda: allowed._gaps is not None and allowed._gaps.open)
    leave[0] = False
    with pytest.raises(RecordFailed):
        allowed.append("answer", "target", b"x" * PIECE)
    with pytest.raises(RecordFailed):
        await recorder.open({"target": "new"})
    for session in (plain, allowed):
        await session.close("record", {})
    jam.free.set()
    await recorder.stop()
    assert place.assert_complete().sessions == 3
    assert events(place, plain.id) == []


async def test_a_record_that_failed_for_good_ends_everybody(place: Place) -> None:
    recorder, jam = await jammed(place)
    session = await recorder.open({"target": "t"})
    session.allow_gaps(lambda: True)
    recorder._journal.fail("the disk is gone")
    with pytest.raises(RecordFailed, match="the disk is gone"):
        session.append("answer", "target", b"x")
    jam.free.set()
    await recorder.stop()


async def test_a_kill_in_a_gap_leaves_its_beginning_signed(place: Place, tmp_path: Path) -> None:
    recorder, jam = await jammed(place)
    session = await recorder.open({"target": "t"})
    session.allow_gaps(lambda: True)
    await fill(session, lambda: session._gaps is not None and session._gaps.open)
    await recorder._log.sign()
    left = place.as_killed(tmp_path / "killed")
    jam.free.set()
    await recorder.stop()
    again = await left.start()
    await again.stop()
    assert [one["event"] for one in events(left, session.id)] == ["begun"]
    gaps = left.assert_complete().gaps
    assert any(gap.get("session") == session.id for gap in gaps)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)
