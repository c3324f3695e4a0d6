# SPDX-License-Identifier: GPL-3.0-or-later
"""Publishing to a folder and to S3 (moto), the spool's patience, the mirror's order."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import boto3
import pytest
from moto.server import ThreadedMotoServer

from gateway.ship import ShipConflict, ShipFailed
from gateway.ship.digest import file_digest
from gateway.ship.folder import FolderPublisher
from gateway.ship.mirror import LogMirror
from gateway.ship.s3 import S3Options, S3Publisher
from gateway.ship.spool import Spool
from gateway.verify.__main__ import main
from gateway.verify.run import Request, verify
from tests.verify.corpus import whole

BUCKET = "evidence-bucket"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Publisher]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    urlopen(f"{endpoint}/moto-api/reset", data=b"").close()
    client = boto3.client("s3", endpoint_url=endpoint)
    client.create_bucket(Bucket=BUCKET)
    client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    publisher = S3Publisher(BUCKET, "site", S3Options(endpoint_url=endpoint))
    yield publisher
    publisher.close()


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    path = tmp_path / "0.journal"
    path.write_bytes(os.urandom(100_000))
    return path


async def test_a_folder_gets_the_bytes_and_may_be_asked_again(closed: Path, tmp_path: Path) -> None:
    publisher, digest = FolderPublisher(tmp_path / "evidence"), file_digest(closed)
    for _ in range(2):
        await publisher.publish(closed, f"seg/gw1/20261124/{digest}", digest)
    assert (tmp_path / f"evidence/seg/gw1/20261124/{digest}").stat().st_size == 100_000
    assert len(list((tmp_path / "evidence").rglob("*"))) == 4


async def test_a_folder_never_overwrites_other_bytes(closed: Path, tmp_path: Path) -> None:
    digest = file_digest(closed)
    there = tmp_path / "evidence" / "policy" / "a"
    there.parent.mkdir(parents=True)
    there.write_bytes(b"other")
    with pytest.raises(ShipConflict, match="other bytes"):
        await FolderPublisher(tmp_path / "evidence").publish(closed, "policy/a", digest)
    assert there.read_bytes() == b"other"


@pytest.mark.parametrize("name", ["../x", "/x", "a/../b", "", "a//b"])
async def test_no_name_leads_out_of_the_evidence(closed: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(ShipConflict):
        await FolderPublisher(tmp_path / "evidence").publish(closed, name, "0" * 64)


async def test_a_file_that_changed_is_not_shipped(closed: Path, s3: S3Publisher) -> None:
    with pytest.raises(ShipConflict, match="changed"):
        await s3.publish(closed, "seg/x", "0" * 64)
    assert await s3.names("seg/") == set()


async def test_s3_takes_equal_bytes_twice_and_other_bytes_never(
    closed: Path, s3: S3Publisher
) -> None:
    digest = file_digest(closed)
    await s3.publish(closed, "seg/x", digest)
    await s3.publish(closed, "seg/x", digest)
    assert await s3.names("seg/") == {"seg/x"}
    with pytest.raises(ShipConflict, match="other bytes"):
        await s3.publish_bytes("seg/x", b"other")


async def test_the_spool_tries_until_it_works_and_counts(closed: Path) -> None:
    waited: list[float] = []

    class Failing:
        tries = 0

        async def publish(self, path: Path, object_name: str, sha256: str) -> None:
            self.tries += 1
            if self.tries < 4:
                raise ShipFailed("down")

    async def sleep(seconds: float) -> None:
        assert (spool.backlog, spool.backlog_bytes) == (1, 100_000)
        waited.append(seconds)

    spool = Spool(Failing(), first_delay=1, sleep=sleep)
    await spool.publish(closed, "x", "")
    assert (len(waited), spool.backlog, spool.failures) == (3, 0, 0)
    assert waited[2] > waited[0]


async def test_the_mirror_ships_what_the_verifier_finds_sound(
    tmp_path: Path, s3: S3Publisher, endpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = whole(tmp_path, leaves=300)
    for path in corpus.root.glob("seg/*/*/*"):
        await s3.publish(path, path.relative_to(corpus.root).as_posix(), path.name)
    for _ in range(2):
        await LogMirror(corpus.root, s3).mirror()
    arguments = [f"s3://{BUCKET}/site", "--endpoint-url", endpoint, "-o", "json"]
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["checked"]["frames"] == 6
    boto3.client("s3", endpoint_url=endpoint).put_object(
        Bucket=BUCKET,
        Key="site/evidence/README.json",
        Body=corpus.root.joinpath("README.json").read_bytes(),
    )
    found = verify(Request(f"s3://{BUCKET}/site", endpoint_url=endpoint))
    assert [(defect.object, defect.kind) for defect in found.defects] == [
        ("README.json", "version")
    ]


async def test_a_mirror_cut_at_any_put_leaves_no_checkpoint_without_its_tiles(
    tmp_path: Path,
) -> None:
    corpus = whole(tmp_path, leaves=300)

    class Cut:
        def __init__(self, left: int) -> None:
            self.left, self.stored = left, set[str]()

        async def publish_bytes(self, object_name: str, body: bytes) -> None:
            self.left -= 1
            if self.left < 0:
                raise ShipFailed("cut")
            self.stored.add(object_name)

        async def overwrite(self, object_name: str, body: bytes) -> None:
            await self.publish_bytes(object_name, body)

        async def find(self, object_name: str) -> bytes | None:
            known = object_name in self.stored
            return (corpus.root / object_name).read_bytes() if known else None

        async def names(self, below: str) -> set[str]:
            return {name for name in self.stored if name.startswith(below)}

    full = Cut(1000)
    await LogMirror(corpus.root, full).mirror()
    tiles = {name for name in full.stored if "/tile/" in name}
    assert len(tiles) == 5
    for left in range(len(full.stored)):
        cut = Cut(left)
        with pytest.raises(ShipFailed):
            await LogMirror(corpus.root, cut).mirror()
        assert tiles <= cut.stored or not any("checkpoint" in name for name in cut.stored)
        cut.left = 1000
        await LogMirror(corpus.root, cut).mirror()
        assert cut.stored == full.stored
