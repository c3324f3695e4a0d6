# SPDX-License-Identifier: GPL-3.0-or-later
"""The same record in a bucket (moto), keys in another: read by range, with a bounded cache."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from gateway.record.places import BLOCK, CACHED_BLOCKS, Bucket, Gone, Reach, Unreadable
from gateway.record.reader import Evidence
from tests.record.recorded_story import Story


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def reach(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Reach:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    return Reach(endpoint_url=endpoint)


def uploaded(story: Story, reach: Reach, bucket: str, keys: str) -> None:
    """As gateway/ship/s3.py lays it out below the prefix `prod`."""
    client = boto3.client("s3", endpoint_url=reach.endpoint_url)
    for name in {bucket, keys}:
        client.create_bucket(Bucket=name)
    for path in story.data.rglob("*"):
        name = path.relative_to(story.data).as_posix()
        if path.is_file() and name.startswith(("evidence/", "keys/")):
            place = keys if name.startswith("keys/") else bucket
            client.upload_file(str(path), place, f"prod/{name}")


@pytest.mark.parametrize("address", ["s3://one/prod", "s3://one/prod/evidence"])
def test_a_record_in_a_bucket_reads_as_in_a_folder(
    tmp_path: Path, reach: Reach, address: str
) -> None:
    story = Story(tmp_path).shipped()
    bucket = f"one-{len(address)}"
    uploaded(story, reach, bucket, bucket)
    place = address.replace("one", bucket, 1)
    evidence = Evidence(place, story.identity(), reach=reach)
    local = Evidence(tmp_path, story.identity(), running=True)
    assert evidence.sessions() == local.sessions()
    session = story.reader.id
    assert list(evidence.frames(session)) == list(local.frames(session))
    assert evidence.notes == []


def test_keys_in_a_bucket_of_their_own_are_named(tmp_path: Path, reach: Reach) -> None:
    story = Story(tmp_path).shipped()
    uploaded(story, reach, "two", "two-keys")
    session = story.reader.id
    assert not Evidence("s3://two/prod", story.identity(), reach=reach).opens(session)
    named = Reach("s3://two-keys/prod/keys", reach.endpoint_url)
    assert Evidence("s3://two/prod", story.identity(), reach=named).opens(session)


def test_ranges_over_blocks_are_joined_and_few_blocks_are_kept(reach: Reach) -> None:
    client = boto3.client("s3", endpoint_url=reach.endpoint_url)
    client.create_bucket(Bucket="three")
    body = bytes(range(256)) * (BLOCK // 256) * 2 + b"end"
    for number in range(CACHED_BLOCKS):
        client.put_object(Bucket="three", Key=f"x/{number}", Body=body)
    place = Bucket("s3://three/x", client)
    assert place.read("0", BLOCK - 5, 1 << 20) == body[BLOCK - 5 : BLOCK - 5 + (1 << 20)]
    assert place.read("0", 2 * BLOCK - 1, 1 << 20) == body[-4:]
    assert place.read("0", len(body) + 5, 10) == b""
    for number in range(CACHED_BLOCKS):
        assert place.read(str(number), 0, 1 << 20) == body[: 1 << 20]
    assert len(place._blocks) == CACHED_BLOCKS
    with pytest.raises(Gone):
        place.read("none", 0, 10)


def test_a_bucket_that_is_not_there_is_refused(reach: Reach) -> None:
    with pytest.raises(Unreadable, match="no-such-bucket"):
        Evidence("s3://no-such-bucket/x", reach=reach).sessions()
    with pytest.raises(Unreadable, match="no such place"):
        Evidence("s3://", reach=reach)
