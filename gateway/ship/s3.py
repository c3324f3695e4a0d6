# SPDX-License-Identifier: GPL-3.0-or-later
"""Publishes to S3: conditional puts with SHA-256, verified at the store. No retries of its own."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from gateway.ship import ShipConflict, ShipFailed
from gateway.ship.digest import require_digest, require_name

MOST_BYTES = 5 * 1024**3
"""S3's limit for one put. Multipart uploads have no SHA-256 of the whole, so they are not used."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class S3Options:
    """How to reach the store. Credentials come from boto3's own chain only."""

    endpoint_url: str | None = None
    region: str | None = None
    threads: int = 4

    def client(self) -> Any:
        """A boto3 client whose errors come soon, since the spool is the one that retries."""
        import boto3
        from botocore.config import Config

        settings = Config(
            connect_timeout=10,
            read_timeout=60,
            retries={"total_max_attempts": 2, "mode": "standard"},
            max_pool_connections=self.threads,
        )
        return boto3.client(
            "s3", endpoint_url=self.endpoint_url, region_name=self.region, config=settings
        )


class S3Publisher:
    """Evidence below `s3://bucket/prefix/evidence/`, keys below `s3://keys/prefix/keys/`."""

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        options: S3Options | None = None,
        keys_bucket: str | None = None,
    ) -> None:
        options = options or S3Options()
        self._client = options.client()
        self._bucket = bucket
        self._keys_bucket = keys_bucket or bucket
        self._prefix = prefix.strip("/") + "/" if prefix.strip("/") else ""
        self._threads = ThreadPoolExecutor(options.threads, thread_name_prefix="ship-s3")

    def close(self) -> None:
        """Let go of threads and connections; puts that run are waited for."""
        self._threads.shutdown(wait=True)
        self._client.close()

    async def publish(self, path: Path, object_name: str, sha256: str) -> None:
        """As Publisher, for objects that never change. Refuses files above MOST_BYTES."""
        await self._off_the_loop(lambda: self._publish(path, object_name, sha256))

    async def overwrite(self, object_name: str, body: bytes) -> None:
        """Put an object that may change: `checkpoint` and partial tiles."""
        await self._off_the_loop(
            lambda: self._put(object_name, body, _digest(body), only_new=False)
        )

    async def publish_bytes(self, object_name: str, body: bytes) -> None:
        """`publish` for a small object that is in memory."""
        await self._off_the_loop(lambda: self._publish_body(object_name, body, _digest(body)))

    async def names(self, below: str) -> set[str]:
        """The names of all objects below `below`, which ends with a slash."""
        return await self._off_the_loop(lambda: self._names(below))

    async def _off_the_loop(self, work: Callable[[], T]) -> T:
        from botocore.exceptions import BotoCoreError, ClientError

        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, work)
        except (BotoCoreError, ClientError, OSError) as error:
            raise ShipFailed(f"s3://{self._bucket}/{self._prefix}: {error}") from error

    def _place(self, name: str) -> dict[str, str]:
        if require_name(name).startswith("keys/"):
            return {"Bucket": self._keys_bucket, "Key": self._prefix + name}
        return {"Bucket": self._bucket, "Key": f"{self._prefix}evidence/{name}"}

    def _publish(self, path: Path, name: str, sha256: str) -> None:
        if path.stat().st_size > MOST_BYTES:
            raise ShipConflict(f"{path}: above the {MOST_BYTES} bytes that S3 takes in one put")
        require_digest(path, sha256)
        with path.open("rb") as body:
            self._publish_body(name, body, bytes.fromhex(sha256))

    def _publish_body(self, name: str, body: Any, digest: bytes) -> None:
        self._put(name, body, digest, only_new=True)

    def _put(self, name: str, body: Any, digest: bytes, only_new: bool) -> None:
        from botocore.exceptions import ClientError

        checksum = base64.b64encode(digest).decode()
        condition = {"IfNoneMatch": "*"} if only_new else {}
        try:
            self._client.put_object(
                **self._place(name), Body=body, ChecksumSHA256=checksum, **condition
            )
        except ClientError as error:
            # 412: someone was first. With equal bytes that was us, before a crash.
            if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") != 412:
                raise
            self._require_equal(name, digest, ShipConflict)
        else:
            self._require_equal(name, digest, ShipFailed)

    def _require_equal(self, name: str, digest: bytes, failure: type[ShipFailed]) -> None:
        if (found := self._stored_digest(name)) != digest:
            place = self._place(name)
            raise failure(
                f"s3://{place['Bucket']}/{place['Key']}: holds other bytes (SHA-256 "
                f"{found.hex()}) than ours ({digest.hex()}); evidence is never overwritten"
            )

    def _stored_digest(self, name: str) -> bytes:
        """By the store's own checksum; by reading the object where the store keeps none."""
        place = self._place(name)
        head = self._client.head_object(**place, ChecksumMode="ENABLED")
        if head.get("ChecksumSHA256") and head.get("ChecksumType") != "COMPOSITE":
            return base64.b64decode(head["ChecksumSHA256"])
        stored = hashlib.sha256()
        for chunk in self._client.get_object(**place)["Body"].iter_chunks(1 << 20):
            stored.update(chunk)
        return stored.digest()

    def _names(self, below: str) -> set[str]:
        place = self._place(below + "x")
        start = place["Key"].removesuffix("x")
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=place["Bucket"], Prefix=start
        )
        found = (item["Key"] for page in pages for item in page.get("Contents", []))
        return {below + key[len(start) :] for key in found}


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()
