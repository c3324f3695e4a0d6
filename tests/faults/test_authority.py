# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates of an offline root, rotation of the node's key, retirement, and what is missing."""

from __future__ import annotations

import asyncio
import errno
import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gateway.admin.cli import root as commands
from gateway.admin.cli.node.root import Root, public_path
from gateway.model import RecordFailed
from gateway.record import durable
from gateway.record.authority import NodeAuthority
from gateway.record.log import NodeLog, TileLog
from gateway.record.nodekey import NoteSigner, load_or_make
from gateway.verify.certificate import open_request
from gateway.verify.findings import Findings
from gateway.verify.run import Request, verify
from tests.faults.auditor import Auditor, day, kinds, until, worked
from tests.record.place import Place

pytestmark = pytest.mark.fault


def node(*arguments: object) -> Result:
    return CliRunner().invoke(commands, ["node", *map(str, arguments)])


def at(**after: float) -> str:
    return (datetime.now(UTC) + timedelta(**after)).strftime("%Y-%m-%dT%H:%M:%SZ")


class World:
    """A gateway's place, and the root on its own machine."""

    def __init__(self, tmp_path: Path) -> None:
        self.folder = tmp_path
        self.place = Place(tmp_path)
        self.root_path = tmp_path / "root.key"
        self.root = Root.make(self.root_path, "root.example.com")

    def request(self, *more: str) -> Path:
        done = node("request", "--data", self.place.data, *more)
        assert done.exit_code == 0, done.output
        path = self.folder / f"request{len(more)}"
        path.write_text(done.stdout)
        return path

    def certificate(self, *more: str) -> Path:
        done = node("certify", self.request(*more), "--root", self.root_path)
        assert done.exit_code == 0, done.output
        path = self.folder / f"certificate{len(more)}"
        path.write_text(done.stdout)
        return path

    def given(self, note: bytes) -> None:
        """As `node install` leaves it, whatever is in it."""
        path = self.place.data / "node" / "incoming" / sha256(note).hexdigest()
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(note)

    def trust(self, *more: object) -> Path:
        done = node("trust", "--root", public_path(self.root_path), *more)
        assert done.exit_code == 0, done.output
        path = self.folder / "trust"
        path.write_text(done.stdout)
        return path

    def verify(self, *more: object, **options: Any) -> Findings:
        return verify(Request(str(self.place.data), trust=self.trust(*more), **options))

    def vkey(self) -> Any:
        return open_request((self.place.data / "node" / "request").read_bytes())[0]


@pytest.fixture
async def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    await day(made.place)
    return made


async def certified(world: World) -> None:
    done = node("install", world.certificate(), "--data", world.place.data)
    assert (done.exit_code, "next start" in done.output) == (0, True)
    await day(world.place)


async def test_a_certified_node_is_sound_from_its_first_leaf_on(world: World) -> None:
    assert kinds(world.verify()) == {"uncertified"}
    await certified(world)
    findings = world.verify(world.folder / "certificate0")
    assert (findings.defects, findings.exit_code, findings.trust) == ([], 0, "pinned")
    assert findings.trusted_by == ["root.example.com"]
    assert verify(Request(str(world.place.data))).exit_code == 0


async def test_a_running_gateway_takes_a_certificate(world: World) -> None:
    recorder = await worked(world.place)
    world.given(world.certificate().read_bytes())
    await until(lambda: not any((world.place.data / "node" / "incoming").iterdir()))
    assert world.verify().defects == []
    await recorder.stop()
    assert world.verify().defects == []


@pytest.mark.parametrize(
    ("since", "until_", "kind"),
    [(-400, -300, "expired"), (300, 400, "not_yet_valid"), (-400, 400, None)],
)
async def test_a_certificate_of_another_time(
    world: World, since: int, until_: int, kind: str | None
) -> None:
    note = world.root.certify(world.vkey(), at(days=since), at(days=until_))
    world.given(note)
    await day(world.place)
    assert kinds(world.verify()) == ({kind} if kind else set())


