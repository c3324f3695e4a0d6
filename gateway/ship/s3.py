# SPDX-License-Identifier: GPL-3.0-or-later
"""Publishes to S3: conditional puts with SHA-256, verified at the store. No retries of its own."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from gateway.ship import ShipConflict, ShipFailed
from gateway.ship.digest import require_digest, require_name

MOST_BYTES = 5 * 1024**3
"""S3's limit for one put. Multipart uploads have no SHA-256 of the whole, so they are not used."""

MOST_SMALL = 65536

_MOST_SMALL = 1 << 20
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ObjectLock:
    """What is asked for with each object that never changes (S3 Object Lock)."""

    mode: str
    """governance or compliance."""
    days: int
    keys_days: int

    def asked(self, name: str, now: datetime) -> dict[str, Any]:
        """The parameters of a put."""
        days = self.keys_days if name.startswith("keys/") else self.days
        until = now.replace(microsecond=0) + timedelta(days=days)
        return {"ObjectLockMode": self.mode.upper(), "ObjectLockRetainUntilDate": until}


@dataclass(frozen=True, slots=True)
class S3Options:
    """How to reach the store. Credentials come from boto3's own chain only."""

    endpoint_url: str | None = None
    region: str | None = None
    threads: int = 4
    lock: ObjectLock | None = None
    read_back: bool = False
    """Read every object once it is put, whatever checksum the store says that it has."""
    attempts: int = 2

    def client(self) -> Any:
        """A boto3 client whose errors come soon, since the spool is the one that retries."""
        import boto3
        from botocore.config import Config

        settings = Config(
            connect_timeout=10,
            read_timeout=60,
            retries={"total_max_attempts": self.attempts, "mode": "standard"},
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
        self._lock = options.lock
        self._read_back = options.read_back
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

    async def find(self, object_name: str) -> bytes | None:
        """A small object; None when it is not there. Raises ShipFailed."""
        return await self._off_the_loop(lambda: self._find(object_name))

    async def wraps(self, session: str) -> dict[str, bytes]:
        """The wrapped keys of a session, by their names below keys/. Raises ShipFailed."""
        return await self._off_the_loop(lambda: self._wraps(session))

    async def erase_keys(self, session: str) -> None:
        """Delete every version of every wrapped key of a session.

        Raises ShipFailed: while they are locked, or where s3:DeleteObjectVersion is not given.
        """
        await self._off_the_loop(lambda: self._erase_keys(session))

    async def read(self, object_name: str) -> bytes:
        """A small object, whole."""
        place = self._place(object_name)
        return await self._off_the_loop(
            lambda: self._client.get_object(**place)["Body"].read(_MOST_SMALL)
        )

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

        # A bucket under Object Lock asks for the algorithm by name.
        asked: dict[str, Any] = {
            "ChecksumAlgorithm": "SHA256",
            "ChecksumSHA256": base64.b64encode(digest).decode(),
        }
        lock: dict[str, Any] = {}
        if only_new:
            asked["IfNoneMatch"] = "*"
            lock = self._lock.asked(name, datetime.now(UTC)) if self._lock else {}
        try:
            self._client.put_object(**self._place(name), Body=body, **asked, **lock)
        except ClientError as error:
            # 412: someone was first. With equal bytes that was us, before a crash.
            if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") != 412:
                raise
            self._require_equal(name, digest, ShipConflict)
        else:
            self._require_locked(name, self._require_equal(name, digest, ShipFailed), lock)

    def _require_equal(self, name: str, digest: bytes, failure: type[ShipFailed]) -> dict[str, Any]:
        """What the store says of an object that holds these bytes."""
        head, found = self._stored(name)
        if found != digest:
            place = self._place(name)
            raise failure(
                f"s3://{place['Bucket']}/{place['Key']}: holds other bytes (SHA-256 "
                f"{found.hex() or 'unknown'}) than ours ({digest.hex()}); evidence is never "
                "overwritten"
            )
        return head

    def _require_locked(self, name: str, head: dict[str, Any], lock: dict[str, Any]) -> None:
        """A store that takes the lock's headers and forgets them would keep nothing."""
        if not lock:
            return
        mode, until = head.get("ObjectLockMode"), head.get("ObjectLockRetainUntilDate")
        asked = lock["ObjectLockRetainUntilDate"]
        if mode != lock["ObjectLockMode"] or until is None or until < asked:
            raise ShipFailed(
                f"s3://{self._place(name)['Bucket']}: says that {name} is locked by {mode} until "
                f"{until}, not by {lock['ObjectLockMode']} until {asked}: turn Object Lock on for "
                "the bucket, and allow s3:GetObjectRetention"
            )

    def _stored(self, name: str) -> tuple[dict[str, Any], bytes]:
        """(what the store says of the object, SHA-256 of its bytes).

        By the store's own checksum; by reading the object where the store keeps none, or is not
        to be believed.
        """
        from botocore.exceptions import FlexibleChecksumError

        place = self._place(name)
        head: dict[str, Any] = self._client.head_object(**place, ChecksumMode="ENABLED")
        told = head.get("ChecksumSHA256") if head.get("ChecksumType") != "COMPOSITE" else None
        if told and not self._read_back:
            return head, base64.b64decode(told)
        stored = hashlib.sha256()
        try:
            for chunk in self._client.get_object(**place)["Body"].iter_chunks(1 << 20):
                stored.update(chunk)
        except FlexibleChecksumError:
            # What is read is not even what the store says of it.
            return head, b""
        return head, stored.digest()

    def _names(self, below: str) -> set[str]:
        place = self._place(below + "x")
        start = place["Key"].removesuffix("x")
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=place["Bucket"], Prefix=start
        )
        found = (item["Key"] for page in pages for item in page.get("Contents", []))
        return {below + key[len(start) :] for key in found}

    def _find(self, name: str) -> bytes | None:
        from botocore.exceptions import ClientError

        try:
            with self._client.get_object(**self._place(name))["Body"] as body:
                data: bytes = body.read(MOST_SMALL)
                return data
        except ClientError as error:
            if error.response["Error"]["Code"] in ("NoSuchKey", "404"):
                return None
            raise

    def _wraps(self, session: str) -> dict[str, bytes]:
        found = {}
        for name in self._names(f"keys/{session}/"):
            with self._client.get_object(**self._place(name))["Body"] as body:
                found[name.removeprefix("keys/")] = body.read(MOST_SMALL)
        return found

    def _erase_keys(self, session: str) -> None:
        for key, version in self._versions(session):
            self._client.delete_object(Bucket=self._keys_bucket, Key=key, VersionId=version)
        if left := [key for key, _ in self._versions(session)]:
            raise ShipFailed(f"s3://{self._keys_bucket}/{left[0]}: was deleted and is still there")

    def _versions(self, session: str) -> list[tuple[str, str]]:
        below = self._place(f"keys/{session}/x")["Key"].removesuffix("x")
        pages = self._client.get_paginator("list_object_versions").paginate(
            Bucket=self._keys_bucket, Prefix=below
        )
        return [
            (one["Key"], one["VersionId"])
            for page in pages
            for kind in ("Versions", "DeleteMarkers")
            for one in page.get(kind, [])
        ]


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()
