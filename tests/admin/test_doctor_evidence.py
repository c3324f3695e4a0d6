# SPDX-License-Identifier: GPL-3.0-or-later
"""What doctor says of shipping: the marks of the backlog, and buckets that should lock."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import boto3
import pytest
from moto.server import ThreadedMotoServer

from gateway.admin.cli._checks_of_evidence import check_backlog, check_locks
from gateway.config import BacklogSettings, EvidenceSettings, LockSettings, Store
from gateway.record.state import State


@pytest.mark.parametrize(("mib", "state"), [(1, "ok"), (4, "note"), (8, "wrong")])
def test_what_waits_is_held_against_the_marks(tmp_path: Path, mib: int, state: str) -> None:
    journal = tmp_path / "journal"
    journal.mkdir()
    sizes = {3: 64, 4: mib, 5: 64}  # 3 has its leaf, 5 is being written
    for number, size in sizes.items():
        with (journal / f"{number}.journal").open("wb") as file:
            file.truncate(size << 20)
    State(file=5, segments=(3,)).write(journal)
    found = check_backlog(tmp_path, BacklogSettings(4 << 20, 8 << 20))
    assert (found.state, bool(found.cure)) == (state, state != "ok")
    assert found.detail.startswith(f"{mib} MiB")


def test_what_cannot_be_read_is_unknown(tmp_path: Path) -> None:
    assert check_backlog(tmp_path / "none", BacklogSettings()).state == "ok"
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal" / "state.json").write_text("{")
    assert check_backlog(tmp_path, BacklogSettings()).state == "unknown"


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    urlopen(f"http://{host}:{port}/moto-api/reset", data=b"").close()
    yield f"http://{host}:{port}"
    server.stop()


def test_buckets_without_object_lock_are_wrong_where_it_is_asked_for(endpoint: str) -> None:
    client = boto3.client("s3", endpoint_url=endpoint)
    client.create_bucket(Bucket="locked", ObjectLockEnabledForBucket=True)
    client.create_bucket(Bucket="plain")
    given = EvidenceSettings(
        to=Store("s3://locked/x"), keys=Store("s3://plain/x"), endpoint=endpoint,
        lock=LockSettings("compliance"),
    )  # fmt: skip
    found = {one.subject: one for one in check_locks(given)}
    states = {subject: one.state for subject, one in found.items()}
    assert states == {"s3://locked": "ok", "s3://plain": "wrong"}
    assert "has no Object Lock" in found["s3://plain"].detail
    assert "make the bucket with Object Lock" in found["s3://plain"].cure
    assert list(check_locks(EvidenceSettings(to=given.to, keys=given.keys))) == []
