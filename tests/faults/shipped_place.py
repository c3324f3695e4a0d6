# SPDX-License-Identifier: GPL-3.0-or-later
"""A node whose evidence goes to a strict S3, as the wiring has it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import boto3
import pytest

from gateway.record.recorder import NodeRecorder
from gateway.ship.mirror import LogMirror
from gateway.ship.s3 import ObjectLock, S3Options, S3Publisher
from gateway.ship.spool import Spool
from gateway.verify.findings import Findings
from gateway.verify.run import Request, verify
from tests.faults.strict_s3 import EVIDENCE, KEYS, StrictS3
from tests.record.place import Place

LOCK = ObjectLock("compliance", 400, 7)


@contextmanager
def strict_buckets(monkeypatch: pytest.MonkeyPatch) -> Iterator[StrictS3]:
    """The strict S3 with both buckets, and credentials for it in the environment."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    strict = StrictS3().start()
    try:
        make_buckets(strict)
        yield strict
    finally:
        strict.stop()


def make_buckets(s3: StrictS3) -> None:
    client = boto3.client("s3", endpoint_url=s3.url)
    for bucket in (EVIDENCE, KEYS):
        client.create_bucket(Bucket=bucket)
        versioning = {"Status": "Enabled"}
        client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration=versioning)
    client.close()


class ShippedPlace(Place):
    """Waits are short; a retry comes at once."""

    def __init__(self, root: Path, s3: StrictS3, **options: Any) -> None:
        super().__init__(root)
        known = {"lock": LOCK, "read_back": True, "attempts": 1, **options}
        self._options = S3Options(s3.url, "us-east-1", **known)
        self.s3 = s3
        self.mirror: LogMirror
        self.spool: Spool

    @asynccontextmanager
    async def running(
        self, publish_seconds: float = 10.0, **changes: Any
    ) -> AsyncIterator[NodeRecorder]:
        """A recorder with its publisher and mirror; at the end all is tried to be shipped."""
        publisher = S3Publisher(EVIDENCE, "site", self._options, keys_bucket=KEYS)
        self.spool = Spool(publisher, first_delay=0.01, most_delay=0.1)
        self.mirror = mirror = LogMirror(self.evidence, publisher, self.data / "keys")

        async def short(seconds: float) -> None:
            await asyncio.sleep(min(seconds, 0.05))

        mirroring = asyncio.ensure_future(mirror.run(0.05, short))
        try:
            recorder = await self.start(
                publish=self.spool.publish, keys_elsewhere=mirror,
                keys_url=f"s3://{KEYS}/site/keys", **changes,
            )  # fmt: skip
            try:
                yield recorder
            finally:
                await recorder.stop(publish_seconds)
        finally:
            mirroring.cancel()
            await asyncio.gather(mirroring, return_exceptions=True)
            with suppress(Exception):
                await mirror.mirror()
            publisher.close()

    def verify_bucket(self, opened: bool = True) -> Findings:
        identity = self.auditor / "identity" if opened else None
        request = Request(f"s3://{EVIDENCE}/site", endpoint_url=self.s3.url, identity=identity)
        return verify(request)

    def names(self, bucket: str = EVIDENCE) -> list[str]:
        client = boto3.client("s3", endpoint_url=self.s3.url)
        pages = client.get_paginator("list_object_versions").paginate(Bucket=bucket)
        return [one["Key"] for page in pages for one in page.get("Versions", [])]
