# SPDX-License-Identifier: GPL-3.0-or-later
"""S3 that is down, slow, busy, that resets, loses answers, stores wrong bytes or forgets locks."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.model import RecordFailed
from gateway.record.backlog import Marks
from gateway.record.recorder import NodeRecorder
from gateway.ship import ShipConflict, ShipFailed
from gateway.ship.s3 import S3Options, S3Publisher
from tests.faults.auditor import until
from tests.faults.shipped_place import LOCK, ShippedPlace, strict_buckets
from tests.faults.strict_s3 import EVIDENCE, KEYS, Asked, StrictS3
from tests.faults.test_erasing import SECRET, closed_session, settled

pytestmark = pytest.mark.fault


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[StrictS3]:
    with strict_buckets(monkeypatch) as strict:
        yield strict


@pytest.fixture
def place(tmp_path: Path, s3: StrictS3) -> ShippedPlace:
    return ShippedPlace(tmp_path, s3)


async def work(recorder: NodeRecorder, sessions: int = 3, size: int = 200_000) -> None:
    for _ in range(sessions):
        session = await recorder.open({"target": "t"})
        for turn in range(4):
            session.append("answer", "target", random.randbytes(size // 4), b'{"at":0}', turn)
        await session.close("client", {})


def assert_shipped(place: ShippedPlace) -> None:
    """Everything is there, once and whole; nothing was asked for that may not be."""
    findings = place.verify_bucket()
    assert (findings.defects, findings.pending, findings.exit_code) == ([], [], 0)
    assert findings.content == "opened"
    assert place.s3.refused == []
    segments = [name for name in place.names() if "/seg/" in name]
    assert len(segments) == len(set(segments)) > 0
    assert not list(place.journal.glob("*.journal"))


async def test_all_is_locked_and_checked_and_no_right_to_delete_is_needed(
    place: ShippedPlace,
) -> None:
    async with place.running() as recorder:
        await recorder.policy_in_force("p", b"policy: p\n")
        await work(recorder)
        await closed_session(recorder)
    assert_shipped(place)
    for asked in place.s3.seen:
        assert SECRET[:40] not in asked.body and b"trailgate-identity" not in asked.body
    changing = ("/checkpoint", ".p/")
    for put in place.s3.puts():
        may_change = put.key.endswith(changing[0]) or changing[1] in put.key
        assert ("if-none-match" in put.headers) is not may_change, put.key
        assert ("x-amz-object-lock-mode" in put.headers) is not may_change, put.key
    days = {name: (until_ - place.s3.now).days for name, until_ in (
        (key[0], moment) for key, moment in place.s3.locks.items())}  # fmt: skip
    assert days == {EVIDENCE: LOCK.days - 1, KEYS: LOCK.keys_days - 1}


@pytest.mark.parametrize("seed", range(2))
async def test_a_store_that_fails_now_and_then_gets_everything_once(
    place: ShippedPlace, seed: int
) -> None:
    dice = random.Random(seed)
    place.s3.fault = lambda asked: dice.choice(
        ["503", "reset", "lost", "flip" if asked.method == "PUT" else "503"] + [""] * 8
    )
    async with place.running(60.0) as recorder:
        await work(recorder, 6)
        place.s3.fault = lambda asked: dice.choice(["503", "reset", "lost"] + [""] * 12)
    place.s3.fault = lambda asked: ""
    async with place.running():
        pass  # what was cut at the end is made up for by the next start
    assert_shipped(place)


async def test_an_answer_that_is_lost_is_a_success_the_second_time(place: ShippedPlace) -> None:
    lost: list[str] = []

    def once(asked: Asked) -> str:
        if asked.method == "PUT" and asked.key and asked.key not in lost:
            lost.append(asked.key)
            return "lost"
        return ""

    place.s3.fault = once
    async with place.running(60.0) as recorder:
        await work(recorder)
    place.s3.fault = lambda asked: ""
    async with place.running():
        pass
    assert_shipped(place)
    assert any("/seg/" in name for name in lost)


@pytest.mark.parametrize("fault", ["wrong", "other"])
async def test_wrong_bytes_are_found_before_a_leaf_says_that_they_are_stored(
    place: ShippedPlace, fault: str
) -> None:
    place.s3.fault = lambda asked: fault if asked.method == "PUT" and "/seg/" in asked.key else ""
    async with place.running(5.0) as recorder:
        await work(recorder, 1)
        recorder._journal._aged()
        await until(lambda: recorder._shipper.failures > 0)
        assert recorder._shipper.published == 0
        assert recorder.figures()["journal_bytes_waiting"] > 0
    # The file stays here, and no leaf names the object; the auditor sees it as what it is.
    assert list(place.journal.glob("*.journal"))
    entries = b"".join(
        path.read_bytes() for path in place.evidence.glob("log/*/*/tile/entries/**/*.p/*")
    )
    assert b'"type":"segment"' not in entries
    assert "stray" in {defect.kind for defect in place.verify_bucket().defects}


async def test_one_segment_that_cannot_be_published_keeps_no_other_back(
    place: ShippedPlace,
) -> None:
    bad: list[str] = []

    def first(asked: Asked) -> str:
        if asked.method == "PUT" and "/seg/" in asked.key and not bad:
            bad.append(asked.key)
        return "other" if asked.method == "PUT" and asked.key in bad else ""

    place.s3.fault = first
    async with place.running(10.0) as recorder:
        for _ in range(3):
            await work(recorder, 1)
            before = recorder._journal.next_number
            recorder._journal._aged()
            await until(lambda before=before: recorder._journal.next_number > before)  # type: ignore[misc]
        await until(lambda: recorder._shipper.published >= 2)
        assert recorder._shipper.failures == 1
    findings = place.verify_bucket()
    # What is in it is missed; it is the object of no leaf.
    strays = {one.object for one in findings.defects if one.kind == "stray"}
    assert strays == {bad[0].removeprefix("site/evidence/")}


async def test_a_store_that_lies_about_checksums_needs_to_be_read_back(s3: StrictS3) -> None:
    s3.fault = lambda asked: "wrong" if asked.method == "PUT" else ""
    believing = S3Publisher(EVIDENCE, "a", S3Options(s3.url))
    reading = S3Publisher(EVIDENCE, "b", S3Options(s3.url, read_back=True))
    await believing.publish_bytes("policy/x", b"text")
    with pytest.raises(ShipFailed, match="other bytes"):
        await reading.publish_bytes("policy/x", b"text")
    with pytest.raises(ShipConflict, match="other bytes"):
        await reading.publish_bytes("policy/x", b"text")
    for publisher in (believing, reading):
        publisher.close()


@pytest.mark.parametrize("forgets", [True, False])
async def test_a_bucket_that_does_not_lock_gets_no_evidence(s3: StrictS3, forgets: bool) -> None:
    s3.object_lock = forgets
    s3.fault = lambda asked: "no-lock" if forgets else ""
    publisher = S3Publisher(EVIDENCE, "", S3Options(s3.url, lock=LOCK, attempts=1))
    with pytest.raises(ShipFailed, match="Object Lock"):
        await publisher.publish_bytes("policy/x", b"text")
    publisher.close()


async def test_a_slow_store_delays_nobody(place: ShippedPlace) -> None:
    async with place.running(30.0) as recorder:
        place.s3.gate.clear()
        try:
            for _ in range(3):
                await work(recorder)
                await recorder._log.sign()
            recorder._journal._aged()
            await until(lambda: recorder.figures()["journal_files_waiting"] > 0)
            assert recorder.figures()["open_sessions"] == 1
        finally:
            place.s3.gate.set()
    assert_shipped(place)


async def test_while_s3_is_down_all_waits_up_to_the_marks_and_then_goes_on(
    place: ShippedPlace,
) -> None:
    marks = Marks(soft=1 << 20, hard=3 << 20)
    async with place.running(60.0, marks=marks, file_bytes=1 << 20) as recorder:
        await work(recorder, 1)
        await until(lambda: any("/log/" in put.key for put in place.s3.puts()))
        place.s3.down = True
        levels = set()
        kept_open = await recorder.open({"target": "kept"})
        with pytest.raises(RecordFailed, match="hard mark"):
            for _ in range(200):
                levels.add(recorder.figures()["backlog_level"])
                await work(recorder, 1, 400_000)
                await asyncio.sleep(0.01)
        assert levels >= {0, 1} and recorder.figures()["backlog_level"] == 2
        assert recorder.figures()["journal_oldest_waiting_seconds"] > 0
        with pytest.raises(RecordFailed, match="hard mark"):
            await recorder.open({"target": "new"})
        # What is open goes on while its file has room, and ends in order.
        with pytest.raises(RecordFailed, match="hard mark"):
            for _ in range(20):
                kept_open.append("answer", "target", random.randbytes(100_000))
        await kept_open.close("record", {})
        assert not recorder.failed
        on_disk = sum(path.stat().st_size for path in place.journal.glob("*.journal"))
        assert on_disk < marks.hard + (3 << 20)
        place.s3.down = False
        await until(lambda: recorder.figures()["backlog_level"] == 0)
        await work(recorder, 1)
    assert_shipped(place)


async def test_keys_under_a_lock_are_erased_once_it_ends(place: ShippedPlace) -> None:
    async with place.running(30.0) as recorder:
        session = await closed_session(recorder)
        await until(lambda: any(session in put.key for put in place.s3.puts(KEYS)))
        await settled(recorder)
        erasures = recorder.keeping.erasures
        erasures._first_wait = 0.05
        await erasures.erase(session)
        await until(lambda: "locked" in erasures._causes.get(session, ""))
        assert any(session in name for name in place.names(KEYS))
        await recorder._log.sign()
        await place.mirror.mirror()
        findings = place.verify_bucket()
        assert findings.defects == [] and session in str(findings.pending)
        place.s3.passed = timedelta(days=LOCK.keys_days, minutes=1)
        await until(lambda: not erasures.pending)
        assert not any(session in name for name in place.names(KEYS))
    assert_shipped(place)
    assert place.verify_bucket().erased == [session]


@pytest.mark.parametrize("requests", [3, 17, 29, 50])
async def test_a_node_that_is_cut_off_after_any_request_goes_on_at_the_next_start(
    place: ShippedPlace, requests: int
) -> None:
    start = len(place.s3.seen)
    place.s3.fault = lambda asked: "reset" if len(place.s3.seen) - start > requests else ""
    async with place.running(0.2) as recorder:
        await work(recorder, 2)
        recorder._journal._aged()
        await asyncio.sleep(0.1)
    place.s3.fault = lambda asked: ""
    async with place.running(30.0) as recorder:
        await work(recorder, 1)
    assert_shipped(place)
    assert place.verify_bucket().sessions == 5
