# SPDX-License-Identifier: GPL-3.0-or-later
"""The witness and the gateway's client of it: every refusal, and a witness that is away."""

from __future__ import annotations

import asyncio
import math
import shutil
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gateway.model import RecordFailed
from gateway.ship import ShipFailed
from gateway.ship.proofs import TileHashes, consistency_proof
from gateway.ship.witness import WitnessClient, WitnessKey, _request
from gateway.ship.witnesses import WitnessGroup
from gateway.verify.consistency import is_consistent
from gateway.verify.note import VerifierKey
from gateway.verify.run import Request, verify
from gateway.wiring.evidence import Witnessed
from gateway.witness.keeper import Witness, WitnessError, parse_request
from tests.faults.auditor import Auditor, day, until, worked
from tests.record.place import Place
from tests.verify.corpus import Corpus, merkle, sha

pytestmark = pytest.mark.fault


@pytest.fixture
async def watched(tmp_path: Path) -> Iterator[tuple[Place, Auditor]]:
    place = Place(tmp_path)
    await day(place)
    auditor = Auditor(tmp_path, place)
    auditor.serve()
    yield place, auditor
    auditor.end()


def log_of(place: Place) -> Path:
    return place.evidence / "log" / "gw1" / "0"


def request_of(place: Place, old: int) -> bytes:
    note = (log_of(place) / "checkpoint").read_bytes()
    return _request(log_of(place), note, old, int(note.split(b"\n")[1]))


