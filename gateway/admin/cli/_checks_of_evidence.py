# SPDX-License-Identifier: GPL-3.0-or-later
"""What `doctor` looks at of shipping: the buckets' Object Lock, and what waits to be published."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gateway.admin.cli._checks import NOTE, OK, UNKNOWN, WRONG, Finding
from gateway.config import BacklogSettings, EvidenceSettings
from gateway.model import RecordFailed
from gateway.record.state import State

_MIB = 1 << 20


def check_locks(given: EvidenceSettings) -> Iterator[Finding]:
    """Whether the buckets can lock, where the settings ask for it."""
    if given.lock is None:
        return
    for store in (given.to, given.keys):
        if store is not None and store.bucket:
            yield _bucket_lock(store.bucket, given)


def _bucket_lock(bucket: str, given: EvidenceSettings) -> Finding:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    waits = Config(connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 1})
    place: dict[str, Any] = {"endpoint_url": given.endpoint, "region_name": given.region}
    shown = f"s3://{bucket}"
    try:
        client = boto3.client("s3", config=waits, **place)
        answer = client.get_object_lock_configuration(Bucket=bucket)
        enabled = answer["ObjectLockConfiguration"].get("ObjectLockEnabled") == "Enabled"
    except ClientError as error:
        if error.response["Error"]["Code"] == "AccessDenied":
            cure = "allow s3:GetBucketObjectLockConfiguration"
            return Finding("lock", shown, UNKNOWN, "its Object Lock may not be asked for", cure)
        enabled = False
    except (BotoCoreError, ValueError, OSError, KeyError) as error:
        cure = "check its name, region, endpoint and the credentials in boto3's chain"
        return Finding("lock", shown, UNKNOWN, str(error), cure)
    if enabled:
        return Finding("lock", shown, OK, "has Object Lock")
    cure = "make the bucket with Object Lock, or remove evidence.lock"
    return Finding("lock", shown, WRONG, "has no Object Lock: nothing can be published", cure)


def check_backlog(data: Path, marks: BacklogSettings) -> Finding:
    """Closed journal files that wait, against the marks."""
    shown = str(data / "journal")
    try:
        waiting = sum(_waiting(data / "journal"))
    except (OSError, RecordFailed) as error:
        cure = "run doctor as the gateway's user"
        return Finding("backlog", shown, UNKNOWN, str(error), cure)
    detail = f"{waiting // _MIB} MiB wait to be published"
    cure = "see why evidence does not leave: trailgate_record_ship_failures, and the gateway's log"
    if waiting >= marks.hard_bytes:
        detail += ": the hard mark is reached, no session is let in"
        return Finding("backlog", shown, WRONG, detail, cure)
    if waiting >= marks.soft_bytes:
        return Finding("backlog", shown, NOTE, detail + ": the soft mark is reached", cure)
    return Finding("backlog", shown, OK, detail)


def _waiting(journal: Path) -> Iterator[int]:
    """Sizes of closed files without a leaf; the newest is the one that is written."""
    if not journal.is_dir():
        return
    state = State.read(journal)
    named = set(state.segments) if state else set()
    numbers = sorted(int(path.stem) for path in journal.glob("*.journal") if path.stem.isdigit())
    for number in numbers[:-1]:
        if number not in named:
            yield (journal / f"{number}.journal").stat().st_size