async def test_a_certificate_of_a_root_that_nobody_trusts(world: World, tmp_path: Path) -> None:
    other = Root.make(tmp_path / "other.key", "root.example.org")
    world.given(other.certify(world.vkey(), at(days=-1), at(days=9)))
    await day(world.place)
    findings = world.verify()
    assert kinds(findings) == {"uncertified"}
    assert "no root that is trusted" in findings.unresolved[0]
    # A root of the same name with another key is no better.
    same = Root.make(tmp_path / "same.key", "root.example.com")
    world.given(same.certify(world.vkey(), at(days=-1), at(days=9)))
    await day(world.place)
    assert kinds(world.verify()) == {"uncertified"}


async def test_what_is_no_certificate_of_this_node_is_not_taken(world: World) -> None:
    (world.folder / "other").mkdir()
    other = Place(world.folder / "other")
    await day(other)
    key = open_request((other.data / "node" / "request").read_bytes())[0]
    wrong = world.folder / "wrong"
    wrong.write_bytes(world.root.certify(key, at(days=-1), at(days=9)))
    assert node("install", wrong, "--data", world.place.data).exit_code == 2
    wrong.write_bytes(world.root.certify(world.vkey(), at(days=-9), at(days=-1)))
    assert node("install", wrong, "--data", world.place.data).exit_code == 2
    wrong.write_text("nothing")
    assert node("install", wrong, "--data", world.place.data).exit_code == 2
    world.given(b"nothing")
    world.given(world.root.certify(key, at(days=-1), at(days=9)))
    await day(world.place)
    assert not list((world.place.data / "node" / "incoming").iterdir())
    assert not list(world.place.evidence.glob("log/gw1/0/certificates/*"))
    assert verify(Request(str(world.place.data))).exit_code == 0


# --- rotation -------------------------------------------------------------------------------------


async def test_rotation_of_a_running_gateway_and_of_one_at_rest(world: World) -> None:
    first = world.vkey()
    recorder = await worked(world.place)
    (world.place.data / "node" / "rotate").touch()
    await until(lambda: not (world.place.data / "node" / "rotate").exists())
    assert not (world.place.data / "node" / "key.next").exists()
    session = await recorder.open({"target": "t"})
    await session.close("client", {})
    await recorder.stop()
    second = world.vkey()
    assert (second.name, second != first) == (first.name, True)
    assert node("rotate", "--data", world.place.data).exit_code == 0
    await day(world.place)
    assert world.vkey() not in (first, second)
    assert len(list(world.place.evidence.glob("log/gw1/0/rotated/*"))) == 2
    assert world.place.assert_complete().logs == 1
    for key in (first, second, world.vkey()):
        trust = world.folder / "vkey"
        trust.write_text(key.text())
        assert verify(Request(str(world.place.data), trust=trust)).exit_code == 0


async def test_a_certified_node_rotates_to_a_certified_key(world: World) -> None:
    await certified(world)
    refused = node("rotate", "--data", world.place.data)
    assert (refused.exit_code, "next key is not" in refused.stderr) == (2, True)
    assert node("install", world.certificate("--next"), "--data", world.place.data).exit_code == 0
    assert node("rotate", "--data", world.place.data).exit_code == 0
    await day(world.place)
    assert world.verify(world.folder / "certificate0").defects == []
    # Rotated past the command, the next key is certified by nobody.
    (world.place.data / "node" / "rotate").touch()
    await day(world.place)
    assert kinds(world.verify()) == {"uncertified"}


async def test_any_kill_in_a_rotation_leaves_one_key_that_goes_on(
    world: World, tmp_path: Path
) -> None:
    before = world.place.as_killed(tmp_path / "before")
    assert node("rotate", "--data", before.data).exit_code == 0
    recorder = await worked(before)
    after = before.as_killed(tmp_path / "after")
    await recorder.stop()
    # The checkpoint is the new key's, and the files are not changed yet.
    shutil.copy(after.data / "node" / "key", after.data / "node" / "key.next")
    shutil.copy(world.place.data / "node" / "key", after.data / "node" / "key")
    (after.data / "node" / "rotate").touch()
    await day(after)
    assert not (after.data / "node" / "key.next").exists()
    assert len(list(after.evidence.glob("log/gw1/0/rotated/*"))) == 1
    after.assert_complete()
    # The leaf was written beside the log and never signed.
    assert node("rotate", "--data", world.place.data).exit_code == 0
    left = world.place.evidence / "log" / "gw1" / "0" / "rotated" / "999"
    left.parent.mkdir()
    left.write_bytes(next(before.evidence.glob("log/gw1/0/rotated/*")).read_bytes())
    await day(world.place)
    assert not left.exists()
    world.place.assert_complete()


