# SPDX-License-Identifier: GPL-3.0-or-later
"""Go's sumdb/tlog family reads our policy, checkpoints, tiles and proofs unchanged."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.admin.cli import root
from gateway.record.places import Folder
from gateway.record.stored_log import stored_logs
from tests.faults.auditor import Auditor
from tests.record.place import Place

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
MODULE = """\
module reader

go 1.24

require (
	filippo.io/torchwood v0.9.0
	golang.org/x/mod v0.31.0
)
"""


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reader, built; Go's own proxy and checksum database vouch for its libraries."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("no Go on this machine: its reader of our logs cannot be built")
    folder = tmp_path_factory.mktemp("go")
    shutil.copy(Path(__file__).parent / "go_reader" / "main.go", folder)
    (folder / "go.mod").write_text(MODULE)
    for command in (["mod", "tidy"], ["build", "-o", "reader", "."]):
        done = subprocess.run(
            [go, *command],
            cwd=folder,
            env={**os.environ, "GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"},
            capture_output=True,
            text=True,
            timeout=500,
        )
        if done.returncode and "dial tcp" in done.stderr:
            pytest.skip("Go's module proxy cannot be reached: its reader cannot be built")
        assert done.returncode == 0, done.stderr
    return folder / "reader"


class Read:
    """A witnessed log of more than one tile, and a proof of one of its sessions."""

    def __init__(self, tmp_path: Path) -> None:
        self.place = Place(tmp_path)
        self.proof, self.leaf = tmp_path / "p.tlog-proof", tmp_path / "leaf"
        self.auditor: Auditor
        self.note: Path

    def run(self, reader: Path) -> subprocess.CompletedProcess[str]:
        log = self.place.evidence / "log" / "gw1" / "0"
        arguments = (log, self.auditor.folder / "policy", self.note, self.proof, self.leaf)
        return subprocess.run(
            [reader, *map(str, arguments)], capture_output=True, text=True, timeout=60
        )


@pytest.fixture
async def read(tmp_path: Path) -> Iterator[Read]:
    made = Read(tmp_path)
    recorder = await made.place.start()
    for _ in range(120):
        session = await recorder.open({"target": "t"})
        await session.close("client", {})
    await recorder.stop()
    made.auditor = Auditor(tmp_path, made.place)
    made.auditor.serve()
    await made.auditor.cosign(made.place)
    made.note = next(made.place.evidence.glob("log/gw1/0/cosigned/*"))
    export = ("audit", "export", "--format", "tlog-proof", session.id, "--out", made.proof)
    done = CliRunner().invoke(root, [*map(str, export), "--data", str(made.place.data)])
    assert done.exit_code == 0, done.output
    yield made
    made.auditor.end()


async def test_gos_reader_reads_what_we_write(reader: Path, read: Read) -> None:
    (log,) = stored_logs(Folder(read.place.evidence))
    size, _ = log.checkpoint()
    leaves = list(log.leaves(size))
    assert size > 256
    read.leaf.write_bytes(leaf := _leaf_of(read.proof))
    assert leaf in leaves
    done = read.run(reader)
    digest = hashlib.sha256(b"".join(leaves)).hexdigest()
    assert done.stdout == f"trailgate/gw1/0 {size} {size} {digest}\n", done.stderr
    # It is no reader that takes anything.
    read.leaf.write_bytes(b"another leaf")
    assert "proof" in read.run(reader).stderr
    tile = read.place.evidence / "log" / "gw1" / "0" / "tile" / "0" / "000"
    tile.write_bytes(tile.read_bytes()[:-1] + b"x")
    assert "entries" in read.run(reader).stderr
    read.note.write_bytes(read.note.read_bytes().replace(b"\n%d\n" % size, b"\n7\n"))
    assert "checkpoint" in read.run(reader).stderr


def _leaf_of(proof: Path) -> bytes:
    extra = json.loads(base64.b64decode(proof.read_bytes().split(b"\n")[1].removeprefix(b"extra ")))
    return bytes(extra["leaf"].encode())
