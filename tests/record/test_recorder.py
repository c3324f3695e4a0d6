# SPDX-License-Identifier: GPL-3.0-or-later
"""What the recorder writes, as the independent verifier reads it."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from gateway.model import Level, RecordFailed
from gateway.record import frames
from gateway.record.recipients import make_recipient
from gateway.record.recorder import NodeRecorder, RecorderOptions
from tests.record.place import Place, on_disk


async def record(recorder: NodeRecorder, sessions: int, turns: int, size: int = 700) -> None:
    """Sessions side by side, each of `turns` requests and answers, all closed."""
    opened = await asyncio.gather(*(recorder.open({"target": "t"}) for _ in range(sessions)))
    for turn in range(turns):
        for one in opened:
            one.append(
                "request", "client", os.urandom(turn % 50 + 1), b'{"at":0,"events":[]}', turn
            )
            one.append("answer", "client", b"row " * (size // 4), b'{"at":0,"events":[]}', turn)
        if turn % 20 == 0:
            await asyncio.sleep(0)
    for one in opened:
        await one.close("client", {"detail": "", "operations": turns, "denied": 0})


def segments(place: Place) -> list[Path]:
    return sorted(path for path in place.evidence.glob("seg/*/*/*") if path.is_file())


async def test_a_stopped_record_verifies(tmp_path: Path) -> None:
    place = Place(tmp_path)
    recorder = await place.start(checkpoint_seconds=3600.0)
    await recorder.policy_in_force("p", b"policy: p\n")
    await record(recorder, 3, 20)
    await recorder.stop()
    findings = place.assert_complete()
    assert findings.sessions == 4
    assert findings.frames == 3 * 42 + 2 + place.progress_leaves()
    assert findings.complete_to is not None


async def test_sessions_across_many_files_and_restarts(tmp_path: Path) -> None:
    place = Place(tmp_path)
    for _ in range(3):
        recorder = await place.start(file_bytes=256 << 10)
        await recorder.policy_in_force("p", b"policy: p\n")
        await record(recorder, 10, 150)
        await recorder.stop()
    findings = place.assert_complete()
    assert findings.sessions == 3 * 11
    assert findings.frames == 3 * (10 * 302 + 2) + place.progress_leaves()
    assert len(segments(place)) > 9
    assert not list(place.journal.glob("spare-*"))


async def test_a_live_record_has_no_defect(tmp_path: Path) -> None:
    place = Place(tmp_path)
    recorder = await place.start(file_bytes=128 << 10, rotate_seconds=0.05)
    running = asyncio.create_task(record(recorder, 5, 2000))
    while not running.done():
        findings = await asyncio.to_thread(place.verify)
        assert findings.defects == []
    await running
    await recorder.stop()
    place.assert_complete()


async def test_open_frames_carry_the_ordinal_and_who_opened(tmp_path: Path) -> None:
    place = Place(tmp_path)
    recorder = await place.start()
    opened = await asyncio.gather(*(recorder.open({"target": f"t{n}"}) for n in range(20)))
    assert sorted(one.ordinal for one in opened) == list(range(1, 21))
    await recorder.stop()
    (segment,) = segments(place)
    found = [one for one in frames.walk(segment.read_bytes()) if one.kind_name == "open"]
    metas = [json.loads(one.meta) for one in found]
    assert [meta["ordinal"] for meta in metas] == list(range(21))
    by_id = {meta["session"]: meta for meta in metas}
    assert all(by_id[one.id]["target"] == f"t{n}" for n, one in enumerate(opened))
    assert {meta["gateway"] for meta in metas} == {"gw1"}


async def test_age_alone_closes_a_file(tmp_path: Path) -> None:
    place = Place(tmp_path)
    recorder = await place.start(rotate_seconds=0.01)
    session = await recorder.open({})
    while len(segments(place)) < 3:
        session.append("event", "own", b"")
        await asyncio.sleep(0.001)
    await session.close("client", {})
    await recorder.stop()
    place.assert_complete()


async def test_positions_are_reached_in_order_and_disk_means_synced(tmp_path: Path) -> None:
    syncs: list[int] = []

    def sync(descriptor: int) -> None:
        os.fdatasync(descriptor)
        syncs.append(descriptor)

    place = Place(tmp_path)
    recorder = await place.start(sync=sync, sync_seconds=3600.0, checkpoint_seconds=3600.0)
    session = await recorder.open({})
    before = session.append("event", "own", b"")
    after = session.append("event", "own", b"")
    assert before < after
    assert recorder.reached(after, Level.PROCESS)
    assert not recorder.reached(after, Level.DISK)
    done = len(syncs)
    assert all(await asyncio.gather(*(on_disk(recorder, at) for at in [before, after] * 50)))
    assert done < len(syncs) <= done + 2, "those who wait share a sync"
    assert recorder.reached(after, Level.DISK)
    await recorder.stop()
    place.assert_complete()


@pytest.mark.parametrize("size", [1 << 20, 5 << 20, (64 << 20) - 4096])
async def test_a_large_frame_gets_a_file_that_holds_it(tmp_path: Path, size: int) -> None:
    place = Place(tmp_path)
    recorder = await place.start()
    session = await recorder.open({})
    session.append("request", "client", b"before")
    session.append("answer", "client", os.urandom(1 << 20) * (size >> 20) + b"x" * (size % 1 << 20))
    session.append("request", "client", b"after")
    await session.close("client", {})
    await recorder.stop()
    assert place.assert_complete().frames == 7 + place.progress_leaves()


async def test_a_frame_above_the_formats_limit_is_refused_and_nothing_else(tmp_path: Path) -> None:
    place = Place(tmp_path)
    recorder = await place.start()
    session = await recorder.open({})
    with pytest.raises(RecordFailed, match="allows"):
        session.append("request", "client", bytes(64 << 20))
    session.append("request", "client", b"x")
    await session.close("client", {})
    await recorder.stop()
    assert place.assert_complete().frames == 5 + place.progress_leaves()


async def test_close_is_idempotent_final_and_fits_its_reserve(tmp_path: Path) -> None:
    place = Place(tmp_path)
    recorder = await place.start()
    session = await recorder.open({})
    await session.close("client", {"detail": "\u0001é" * 100_000, "rows": 5})
    await session.close("target", {})
    with pytest.raises(RecordFailed, match="closed"):
        session.append("request", "client", b"x")
    await recorder.stop()
    place.assert_complete()
    closing = [
        json.loads(one.meta)
        for one in frames.walk(segments(place)[0].read_bytes())
        if one.kind_name == "close"
    ]
    assert [one["reason"] for one in closing] == ["client", "drain"]
    assert closing[0]["rows"] == 5


async def test_refusals_are_recorded_in_bounds(tmp_path: Path) -> None:
    place = Place(tmp_path)
    recorder = await place.start()
    for number in range(5000):
        recorder.refused({"code": "bad_token", "cause": "x" * number * 10, "bad": object()})
    await recorder.stop()
    recorder.refused({"code": "late"})
    place.assert_complete()
    metas = [
        json.loads(one.meta)
        for path in segments(place)
        for one in frames.walk(path.read_bytes())
        if one.kind_name == "refused"
    ]
    counted = sum(meta.get("count", 0) for meta in metas)
    singly = sum("count" not in meta for meta in metas)
    assert singly + counted == 5000
    assert 200 <= singly < 1000


async def test_whoever_is_cancelled_while_opening_leaves_a_closed_session(tmp_path: Path) -> None:
    place = Place(tmp_path)
    recorder = await place.start()
    tasks = [asyncio.create_task(recorder.open({})) for _ in range(10)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await recorder.stop()
    assert place.assert_complete().sessions == 11


async def test_what_is_open_at_the_stop_is_closed_as_drained(tmp_path: Path) -> None:
    place = Place(tmp_path)
    recorder = await place.start()
    session = await recorder.open({})
    session.append("request", "client", b"x")
    await recorder.stop()
    place.assert_complete()
    with pytest.raises(RecordFailed):
        await recorder.open({})


def test_the_figures_are_all_numbers(tmp_path: Path) -> None:
    async def figures() -> dict[str, Any]:
        recorder = await Place(tmp_path).start()
        session = await recorder.open({})
        session.append("request", "client", b"12345")
        found = dict(recorder.figures())
        await recorder.stop()
        return found

    found = asyncio.run(figures())
    assert all(isinstance(value, float | int) for value in found.values())
    assert (found["open_sessions"], found["payload_bytes"], found["frames"]) == (2, 5, 3)


# --- starts that must not succeed -------------------------------------------------------------


async def test_a_start_that_cannot_record_says_where_and_what_to_do(tmp_path: Path) -> None:
    place = Place(tmp_path)
    with pytest.raises(RecordFailed, match="trailgate init"):
        await NodeRecorder.start(_without_recipients(place))
    missing = Place(tmp_path)
    missing.data.rmdir()
    with pytest.raises(RecordFailed, match="no such folder: make it"):
        await missing.start()
    missing.data.write_text("a file")
    with pytest.raises(RecordFailed, match="no such folder"):
        await missing.start()


def _without_recipients(place: Place) -> RecorderOptions:
    async def publish(path: Path, name: str, sha256: str) -> None:
        raise AssertionError

    return RecorderOptions(place.data, place.evidence, "gw1", "0", (), publish)


async def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    place = Place(tmp_path)
    recorder = await place.start()
    with pytest.raises(RecordFailed, match="another gateway writes here"):
        await place.start()
    await recorder.stop()
    again = await place.start()
    await again.stop()
    place.assert_complete()


async def test_a_record_for_two_recipients_opens_for_each(tmp_path: Path) -> None:
    place = Place(tmp_path)
    other = make_recipient(tmp_path / "other")
    options = place.options()
    both = RecorderOptions(
        options.data, options.evidence, "gw1", "0", (*options.recipients, other), options.publish
    )
    recorder = await NodeRecorder.start(both)
    await record(recorder, 2, 5)
    await recorder.stop()
    place.assert_complete()
    place.auditor = tmp_path / "other"
    place.assert_complete()
