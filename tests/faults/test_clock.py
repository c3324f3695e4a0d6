# SPDX-License-Identifier: GPL-3.0-or-later
"""Steps of the clock, an hour each way: order comes from the log, never from the time."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from gateway.record.reader import Evidence
from tests.faults.stepped_child import STEPS
from tests.record.place import Place

pytestmark = pytest.mark.fault
LIBRARIES = (
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
)


def test_steps_of_an_hour_lose_nothing_and_are_told(tmp_path: Path) -> None:
    library = next((one for one in LIBRARIES if Path(one).exists()), None)
    if library is None:
        pytest.skip("libfaketime is not installed: apt-get install libfaketime")
    clock = tmp_path / "clock"
    clock.write_text("+0")
    environment = {
        **os.environ,
        "LD_PRELOAD": library,
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        # CLOCK_MONOTONIC is not stepped by anybody.
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    subprocess.run(
        [sys.executable, "-m", "tests.faults.stepped_child", tmp_path, clock],
        env=environment, check=True, timeout=100,
    )  # fmt: skip
    findings = Place(tmp_path).assert_complete()
    assert findings.sessions == len(STEPS) + 1 + 1 + 2, "each of them, and the node's own two"
    silences = [gap for gap in findings.gaps if "no sign of life" in str(gap.get("detail"))]
    assert len(silences) == 2, "the two steps forwards look like an hour of silence"
    opened = [
        datetime.fromisoformat(str(gap["until"])) - datetime.fromisoformat(str(gap["since"]))
        for gap in silences
    ]
    assert all(3500 < gap.total_seconds() < 3700 for gap in opened)
    place = Place(tmp_path)
    reader = Evidence(place.data, place.auditor / "identity")
    (through,) = [
        one.document["id"] for one in reader.sessions() if one.document["target"] == "through"
    ]
    frames = list(reader.frames(through))
    assert [frame.sequence for frame in frames] == list(range(len(STEPS) + 2))
    assert [frame.payload for frame in frames[1:-1]] == [step.encode() for step in STEPS]
