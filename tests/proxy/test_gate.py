# SPDX-License-Identifier: GPL-3.0-or-later
"""The gate: order, levels, holds, and what a record that fails leaves behind."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gateway.model import Level
from gateway.proxy.gate import Gate
from gateway.proxy.link import Link
from gateway.proxy.metrics import Metrics
from tests.proxy.fakes import FakeRecorder


class Wire(Link):
    """A link that remembers instead of sending."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[bytes | str] = []

    def write(self, data: bytes) -> None:
        self.said.append(data)

    def close(self, seconds: float = 5.0) -> None:
        self.said.append("close")

    def finish(self) -> None:
        self.said.append("finish")


class Built:
    def __init__(self, recorder: FakeRecorder | None = None) -> None:
        self.recorder = recorder or FakeRecorder()
        self.recorder.position = 10
        self.wire = Wire()
        self.held: list[int] = []
        self.failures = 0
        self.gate = Gate(
            self.wire,
            self.recorder,
            Metrics(),
            on_change=self.held.append,
            on_failure=self._failed,
        )

    def _failed(self) -> None:
        self.failures += 1


async def test_at_process_level_nothing_is_asked_or_held() -> None:
    built = Built()
    built.gate.send(b"a", 1, Level.PROCESS)
    assert built.wire.said == [b"a"]
    assert built.recorder.waiters == [] and built.held == []


async def test_what_needs_no_disk_waits_behind_what_does() -> None:
    built = Built()
    built.gate.send(b"a", 1, Level.DISK)
    built.gate.send(b"b", 2, Level.PROCESS)
    assert built.wire.said == [] and built.gate.held == 2
    built.recorder.sync()
    assert built.wire.said == [b"a", b"b"] and built.gate.held == 0


async def test_each_position_is_waited_for() -> None:
    built = Built()
    built.gate.send(b"a", 1, Level.DISK)
    built.gate.send(b"b", 11, Level.DISK)
    built.recorder.sync()
    assert built.wire.said == [b"a"], "position 11 is not on the disk yet"
    built.recorder.position = 11
    built.recorder.sync()
    assert built.wire.said == [b"a", b"b"]


async def test_a_position_that_the_disk_has_does_not_wait() -> None:
    built = Built()
    built.recorder.synced = 5
    built.gate.send(b"a", 5, Level.DISK)
    assert built.wire.said == [b"a"] and built.recorder.waiters == []


async def test_a_sync_that_fails_drops_all_and_tells_once() -> None:
    built = Built()
    built.gate.send(b"a", 1, Level.DISK)
    built.gate.send(b"b", 2, Level.PROCESS)
    built.recorder.sync(good=False)
    built.gate.send(b"c", 3, Level.PROCESS)
    assert built.wire.said == [] and built.failures == 1 and built.gate.held == 0


@pytest.mark.parametrize("broken", ["reached", "when_reached"])
async def test_a_recorder_that_raises_is_a_record_that_failed(broken: str) -> None:
    class Raises(FakeRecorder):
        def reached(self, position: int, level: Level) -> bool:
            if broken == "reached":
                raise OSError("the journal is gone")
            return super().reached(position, level)

        def when_reached(self, position: int, level: Level, then: Callable[[bool], None]) -> None:
            raise OSError("the journal is gone")

    built = Built(Raises())
    built.gate.send(b"a", 1, Level.DISK)
    assert built.wire.said == [] and built.failures == 1


async def test_a_recorder_that_answers_at_once_keeps_the_order() -> None:
    class AtOnce(FakeRecorder):
        def when_reached(self, position: int, level: Level, then: Callable[[bool], None]) -> None:
            self.synced = position
            then(True)

    built = Built(AtOnce())
    for position, data in enumerate((b"a", b"b", b"c"), start=1):
        built.gate.send(data, position, Level.DISK)
    assert built.wire.said == [b"a", b"b", b"c"]


async def test_holds_nest_and_count_what_waits() -> None:
    built = Built()
    built.gate.hold()
    built.gate.hold()
    built.gate.send(b"abc", 1, Level.PROCESS)
    built.gate.release()
    assert built.wire.said == [] and built.held == [3]
    built.gate.release()
    assert built.wire.said == [b"abc"] and built.held == [3, 0]


async def test_a_release_behind_the_close_does_not_shut_the_gate() -> None:
    built = Built()
    built.gate.hold()
    built.gate.send(b"a", 1, Level.DISK)
    built.gate.close(1)
    built.gate.release()
    assert built.wire.said == [], "the disk has not got it yet"
    built.recorder.sync()
    assert built.wire.said == [b"a", "close"]


async def test_the_end_of_our_stream_waits_for_what_stands_before_it() -> None:
    built = Built()
    built.gate.send(b"a", 1, Level.DISK)
    built.gate.finish()
    assert built.wire.said == []
    built.recorder.sync()
    assert built.wire.said == [b"a", "finish"]


async def test_after_a_cut_a_late_sync_lets_nothing_pass() -> None:
    built = Built()
    built.gate.send(b"a", 1, Level.DISK)
    built.gate.cut()
    built.recorder.sync()
    built.gate.close(1)
    assert built.wire.said == ["close"] and built.failures == 0
