# SPDX-License-Identifier: GPL-3.0-or-later
"""One proof, and who vouches for the key that signed it: as strict as over whole evidence."""

from __future__ import annotations

import asyncio
import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.admin.cli import root as commands
from gateway.admin.cli.node.root import Root
from gateway.record import tree
from gateway.record.nodekey import NoteSigner, load_or_make
from gateway.verify.leaves import canonical
from gateway.verify.proof import verify_proof
from tests.faults.auditor import Auditor, day
from tests.faults.test_authority import World, at, certified, node
from tests.record.place import Place

pytestmark = pytest.mark.fault


@pytest.fixture
async def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    await day(made.place)
    return made


async def session_in(place: Place) -> str:
    """A closed session's id; the gateway is stopped."""
    recorder = await place.start()
    session = await recorder.open({"target": "t"})
    await session.close("client", {})
    await recorder.stop()
    return session.id


def proof_of(place: Place, session: str, out: Path) -> Path:
    export = ("audit", "export", "--format", "tlog-proof", f"{session}:1", "--out", str(out))
    done = CliRunner().invoke(commands, [*export, "--data", str(place.data)])
    assert done.exit_code == 0, done.output
    return out


def refused(proof: Path, trust: Path | None) -> str:
    """Why; empty where it is sound."""
    document = verify_proof(proof, trust)
    assert document["ok"] == (not document["defects"] and not document["unresolved"])
    return "".join(one["detail"] for one in document["defects"])


def changed(proof: Path, change: Any) -> None:
    """Its extra line, which nothing signs, as somebody else might write it."""
    lines = proof.read_bytes().split(b"\n")
    extra = json.loads(base64.b64decode(lines[1].removeprefix(b"extra ")))
    change(extra)
    lines[1] = b"extra " + base64.b64encode(canonical(extra))
    proof.write_bytes(b"\n".join(lines))


async def test_a_proof_carries_rotations_and_certificates(world: World) -> None:
    await certified(world)
    assert node("install", world.certificate("--next"), "--data", world.place.data).exit_code == 0
    assert node("rotate", "--data", world.place.data).exit_code == 0
    recorder = await world.place.start()
    session = await recorder.open({"target": "t"})
    await session.close("client", {})
    await recorder.stop()
    out, trust = world.folder / "p.tlog-proof", world.trust()
    export = ("audit", "export", "--format", "tlog-proof", f"{session.id}:1", "--out", out)
    done = CliRunner().invoke(commands, [*map(str, export), "--data", str(world.place.data)])
    assert done.exit_code == 0, done.output

    def code(*more: object) -> int:
        return CliRunner().invoke(commands, ["verify", "--proof", *map(str, more)]).exit_code

    assert code(out, "--trust", trust) == code(out) == 0
    data = out.read_bytes()
    assert len(data) > 2000
    for position in range(0, len(data), 5):
        flipped = data[position] ^ (1 << position % 7)
        out.write_bytes(data[:position] + bytes([flipped]) + data[position + 1 :])
        assert code(out, "--trust", trust) != 0, position
    out.write_bytes(data)
    other = Root.make(world.folder / "other.key", "root.example.com")
    trust.write_text(f"root {other.vkey.text()}\nquorum none\n")
    assert code(out, "--trust", trust) == 1
    trust.write_text(world.vkey().text())
    assert code(out, "--trust", trust) == 0


async def test_a_certificate_that_ended_before_the_checkpoint_was_signed(world: World) -> None:
    """The leaf is older than the end; the signature that covers it is not."""
    session = await session_in(world.place)
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=1)
    early = proof_of(world.place, session, world.folder / "early")
    await asyncio.sleep(max(0.0, (until - datetime.now(UTC)).total_seconds()) + 0.01)
    await day(world.place)
    late = proof_of(world.place, session, world.folder / "late")
    path = world.folder / "certificate"
    path.write_bytes(world.root.certify(world.vkey(), at(days=-1), until.strftime("%FT%TZ")))
    trust = world.trust(path)
    assert refused(early, trust) == ""
    assert "ended at" in refused(late, trust)
    assert "(expired)" in refused(late, trust)
    # Nothing else dates a checkpoint: without its last leaf it is no proof.
    changed(late, lambda extra: extra.pop("last"))
    assert "no last leaf" in refused(late, trust)
    changed(late, lambda extra: extra.update(last={"leaf": extra["leaf"], "proof": []}))
    assert "its last leaf" in refused(late, trust)


