# SPDX-License-Identifier: GPL-3.0-or-later
"""Recipients of every kind: the record opens for each, by the reader and by the verifier; age's
own tool opens what is wrapped for it."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.admin.cli.keys import COMMAND
from gateway.record import seal
from gateway.record.key_kinds import HPKE
from gateway.record.reader import Evidence
from gateway.record.recipients import KINDS, BadKey, Identity, Recipient, make_recipient
from gateway.record.recorder import NodeRecorder
from tests.record.place import Place

SESSION, OTHER = "a" * 26, "b" * 25 + "a"
KEY = bytes(range(32))
each_kind = pytest.mark.parametrize("kind", list(KINDS))


@each_kind
async def test_a_record_opens_for_a_recipient_of_this_kind_alone(tmp_path: Path, kind: str) -> None:
    place, payload = Place(tmp_path), b"select 1" * 2000
    recipient = make_recipient(place.auditor, kind)
    recorder = await NodeRecorder.start(replace(place.options(), recipients=(recipient,)))
    session = await recorder.open({})
    session.append("request", "client", payload)
    await session.close("client", {})
    await recorder.stop()
    place.assert_complete()
    reader = Evidence(place.data, place.auditor / "identity")
    assert payload in [frame.payload for frame in reader.frames(session.id)]
    make_recipient(tmp_path / "stranger", kind)
    place.auditor = tmp_path / "stranger"
    assert place.verify().content == "unopened"


@each_kind
def test_a_wrap_is_bound_to_its_session_kind_and_key(tmp_path: Path, kind: str) -> None:
    recipient = make_recipient(tmp_path / "a", kind)
    assert Recipient.parse((tmp_path / "a" / "recipient.pub").read_text()) == recipient
    identity = Identity.read(tmp_path / "a" / "identity")
    wrap = seal.wrap(KEY, SESSION, recipient)
    assert seal.unwrap(wrap, SESSION, identity) == KEY
    moved = wrap.replace(SESSION.encode(), OTHER.encode())
    renamed = json.dumps(json.loads(wrap) | {"suite": "hpke-of-another-kind"}).encode()
    wrapped = base64.b64decode(json.loads(wrap)["wrapped"])
    for at in range(0, len(wrapped), 7):
        flipped = bytearray(wrapped)
        flipped[at] ^= 1
        fields = json.loads(wrap) | {"wrapped": base64.b64encode(flipped).decode()}
        with pytest.raises(seal.SealError):
            seal.unwrap(json.dumps(fields).encode(), SESSION, identity)
    for wrong in (moved, renamed):
        with pytest.raises(seal.SealError):
            seal.unwrap(wrong, OTHER if wrong is moved else SESSION, identity)


def test_one_identity_file_may_hold_keys_of_all_kinds(tmp_path: Path) -> None:
    made = [make_recipient(tmp_path / kind, kind) for kind in KINDS]
    together = tmp_path / "identity"
    together.touch(0o600)
    together.write_text("".join((tmp_path / kind / "identity").read_text() for kind in KINDS))
    identity = Identity.read(together)
    assert set(identity.keys) == {one.fingerprint for one in made}
    for one in made:
        assert seal.unwrap(seal.wrap(KEY, SESSION, one), SESSION, identity) == KEY


@pytest.mark.parametrize("kind", list(HPKE))
def test_keys_that_are_no_keys_are_refused(kind: str) -> None:
    size = HPKE[kind].public_bytes
    for raw in (bytes(size - 1), bytes(size + 1)) + ((b"\xff" * size,) if kind == "p256" else ()):
        with pytest.raises(BadKey, match="copy it again"):
            Recipient.parse(f"trailgate-recipient-{kind} {base64.b64encode(raw).decode()}")


def test_the_hybrid_key_of_a_seed_is_that_of_the_draft() -> None:
    """draft-connolly-cfrg-xwing-kem, appendix C, first vector: seed, and how its key begins."""
    seed = "7f9c2ba4e88f827d616045507605853ed73b8093f6efbc88eb1a6eacfa66ef26"
    public = HPKE["mlkem768-x25519"].public_of(bytes.fromhex(seed))
    assert public.hex().startswith(
        "e2236b35a8c24b39b10aa1323a96a919a2ced88400633a7b07131713fc14b2b5"
    )
    assert len(public) == 1216


def test_ages_own_tool_and_ours_open_each_others(tmp_path: Path) -> None:
    if not shutil.which("age") or not shutil.which("age-keygen"):
        pytest.skip("the tool `age` is not installed: apt-get install age")
    key = tmp_path / "key.txt"
    subprocess.run(["age-keygen", "-o", key], check=True, capture_output=True)
    public = subprocess.run(["age-keygen", "-y", key], check=True, capture_output=True).stdout
    recipient = Recipient.parse(public.decode())
    wrap = seal.wrap(KEY, SESSION, recipient)
    wrapped = base64.b64decode(json.loads(wrap)["wrapped"])
    opened = subprocess.run(
        ["age", "--decrypt", "-i", key], input=wrapped, check=True, capture_output=True
    ).stdout
    assert opened == b"trailgate/1 wrap " + SESSION.encode() + KEY
    theirs = subprocess.run(
        ["age", "--encrypt", "-r", recipient.text], input=opened, check=True, capture_output=True
    ).stdout
    fields = json.loads(wrap) | {"wrapped": base64.b64encode(theirs).decode()}
    assert seal.unwrap(json.dumps(fields).encode(), SESSION, Identity.read(key)) == KEY


@each_kind
def test_the_command_makes_a_pair_and_never_replaces_one(tmp_path: Path, kind: str) -> None:
    arguments = ["make", "--dir", str(tmp_path / "auditor"), "--kind", kind]
    made = CliRunner().invoke(COMMAND, arguments)
    recipient = Recipient.parse((tmp_path / "auditor" / "recipient.pub").read_text())
    assert (made.exit_code, recipient.kind) == (0, kind)
    assert recipient.fingerprint in made.output
    private = (tmp_path / "auditor" / "identity").read_text()
    assert private.strip() not in made.output
    again = CliRunner().invoke(COMMAND, arguments)
    assert again.exit_code != 0
    assert (tmp_path / "auditor" / "identity").read_text() == private


@pytest.mark.parametrize("compression", ["none", "lz4", "zstd"])
async def test_every_compression_is_opened_by_reader_and_verifier(
    tmp_path: Path, compression: str
) -> None:
    place = Place(tmp_path)
    recorder = await place.start(compression=compression)
    session = await recorder.open({})
    payloads = [b"x" * 4096, b"y" * 1_000_000, bytes(range(256)) * 15]
    for payload in payloads:
        session.append("answer", "target", payload)
    await session.close("client", {})
    await recorder.stop()
    place.assert_complete()
    reader = Evidence(place.data, place.auditor / "identity")
    same = [frame.payload for frame in reader.frames(session.id) if frame.payload] == payloads
    assert same
    written = sum(path.stat().st_size for path in place.evidence.glob("seg/*/*/*"))
    assert (written > 1_000_000) is (compression == "none")
