# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys that are erased: signed, witnessed, gone, never under a hold, and all proofs hold."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.admin.cli import root as commands
from gateway.config import load_settings
from gateway.record.declared import FOR_EVER, Hold, Retention
from gateway.record.erasing import EraseRefused, Marker
from gateway.record.expiry import Expiry
from gateway.record.places import Reach
from gateway.record.reader import Evidence
from gateway.record.recorder import NodeRecorder
from gateway.verify.proof import verify_proof
from gateway.wiring.evidence import witnessed
from gateway.wiring.keeping import Keeping
from tests.faults.auditor import Auditor, kinds, until
from tests.record.place import Place

pytestmark = pytest.mark.fault
SECRET = b"the answer that is to be forgotten" * 300


async def closed_session(recorder: NodeRecorder, target: str = "orders") -> str:
    """A session whose key is in keys/ only."""
    session = await recorder.open({"target": target, "opened": _now()})
    session.append("answer", "target", SECRET, b'{"at":0}')
    await session.close("client", {})
    await recorder._log.sign()
    return session.id


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


async def settled(recorder: NodeRecorder) -> None:
    """Journal files were turned over until no wrap is in an openings file any more."""
    for _ in range(3):
        assert recorder._node is not None
        recorder._node.append("node", "own", b"", b'{"event":"test"}')
        recorder._journal._aged()
        await until(lambda: recorder._journal._spare is not None)
        await recorder._log.sign()
        await asyncio.sleep(0.02)


async def erase(recorder: NodeRecorder, session: str) -> None:
    await settled(recorder)
    await recorder.keeping.erasures.erase(session)
    assert await recorder.keeping.erasures.wait(session, 20) == ""


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    yield Place(tmp_path)


async def test_an_erased_session_cannot_be_read_and_every_proof_holds(place: Place) -> None:
    recorder = await place.start()
    gone, stays = await closed_session(recorder), await closed_session(recorder)
    (wrap,) = (place.data / "keys" / gone).iterdir()
    wrapped = json.loads(wrap.read_bytes())["wrapped"].encode()
    assert wrapped in everything(place)
    await erase(recorder, gone)
    live = place.verify()
    assert (live.defects, live.erased) == ([], [gone])
    await recorder.stop()
    findings = place.assert_complete()
    assert (findings.erased, findings.expired, findings.exit_code) == ([gone], [], 0)
    assert findings.sessions == 3
    assert not (place.data / "keys" / gone).exists()
    reader = Evidence(place.data, place.auditor / "identity")
    assert SECRET in [frame.payload for frame in reader.frames(stays)]
    assert [frame.payload for frame in reader.frames(gone)][1] is None
    assert not reader.opens(gone) and "was erased" in " ".join(reader.notes)
    assert wrapped not in everything(place)


def everything(place: Place) -> bytes:
    return b"".join(path.read_bytes() for path in place.data.rglob("*") if path.is_file())


@pytest.mark.parametrize("names", ["one", "all"])
async def test_a_wrap_that_is_missing_without_a_leaf_is_a_defect(place: Place, names: str) -> None:
    recorder = await place.start()
    session = await closed_session(recorder)
    await recorder.stop()
    for wrap in sorted((place.data / "keys" / session).iterdir()):
        wrap.unlink()
    if names == "all":
        (place.data / "keys" / session).rmdir()
    for opened in (True, False):
        findings = place.verify(opened)
        assert kinds(findings) == {"unreadable"}
        assert findings.defects[0].object.startswith(f"keys/{session}/")
        assert findings.erased == []


async def test_what_may_not_be_erased(place: Place) -> None:
    recorder = await place.start()
    erasures = recorder.keeping.erasures
    session = await recorder.open({"target": "orders"})
    with pytest.raises(EraseRefused, match="is open"):
        await erasures.erase(session.id)
    with pytest.raises(EraseRefused, match="no wrapped key"):
        await erasures.erase("a" * 26)
    await session.close("client", {})
    await erase(recorder, session.id)
    with pytest.raises(EraseRefused, match="no wrapped key"):
        await erasures.erase(session.id)
    await recorder.stop()
    assert place.assert_complete().erased == [session.id]


HOLDS = {
    "target": Hold("case-17", ("orders",)),
    "everything": Hold("case-17"),
    "time": Hold("case-17", (), "2020-01-01T00:00:00.000000Z", "2999-01-01T00:00:00.000000Z"),
}
ELSEWHERE = {
    "target": Hold("case-17", ("stock",)),
    "before": Hold("case-17", (), "", "2020-01-01T00:00:00.000000Z"),
    "after": Hold("case-17", ("orders",), "2999-01-01T00:00:00.000000Z", ""),
}


