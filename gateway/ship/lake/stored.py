# SPDX-License-Identifier: GPL-3.0-or-later
"""A lake that lies in a folder or a bucket."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.ship.lake.schema import LakeFailed, lake_module
from gateway.ship.lake.writing import MARK

_MOST_MARK = 1 << 20
_CURE = "trailgate audit rebuild-lake makes one"


@dataclass(frozen=True, slots=True)
class StoredLake:
    """`open_lake` makes it. `filesystem`: pyarrow's; `mark`: what the lake says of itself."""

    filesystem: Any
    root: str
    shown: str
    mark: dict[str, Any]

    @property
    def proved_to(self) -> str | None:
        """Up to when the evidence was proved when the lake was built."""
        found = self.mark.get("proved_to")
        return found if isinstance(found, str) and found else None

    def files(self, name: str, day: str | None = None) -> list[str]:
        """The Parquet files of a class or of the index, of one day (YYYYMMDD) or of all."""
        fs = lake_module("pyarrow.fs")
        selector = fs.FileSelector(f"{self.root}/{name}", allow_not_found=True, recursive=True)
        try:
            found = [
                one.path
                for one in self.filesystem.get_file_info(selector)
                if one.path.endswith(".parquet")
            ]
        except OSError as error:
            raise LakeFailed(f"{self.shown}: {error}", "check the place and its rights") from error
        wanted = f"/eventDay={day}/"
        return sorted(one for one in found if day is None or wanted in one)


def open_lake(place: str, endpoint_url: str | None = None, region: str | None = None) -> StoredLake:
    """A folder, or s3://BUCKET/PREFIX. Raises LakeFailed where no lake lies there."""
    if place.startswith("s3://"):
        filesystem, root = _bucket(endpoint_url, region), place.removeprefix("s3://").rstrip("/")
    else:
        filesystem, root = lake_module("pyarrow.fs").LocalFileSystem(), str(Path(place).absolute())
    try:
        with filesystem.open_input_stream(f"{root}/{MARK}") as stream:
            mark = json.loads(stream.read(_MOST_MARK))
    except (OSError, ValueError, RecursionError) as error:
        raise LakeFailed(f"{place} is no lake, or an older one", _CURE) from error
    if not isinstance(mark, dict):
        raise LakeFailed(f"{place} is no lake, or an older one", _CURE)
    return StoredLake(filesystem, root, place, mark)


def _bucket(endpoint_url: str | None, region: str | None) -> Any:
    """Credentials come from boto3's own chain, as for the evidence."""
    import boto3

    session = boto3.session.Session()
    found = session.get_credentials()
    options: dict[str, Any] = {"region": region or session.region_name or "us-east-1"}
    if found is not None:
        frozen = found.get_frozen_credentials()
        options.update(
            access_key=frozen.access_key, secret_key=frozen.secret_key, session_token=frozen.token
        )
    if endpoint := endpoint_url or os.environ.get("AWS_ENDPOINT_URL"):
        scheme, _, host = endpoint.rpartition("://")
        options.update(endpoint_override=host, scheme=scheme or "https")
    return lake_module("pyarrow.fs").S3FileSystem(**options)
