# SPDX-License-Identifier: GPL-3.0-or-later
"""Real kills: before each change of the file system, and at any moment of a busy recorder."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.record.place import Place

pytestmark = pytest.mark.fault


class Child:
    """The process that forks a recorder for each line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def killed(self, root: Path, number: int) -> bool:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{root} {number}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline().strip()
        assert answer in ("killed", "ended")
        return answer == "killed"


@pytest.fixture(name="child")
def _child() -> Iterator[Child]:
    command = [sys.executable, "-m", "tests.record.killed_child", "1"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Child(process)
        assert process.stdin is not None
        process.stdin.close()


async def recovered(place: Place) -> None:
    assert_sound_as_killed(place)
    recorder = await place.start()
    await recorder.stop()
    assert place.assert_complete().gaps == []


def assert_sound_as_killed(place: Place) -> None:
    """Nothing is wrong even before the next start, with one exception.

    Between the last two renames of a stop, a stopped log has a `checkpoint` that is older than its
    newest copy, which is also what someone who put an old one back would leave.
    """
    defects = [one for one in place.verify().defects if one.kind != "stale"]
    assert not defects, defects


def folder(tmp_path: Path, name: str) -> Place:
    root = tmp_path / name
    root.mkdir()
    place = Place(root)
    place.recipient()
    return place


async def test_a_kill_before_every_change_of_the_file_system(tmp_path: Path, child: Child) -> None:
    number = 0
    while True:
        place = folder(tmp_path, str(number))
        killed = child.killed(tmp_path / str(number), number)
        if not killed:
            place.assert_complete()
            break
        if (place.evidence / "log" / "gw1" / "0" / "checkpoint").exists():
            await recovered(place)
        # Thinned out where changes repeat; by a step that meets each kind of them.
        number += 1 if number < 60 else 7
    assert number > 150


async def test_kills_during_recovery_one_after_the_other(tmp_path: Path, child: Child) -> None:
    draw = random.Random(7)
    for turn in range(12):
        place = folder(tmp_path, str(turn))
        for kill in range(draw.randrange(2, 6)):
            most = 400 if kill == 0 else 60
            child.killed(tmp_path / str(turn), draw.randrange(40, most))
            if (place.evidence / "log" / "gw1" / "0" / "checkpoint").exists():
                assert_sound_as_killed(place)
        await recovered(place)