def obeys(recorder: NodeRecorder, place: Place) -> None:
    """The gateway asks its record which sessions a hold covers."""
    Keeping(recorder, place.data, Reach())


@pytest.mark.parametrize("hold", HOLDS.values(), ids=HOLDS)
async def test_a_hold_forbids_until_it_is_lifted(place: Place, hold: Hold) -> None:
    recorder = await place.start()
    obeys(recorder, place)
    session = await closed_session(recorder)
    await recorder.keeping.put_in_force({hold.name: hold}, FOR_EVER)
    with pytest.raises(EraseRefused, match="legal hold case-17"):
        await recorder.keeping.erasures.erase(session)
    await recorder.stop()
    # A hold outlives its gateway; what is not declared any more is lifted.
    recorder = await place.start()
    obeys(recorder, place)
    await recorder.keeping.put_in_force({hold.name: hold}, FOR_EVER)
    with pytest.raises(EraseRefused, match="legal hold case-17"):
        await recorder.keeping.erasures.erase(session)
    await recorder.keeping.put_in_force({}, FOR_EVER)
    await erase(recorder, session)
    await recorder.stop()
    assert place.assert_complete().erased == [session]


@pytest.mark.parametrize("hold", ELSEWHERE.values(), ids=ELSEWHERE)
async def test_a_hold_of_other_sessions_forbids_nothing(place: Place, hold: Hold) -> None:
    recorder = await place.start()
    obeys(recorder, place)
    session = await closed_session(recorder)
    await recorder.keeping.put_in_force({hold.name: hold}, FOR_EVER)
    await erase(recorder, session)
    await recorder.stop()
    assert place.assert_complete().erased == [session]


@pytest.mark.parametrize("hold", HOLDS.values(), ids=HOLDS)
async def test_a_gateway_that_erases_under_a_hold_is_found_out(place: Place, hold: Hold) -> None:
    recorder = await place.start()  # without obeys(): it asks nobody
    session = await closed_session(recorder)
    await recorder.keeping.put_in_force({hold.name: hold}, FOR_EVER)
    await erase(recorder, session)
    await recorder.stop()
    findings = place.verify()
    assert kinds(findings) == {"held"}
    assert session in findings.defects[0].detail and "case-17" in findings.defects[0].detail


async def test_a_hold_that_comes_while_an_erasure_is_pending_stops_it(place: Place) -> None:
    recorder = await place.start()
    obeys(recorder, place)
    session = await closed_session(recorder)
    # Its key is in the openings still: the leaf is signed, nothing is deleted yet.
    await recorder.keeping.erasures.erase(session)
    await until(lambda: "DATA/journal" in recorder.keeping.erasures._causes.get(session, ""))
    await recorder.keeping.put_in_force({"late": Hold("late")}, FOR_EVER)
    await settled(recorder)
    await until(lambda: "late" in recorder.keeping.erasures._causes.get(session, ""))
    await recorder.stop()
    assert list((place.data / "keys" / session).iterdir())
    findings = place.verify()
    assert not findings.defects
    assert session in str(findings.pending)


async def test_an_erasure_waits_for_the_witness_and_counts_only_with_it(
    place: Place, tmp_path: Path
) -> None:
    seen = [0]
    recorder = await NodeRecorder.start(
        replace(
            place.options(), unwitnessed=lambda size: "" if seen[0] >= size else "the witness w"
        )
    )
    session = await closed_session(recorder)
    auditor = Auditor(tmp_path, place)
    auditor.serve()
    try:
        await settled(recorder)
        await recorder.keeping.erasures.erase(session)
        await until(lambda: "witness" in recorder.keeping.erasures._causes.get(session, ""))
        assert list((place.data / "keys" / session).iterdir())
        # Somebody deletes the wraps although the witness saw nothing of it yet.
        early = place.as_killed(tmp_path / "early")
        shutil.rmtree(early.data / "keys" / session)
        early_found = auditor.verify(early)
        (told,) = [one.detail for one in early_found.defects if one.kind == "unreadable"]
        assert "witness.example did not see" in told and "trailgate witness --once" in told
        await auditor.cosign(place)
        seen[0] = recorder._log.signed
        await until(lambda: not recorder.keeping.erasures.pending)
        await recorder.stop()
        await auditor.cosign(place)
        findings = auditor.verify(place)
        assert (findings.defects, findings.erased) == ([], [session])
    finally:
        auditor.end()


