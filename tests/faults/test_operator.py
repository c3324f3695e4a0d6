# SPDX-License-Identifier: GPL-3.0-or-later
"""An operator who holds the node's key and rewrites the record: the witness remembers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.ship import ShipFailed
from gateway.verify.run import Request, verify
from tests.faults.auditor import Auditor, day, kinds, worked
from tests.record.place import Place

pytestmark = pytest.mark.fault


class Rewritten:
    """A witnessed record, and what the operator kept of it before its newest part."""

    def __init__(self, root: Path) -> None:
        self.honest = Place(root)
        self.backup: Place
        self.auditor: Auditor

    def forged(self) -> Place:
        """The operator puts the backup in the place of the record."""
        shutil.rmtree(self.honest.data)
        shutil.copytree(self.backup.data, self.honest.data)
        return self.honest

    def by_keys_alone(self) -> set[str]:
        """What an auditor who knows the log's key only would find."""
        trust = self.auditor.folder.parent / "vkeys"
        trust.write_text(next(self.honest.evidence.glob("log/*/*/node.vkey")).read_text())
        return kinds(verify(Request(str(self.honest.data), trust=trust)))


@pytest.fixture
async def two_days(tmp_path: Path) -> Iterator[Rewritten]:
    """Two starts, both witnessed; the backup has the first."""
    made = Rewritten(tmp_path)
    await day(made.honest)
    made.auditor = Auditor(tmp_path, made.honest)
    made.auditor.serve()
    await made.auditor.cosign(made.honest)
    made.backup = made.honest.as_killed(tmp_path / "backup")
    await day(made.honest)
    await made.auditor.cosign(made.honest)
    yield made
    made.auditor.end()


async def test_the_honest_record_is_sound_and_witnessed_to_its_end(two_days: Rewritten) -> None:
    findings = two_days.auditor.verify(two_days.honest)
    assert (findings.defects, findings.unresolved, findings.exit_code) == ([], [], 0)
    assert findings.witnessed_to == findings.complete_to
    assert "witness.example" in findings.trusted_by


async def test_a_whole_start_that_was_deleted(two_days: Rewritten) -> None:
    forged = two_days.forged()
    assert two_days.by_keys_alone() == set()
    findings = two_days.auditor.verify(forged)
    assert kinds(findings) == {"cut"}
    assert findings.document()["witnessed_to"] is None


async def test_a_start_that_was_recorded_anew(two_days: Rewritten) -> None:
    forged = two_days.forged()
    await day(forged, sessions=5)
    assert two_days.by_keys_alone() == set()
    assert kinds(two_days.auditor.verify(forged)) == {"rewritten"}
    with pytest.raises(ShipFailed, match="422"):
        await two_days.auditor.cosign(forged)


async def test_a_record_made_anew_from_its_first_leaf(two_days: Rewritten, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Place(tmp_path / "other")
    shutil.copytree(two_days.honest.data / "node", other.data / "node")
    await day(other, sessions=4)
    await day(other, sessions=4)
    assert kinds(two_days.auditor.verify(other)) == {"rewritten"}


async def test_a_log_that_is_gone(two_days: Rewritten, tmp_path: Path) -> None:
    """Moving the node's key away starts another log; the old one cannot be dropped for it."""
    shutil.rmtree(two_days.honest.data)
    two_days.honest.data.mkdir()
    await day(two_days.honest)
    assert "untrusted" in kinds(two_days.auditor.verify(two_days.honest))
    shutil.rmtree(two_days.honest.evidence / "log")
    assert "missing" in kinds(two_days.auditor.verify(two_days.honest))


async def test_the_newest_session_deleted_from_a_live_record(tmp_path: Path) -> None:
    made = Rewritten(tmp_path)
    recorder = await worked(made.honest, 2)
    made.auditor = Auditor(tmp_path, made.honest)
    made.auditor.serve()
    made.backup = made.honest.as_killed(tmp_path / "backup")
    newest = await recorder.open({"target": "t"})
    await newest.close("client", {})
    await recorder._log.sign()
    await made.auditor.cosign(made.honest)
    await recorder.stop()
    forged = made.forged()
    assert made.by_keys_alone() == set()
    assert kinds(made.auditor.verify(forged)) == {"cut"}
    await day(forged)
    assert made.by_keys_alone() == set()
    assert "rewritten" in kinds(made.auditor.verify(forged))
    made.auditor.end()


async def test_the_newest_hour_deleted_from_a_log_that_was_not_stopped(
    two_days: Rewritten, tmp_path: Path
) -> None:
    """With the policy alone, without the witness's memory: the log is silent where it must not."""
    policy = two_days.auditor.folder / "policy"
    recorder = await worked(two_days.honest)
    await two_days.auditor.cosign(two_days.honest)
    cut = two_days.honest.as_killed(tmp_path / "cut")
    await recorder.stop()
    place = str(cut.data)
    late = verify(Request(place, trust=policy, as_of="2036-01-01T00:00:00Z"))
    assert kinds(late) == {"silent"}
    at_once = verify(Request(place, trust=policy))
    assert (at_once.exit_code, at_once.defects) == (0, [])


async def test_nothing_is_witnessed_by_a_witness_that_is_not_trusted(
    two_days: Rewritten, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    other = Auditor(tmp_path / "other", two_days.honest)
    findings = verify(Request(str(two_days.honest.data), trust=other.folder / "policy"))
    assert kinds(findings) == {"cosignature"}
    shutil.rmtree(next(two_days.honest.evidence.glob("log/gw1/0/cosigned")))
    findings = verify(Request(str(two_days.honest.data), trust=other.folder / "policy"))
    assert (findings.defects, findings.exit_code) == ([], 2)
    assert "no checkpoint has the cosignatures" in findings.unresolved[0]
    other.end()


async def test_a_cosignature_that_was_changed_is_named(two_days: Rewritten) -> None:
    path = max(two_days.honest.evidence.glob("log/gw1/0/cosigned/*"), key=lambda p: int(p.name))
    data = path.read_bytes()
    for at in range(0, len(data), 7):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        findings = two_days.auditor.verify(two_days.honest)
        named = {defect.object for defect in findings.defects}
        assert f"log/gw1/0/cosigned/{path.name}" in named, at


# --- two views ----------------------------------------------------------------------------------


async def test_two_views_to_two_auditors(two_days: Rewritten, tmp_path: Path) -> None:
    one, two = two_days.honest, two_days.backup
    shorter = verify(Request(str(one.data), fork=str(two.data)))
    longer = verify(Request(str(two.data), fork=str(one.data)))
    assert kinds(shorter) == kinds(longer) == set()
    await day(two, sessions=3)
    for view, other in ((one, two), (two, one)):
        assert kinds(verify(Request(str(view.data), fork=str(other.data)))) == {"fork"}
    assert kinds(verify(Request(str(two.data), fork=str(two_days.auditor.folder)))) == {"fork"}
    assert kinds(verify(Request(str(one.data), fork=str(two_days.auditor.folder)))) == set()
