# SPDX-License-Identifier: GPL-3.0-or-later
"""Evidence in a bucket, through boto3: all versions are listed, since Object Lock stops neither a
second version nor a delete marker."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from gateway.verify.findings import CannotCheck
from gateway.verify.source import Chunks, Missing

_MAY_CHANGE = re.compile(r"log/[^/]+/\d+/(checkpoint|tile/.+\.p/\d+)")


def client(endpoint_url: str | None = None, region: str | None = None) -> Any:
    """A boto3 client; credentials come from boto3's own chain. Raises CannotCheck."""
    try:
        import boto3
    except ImportError:
        raise CannotCheck("to read s3:// addresses: pip install boto3") from None
    return boto3.client("s3", endpoint_url=endpoint_url, region_name=region)


class S3Source:
    """Objects below `s3://bucket/prefix`."""

    def __init__(self, address: str, boto_client: Any) -> None:
        parts = urlsplit(address)
        if parts.scheme != "s3" or not parts.netloc:
            raise CannotCheck(f"{address}: an address is s3://BUCKET/PREFIX")
        self.place = address
        self._bucket = parts.netloc
        self._prefix = parts.path.strip("/") + "/" if parts.path.strip("/") else ""
        self._client = boto_client
        self._odd: list[tuple[str, str, str]] = []

    def holds_evidence(self) -> bool:
        """Whether a log or README.json lies here, or lay here once. Raises CannotCheck."""
        return any(self._any(self._prefix + name) for name in ("README.json", "log/"))

    def _any(self, prefix: str) -> bool:
        with self._readable(prefix):
            page = self._client.list_object_versions(Bucket=self._bucket, Prefix=prefix, MaxKeys=1)
        return bool(page.get("Versions") or page.get("DeleteMarkers"))

    def names(self) -> dict[str, int]:
        self._odd = []
        sizes: dict[str, int] = {}
        seen: set[str] = set()
        for page in self._pages():
            for version in page.get("Versions", []):
                name = version["Key"][len(self._prefix) :]
                if version["IsLatest"]:
                    sizes[name] = version["Size"]
                if name in seen and not _MAY_CHANGE.fullmatch(name):
                    self._note(name, "version", "has a second version: it was written over")
                seen.add(name)
            for marker in page.get("DeleteMarkers", []):
                name = marker["Key"][len(self._prefix) :]
                if not re.search(r"\.p/\d+$", name):
                    self._note(name, "deleted", "has a delete marker: someone deleted it")
        return sizes

    def _note(self, name: str, kind: str, detail: str) -> None:
        self._odd.append((name, kind, detail))

    def oddities(self) -> list[tuple[str, str, str]]:
        return list(self._odd)

    def _pages(self) -> Iterator[dict[str, Any]]:
        pages = self._client.get_paginator("list_object_versions")
        with self._readable(self._prefix):
            yield from pages.paginate(Bucket=self._bucket, Prefix=self._prefix)

    @contextmanager
    def _readable(self, key: str) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in ("NoSuchKey", "404"):
                raise Missing(key) from None
            raise CannotCheck(f"s3://{self._bucket}/{key}: {error}") from error
        except (BotoCoreError, OSError) as error:
            raise CannotCheck(f"s3://{self._bucket}/{key}: {error}") from error

    def read(self, name: str, most: int) -> bytes:
        with self.open(name) as chunks:
            data = chunks.read(most + 1)
            while len(data) <= most and (piece := chunks.read(most + 1 - len(data))):
                data += piece
        if len(data) > most:
            raise ValueError(f"is larger than the {most} bytes that such an object may have")
        return data

    @contextmanager
    def open(self, name: str) -> Iterator[Chunks]:
        key = self._prefix + name
        with self._readable(key):
            body = self._client.get_object(Bucket=self._bucket, Key=key)["Body"]
            try:
                yield body
            finally:
                body.close()