@pytest.mark.parametrize("hold", [None, Hold("case-17", ("orders",))], ids=["free", "held"])
async def test_keys_are_erased_behind_a_witness_that_is_away_and_comes_back(
    place: Place, tmp_path: Path, hold: Hold | None
) -> None:
    """The wired client tells who is missing; a hold refuses before and after; proofs hold."""
    await (await place.start()).stop()
    auditor = Auditor(tmp_path, place)
    auditor.serve()
    vkey, url = auditor.key_text, auditor.url
    settings, _ = load_settings(
        tmp_path / "trailgate.yaml",
        f"data: data\nnode: gw1\nevidence:\n  witness: {{url: '{url}', vkey: '{vkey}'}}\n",
    )
    auditor.end()
    async with witnessed(settings, place.evidence) as witness:
        recorder = await NodeRecorder.start(replace(place.options(), unwitnessed=witness.missing))
        keeping = Keeping(recorder, place.data, Reach(), "gw1")
        session = await closed_session(recorder)
        await settled(recorder)
        proof = tmp_path / "proof"
        if hold is not None:
            await recorder.keeping.put_in_force({hold.name: hold}, FOR_EVER)
            with pytest.raises(EraseRefused, match="legal hold case-17"):
                await keeping.erase(session)
        else:
            await recorder.keeping.erasures.erase(session)
            await until(lambda: "witness" in recorder.keeping.erasures._causes.get(session, ""))
            cause = recorder.keeping.erasures._causes[session]
            assert f"witness.example at {url}" in cause and "start it" in cause
        assert list((place.data / "keys" / session).iterdir())
        back = Auditor(tmp_path, place, port=int(url.rpartition(":")[2]))
        back.serve()
        try:
            await until(lambda: witness.missing(recorder._log.signed) == "")
            if hold is None:
                await until(lambda: not recorder.keeping.erasures.pending)
            else:
                with pytest.raises(EraseRefused, match="legal hold case-17"):
                    await keeping.erase(session)
            await recorder.stop()
            await back.cosign(place)
            findings = back.verify(place)
            assert (findings.defects, findings.erased) == ([], [session] if hold is None else [])
            export(place, f"{session}:1", proof)
            assert verify_proof(proof, back.folder)["ok"]
        finally:
            back.end()
    assert (place.data / "keys" / session).exists() == (hold is not None)


def export(place: Place, what: str, out: Path) -> None:
    arguments = ("audit", "export", "--format", "tlog-proof", what, "--out", str(out))
    done = CliRunner().invoke(commands, [*arguments, "--data", str(place.data)])
    assert done.exit_code == 0, done.output


async def test_an_erasure_goes_on_after_a_kill_at_each_step(place: Place, tmp_path: Path) -> None:
    recorder = await place.start()
    session = await closed_session(recorder)
    steps: dict[str, Place] = {}
    async with recorder._log._busy:  # nothing is signed while it is copied
        await recorder.keeping.erasures.erase(session)
        steps["marked"] = place.as_killed(tmp_path / "marked")
    await until(lambda: Marker.read_all(place.journal)[0].leaf >= 0)
    async with recorder._log._busy:
        steps["signed"] = place.as_killed(tmp_path / "signed")
        steps["half deleted"] = place.as_killed(tmp_path / "half")
    shutil.rmtree(steps["half deleted"].data / "keys" / session)
    await settled(recorder)
    await until(lambda: not recorder.keeping.erasures.pending)
    await recorder.stop()
    for name, left in steps.items():
        again = await left.start()
        await again.keeping.put_in_force({}, FOR_EVER)
        await settled(again)
        await until(lambda again=again: not again.keeping.erasures.pending)  # type: ignore[misc]
        await again.stop()
        findings = left.assert_complete()
        assert findings.erased == [session], name
        assert not (left.data / "keys" / session).exists(), name


async def test_keys_expire_by_retention_but_not_under_a_hold(place: Place) -> None:
    recorder = await place.start()
    obeys(recorder, place)
    free, held = await closed_session(recorder), await closed_session(recorder, "stock")
    await settled(recorder)
    await recorder.keeping.put_in_force(
        {"stock": Hold("stock", ("stock",))}, Retention("default", 400, 30)
    )
    keeping, later = recorder.keeping, datetime.now(UTC) + timedelta(days=31)
    now = [datetime.now(UTC)]
    expiry = Expiry(
        recorder._started.tiles,
        place.data / "keys",
        keeping.erasures,
        keeping.declared,
        lambda: now[0],
    )
    assert await expiry.expire() == 0
    now[0] = later
    assert await expiry.expire() == 1
    assert await keeping.erasures.wait(free, 20) == ""
    assert (place.data / "keys" / held).exists()
    await recorder.keeping.put_in_force({}, Retention("default", 400, 30))
    assert await expiry.expire() == 1
    assert await keeping.erasures.wait(held, 20) == ""
    await recorder.stop()
    findings = place.assert_complete()
    assert (findings.erased, findings.expired) == ([], sorted([free, held]))
