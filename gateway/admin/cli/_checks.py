# SPDX-License-Identifier: GPL-3.0-or-later
"""What `doctor` looks at on this machine: settings, clock, data folder, recipients, evidence."""

from __future__ import annotations

import ctypes
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gateway.admin.cli.client import gateway_for, status_of
from gateway.admin.cli.output import Failed
from gateway.config import (
    ConfigError,
    EvidenceSettings,
    Objects,
    Settings,
    load_objects,
    load_settings,
)
from gateway.policy.documents import PolicyError, PolicySet
from gateway.record.recipients import BadKey, Recipient

OK, WRONG, UNKNOWN, NOTE = "ok", "wrong", "unknown", "note"
LEAST_FREE_BYTES = 1 << 30
_TIME_ERROR = 5
_TIMEX_BYTES = 256
"""More than `struct timex` has anywhere; with `modes` 0 the call only reads."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `state`: ok, note (works, could be better), wrong, or unknown
    (could not be checked)."""

    check: str
    subject: str
    state: str
    detail: str
    cure: str = ""

    def document(self) -> dict[str, str]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Declared:
    """What the settings name, as far as it could be read."""

    settings: Settings | None
    objects: Objects | None


def check_settings(path: Path, findings: list[Finding]) -> Declared:
    """Settings, objects and policies, every mistake at its place."""
    try:
        settings, warnings = load_settings(path.absolute())
    except ConfigError as error:
        findings += _mistakes("settings", path, error)
        return Declared(None, None)
    findings += [Finding("settings", str(path), NOTE, str(one)) for one in warnings]
    findings.append(Finding("settings", str(path), OK, "are understood"))
    objects = None
    try:
        objects, notes = load_objects(settings.objects)
        findings += [Finding("objects", "", NOTE, str(one)) for one in notes]
        findings.append(Finding("objects", "", OK, f"{len(objects.targets)} targets are declared"))
    except ConfigError as error:
        findings += _mistakes("objects", path, error)
    findings.append(_policies(settings))
    return Declared(settings, objects)


def _mistakes(check: str, path: Path, error: ConfigError) -> list[Finding]:
    cure = "correct the line that is named"
    return [Finding(check, str(path), WRONG, line, cure) for line in str(error).splitlines()]


def _policies(settings: Settings) -> Finding:
    if not settings.policies:
        cure = "name files or folders under `policies`, or declare some: trailgate apply -f FILE"
        detail = "none are named: nothing is allowed but by policies that are declared"
        return Finding("policies", "", NOTE, detail, cure)
    try:
        count = len(PolicySet.load(settings.policies).documents)
    except (PolicyError, OSError) as error:
        return Finding("policies", "", WRONG, str(error), "correct the lines that are named")
    if not count:
        return Finding("policies", "", WRONG, "the folders hold none", "write one: trailgate init")
    return Finding("policies", "", OK, f"{count} documents are in order")


def check_clock() -> Finding:
    """Whether the kernel says that its clock is kept in step (adjtimex(2))."""
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    except (OSError, AttributeError):
        state = -1
    if state < 0:
        return Finding("clock", "", NOTE, "this system does not say whether its clock is kept")
    if state == _TIME_ERROR:
        cure = "run chrony or systemd-timesyncd: tokens and the record lean on the time"
        return Finding("clock", "", NOTE, "no time service keeps this machine's clock", cure)
    return Finding("clock", "", OK, "is kept by a time service")


def check_data(data: Path) -> Iterator[Finding]:
    """The data folder: there, ours, closed to others, with space left."""
    shown = str(data)
    try:
        mode = data.stat().st_mode
        free = shutil.disk_usage(data).free
    except OSError as error:
        cure = f"as the gateway's user: mkdir -m 700 -p {data}"
        yield Finding("data", shown, WRONG, error.strerror or "cannot be read", cure)
        return
    if not stat.S_ISDIR(mode) or not os.access(data, os.R_OK | os.W_OK | os.X_OK):
        cure = "make it a folder that the gateway's user owns; run doctor as that user"
        yield Finding("data", shown, WRONG, "is no folder that this user may write", cure)
        return
    if stat.S_IMODE(mode) & 0o077:
        cure = f"chmod 700 {data}"
        yield Finding("data", shown, WRONG, "others may look into it", cure)
    if free < LEAST_FREE_BYTES:
        detail = f"{free >> 20} MiB are free; without space sessions stop"
        yield Finding("data", shown, WRONG, detail, "make room, or move the folder")
    else:
        yield Finding("data", shown, OK, f"is writable, {free >> 20} MiB are free")
    if (data / "auditor" / "identity").exists():
        cure = "move it to the auditor's machine and delete it here"
        yield Finding("data", shown, NOTE, "holds a private key that opens the record", cure)


def check_recipients(objects: Objects) -> Iterator[Finding]:
    """Whom the record is sealed to; without one nothing may be recorded."""
    if not objects.recipients:
        cure = "declare a recipient; trailgate init makes a key pair"
        yield Finding("recipients", "", WRONG, "none: nobody could ever read the record", cure)
    for name, one in objects.recipients.items():
        try:
            fingerprint = Recipient.parse(one.key.value).fingerprint
        except BadKey as error:
            yield Finding("recipients", name, WRONG, str(error), "take the line of recipient.pub")
        else:
            yield Finding("recipients", name, OK, fingerprint)


def check_evidence(settings: Settings) -> Iterator[Finding]:
    """Whether the places of the evidence can be reached and written."""
    given = settings.evidence
    for store in (given.to, given.keys):
        if store is not None and store.bucket:
            yield _bucket(store.bucket, given)
    if given.to is None or not given.to.bucket:
        yield _folder(Path(given.to.url) if given.to else settings.data / "evidence")


def _folder(path: Path) -> Finding:
    there = path
    while not there.exists() and there != there.parent:
        there = there.parent
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return Finding("evidence", str(path), OK, "is writable")
    cure = f"let the gateway's user write {there}; run doctor as that user"
    return Finding("evidence", str(path), WRONG, "is no folder that this user may write", cure)


def _bucket(bucket: str, given: EvidenceSettings) -> Finding:
    """It answers; whether objects may be put is only known by putting one."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    waits = Config(connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 1})
    place: dict[str, Any] = {"endpoint_url": given.endpoint, "region_name": given.region}
    try:
        boto3.client("s3", config=waits, **place).head_bucket(Bucket=bucket)
    except (BotoCoreError, ClientError, ValueError, OSError) as error:
        cure = "check its name, region, endpoint and the credentials in boto3's chain"
        return Finding("evidence", f"s3://{bucket}", WRONG, str(error), cure)
    return Finding("evidence", f"s3://{bucket}", OK, "answers")


def check_running(data: Path) -> Finding:
    """Whether the gateway of this data folder answers, and is ready."""
    shown = str(data / "admin.sock")
    if not (data / "admin.sock").is_socket():
        cure = "start it: trailgate serve --config FILE"
        return Finding("gateway", shown, NOTE, "none runs on this data folder", cure)
    gateway = gateway_for(data).with_token(None)
    try:
        gateway.call("GET", "/readyz")
    except Failed as error:
        if status_of(error) is None:
            cure = "start it again: trailgate serve --config FILE"
            return Finding("gateway", shown, WRONG, "has left its socket and is gone", cure)
        return Finding("gateway", shown, WRONG, "is not ready", "its log says what is down")
    finally:
        gateway.close()
    return Finding("gateway", shown, OK, "answers and is ready")