def test_proofs_from_tiles_are_what_the_witness_takes(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    for number in range(700):
        corpus.leaf("policy", name=f"p{number}", sha256=sha(b""))
    corpus.write()
    size, roots = len(corpus.leaves), {}
    hashes = TileHashes.of_folder(corpus.log, size)
    for old in (0, 1, 2, 3, 5, 64, 255, 256, 257, 511, 512, 600, size - 1, size):
        proof = consistency_proof(old, size, hashes.root)
        roots[old] = merkle(corpus.leaves[:old])
        assert is_consistent(old, roots[old], size, merkle(corpus.leaves), proof), old
        wrong = merkle([*corpus.leaves[: max(old - 1, 0)], b"another"])
        if old:
            assert not is_consistent(old, wrong, size, merkle(corpus.leaves), proof), old
        if proof:
            assert not is_consistent(old, roots[old], size, merkle(corpus.leaves), proof[1:]), old
            assert not is_consistent(old, roots[old], size, roots[old], proof), old


def post(auditor: Auditor, request: bytes, path: str = "/add-checkpoint") -> httpx.Response:
    return httpx.post(auditor.url + path, content=request, trust_env=False)


def get(auditor: Auditor) -> httpx.Response:
    return httpx.get(auditor.url, trust_env=False)


async def test_every_answer_of_the_specification(watched: tuple[Place, Auditor]) -> None:
    place, auditor = watched
    whole = request_of(place, 0)
    note = (log_of(place) / "checkpoint").read_bytes()
    assert post(auditor, whole.replace(b"old 0", b"old 007")).status_code == 400
    assert post(auditor, whole.replace(b"old 0\n", b"old 0\nAAAA\n")).status_code == 400
    assert post(auditor, whole.replace(b"old 0", b"old 99999")).status_code == 400
    assert post(auditor, b"").status_code == 413
    assert post(auditor, b"old 0\n" + b"x" * 70000).status_code == 413
    assert post(auditor, whole.replace(b"gw1/0\n", b"gw9/0\n", 1)).status_code == 404
    other = b"\n7777\n"
    changed = whole.replace(b"\n" + note.split(b"\n")[1] + b"\n", other)
    assert post(auditor, changed).status_code == 403
    hashed = b"A" * 43 + b"="
    assert post(auditor, whole.replace(b"old 0\n", b"old 0\n" + hashed + b"\n")).status_code == 422
    good = post(auditor, whole)
    assert good.status_code == 200 and good.text.startswith("\u2014 witness.example ")
    again = post(auditor, whole)
    assert (again.status_code, again.headers["content-type"]) == (409, "text/x.tlog.size")
    assert again.text == note.split(b"\n")[1].decode() + "\n"
    assert get(auditor).status_code == 404
    assert post(auditor, b"x", "/x").status_code == 404


async def test_of_two_requests_at_once_none_puts_the_witness_back(
    watched: tuple[Place, Auditor],
) -> None:
    place, auditor = watched
    requests = [request_of(place, 0)]
    await day(place)
    requests.append(request_of(place, 0))
    for _ in range(20):
        shutil.rmtree(auditor.folder / "seen")
        (auditor.folder / "seen").mkdir()
        threads = [
            threading.Thread(target=auditor.witness.add_checkpoint, args=(one,)) for one in requests
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        first = auditor.witness.last("trailgate/gw1/0")
        assert first is not None
        told = auditor.witness.add_checkpoint(requests[0])
        assert (told.status, told.body) == (409, b"%d\n" % first.size)


async def test_a_client_that_forgot_goes_on_from_what_the_witness_tells(
    watched: tuple[Place, Auditor],
) -> None:
    place, auditor = watched
    await auditor.cosign(place)
    await day(place)
    client = auditor.client(place)
    await client.cosign()
    assert client.failures == 0
    assert client.size == int((log_of(place) / "checkpoint").read_text().split("\n")[1])
    assert auditor.verify(place).exit_code == 0
    await client.close()


async def test_a_key_that_is_not_the_settings_is_no_cosignature(
    watched: tuple[Place, Auditor], tmp_path: Path
) -> None:
    place, auditor = watched
    (tmp_path / "other").mkdir()
    other = Auditor(tmp_path / "other", place)
    client = WitnessClient(log_of(place).parent, auditor.url, other.key)
    with pytest.raises(ShipFailed, match="no cosignature"):
        await client.cosign()
    assert not (log_of(place) / "cosigned").exists()
    await client.close()
    other.end()


async def test_a_witness_that_is_down_or_slow_delays_nothing(tmp_path: Path) -> None:
    place = Place(tmp_path)
    recorder = await worked(place)
    key = WitnessKey.parse(VerifierKey.make("w", bytes(32), b"\x04").text())
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(1)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        slow = WitnessClient(log_of(place).parent, url, key, seconds=0.1)
        running = asyncio.ensure_future(slow.run())
        while slow.failures < 2:
            session = await recorder.open({"target": "t"})
            await session.close("client", {})
            await asyncio.sleep(0.01)
        assert "does not answer" in slow.cause
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    down = WitnessClient(log_of(place).parent, url, key, seconds=1.0)
    with pytest.raises(ShipFailed, match="does not answer"):
        await down.cosign()
    await recorder.stop()
    place.assert_complete()
    await slow.close()
    await down.close()


async def test_required_stops_new_sessions_after_the_grace_and_no_open_one(
    watched: tuple[Place, Auditor],
) -> None:
    place, auditor = watched
    client = auditor.client(place)
    witnessed = Witnessed((client, 0.3))
    recorder = await place.start(refuse=witnessed.refuse)
    opened = await recorder.open({"target": "t"})
    await until(lambda: bool(witnessed.refuse()))
    with pytest.raises(RecordFailed, match="no witness has cosigned"):
        await recorder.open({"target": "t"})
    opened.append("request", "client", b"select 1")
    await client.cosign()
    again = await recorder.open({"target": "t"})
    await again.close("client", {})
    await recorder.stop()
    await client.close()
    assert all(isinstance(value, int | float) for value in witnessed.figures().values())


# --- several of them -----------------------------------------------------------------------------


async def test_two_witnesses_stand_in_one_note_and_a_third_that_is_down_delays_none(
    watched: tuple[Place, Auditor], tmp_path: Path
) -> None:
    place, one = watched
    (tmp_path / "two").mkdir()
    two = Auditor(tmp_path / "two", place, name="two.example")
    two.serve()
    key = WitnessKey.parse(VerifierKey.make("down", bytes(32), b"\x04").text())
    lock, logs = threading.Lock(), log_of(place).parent
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unheard.getsockname()[1]}"
        clients = [
            WitnessClient(logs, one.url, one.key, lock=lock),
            WitnessClient(logs, two.url, two.key, lock=lock),
            WitnessClient(logs, url, key, lock=lock),
        ]
        group = WitnessGroup(clients)
        running = asyncio.ensure_future(group.run(0.01))
        await until(lambda: clients[0].size == clients[1].size > 0 < clients[2].failures)
        await day(place)
        size = int((log_of(place) / "checkpoint").read_text().split("\n")[1])
        await until(lambda: clients[0].size == clients[1].size == size)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert await group.latest("trailgate/gw1/0") is not None
    assert await group.latest("trailgate/gw1/7") is None
    await group.close()
    trust = tmp_path / "trust"
    lines = f"witness a {one.key_text}\nwitness b {two.key_text}\n"
    log = f"log {(log_of(place) / 'node.vkey').read_text()}"
    trust.write_text(f"{log}{lines}group both all a b\nquorum both\n")
    findings = verify(Request(str(place.data), trust=trust))
    assert (findings.exit_code, findings.witnessed_to) == (0, findings.complete_to)
    witnessed = Witnessed((clients[0], math.inf), (clients[2], 0.0))
    assert "no witness has cosigned" in witnessed.refuse()
    assert witnessed.missing(1).startswith("the witness down at http://127.0.0.1:")
    assert Witnessed().refuse() == "" and Witnessed().missing(7) == ""
    two.end()


# --- the folder -----------------------------------------------------------------------------------


async def test_the_witnesss_folder(watched: tuple[Place, Auditor]) -> None:
    _, auditor = watched
    key = auditor.folder / "key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    with pytest.raises(WitnessError, match="another witness uses it"):
        Witness.open(auditor.folder, "x")
    vkey = auditor.witness.vkey
    auditor.witness.close()
    auditor.witness = Witness.open(auditor.folder, "ignored")
    assert auditor.witness.vkey == vkey
    policy = auditor.folder / "policy"
    policy.write_text(policy.read_text() + "# a note of the auditor's")
    another = VerifierKey.make("trailgate/gw1/1", bytes(range(32)), b"\x01").text()
    auditor.witness.close()
    auditor.witness = Witness.open(auditor.folder, "ignored", [another])
    assert auditor.witness.logs == ["trailgate/gw1/0", "trailgate/gw1/1"]
    assert "# a note of the auditor's\nlog " in policy.read_text()
    auditor.witness.close()
    forged = VerifierKey.make("trailgate/gw1/0", bytes(32), b"\x01").text()
    with pytest.raises(WitnessError, match="another key"):
        Witness.open(auditor.folder, "x", [forged])
    key.chmod(0o644)
    with pytest.raises(WitnessError, match="chmod 600"):
        Witness.open(auditor.folder, "x")
    key.chmod(0o600)
    auditor.witness = Witness.open(auditor.folder, "x")


@pytest.mark.parametrize(
    "request_", [b"", b"old 0", b"old x\n\n", b"new 0\n\n", b"old 0\n" + b"A\n" * 64 + b"\n"]
)
def test_requests_without_form_are_refused(request_: bytes) -> None:
    with pytest.raises(Exception, match="."):
        parse_request(request_)
