# SPDX-License-Identifier: GPL-3.0-or-later
"""`trailgate audit open` of a bucket: the command itself, by a browser without scripts."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from gateway.ship.s3 import S3Options, S3Publisher
from tests.faults.shipped_place import ShippedPlace, strict_buckets
from tests.faults.strict_s3 import EVIDENCE, KEYS, StrictS3
from tests.record.recorded_story import Story

KEYS_PLACE = f"s3://{KEYS}/site/keys"


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[StrictS3]:
    with strict_buckets(monkeypatch) as strict:
        yield strict


async def put_in_buckets(story: Story, s3: StrictS3) -> None:
    publisher = S3Publisher(
        EVIDENCE, "site", S3Options(s3.url, "us-east-1", attempts=1), keys_bucket=KEYS
    )
    root = story.data / "evidence"
    for path in sorted(root.rglob("*")):
        if path.is_file():
            await publisher.publish_bytes(path.relative_to(root).as_posix(), path.read_bytes())
    for path in sorted((story.data / "keys").rglob("*.wrap")):
        name = path.relative_to(story.data).as_posix()
        await publisher.publish_bytes(name, path.read_bytes())
    publisher.close()


@contextmanager
def opened(s3: StrictS3, *more: object) -> Iterator[httpx.Client]:
    """The pages, once the address that works once was used."""
    where = ["--data", f"s3://{EVIDENCE}/site", "--keys", KEYS_PLACE, "--endpoint-url", s3.url]
    child = subprocess.Popen(
        [sys.executable, "-m", "gateway", "audit", "open", *where, *map(str, more)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout is not None and child.stderr is not None
        line = child.stdout.readline()
        assert line, child.stderr.read()
        address = line.split()[-1]
        with httpx.Client(base_url=address.partition("/?")[0], follow_redirects=True) as client:
            assert client.get(address).status_code == 200
            yield client
    finally:
        child.send_signal(signal.SIGTERM)
        out = child.communicate(timeout=30)
    assert child.returncode == 0, out[1]


def verdict(client: httpx.Client) -> str:
    """The page, once the verifier has ended; the runner's timeout ends a wait in vain."""
    while "Verifying" in (text := client.get("/verification").text):
        time.sleep(0.1)
    return text


async def test_pages_of_a_bucket_show_what_the_key_opens(tmp_path: Path, s3: StrictS3) -> None:
    story = Story(tmp_path / "data").shipped()
    await put_in_buckets(story, s3)
    before = len(s3.seen)
    with opened(s3, "--identity", story.identity()) as client:
        assert story.reader.id in client.get("/").text
        session = client.get(f"/session/{story.reader.id}").text
        assert "Ada" in session
        assert client.get(f"/timeline/{story.reader.id}").status_code == 200
        assert "reader" in client.get("/agents").text
        assert client.get("/session/nobody").status_code == 404
        # This story has a frame too few in a leaf, on purpose.
        assert "Not sound" in verdict(client)
    # Reading writes nothing, and asks for nothing that a reader may not.
    assert {one.method for one in s3.seen[before:]} <= {"GET", "HEAD"}
    with opened(s3) as client:
        sealed = client.get(f"/session/{story.reader.id}")
        assert sealed.status_code == 200 and "Ada" not in sealed.text


async def test_the_verdict_over_a_bucket_is_by_the_trust_file(tmp_path: Path, s3: StrictS3) -> None:
    place = ShippedPlace(tmp_path, s3)
    async with place.running() as recorder:
        session = await recorder.open({"target": "orders"})
        await session.close("client", {})
    trust = tmp_path / "trust"
    trust.write_text(next(place.evidence.glob("log/*/*/node.vkey")).read_text())
    identity = place.auditor / "identity"
    with opened(s3, "--identity", identity, "--trust", trust) as client:
        text = verdict(client)
        assert "Not sound" not in text and "trailgate/gw1/0" in text
        assert session.id in client.get("/").text
    trust.write_text(trust.read_text().replace("gw1/0", "gw9/0"))
    with opened(s3, "--identity", identity, "--trust", trust) as client:
        assert "does not fit its name and key" in verdict(client)


def test_a_bucket_that_is_not_there_is_told(s3: StrictS3) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "audit", "open", "--data", "s3://nowhere/site",
         "--endpoint-url", s3.url],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert "s3://nowhere" in done.stderr and "next: " in done.stderr