async def test_a_rotation_without_room_is_made_once(tmp_path: Path) -> None:
    full = False

    def put(path: Path, data: bytes, unfinished: Path) -> None:
        if full:
            raise OSError(errno.ENOSPC, "full", str(path))
        durable.put(path, data, unfinished)

    folder, log = tmp_path / "node", tmp_path / "log" / "gw1" / "0"
    folder.mkdir()
    tiles = TileLog(log, NoteSigner(load_or_make(folder / "key"), "trailgate/gw1/0"), put)
    tiles.resume()
    node_log = NodeLog(tiles, "gw1", 3600.0, lambda cause: None)
    authority = NodeAuthority(folder, node_log, tiles)
    node_log.append("heartbeat")
    await authority.begin()
    await node_log.sign()
    note = Root.make(tmp_path / "root.key", "r").certify(
        open_request((folder / "request").read_bytes())[0], at(days=-1), at(days=9)
    )
    (folder / "incoming").mkdir()
    (folder / "incoming" / sha256(note).hexdigest()).write_bytes(note)
    (folder / "rotate").touch()
    full = True
    for _ in range(3):
        with pytest.raises(OSError, match="full"):
            await authority._settle()
    full = False
    await authority._settle()
    assert not (folder / "rotate").exists()
    told = [json.loads(leaf)["type"] for _, leaf in tiles.leaves(0)]
    assert told == ["heartbeat", "certificate", "rotation"]
    await node_log.stop()


async def test_an_old_key_put_back_signs_nothing(world: World) -> None:
    key = world.place.data / "node" / "key"
    old = key.read_bytes()
    assert node("rotate", "--data", world.place.data).exit_code == 0
    await day(world.place)
    key.write_bytes(old)
    with pytest.raises(RecordFailed, match="not signed by this node's key"):
        await world.place.start()


async def test_any_changed_byte_of_what_vouches_for_keys_is_found(world: World) -> None:
    await certified(world)
    assert node("install", world.certificate("--next"), "--data", world.place.data).exit_code == 0
    assert node("rotate", "--data", world.place.data).exit_code == 0
    await day(world.place)
    trust, tried = world.trust(), 0
    log = world.place.evidence / "log" / "gw1" / "0"
    for path in [*log.glob("certificates/*"), *log.glob("rotated/*")]:
        data, name = path.read_bytes(), path.relative_to(world.place.evidence).as_posix()
        for position in range(0, len(data), 3):
            flipped = data[position] ^ (1 << position % 8)
            path.write_bytes(data[:position] + bytes([flipped]) + data[position + 1 :])
            findings = verify(Request(str(world.place.data), trust=trust))
            assert name in {one.object for one in findings.defects}, (name, position)
            tried += 1
        path.unlink()
        assert verify(Request(str(world.place.data), trust=trust)).exit_code == 1
        path.write_bytes(data)
    assert tried > 200
    assert verify(Request(str(world.place.data), trust=trust)).exit_code == 0
    text = trust.read_text()
    for position in range(text.index("root "), len(text.rstrip()) - len("quorum none"), 2):
        changed = chr(ord(text[position]) ^ 1)
        trust.write_text(text[:position] + changed + text[position + 1 :])
        assert node_exit(world, trust) != 0, position


def node_exit(world: World, trust: Path) -> int:
    done = CliRunner().invoke(commands, ["verify", str(world.place.data), "--trust", str(trust)])
    return done.exit_code


# --- the witness ----------------------------------------------------------------------------------


@pytest.fixture
def served(world: World) -> Iterator[Auditor]:
    auditor = Auditor(world.folder, world.place)
    auditor.serve()
    yield auditor
    auditor.end()


async def test_the_witness_follows_a_rotation(world: World, served: Auditor) -> None:
    await served.cosign(world.place)
    old = world.place.as_killed(world.folder / "old")
    assert node("rotate", "--data", world.place.data).exit_code == 0
    await day(world.place)
    await served.cosign(world.place)
    findings = served.verify(world.place)
    assert (findings.defects, findings.exit_code) == ([], 0)
    assert findings.witnessed_to == findings.complete_to
    # The old key is no longer one that it cosigns for.
    await day(old, sessions=9)
    with pytest.raises(Exception, match="403"):
        await served.cosign(old)
    served.witness.close()
    served.witness = served.witness.open(served.folder, "ignored")
    assert served.witness.last("trailgate/gw1/0") is not None


