# SPDX-License-Identifier: GPL-3.0-or-later
"""`audit export --format tlog-proof`, and `verify --proof`, which needs nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gateway.admin.cli import root
from gateway.verify.__main__ import main
from tests.faults.auditor import Auditor
from tests.record.place import Place


def called(*arguments: object) -> Result:
    return CliRunner().invoke(root, [*map(str, arguments)])


def proof_of(place: Place, what: str, out: Path) -> Path:
    done = called(
        "audit", "export", "--format", "tlog-proof", what, "--data", place.data, "--out", out
    )
    assert done.exit_code == 0, done.stderr
    return out


def checked(proof: Path, capsys: pytest.CaptureFixture[str], trust: Path | None = None) -> Any:
    arguments = ["--proof", str(proof), "-o", "json", *(["--trust", str(trust)] if trust else [])]
    code = main(arguments)
    document = json.loads(capsys.readouterr().out)
    assert code == (1 if document["defects"] else 2 if document["unresolved"] else 0)
    return document


class Told:
    """A witnessed record with a closed session of ten frames and an open one of five."""

    def __init__(self, place: Place, auditor: Auditor, closed: str, opened: str) -> None:
        self.place, self.auditor = place, auditor
        self.closed, self.open = closed, opened


@pytest.fixture
async def told(tmp_path: Path) -> Any:
    place = Place(tmp_path)
    recorder = await place.start(progress_seconds=0.0)
    sessions = [await recorder.open({"target": "t", "n": n}) for n in range(3)]
    for turn in range(8):
        for one in sessions:
            one.append("request", "client", b"select 1", b'{"at":%d}' % turn, turn + 1)
    for one in sessions[:2]:
        await one.close("client", {})
    await recorder._log.sign()
    auditor = Auditor(tmp_path, place)
    auditor.serve()
    await auditor.cosign(place)
    yield Told(place, auditor, sessions[0].id, sessions[2].id)
    await recorder.stop()
    auditor.end()


async def test_a_session_and_each_of_its_frames(
    told: Told, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, trust = tmp_path / "p.tlog-proof", told.auditor.folder / "policy"
    whole = checked(proof_of(told.place, told.closed, out), capsys, trust)
    assert (whole["ok"], whole["trust"], whole["frame"]) == (True, "pinned", None)
    assert (whole["leaf"]["type"], whole["leaf"]["frames"]) == ("close", 10)
    assert whole["witnessed_at"] is not None
    for number in range(10):
        one = checked(proof_of(told.place, f"{told.closed[:8]}:{number}", out), capsys, trust)
        assert one["ok"], one
        assert (one["session"], one["frame"]["sequence"]) == (told.closed, number)
    assert one["frame"]["kind"] == "close"


async def test_an_open_session_is_proved_by_its_progress(
    told: Told, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "p.tlog-proof"
    whole = checked(proof_of(told.place, told.open, out), capsys)
    assert (whole["ok"], whole["trust"], whole["leaf"]["type"]) == (True, "none", "open")
    one = checked(proof_of(told.place, f"{told.open}:5", out), capsys)
    assert (one["ok"], one["leaf"]["type"]) == (True, "progress")
    assert (one["frame"]["session"], one["frame"]["meta"]) == (told.open, {"at": 4})


@pytest.mark.parametrize("number", [None, 3])
async def test_any_changed_byte_of_a_proof_is_found(
    told: Told, tmp_path: Path, capsys: pytest.CaptureFixture[str], number: int | None
) -> None:
    trust = told.auditor.folder / "policy"
    for session in (told.closed, told.open):
        what = session if number is None else f"{session}:{number}"
        out = proof_of(told.place, what, tmp_path / "p.tlog-proof")
        data = out.read_bytes()
        for at in range(len(data)):
            out.write_bytes(data[:at] + bytes([data[at] ^ (1 << at % 7)]) + data[at + 1 :])
            assert main(["--proof", str(out), "--trust", str(trust)]) != 0, at
        for changed in (data[:-1], data + b"\n", b"", data.replace(b"index ", b"index 0")):
            out.write_bytes(changed)
            assert main(["--proof", str(out), "--trust", str(trust)]) == 1
        out.write_bytes(data)
        assert main(["--proof", str(out), "--trust", str(trust)]) == 0
    capsys.readouterr()


async def test_a_proof_of_another_log_is_not_trusted(
    told: Told, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other").mkdir()
    other = Place(tmp_path / "other")
    recorder = await other.start()
    session = await recorder.open({"target": "t"})
    await session.close("client", {})
    await recorder.stop()
    out = proof_of(other, session.id, tmp_path / "p.tlog-proof")
    assert checked(out, capsys)["ok"]
    found = checked(out, capsys, told.auditor.folder / "policy")
    assert "does not name" in found["defects"][0]["detail"]
    unwitnessed = proof_of(told.place, told.closed, tmp_path / "q.tlog-proof")
    for path in told.place.evidence.glob("log/*/*/cosigned/*"):
        path.unlink()
    proof_of(told.place, told.closed, unwitnessed)
    found = checked(unwitnessed, capsys, told.auditor.folder / "policy")
    assert (found["ok"], len(found["unresolved"])) == (False, 1)


async def test_what_cannot_be_proved_is_said(told: Told, tmp_path: Path) -> None:
    export = ("audit", "export", "--format", "tlog-proof", "--data", told.place.data)
    assert called(*export, told.closed + ":10").exit_code == 2
    assert called(*export, told.open + ":900").exit_code == 2
    assert called(*export, told.closed + ":x").exit_code == 2
    assert called(*export, "zzzz").exit_code == 2
    assert called(*export).exit_code == 2
    assert main(["--proof", str(tmp_path / "none")]) == 2
    assert main([]) == main([str(tmp_path), "--proof", "x"]) == 2
