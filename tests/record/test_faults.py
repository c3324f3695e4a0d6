# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk that fails, is full or is read-only: nothing moves on, what is open can be closed."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.model import Level, RecordFailed
from gateway.record.recorder import NodeRecorder
from gateway.record.session_record import RecordedSession
from tests.record.place import Place, on_disk

pytestmark = pytest.mark.fault


class FailingDisk:
    """fdatasync that works until it is told to fail."""

    def __init__(self) -> None:
        self.broken = False
        self.calls_since = 0

    def __call__(self, descriptor: int) -> None:
        if self.broken:
            self.calls_since += 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        os.fdatasync(descriptor)


async def test_a_failed_sync_is_final(tmp_path: Path) -> None:
    place, disk = Place(tmp_path), FailingDisk()
    recorder = await place.start(disk)
    heard: list[str] = []
    recorder.when_failed(heard.append)
    session = await recorder.open({})
    assert await on_disk(recorder, session.append("request", "client", b"kept"))
    disk.broken = True
    position = session.append("request", "client", b"lost?")
    assert not await on_disk(recorder, position)
    disk.broken = False
    await asyncio.sleep(0)
    assert recorder.failed
    assert disk.calls_since == 1
    assert len(heard) == 1
    assert "check the disk" in heard[0]
    assert not recorder.reached(position, Level.PROCESS)
    assert not await on_disk(recorder, 0)
    with pytest.raises(RecordFailed, match="check the disk"):
        session.append("request", "client", b"x")
    with pytest.raises(RecordFailed):
        await recorder.open({})
    with pytest.raises(RecordFailed):
        await session.close("client", {})
    recorder.refused({"code": "bad_token"})
    late: list[str] = []
    recorder.when_failed(late.append)
    await asyncio.sleep(0)
    assert late == heard
    await recorder.stop()
    again = await place.start()
    await again.stop()
    place.assert_complete()


async def test_a_failed_sync_of_an_opening_is_final_too(tmp_path: Path) -> None:
    place, disk = Place(tmp_path), FailingDisk()
    recorder = await place.start(disk, sync_seconds=3600.0, checkpoint_seconds=3600.0)
    disk.broken = True
    answers = await asyncio.gather(*(recorder.open({}) for _ in range(5)), return_exceptions=True)
    assert all(isinstance(one, RecordFailed) for one in answers)
    assert recorder.failed
    await recorder.stop()
    again = await place.start()
    await again.stop()
    place.assert_complete()


@pytest.fixture(name="small")
def _small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a tmpfs here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture(name="read_only")
def _read_only(small: Path) -> Path:
    """The same, with a data folder, and then no more writing."""
    (small / "data").mkdir()
    subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
    return small


def fill(folder: Path) -> Path:
    """Take every free byte."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError as error:
            assert error.errno == errno.ENOSPC
    return filler


async def write_until_full(session: RecordedSession) -> int:
    """Append until the record refuses; the frames that it took."""
    taken = 0
    with pytest.raises(RecordFailed, match="the disk is full: free space"):
        while True:
            session.append("answer", "client", os.urandom(3000))
            taken += 1
            await asyncio.sleep(0)
    return taken


async def opened_once_there_is_room(recorder: NodeRecorder) -> RecordedSession:
    for _ in range(1000):
        try:
            return await recorder.open({})
        except RecordFailed:
            await asyncio.sleep(0.02)
    raise AssertionError("there is room, and the record does not notice")


async def start_small(place: Place, release: asyncio.Event) -> NodeRecorder:
    async def publish(path: Path, name: str, sha256: str) -> None:
        await release.wait()
        target = place.evidence / name
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(path, target)

    return await place.start(publish=publish)


async def test_a_full_disk_lets_sessions_close_and_goes_on_once_there_is_room(small: Path) -> None:
    place, release = Place(small), asyncio.Event()
    recorder = await start_small(place, release)
    heard: list[str] = []
    recorder.when_failed(heard.append)
    sessions = [await recorder.open({"target": "t"}) for _ in range(50)]
    filler = fill(small)
    assert await write_until_full(sessions[0]) > 10
    with pytest.raises(RecordFailed, match="the disk is full"):
        await recorder.open({})
    recorder.refused({"code": "bad_token"})
    for one in sessions[:40]:
        await one.close("record", {"detail": "no room" * 50, "rows": 1})
    assert not recorder.failed
    assert recorder.figures()["full"] == 1.0
    filler.unlink()
    release.set()
    late = await opened_once_there_is_room(recorder)
    assert late.ordinal == 51
    late.append("request", "client", b"room again")
    await recorder.stop()
    assert heard == []
    assert place.assert_complete().sessions == 52


async def test_a_full_disk_at_the_stop_is_made_up_for_at_the_next_start(small: Path) -> None:
    place, release = Place(small), asyncio.Event()
    recorder = await start_small(place, release)
    sessions = [await recorder.open({"target": "t"}) for _ in range(20)]
    filler = fill(small)
    await write_until_full(sessions[3])
    await recorder.stop(publish_seconds=0.05)
    with pytest.raises(RecordFailed, match="the disk is full"):
        await place.start()
    filler.unlink()
    again = await place.start()
    await again.stop()
    findings = place.assert_complete()
    assert (findings.sessions, findings.gaps) == (22, [])


async def test_a_read_only_disk_is_named_at_the_start(read_only: Path) -> None:
    place = Place(read_only)
    place.auditor = read_only.parent / "auditor"
    with pytest.raises(RecordFailed, match="is read-only: mount it for writing"):
        await place.start()


@pytest.mark.slow
async def test_memory_does_not_grow_with_what_is_recorded(tmp_path: Path) -> None:
    place = Place(tmp_path)
    recorder = await place.start(file_bytes=8 << 20)
    payload = os.urandom(64 << 10)

    async def write(megabytes: int) -> None:
        session = await recorder.open({})
        for _ in range(megabytes * 16):
            session.append("answer", "client", payload)
            await asyncio.sleep(0)
        await session.close("client", {})

    await write(64)
    before = anonymous_bytes()
    await write(512)
    assert anonymous_bytes() - before < 32 << 20
    await recorder.stop(publish_seconds=60.0)
    place.assert_complete()


def anonymous_bytes() -> int:
    """Memory of this process that no file backs."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("RssAnon"))) << 10
