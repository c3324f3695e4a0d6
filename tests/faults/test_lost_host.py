# SPDX-License-Identifier: GPL-3.0-or-later
"""A host that is lost with its disk: the evidence in S3 (moto) goes on in the node's next log."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from gateway.app import running
from gateway.config import load_objects, load_settings
from gateway.model import RecordFailed
from gateway.record.choosing import Predecessor
from gateway.record.recipients import make_recipient
from gateway.record.recorder import NodeRecorder
from gateway.record.session_record import RecordedSession
from gateway.ship import ShipFailed
from gateway.ship.mirror import LogMirror
from gateway.ship.s3 import S3Options, S3Publisher
from gateway.ship.witness import WitnessClient
from gateway.verify.findings import Findings
from gateway.verify.note import ED25519, VerifierKey
from gateway.verify.run import Request, verify
from gateway.wiring.succession import predecessor
from tests.faults.auditor import Auditor, kinds
from tests.record.place import Place

pytestmark = pytest.mark.fault
BUCKET = "evidence"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


class Host:
    """A gateway's machine, of which only what was shipped outlives it."""

    def __init__(self, root: Path, store: S3Publisher, auditor: Path | None = None) -> None:
        root.mkdir()
        if auditor is not None:
            shutil.copytree(auditor, root / "auditor")
        self.place = Place(root)
        self.store = store
        self.mirror = LogMirror(self.place.evidence, store, self.place.data / "keys")
        self.alive = True

    async def publish(self, path: Path, name: str, sha256: str) -> None:
        if not self.alive:
            raise ShipFailed("this host is gone")
        await self.store.publish(path, name, sha256)

    async def before(self, client: WitnessClient | None = None) -> Predecessor | None:
        place = self.place
        return await predecessor(place.data, place.evidence, "gw1", self.store, client)

    async def start(self, client: WitnessClient | None = None) -> NodeRecorder:
        found = await self.before(client)
        return await self.place.start(
            publish=self.publish, predecessor=found, file_bytes=1 << 18, progress_seconds=0.0
        )


async def worked(recorder: NodeRecorder, close: bool) -> RecordedSession:
    session = await recorder.open({"target": "t"})
    for turn in range(3):
        session.append("request", "client", b"select 1", b'{"at":0}', turn + 1)
    if close:
        await session.close("client", {})
    await recorder._log.sign()
    return session


