# SPDX-License-Identifier: GPL-3.0-or-later
"""`proved_to` by a trust file: what `audit who`, `violations` and `query` print is judged by it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gateway.admin.cli import root
from tests.faults.auditor import Auditor, day
from tests.record.place import Place

ASKED = (("who",), ("violations",), ("query", "select 1 as n"))


def audit(*arguments: object) -> Result:
    return CliRunner().invoke(root, ["audit", *map(str, arguments)])


def proved(place: Place, *arguments: object) -> Any:
    """By `query`, which says it even where no operation is told."""
    done = audit("query", "select 1 as n", "--data", place.data, *arguments, "-o", "json")
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)["proved_to"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
async def place(tmp_path: Path) -> Place:
    made = Place(tmp_path)
    await day(made)
    return made


async def test_a_trust_file_decides_what_is_proved(place: Place, tmp_path: Path) -> None:
    ours, other = tmp_path / "ours", tmp_path / "other"
    ours.write_text(next(place.evidence.glob("log/*/*/node.vkey")).read_text())
    (tmp_path / "elsewhere").mkdir()
    stranger = Place(tmp_path / "elsewhere")
    await day(stranger)
    other.write_text(next(stranger.evidence.glob("log/*/*/node.vkey")).read_text())
    assert proved(place) == proved(place, "--trust", ours) != None  # noqa: E711
    # The same evidence, and the verdict that is kept of it is not taken for another trust file.
    assert proved(place, "--trust", other) is None
    other.write_text(ours.read_text())
    assert proved(place, "--trust", other) == proved(place)
    for asked in ASKED:
        other.write_text(next(stranger.evidence.glob("log/*/*/node.vkey")).read_text())
        arguments = (*asked, "--proved", "--data", place.data, "--trust")
        assert audit(*arguments, ours).exit_code == 0
        refused = audit(*arguments, other)
        assert (refused.exit_code, "next: " in refused.stderr) == (1, True)


async def test_a_witness_that_lacks_the_end_leaves_a_hole(place: Place, tmp_path: Path) -> None:
    auditor = Auditor(tmp_path, place)
    auditor.serve()
    try:
        for asked in ASKED:
            done = audit(*asked, "--proved", "--data", place.data, "--trust", auditor.folder)
            assert (done.exit_code, "has a hole" in done.stderr) == (1, True)
        await auditor.cosign(place)
        for asked in ASKED:
            done = audit(*asked, "--proved", "--data", place.data, "--trust", auditor.folder)
            assert done.exit_code == 0, done.stderr
    finally:
        auditor.end()


async def test_evidence_that_does_not_reach_to_the_time_asked_for(place: Place) -> None:
    recorder = await place.start()
    await recorder._log.sign()
    try:
        assert proved(place, "--as-of", "2099-01-01") is None
        assert proved(place) is not None
    finally:
        await recorder.stop()


async def test_what_cannot_be_judged_is_said(place: Place, tmp_path: Path) -> None:
    absent = tmp_path / "absent"
    for asked in ASKED:
        done = audit(*asked, "--data", place.data, "--trust", absent)
        assert (done.exit_code, str(absent) in done.stderr) == (2, True)
        assert "next: " in done.stderr
    lake = tmp_path / "lake"
    assert audit("rebuild-lake", "--data", place.data, "--to", lake).exit_code == 0
    for asked in (ASKED[0], ASKED[2]):
        done = audit(*asked, "--lake", lake, "--trust", absent)
        assert (done.exit_code, "rebuild-lake" in done.stderr) == (2, True)
    trust = tmp_path / "trust"
    trust.write_text("nobody")
    done = audit("rebuild-lake", "--data", place.data, "--to", lake, "--trust", trust)
    assert (done.exit_code, "nothing" in done.stdout) == (2, False)
