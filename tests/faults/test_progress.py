# SPDX-License-Identifier: GPL-3.0-or-later
"""Pages that a journal lost, at its end or in its middle, and a gateway that fell silent."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.record import frames
from gateway.record.session_record import RecordedSession
from gateway.verify.findings import Findings
from gateway.verify.run import Request, verify
from tests.faults.auditor import until
from tests.record.place import Place
from tests.verify.corpus import Corpus, SessionWriter, dump, merkle

pytestmark = pytest.mark.fault
Damage = Callable[[bytearray, list[frames.Frame]], None]


def leaves(place: Place) -> list[str]:
    """The types of all leaves."""
    bundle = max(place.evidence.glob("log/gw1/0/tile/entries/**/*"), key=lambda path: path.name)
    data, at, found = bundle.read_bytes(), 0, []
    while at < len(data):
        end = at + 2 + int.from_bytes(data[at : at + 2], "big")
        found.append(json.loads(data[at + 2 : end])["type"])
        at = end
    return found


async def turns(sessions: list[RecordedSession], count: int) -> None:
    for number in range(count):
        for one in sessions:
            one.append("request", "client", b"select %d" % number, b'{"at":0}', number + 1)


async def killed_after_progress(tmp_path: Path, damage: Damage) -> Place:
    """Two open sessions whose progress is signed; then a kill, and damage to the journal."""
    place = Place(tmp_path)
    recorder = await place.start(checkpoint_seconds=3600.0, progress_seconds=0.0)
    opened = [await recorder.open({"target": "t"}) for _ in range(2)]
    await turns(opened, 20)
    await recorder._log.sign()
    killed = place.as_killed(tmp_path / "killed")
    await recorder.stop()
    assert "progress" in leaves(killed)
    path = killed.journal / "0.journal"
    data = bytearray(path.read_bytes())
    damage(data, list(frames.walk(bytes(data))))
    path.write_bytes(data)
    return killed


async def recovered(place: Place) -> Findings:
    recorder = await place.start()
    await recorder.stop()
    return place.assert_complete()


def lost(findings: Findings) -> list[str]:
    return [one["detail"] for one in findings.gaps if "session" in one]


async def test_pages_lost_at_the_end_are_found_by_the_progress_that_was_signed(
    tmp_path: Path,
) -> None:
    def cut(data: bytearray, found: list[frames.Frame]) -> None:
        start = found[-11].offset
        data[start:] = bytes(len(data) - start)

    findings = await recovered(await killed_after_progress(tmp_path, cut))
    # Who counted them is lost as well: the leaf that signs its frame says so.
    assert lost(findings) == ["frames 1 to 1 are lost"]


async def test_requests_lost_before_a_progress_frame_that_survived(tmp_path: Path) -> None:
    def blank(data: bytearray, found: list[frames.Frame]) -> None:
        for frame in found[-11:-1]:
            data[frame.offset : frame.offset + frame.length] = bytes(frame.length)

    findings = await recovered(await killed_after_progress(tmp_path, blank))
    assert lost(findings) == ["frames 16 to 20 are lost"] * 2


async def test_pages_lost_in_the_middle(tmp_path: Path) -> None:
    def blank(data: bytearray, found: list[frames.Frame]) -> None:
        for frame in found[10:20]:
            data[frame.offset : frame.offset + frame.length] = bytes(frame.length)

    findings = await recovered(await killed_after_progress(tmp_path, blank))
    assert len(lost(findings)) == 2


async def test_nothing_lost_is_no_gap(tmp_path: Path) -> None:
    findings = await recovered(await killed_after_progress(tmp_path, lambda data, found: None))
    assert findings.gaps == []


# --- what a gateway that lies about it would write --------------------------------------------


def progress(corpus: Corpus, node: SessionWriter, told: SessionWriter, count: int) -> bytes:
    """The metadata of a progress frame, and its leaf, as if `told` had `count` frames."""
    root = merkle(told.leaves[:count])
    leaf = told.raw + count.to_bytes(8, "little") + root
    corpus.leaf("progress", session=node.id, sequence=len(node.leaves), sessions=1,
                root=merkle([leaf]).hex())  # fmt: skip
    return dump({"event": "progress", "sessions": [[told.id, count, root.hex()]]})


def story(data: Path, *, count: int = 2, frame: bool = True) -> Findings:
    """A session of two frames, whose progress is told as `count`; then all is closed."""
    corpus = Corpus(data)
    node, one = corpus.session(), corpus.session()
    shape = [(node, "open", b"", b"{}"), (one, "open", b"", b"{}"), (one, "request", b"x", b"{}")]
    first = corpus.file(0, shape)
    if count > len(one.leaves):
        one.leaves.append(b"a frame that was dropped")
    corpus.shipped(0, first, 3)
    meta = progress(corpus, node, one, count)
    del one.leaves[2:]
    steps = [(node, "node", b"", meta)] if frame else []
    steps += [(one, "close", b"", b"{}"), (node, "close", b"", b"{}")]
    corpus.shipped(1, corpus.file(1, steps), len(steps))
    corpus.close(one)
    corpus.close(node)
    corpus.leaf("stop", sessions=2)
    corpus.write()
    return verify(Request(str(data)))


def test_progress_that_fits_its_frames_is_sound(tmp_path: Path) -> None:
    assert story(tmp_path).defects == []


def test_progress_in_the_file_behind_the_last_frame_of_a_session_cut_short(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    node, one = corpus.session(), corpus.session()
    shape = [(node, "open", b"", b"{}"), (one, "open", b"", b"{}"), (one, "request", b"x", b"{}")]
    corpus.shipped(0, corpus.file(0, shape), 3)
    meta = progress(corpus, node, one, 2)
    corpus.shipped(1, corpus.file(1, [(node, "node", b"", meta)]), 1)
    corpus.close(one, "interrupted")
    corpus.close(node, "interrupted")
    corpus.leaf("stop", sessions=2)
    corpus.write()
    assert verify(Request(str(tmp_path))).defects == []


def test_a_frame_dropped_after_it_was_counted_is_a_defect(tmp_path: Path) -> None:
    assert {defect.kind for defect in story(tmp_path, count=3).defects} == {"progress"}


def test_a_progress_frame_that_is_gone_is_a_defect(tmp_path: Path) -> None:
    assert {defect.kind for defect in story(tmp_path, frame=False).defects} == {"progress"}


# --- silence ----------------------------------------------------------------------------------


async def test_a_quiet_gateway_is_heard_of(tmp_path: Path) -> None:
    place = Place(tmp_path)
    recorder = await place.start(heartbeat_seconds=0.05)
    await until(lambda: "heartbeat" in leaves(place))
    await recorder.stop()
    place.assert_complete()


@pytest.mark.parametrize(("stopped", "told"), [(False, 1), (True, 0)])
def test_an_hour_without_a_leaf_is_told_unless_the_log_was_stopped(
    tmp_path: Path, stopped: bool, told: int
) -> None:
    corpus = Corpus(tmp_path)
    if stopped:
        corpus.leaf("stop", sessions=0)
    start = json.loads(corpus.leaves[0])
    corpus.leaves.append(dump({**start, "at": "2026-11-24T13:00:00.000000Z"}))
    corpus.leaf("stop", sessions=0)
    corpus.leaves[-1] = corpus.leaves[-1].replace(b"T12:", b"T13:")
    corpus.write()
    findings = verify(Request(str(tmp_path)))
    assert findings.defects == []
    assert len(findings.gaps) == told
