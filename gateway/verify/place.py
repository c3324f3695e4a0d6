# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the evidence and the wrapped keys lie, from what the auditor names and README.json says."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any
from typing import Protocol as Interface

from gateway.verify import s3
from gateway.verify.findings import CannotCheck
from gateway.verify.source import FolderSource, JoinedSource, Missing, Source

_KEYS = re.compile(r"s3://[^\0]+|(?:\.\./)?[A-Za-z0-9_-][A-Za-z0-9._-]*")
"""What README.json may name: a bucket, or a folder beside the evidence, never one elsewhere."""


class Place(Interface):
    """What is asked for; see `run.Request`."""

    @property
    def path(self) -> str: ...
    @property
    def keys(self) -> str | None: ...
    @property
    def endpoint_url(self) -> str | None: ...
    @property
    def region(self) -> str | None: ...


def open_source(request: Place) -> tuple[Source, bool]:
    """The evidence with its keys, and whether journal files beside it are still written."""
    if request.path.startswith("s3://"):
        return _open_s3(request), False
    path = Path(request.path)
    if not path.is_dir():
        raise CannotCheck(
            f"{path}: no such folder",
            "name a data folder, an evidence folder or s3://BUCKET/PREFIX",
        )
    root = _root(path)
    beside = _keys_beside(FolderSource(root))
    if request.keys:
        keys = _given_keys(request.keys, request)
    elif beside.startswith("s3://"):
        keys = s3.S3Source(beside, s3.client(request.endpoint_url, request.region))
    else:
        keys = FolderSource(Path(os.path.normpath(root / beside)))
    writing = any(journal_beside(request.path).glob("*.journal"))
    return JoinedSource(FolderSource(root), keys), writing


def _given_keys(place: str, request: Place) -> Source:
    if place.startswith("s3://"):
        return s3.S3Source(place, s3.client(request.endpoint_url, request.region))
    if not Path(place).is_dir():
        raise CannotCheck(f"{place}: no such folder", "name the one that holds SESSION/SHA256.wrap")
    return FolderSource(Path(place))


def _root(path: Path) -> Path:
    return path / "evidence" if (path / "evidence").is_dir() else path


def journal_beside(path: str) -> Path:
    """Where a gateway's journal lies, if this is its data folder and no copy of the evidence."""
    return _root(Path(path)).parent / "journal"


def _open_s3(request: Place) -> Source:
    client = s3.client(request.endpoint_url, request.region)
    address = request.path.rstrip("/")
    evidence = s3.S3Source(address, client)
    if not evidence.holds_evidence():
        inner = s3.S3Source(f"{address}/evidence", client)
        evidence = inner if inner.holds_evidence() else evidence
    if request.keys:
        return JoinedSource(evidence, _given_keys(request.keys, request))
    beside = _keys_beside(evidence)
    if not beside.startswith("s3://"):
        bucket, _, prefix = evidence.place.removeprefix("s3://").partition("/")
        beside = f"s3://{bucket}{os.path.normpath('/' + prefix + '/' + beside)}"
    return JoinedSource(evidence, s3.S3Source(beside, client))


def _keys_beside(evidence: Source) -> str:
    """Where README.json says the keys are; where they are by default, if it says nothing."""
    try:
        readme: Any = json.loads(evidence.read("README.json", 65536))
        keys = readme["keys"]
    except (Missing, ValueError, KeyError, TypeError, RecursionError):
        return "../keys"
    return keys if isinstance(keys, str) and _KEYS.fullmatch(keys) else "../keys"
