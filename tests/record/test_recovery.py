# SPDX-License-Identifier: GPL-3.0-or-later
"""The next start after a kill, a power loss, or a store that was away (see also test_kills)."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.model import RecordFailed
from gateway.record import frames
from gateway.record.recorder import NodeRecorder
from gateway.record.session_record import RecordedSession
from tests.record.place import Place, on_disk


async def busy(recorder: NodeRecorder, sessions: int = 3, turns: int = 10) -> list[RecordedSession]:
    opened = [await recorder.open({"target": "t"}) for _ in range(sessions)]
    for turn in range(turns):
        for one in opened:
            one.append("request", "client", os.urandom(100 + turn), b'{"at":0}', turn)
    return opened


QUIET = 3600.0
"""Seconds between checkpoints, so that no thread writes while a folder is copied."""


async def restarted(place: Place) -> Place:
    recorder = await place.start()
    await recorder.stop()
    return place


async def test_a_kill_interrupts_open_sessions_and_loses_nothing(tmp_path: Path) -> None:
    place = Place(tmp_path)
    recorder = await place.start(checkpoint_seconds=QUIET)
    opened = await busy(recorder)
    await opened[0].close("client", {})
    killed = place.as_killed(tmp_path / "killed")
    await recorder.stop()
    findings = (await restarted(killed)).assert_complete()
    assert findings.frames == 1 + 3 * 11 + 1 + 2
    assert (findings.sessions, findings.gaps) == (5, [])


async def test_a_state_counts_no_file_that_is_not_closed(tmp_path: Path) -> None:
    """A kill behind a rotation, while the disk is still at the sync before it."""
    place, idle, at_work = Place(tmp_path), threading.Event(), threading.Event()
    idle.set()

    def sync(descriptor: int) -> None:
        at_work.set()
        assert idle.wait(60)
        os.fdatasync(descriptor)

    recorder = await place.start(
        sync, file_bytes=32 << 10, checkpoint_seconds=QUIET, sync_seconds=QUIET
    )
    (session,) = await busy(recorder, 1)
    await recorder._log.sign()
    idle.clear()
    at_work.clear()
    recorder._journal.sync_now()
    assert await asyncio.to_thread(at_work.wait, 60)
    while recorder._journal.file.number == 0:
        session.append("request", "client", os.urandom(900), b'{"at":0}')
    # All that the state counts is signed: it would be saved by now if it did not wait.
    await asyncio.sleep(0.3)
    killed = place.as_killed(tmp_path / "killed")
    idle.set()
    await recorder.stop()
    place.assert_complete()
    assert (await restarted(killed)).assert_complete().gaps == []


async def test_what_could_not_be_published_is_published_by_the_next_start(tmp_path: Path) -> None:
    place = Place(tmp_path)

    async def publish(path: Path, name: str, sha256: str) -> None:
        raise OSError("the store is away")

    recorder = await place.start(file_bytes=64 << 10, publish=publish)
    opened = await busy(recorder, 2, 200)
    for one in opened:
        await one.close("client", {})
    await recorder.stop()
    assert recorder.figures()["publish_failures"] >= 1
    left = sorted(path.name for path in place.journal.glob("*.journal"))
    assert left
    findings = place.verify()
    assert findings.defects == []
    assert findings.pending
    (await restarted(place)).assert_complete()


async def test_a_store_that_hangs_delays_the_stop_no_longer_than_it_may(tmp_path: Path) -> None:
    place = Place(tmp_path)

    async def publish(path: Path, name: str, sha256: str) -> None:
        await asyncio.Event().wait()

    recorder = await place.start(publish=publish)
    await busy(recorder)
    await recorder.stop(publish_seconds=0.01)
    (await restarted(place)).assert_complete()


# --- damage, as a power loss does it ----------------------------------------------------------


async def lost_pages(tmp_path: Path, damage: Callable[[bytearray, list[frames.Frame]], None],
                     rebooted: bool = True) -> tuple[Place, list[frames.Frame]]:  # fmt: skip
    """A killed place whose journal file was damaged; and its frames before that."""
    place = Place(tmp_path)
    recorder = await place.start(checkpoint_seconds=QUIET)
    opened = await busy(recorder, 3, 20)
    await on_disk(recorder, opened[0].append("event", "own", b""))
    killed = place.as_killed(tmp_path / "killed")
    await recorder.stop()
    path = killed.journal / "0.journal"
    data = bytearray(path.read_bytes())
    found = list(frames.walk(bytes(data)))
    damage(data, found)
    path.write_bytes(data)
    if rebooted:
        state = killed.journal / "state.json"
        state.write_bytes(state.read_bytes().replace(b'"boot":"', b'"boot":"another '))
    return killed, found


async def test_an_earlier_page_that_is_gone_becomes_a_gap(tmp_path: Path) -> None:
    def damage(data: bytearray, found: list[frames.Frame]) -> None:
        for frame in found[20:25]:
            data[frame.offset : frame.offset + frame.length] = bytes(frame.length)

    killed, found = await lost_pages(tmp_path, damage)
    findings = (await restarted(killed)).assert_complete()
    assert findings.frames == len(found) - 5 + 2
    start, end = found[20].offset, found[24].offset + found[24].length
    gap = {"journal": 0, "offset": start, "bytes": end - start}
    assert gap in findings.gaps
    assert any("are lost" in str(one.get("detail")) for one in findings.gaps)


async def test_every_other_frame_gone(tmp_path: Path) -> None:
    def damage(data: bytearray, found: list[frames.Frame]) -> None:
        for frame in found[10::2]:
            data[frame.offset + 4] ^= 0xFF

    killed, found = await lost_pages(tmp_path, damage)
    findings = (await restarted(killed)).assert_complete()
    assert findings.frames == len(found) - len(found[10::2]) + 2


async def test_the_open_frame_gone(tmp_path: Path) -> None:
    def damage(data: bytearray, found: list[frames.Frame]) -> None:
        opened = next(one for one in found[1:] if one.kind_name == "open")
        data[opened.offset : opened.offset + opened.length] = bytes(opened.length)

    killed, found = await lost_pages(tmp_path, damage)
    findings = (await restarted(killed)).assert_complete()
    assert findings.frames == len(found) - 1 + 2


@pytest.mark.parametrize("rebooted", [True, False])
async def test_a_torn_tail_is_a_gap_only_after_a_power_loss(tmp_path: Path, rebooted: bool) -> None:
    def damage(data: bytearray, found: list[frames.Frame]) -> None:
        last = found[-1]
        data[last.offset : last.offset + 8] = bytes(8)

    killed, found = await lost_pages(tmp_path, damage, rebooted)
    findings = (await restarted(killed)).assert_complete()
    assert findings.frames == len(found) - 1 + 2
    assert bool(findings.gaps) == rebooted


async def test_a_header_that_is_gone_loses_the_file_and_says_so(tmp_path: Path) -> None:
    def damage(data: bytearray, found: list[frames.Frame]) -> None:
        data[:100] = bytes(100)

    killed, _ = await lost_pages(tmp_path, damage)
    findings = (await restarted(killed)).assert_complete()
    assert [one["offset"] for one in findings.gaps] == [0]
    assert (killed.journal / "0.damaged").exists()


async def test_half_a_footer_is_no_gap(tmp_path: Path) -> None:
    """A kill between the footer and the cut behind it."""
    place = Place(tmp_path)
    recorder = await place.start(checkpoint_seconds=QUIET)
    opened = await busy(recorder, 2, 10)
    killed = place.as_killed(tmp_path / "killed")
    await recorder.stop()
    again = killed.as_killed(tmp_path / "again")
    whole = await restarted(again)
    (segment,) = [p for p in whole.evidence.glob("seg/*/*/*") if opened[0].raw in p.read_bytes()]
    closed = segment.read_bytes()
    _, _, end = frames.decode_footer(closed)
    for cut in (end + 5, end + 200, len(closed) - 1, len(closed)):
        copy = killed.as_killed(tmp_path / f"cut-{cut}")
        path = copy.journal / "0.journal"
        path.write_bytes(closed[:cut] + bytes((1 << 20) - cut))
        assert (await restarted(copy)).assert_complete().gaps == []


async def test_recovered_space_of_another_file_does_not_parse(tmp_path: Path) -> None:
    """Frames carry the file's generation: what an old file left in a block is not taken."""
    old: list[bytes] = []

    def damage(data: bytearray, found: list[frames.Frame]) -> None:
        header, _ = frames.decode_header(bytes(data))
        last = found[-1]
        stale = frames.encode(last.clear, last.sealed, frames.seed(bytes(16)))
        at = last.offset + last.length + 4096
        data[at : at + len(stale)] = stale
        old.append(stale)

    killed, found = await lost_pages(tmp_path, damage)
    findings = (await restarted(killed)).assert_complete()
    assert findings.frames == len(found) + 2
    assert len(findings.gaps) == 1
    assert old


async def test_a_journal_of_another_log_is_not_taken(tmp_path: Path) -> None:
    place = Place(tmp_path)
    recorder = await place.start(checkpoint_seconds=QUIET)
    await busy(recorder)
    killed = place.as_killed(tmp_path / "killed")
    await recorder.stop()
    (killed.data / "node" / "key").unlink()
    with pytest.raises(RecordFailed, match="belongs to another log"):
        await killed.start()
    for path in killed.journal.iterdir():
        path.unlink()
    (await restarted(killed)).assert_sound()
    assert (killed.evidence / "log" / "gw1" / "1" / "checkpoint").exists()


async def test_without_its_state_a_log_is_not_continued(tmp_path: Path) -> None:
    place = await restarted(Place(tmp_path))
    state = place.journal / "state.json"
    whole = state.read_bytes()
    state.unlink()
    with pytest.raises(RecordFailed, match=r"state\.json is missing"):
        await place.start()
    state.write_bytes(whole[:-5])
    with pytest.raises(RecordFailed, match="is damaged: restore it"):
        await place.start()
    state.write_bytes(whole)
    (await restarted(place)).assert_complete()