async def test_a_certificate_that_begins_after_the_checkpoint(world: World) -> None:
    proof = proof_of(world.place, await session_in(world.place), world.folder / "p")
    path = world.folder / "certificate"
    path.write_bytes(world.root.certify(world.vkey(), at(days=1), at(days=9)))
    assert "(not_yet_valid)" in refused(proof, world.trust(path))


async def test_certificates_of_roots_that_nobody_trusts(world: World) -> None:
    other = Root.make(world.folder / "other.key", "root.example.org")
    world.given(other.certify(world.vkey(), at(days=-1), at(days=9)))
    proof = proof_of(world.place, await session_in(world.place), world.folder / "p")
    assert "(uncertified)" in refused(proof, world.trust())
    await certified(world)
    proof = proof_of(world.place, await session_in(world.place), world.folder / "q")
    document = verify_proof(proof, world.trust())
    assert (document["defects"], document["ok"]) == ([], False)
    assert "root.example.org, which is no root" in document["unresolved"][0]
    # Both roots are trusted: all is known.
    both = world.folder / "both"
    both.write_text(world.trust().read_text() + f"root {other.vkey.text()}\n")
    assert verify_proof(proof, both)["ok"]


async def test_a_key_that_was_retired_proves_nothing_more(world: World) -> None:
    auditor = Auditor(world.folder, world.place)
    auditor.serve()
    try:
        first = await session_in(world.place)
        await auditor.cosign(world.place)
        before = proof_of(world.place, first, world.folder / "before")
        old = world.place.as_killed(world.folder / "old")
        assert node("rotate", "--data", world.place.data).exit_code == 0
        second = await session_in(world.place)
        await auditor.cosign(world.place)
        after = proof_of(world.place, second, world.folder / "after")
        assert refused(after, auditor.folder) == refused(before, auditor.folder) == ""
        # Whoever kept the old key goes on with it, past what the witness saw of the new one.
        await day(old, sessions=9)
        forged = proof_of(old, await session_in(old), world.folder / "forged")
        assert refused(forged, None) == ""
        changed(after, lambda extra: extra.pop("rotations"))
        assert "not signed" in refused(after, auditor.folder)
        document = verify_proof(forged, auditor.folder)
        assert not document["ok"]
        assert "retired" in document["defects"][0]["detail"]
    finally:
        auditor.end()


async def test_the_witness_saw_another_root_of_that_size(world: World) -> None:
    proof = proof_of(world.place, await session_in(world.place), world.folder / "p")
    auditor = Auditor(world.folder, world.place)
    signer = NoteSigner(load_or_make(world.place.data / "node" / "key"), "trailgate/gw1/0")
    size, root = signer.open((world.place.evidence / "log/gw1/0/checkpoint").read_bytes())
    seen = auditor.folder / "seen" / "trailgate_gw1_0"
    seen.parent.mkdir(exist_ok=True)
    for shown, why in ((root, ""), (bytes(32), "another root")):
        seen.write_bytes(signer.checkpoint(size, shown))
        found = refused(proof, auditor.folder)
        assert (why in found) and bool(found) == bool(why)
    auditor.end()


def test_a_rotation_retires_the_key_that_signs_it(tmp_path: Path) -> None:
    """The checkpoint whose last leaf is a rotation is the new key's, not the old one's."""
    old, new = (
        NoteSigner(Ed25519PrivateKey.generate(), "trailgate/gw1/0"),
        NoteSigner(Ed25519PrivateKey.generate(), "trailgate/gw1/0"),
    )
    moment = "2026-11-24T12:00:00.000000Z"
    rotation = old.rotation(new)
    first = canonical({"type": "heartbeat", "at": moment})
    second = canonical({"type": "rotation", "at": moment, **rotation})
    peaks: list[bytes] = []
    for count, leaf in enumerate((first, second)):
        tree.append(peaks, count, tree.leaf_hash(leaf))
    members = {name: rotation[name] for name in ("new", "by_old", "by_new")}
    for signer, rotations, why in ((new, [members], ""), (old, [], "retired")):
        last = {"leaf": second.decode(), "proof": [tree.leaf_hash(first).hex()]}
        extra = {"format": 1, "vkey": old.vkey, "leaf": first.decode(), "last": last}
        lines = [b"c2sp.org/tlog-proof@v1",
                 b"extra " + base64.b64encode(canonical({**extra, "rotations": rotations})),
                 b"index 0", base64.b64encode(tree.leaf_hash(second))]  # fmt: skip
        proof = tmp_path / "p"
        proof.write_bytes(b"\n".join(lines) + b"\n\n" + signer.checkpoint(2, tree.root(peaks)))
        found = refused(proof, None)
        assert (why in found) and bool(found) == bool(why)
