# SPDX-License-Identifier: GPL-3.0-or-later
"""The command `trailgate witness`: served over HTTP, and once over files."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.admin.cli import root
from gateway.config import ConfigError, load_settings
from gateway.ship.witness import WitnessClient, WitnessKey
from gateway.verify.note import VerifierKey
from gateway.verify.run import Request, verify
from tests.faults.auditor import day, kinds
from tests.record.place import Place

pytestmark = pytest.mark.fault


def witness(*arguments: object) -> Result:
    return CliRunner().invoke(root, ["witness", *map(str, arguments)])


async def test_once_over_files(tmp_path: Path) -> None:
    place, folder = Place(tmp_path), tmp_path / "witness"
    await day(place)
    log = place.evidence / "log" / "gw1" / "0"
    vkey = ("--log", log / "node.vkey")
    made = witness("--dir", folder, *vkey, "--name", "w.example", "--once", log / "checkpoint")
    assert (made.exit_code, made.stderr.startswith("vkey: w.example+")) == (0, True)
    assert made.stdout.encode().startswith((log / "checkpoint").read_bytes())
    assert "\u2014 w.example " in made.stdout
    findings = verify(Request(str(place.data), trust=folder))
    assert (findings.exit_code, findings.witnessed_to) == (0, findings.complete_to)
    backup = place.as_killed(tmp_path / "backup")
    await day(place)
    assert witness("--dir", folder, "--once", log / "checkpoint").exit_code == 0
    # An older state, another history, and a log that does not verify.
    older = backup.evidence / "log" / "gw1" / "0" / "checkpoint"
    refused = witness("--dir", folder, "--once", older)
    assert (refused.exit_code, "this witness saw" in refused.stderr) == (1, True)
    await day(backup, sessions=4)
    assert "another history" in witness("--dir", folder, "--once", older).stderr
    tile = next(log.glob("tile/entries/000.p/*"))
    tile.write_bytes(tile.read_bytes().replace(b'"gw1"', b'"gw2"'))
    assert witness("--dir", folder, "--once", log / "checkpoint").exit_code == 1
    assert kinds(verify(Request(str(backup.data), trust=folder))) == {"rewritten"}


def served(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "gateway", "witness", *arguments, "--listen", "127.0.0.1:0"],
        stdout=subprocess.PIPE,
        text=True,
    )


async def test_served_until_a_signal(tmp_path: Path) -> None:
    place = Place(tmp_path)
    await day(place)
    log = place.evidence / "log" / "gw1" / "0"
    arguments = ["--dir", str(tmp_path / "witness"), "--log", str(log / "node.vkey")]
    child = served(*arguments)
    assert child.stdout is not None
    try:
        vkey = child.stdout.readline().removeprefix("vkey: ").strip()
        address = child.stdout.readline().split(";")[0].removeprefix("listening on ")
        client = WitnessClient(log.parent, f"http://{address}", WitnessKey.parse(vkey))
        await client.cosign()
        await client.close()
        assert len(list((log / "cosigned").iterdir())) == 1
        findings = verify(Request(str(place.data), trust=tmp_path / "witness" / "policy"))
        assert (findings.exit_code, findings.witnessed_to) == (0, findings.complete_to)
    finally:
        child.send_signal(signal.SIGTERM)
        assert child.wait(20) == 0


def test_what_the_command_cannot_do(tmp_path: Path) -> None:
    folder = tmp_path / "witness"
    assert witness("--dir", folder, "--once", tmp_path / "checkpoint").exit_code == 2
    assert witness("--dir", folder).exit_code == 2
    assert witness("--dir", folder, "--listen", "127.0.0.1:0", "--once").exit_code == 2
    vkey = tmp_path / "vkey"
    vkey.write_text("no key\n")
    assert witness("--dir", folder, "--log", vkey, "--listen", "127.0.0.1:0").exit_code == 2
    good = "trailgate/gw1/0+1c4d1ff2+"
    vkey.write_text(good + "AQ==\n")
    assert witness("--dir", folder, "--log", vkey, "--listen", "nowhere").exit_code == 2


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("url: http://witness.example, vkey: KEY", "no place of a witness"),
        ("url: https://witness.example, vkey: w+12345678+AAAA", "no witness's vkey"),
        ("url: https://witness.example, vkey: KEY, grace_seconds: 0", "out of bounds"),
        ("url: https://witness.example", "vkey"),
    ],
)
def test_mistakes_in_the_settings_are_told_at_their_place(
    tmp_path: Path, line: str, said: str
) -> None:
    key = "witness.auditor.example+10d0e7d2+BFAF8N8eBJXwzTGyUsOL6vxS0pkk5FnFDOK3cTyPKzQx"
    text = "data: d\nevidence:\n  witness: {" + line.replace("KEY", key) + "}\n"
    with pytest.raises(ConfigError, match=said):
        load_settings(tmp_path / "trailgate.yaml", text)


def test_one_witness_or_a_list_of_them(tmp_path: Path) -> None:
    keys = [VerifierKey.make(name, bytes(32), b"\x04").text() for name in ("a", "b")]
    first, second = (f"{{url: https://w.example, vkey: {key}}}" for key in keys)

    def read(text: str) -> int:
        place = tmp_path / "trailgate.yaml"
        settings, _ = load_settings(place, f"data: d\nevidence:\n  witness: {text}\n")
        return len(settings.evidence.witness or ())

    assert (read(first), read(f"[{first}]"), read(f"[{first}, {second}]")) == (1, 1, 2)
    for wrong in ("[]", f"[{first}, {first}]"):
        with pytest.raises(ConfigError, match="names no witness, or one twice"):
            read(wrong)