async def test_the_witness_takes_in_what_a_root_certifies(world: World) -> None:
    public = public_path(world.root_path).read_text().strip()
    folder = world.folder / "witness"
    auditor = Auditor.by_root(world.folder, public)
    auditor.serve()
    with pytest.raises(Exception, match="404"):
        await auditor.cosign(world.place)
    await certified(world)
    await auditor.cosign(world.place)
    assert verify(Request(str(world.place.data), trust=folder)).exit_code == 0
    (world.folder / "other").mkdir()
    other = World(world.folder / "other")
    await day(other.place)
    await certified(other)
    with pytest.raises(Exception, match="403"):
        await auditor.cosign(other.place)
    auditor.end()


# --- retirement, and nodes that must be there -----------------------------------------------------


async def retired(world: World) -> Result:
    path = world.folder / "trailgate.yaml"
    path.write_text(f"node: gw1\ndata: {world.place.data}\n")
    return await asyncio.to_thread(node, "retire", "--config", path)


async def test_a_retired_node_signs_nothing_more_and_is_not_expected(world: World) -> None:
    await certified(world)
    late = {"as_of": at(days=30)}
    certificate = world.folder / "certificate0"
    assert kinds(world.verify(certificate, **late)) == {"silent"}
    assert kinds(world.verify("--node", "gw1", **late)) == {"silent"}
    done = await retired(world)
    assert (done.exit_code, done.stdout) == (0, "trailgate/gw1/0 is retired\n"), done.output
    assert world.verify(certificate, **late).exit_code == 0
    assert world.verify("--node", "gw1", **late).exit_code == 0
    assert (await retired(world)).exit_code == 2
    with pytest.raises(RecordFailed, match="is retired"):
        await world.place.start()
    (world.place.data / "node" / "key").unlink()
    with pytest.raises(RecordFailed, match="was retired"):
        await world.place.start()


async def test_only_a_node_that_was_ended_is_retired(world: World, tmp_path: Path) -> None:
    recorder = await worked(world.place)
    killed = world.place.as_killed(tmp_path / "killed")
    assert (await retired(world)).exit_code == 2
    await recorder.stop()
    world.place.data = killed.data
    assert (await retired(world)).exit_code == 2


async def test_what_is_missing_of_a_node_that_is_listed(world: World, tmp_path: Path) -> None:
    await certified(world)
    first = world.place.as_killed(tmp_path / "first")
    recorder = await worked(world.place)
    live = world.place.as_killed(tmp_path / "live")
    await recorder.stop()
    trust = world.trust(world.folder / "certificate0")

    def found(place: Place, **options: Any) -> set[str]:
        return kinds(verify(Request(str(place.data), trust=trust, **options)))

    soon, later = at(seconds=5), at(hours=1)
    # All is there; then the newest start, or the newest hour, is not.
    assert found(world.place, as_of=soon) == set()
    assert found(first, as_of=later) == {"silent"}
    assert found(live, as_of=later) == {"silent"}
    # A log is gone, and a node.
    (tmp_path / "gone").mkdir()
    shutil.copytree(world.place.evidence, tmp_path / "gone" / "evidence")
    shutil.rmtree(tmp_path / "gone" / "evidence" / "log")
    assert "missing" in kinds(verify(Request(str(tmp_path / "gone"), trust=trust)))
    assert kinds(world.verify("--node", "gw2", world.folder / "certificate0")) == {"missing"}


async def test_the_first_log_of_a_listed_node_is_missed(world: World, tmp_path: Path) -> None:
    await certified(world)
    (world.place.data / "node" / "key").unlink()
    for path in world.place.journal.iterdir():
        path.unlink()
    await day(world.place)
    done = node("install", world.certificate(), "--data", world.place.data)
    assert done.exit_code == 0
    await day(world.place)
    assert world.verify("--node", "gw1").defects == []
    shutil.rmtree(world.place.evidence / "log" / "gw1" / "0")
    found = world.verify("--node", "gw1")
    assert "missing" in kinds(found)