@pytest.fixture
async def store(
    endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[S3Publisher]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    client = boto3.client("s3", endpoint_url=endpoint)
    client.create_bucket(Bucket=f"{BUCKET}-{tmp_path.name}".replace("_", "-").lower())
    name = f"{BUCKET}-{tmp_path.name}".replace("_", "-").lower()
    made = S3Publisher(name, "prod", S3Options(endpoint_url=endpoint))
    yield made
    made.close()


def verified(store: S3Publisher, endpoint: str, trust: Path | None = None) -> Findings:
    address = f"s3://{store._bucket}/prod"
    return verify(Request(address, trust=trust, endpoint_url=endpoint))


async def lost_host(
    tmp_path: Path, store: S3Publisher, auditor: Auditor | None
) -> tuple[Host, str]:
    """A host that dies with a session open; its last leaves only the witness has seen."""
    host = Host(tmp_path / "one", store)
    recorder = await host.start()
    await worked(recorder, close=True)
    opened = await worked(recorder, close=False)
    await host.mirror.mirror()
    if auditor is not None:
        vkey = (host.place.evidence / "log" / "gw1" / "0" / "node.vkey").read_text().strip()
        auditor.witness._load_policy([vkey], [])
        await worked(recorder, close=True)
        await auditor.cosign(host.place)
    host.alive = False
    await recorder.stop(publish_seconds=0.1)
    return host, opened.id


async def test_the_evidence_in_s3_goes_on_without_a_witness(
    tmp_path: Path, store: S3Publisher, endpoint: str
) -> None:
    lost, opened = await lost_host(tmp_path, store, None)
    host = Host(tmp_path / "two", store, lost.place.auditor)
    found = await host.before()
    assert found is not None
    assert (found.number, found.source) == (0, "evidence")
    recorder = await host.start()
    await worked(recorder, close=True)
    await recorder.stop()
    await host.mirror.mirror()
    assert (host.place.evidence / "log" / "gw1" / "1" / "checkpoint").exists()
    findings = verified(store, endpoint)
    assert findings.defects == []
    assert opened in findings.lost
    assert (findings.logs, findings.open, findings.exit_code) == (2, [], 2)
    # What the next start does is no news.
    assert await host.before() is None
    # The first log is gone from the store: its successor says so.
    client = boto3.client("s3", endpoint_url=endpoint)
    for name in await store.names("log/gw1/0/"):
        client.delete_object(Bucket=store._bucket, Key=f"prod/evidence/{name}")
    assert any("is not here" in text for text in verified(store, endpoint).unresolved)


async def test_the_witness_says_how_far_the_lost_log_had_come(
    tmp_path: Path, store: S3Publisher, endpoint: str
) -> None:
    auditor = Auditor.by_root(tmp_path, _any_root())
    auditor.serve()
    lost, opened = await lost_host(tmp_path, store, auditor)
    seen = auditor.witness.last("trailgate/gw1/0")
    assert seen is not None
    host = Host(tmp_path / "two", store, lost.place.auditor)
    client = auditor.client(host.place)
    found = await host.before(client)
    assert found is not None
    assert (found.number, found.source) == (0, "witness")
    recorder = await host.start(client)
    await worked(recorder, close=True)
    await recorder.stop()
    await host.mirror.mirror()
    vkey = (host.place.evidence / "log" / "gw1" / "1" / "node.vkey").read_text().strip()
    auditor.witness._load_policy([vkey], [])
    await auditor.cosign(host.place)
    await host.mirror.mirror()
    await client.close()
    findings = verified(store, endpoint, auditor.folder)
    assert findings.defects == []
    assert opened in findings.lost
    leaves = [text for text in findings.lost if text.startswith("log/gw1/0: leaves ")]
    assert leaves and leaves[0].endswith(f"to {seen.size - 1}, which its witness saw")
    auditor.end()


async def test_an_operator_who_cites_less_than_the_witness_saw(
    tmp_path: Path, store: S3Publisher, endpoint: str
) -> None:
    auditor = Auditor.by_root(tmp_path, _any_root())
    auditor.serve()
    lost, _ = await lost_host(tmp_path, store, auditor)
    host = Host(tmp_path / "two", store, lost.place.auditor)
    recorder = await host.start()  # the witness is not asked
    await recorder.stop()
    await host.mirror.mirror()
    vkey = (host.place.evidence / "log" / "gw1" / "1" / "node.vkey").read_text().strip()
    auditor.witness._load_policy([vkey], [])
    await auditor.cosign(host.place)
    await host.mirror.mirror()
    assert "cut" in kinds(verified(store, endpoint, auditor.folder))
    auditor.end()


async def test_a_key_that_survived_its_log_does_not_write_it_again(
    tmp_path: Path, store: S3Publisher, endpoint: str
) -> None:
    lost, _ = await lost_host(tmp_path, store, None)
    host = Host(tmp_path / "two", store, lost.place.auditor)
    (host.place.data / "node").mkdir()
    shutil.copy(lost.place.data / "node" / "key", host.place.data / "node" / "key")
    recorder = await host.start()
    await recorder.stop()
    await host.mirror.mirror()
    assert not (host.place.evidence / "log" / "gw1" / "0").exists()
    assert verified(store, endpoint).defects == []


async def test_a_store_that_cannot_be_asked_stops_the_start(tmp_path: Path) -> None:
    class Away:
        async def names(self, below: str) -> set[str]:
            raise ShipFailed("s3://evidence: no answer")

        async def read(self, object_name: str) -> bytes:
            raise ShipFailed("s3://evidence: no answer")

    with pytest.raises(RecordFailed, match="cannot tell of its earlier ones"):
        await predecessor(tmp_path / "data", tmp_path / "evidence", "gw1", Away(), None)


def _any_root() -> str:
    return VerifierKey.make("root.example.com", bytes(range(32)), ED25519).text()


async def test_a_whole_gateway_comes_back_on_another_disk(
    tmp_path: Path, store: S3Publisher, endpoint: str
) -> None:
    """As `serve` does it: nothing is told but the settings."""
    (tmp_path / "keys").mkdir()
    make_recipient(tmp_path / "auditor")
    recipient = (tmp_path / "auditor" / "recipient.pub").read_text().strip()
    objects = tmp_path / "objects.yaml"
    objects.write_text(f"recipient: auditor\nkey: {recipient}\n")
    text = (
        f"node: gw1\ndata: {tmp_path}/data\nobjects: [objects.yaml]\n"
        f"evidence: {{to: 's3://{store._bucket}/prod', endpoint: '{endpoint}'}}\n"
    )
    settings, _ = load_settings(tmp_path / "trailgate.yaml", text)
    declared, _ = load_objects(settings.objects)
    for _ in range(2):
        async with running(settings, declared):
            pass
        shutil.rmtree(tmp_path / "data")
    findings = verified(store, endpoint)
    assert (findings.defects, findings.logs, findings.exit_code) == ([], 2, 0)
