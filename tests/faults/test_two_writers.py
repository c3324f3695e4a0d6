# SPDX-License-Identifier: GPL-3.0-or-later
"""Two writers of one log: on one machine the second is refused; a copied data folder with its key
makes a fork, which the witness refuses and any two auditors see."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.model import RecordFailed
from gateway.ship import ShipConflict, ShipFailed
from gateway.ship.mirror import LogMirror
from gateway.ship.s3 import S3Options, S3Publisher
from gateway.verify.run import Request, verify
from tests.faults.auditor import Auditor, day, kinds
from tests.faults.strict_s3 import EVIDENCE
from tests.faults.test_s3_faults import s3 as s3_fixture
from tests.record.place import Place

pytestmark = pytest.mark.fault
s3 = s3_fixture


async def copied(root: Path) -> tuple[Place, Place]:
    """Two data folders with one node's key, each of which recorded a day of its own since."""
    ours = Place(root)
    await day(ours)
    theirs = ours.as_killed(root / "theirs")
    await day(ours, sessions=2)
    await day(theirs, sessions=2)
    return ours, theirs


async def test_on_one_folder_the_second_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    place = Place(tmp_path)
    recorder = await place.start()
    for _ in range(2):
        with pytest.raises(RecordFailed):
            await place.start()
    session = await recorder.open({"target": "t"})
    await session.close("client", {})
    await recorder.stop()
    assert place.assert_complete().sessions == 2


async def test_the_witness_cosigns_one_of_two(tmp_path: Path) -> None:
    ours, theirs = await copied(tmp_path)
    auditor = Auditor(tmp_path, ours)
    auditor.serve()
    try:
        await auditor.cosign(ours)
        with pytest.raises(ShipFailed):
            await auditor.cosign(theirs)
        assert auditor.verify(ours).exit_code == 0
        assert auditor.verify(theirs).exit_code == 1
    finally:
        auditor.end()


async def test_two_auditors_with_one_view_each_see_the_fork(tmp_path: Path) -> None:
    ours, theirs = await copied(tmp_path)
    for one, other in ((ours, theirs), (theirs, ours)):
        assert verify(Request(str(one.data))).exit_code == 0
        assert kinds(verify(Request(str(one.data), fork=str(other.data)))) == {"fork"}


async def test_in_one_bucket_the_second_is_stopped_at_the_first_object_of_another_history(
    tmp_path: Path, s3: object
) -> None:
    ours, theirs = await copied(tmp_path)
    publisher = S3Publisher(EVIDENCE, "site", S3Options(s3.url))  # type: ignore[attr-defined]
    try:
        await LogMirror(ours.evidence, publisher).mirror()
        with pytest.raises(ShipConflict, match="two gateways|not here"):
            await LogMirror(theirs.evidence, publisher).mirror()
        with pytest.raises(ShipConflict):
            await asyncio.wait_for(LogMirror(theirs.evidence, publisher).run(), 30)
    finally:
        publisher.close()
