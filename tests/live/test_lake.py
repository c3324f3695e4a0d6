# SPDX-License-Identifier: GPL-3.0-or-later
"""The lake of a real record: answers that are proved, OCSF's schema, its diff with the record."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from moto.server import ThreadedMotoServer

from gateway.admin.cli.demo.postgres_server import PostgresServer
from tests.live.conftest import POLICY
from tests.live.gateway_process import Gateway, command, command_json, start
from tests.ship.test_exports import check

pytestmark = pytest.mark.live
SECRET = "the-patient-is-jane-doe"


@dataclass
class Stage:
    data: Path
    folder: Path

    @property
    def lake(self) -> Path:
        return self.folder / "lake"

    def copy(self, name: str) -> Path:
        to = self.folder / name
        shutil.copytree(self.lake, to)
        return to

    def verify(self, lake: Path | str, *more: str) -> dict[str, Any]:
        done = command("verify", str(self.data), "--lake", str(lake), *more, "-o", "json")
        assert done.stdout, done.stderr
        return dict(json.loads(done.stdout))


@pytest.fixture(scope="module")
def stage(shop: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("lake")
    (folder / "shop.yaml").write_text(POLICY)
    gateway = start(folder / "data", shop, "--policy", str(folder / "shop.yaml"), database="shop")
    used(gateway)
    assert gateway.stop() == 0
    stage = Stage(gateway.data, folder)
    done = command("audit", "rebuild-lake", "--data", str(stage.data), "--to", str(stage.lake))
    assert done.returncode == 0, done.stderr
    yield stage


def used(gateway: Gateway) -> None:
    """Reads, writes, a denial, a failure, prepared statements, a login that was refused."""
    with psycopg.connect(gateway.dsn("shop", application_name="app"), autocommit=True) as link:
        link.execute("select name from customers where email <> %s", (SECRET,), prepare=True)
        link.execute("select name from customers where email <> %s", ("b",), prepare=True)
        link.execute(f"insert into notes (body) values ('{SECRET}')")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            link.execute("drop table customers")
        with pytest.raises(psycopg.errors.UndefinedTable):
            link.execute("select * from nowhere")
    gateway.psql("select count(*) from customers; select now()", "begin", database="shop")


def test_answers_are_proved(stage: Stage) -> None:
    where = ("--data", str(stage.data))
    found = command_json("audit", "who", "--table", "customers", "--proved", *where)
    assert len(found) >= 3 and all(one["proved_to"] for one in found)
    assert {one["access"] for one in found} >= {"read"}
    (denied,) = command_json("audit", "violations", "--proved", *where)
    assert denied["verdict"] == "deny" and denied["proved_to"] == found[0]["proved_to"]
    by_lake = command_json("audit", "who", "--table", "customers", "--lake", str(stage.lake))
    order = ("at", "session", "operation")
    assert sorted(by_lake, key=lambda one: [one[name] for name in order]) == sorted(
        found, key=lambda one: [one[name] for name in order]
    )
    day = found[0]["at"][:10]
    lake = ("--lake", str(stage.lake), "--proved")
    assert len(command_json("audit", "who", "--table", "public.customers", *lake)) == 0
    assert len(command_json("audit", "who", "--table", "customers", "--day", day, *lake)) == len(
        found
    )


def test_a_verdict_is_kept_until_the_evidence_changes(stage: Stage, tmp_path: Path) -> None:
    """A byte of the evidence that was changed meanwhile is not overlooked."""
    data = tmp_path / "data"
    shutil.copytree(stage.data, data, symlinks=True, ignore=lambda *_: ["admin.sock"])
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    first = command("audit", "who", "--data", str(data), "-o", "json", "--proved", **cache)
    assert first.returncode == 0 and list((tmp_path / "cache").rglob("*.json"))
    again = command("audit", "who", "--data", str(data), "-o", "json", "--proved", **cache)
    assert again.stdout == first.stdout
    segment = next(path for path in (data / "evidence" / "seg").rglob("*") if path.is_file())
    damaged = bytearray(segment.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    segment.write_bytes(damaged)
    spoilt = command("audit", "who", "--data", str(data), "-o", "json", "--proved", **cache)
    assert spoilt.returncode == 1 and "defect" in spoilt.stderr


def test_the_lakes_rows_are_of_ocsf(stage: Stage) -> None:
    out = stage.folder / "events.jsonl"
    done = command("audit", "export", "--format", "ocsf", "--data", str(stage.data), "--out",
                   str(out))  # fmt: skip
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in out.read_text().splitlines()]
    for event in events:
        check(event)
    assert SECRET not in out.read_text()
    stored = [row for path in stage.lake.glob("[ad]*/**/*.parquet") for row in rows_of(path)]
    assert sorted(without_nulls(row)["metadata"]["uid"] for row in stored) == sorted(
        event["metadata"]["uid"] for event in events
    )
    by_uid = {event["metadata"]["uid"]: event for event in events}
    for row in stored:
        told, event = without_nulls(row), by_uid[row["metadata"]["uid"]]
        if told["unmapped"].get("status") == event["unmapped"].get("status"):
            time = int(told.pop("time").timestamp() * 1000)
            assert (told, time) == ({k: v for k, v in event.items() if k != "time"}, event["time"])


def rows_of(path: Path) -> list[dict[str, Any]]:
    return list(pq.ParquetFile(path).read().to_pylist())


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_nulls(one) for key, one in value.items() if one is not None}
    return [without_nulls(one) for one in value] if isinstance(value, list) else value


def test_full_statements_are_written_with_the_key_only(stage: Stage) -> None:
    full = stage.folder / "full"
    key = str(stage.data / "auditor" / "identity")
    where = ("--data", str(stage.data), "--to", str(full))
    assert command("audit", "rebuild-lake", *where, "--identity", key).returncode == 0
    sql = f"select text, statement from activity where text like '%{SECRET}%'"
    (row,) = command_json("audit", "query", sql, "--lake", str(full))["rows"]
    assert SECRET in row[0] and SECRET not in row[1]
    prepared = "select name from customers where email <> $1"
    counted = f"select count(*) from activity where text = '{prepared}' and tag = 'SELECT 1'"
    assert command_json("audit", "query", counted, "--lake", str(full))["rows"] == [[2]]
    count = "select count(*) from activity where class_uid = 6005 and text is null"
    assert command_json("audit", "query", count, "--lake", str(full))["rows"] == [[0]]
    assert SECRET not in command("audit", "query", sql, "--lake", str(stage.lake)).stdout
    assert stage.verify(full)["ok"]


def test_a_lake_agrees_with_its_evidence(stage: Stage) -> None:
    document = stage.verify(stage.lake)
    assert document["ok"], document["defects"][:5]
    alone = command_json("sessions", "list", "--data", str(stage.data))[0]["id"]
    assert stage.verify(stage.lake, "--session", alone)["ok"]
    assert command("verify", str(stage.data), "--lake", str(stage.folder / "none")).returncode == 2


def rewritten(path: Path, change: Callable[[list[dict[str, Any]]], None]) -> None:
    table = pq.ParquetFile(path).read()
    told = pq.read_metadata(path).metadata or {}
    rows = table.to_pylist()
    change(rows)
    writer = pq.ParquetWriter(path, table.schema)
    writer.write_table(pa.Table.from_pylist(rows, table.schema))
    writer.add_key_value_metadata({k: v for k, v in told.items() if k != b"ARROW:schema"})
    writer.close()


def set_at(name: str, value: Any) -> Callable[[list[dict[str, Any]]], None]:
    def change(rows: list[dict[str, Any]]) -> None:
        one: Any = rows[0]
        *above, last = name.split(".")
        for part in above:
            one = one[part]
        assert one[last] != value
        one[last] = value

    return change


CHANGES: dict[str, tuple[str, Callable[[list[dict[str, Any]]], None], str]] = {
    "a row removed": ("datastore_activity", lambda rows: rows.__delitem__(0), "missing"),
    "a row twice": ("datastore_activity", lambda rows: rows.append(rows[0]), "extra"),
    "another person": ("datastore_activity", set_at("unmapped.origin", "mallory"), "altered"),
    "another verdict": ("datastore_activity", set_at("unmapped.verdict", "hold"), "altered"),
    "another time": ("datastore_activity", set_at("unmapped.operation", 99), "missing"),
    "OCSF alone": ("datastore_activity", set_at("actor.user.name", "mallory"), "altered"),
    "an action": ("datastore_activity", set_at("action", "Observed"), "altered"),
    "a login": ("authentication", set_at("unmapped.client", "10.9.9.9:1"), "altered"),
    "a login removed": ("authentication", lambda rows: rows.__delitem__(0), "missing"),
    "a line of the index": ("touched_object", set_at("object", "elsewhere"), "altered"),
    "an index cut": ("touched_object", lambda rows: rows.clear(), "missing"),
    "a row invented": (
        "authentication",
        lambda rows: rows.append({**rows[0], "unmapped": {**rows[0]["unmapped"],
                                                          "session": "a" * 26}}),
        "extra",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", CHANGES)
def test_what_was_done_to_a_lake_is_named(stage: Stage, what: str) -> None:
    folder, change, kind = CHANGES[what]
    lake = stage.copy(what.replace(" ", "-"))
    path = next((lake / folder).rglob("*.parquet"))
    rewritten(path, change)
    document = stage.verify(lake)
    kinds = {one["kind"] for one in document["defects"]}
    assert not document["ok"] and kind in kinds, document["defects"]
    assert all(one["object"].startswith("lake") for one in document["defects"])


def test_a_lake_that_says_that_it_is_older_than_its_rows_is_not_believed(stage: Stage) -> None:
    lake = stage.copy("older")
    rewritten(
        next((lake / "datastore_activity").rglob("*.parquet")), set_at("unmapped.verdict", "hold")
    )
    mark = json.loads((lake / "trailgate-lake").read_bytes())
    (lake / "trailgate-lake").write_text(json.dumps({**mark, "logs": {}}))
    document = stage.verify(lake)
    assert not document["ok"]
    assert any("ended after the lake was built" in text for text in document["unresolved"])


def test_a_file_that_is_gone_or_tells_other_leaves(stage: Stage) -> None:
    lake = stage.copy("gone")
    next((lake / "authentication").rglob("*.parquet")).unlink()
    assert {one["kind"] for one in stage.verify(lake)["defects"]} == {"missing"}
    other = stage.copy("leaves")
    path = next((other / "authentication").rglob("*.parquet"))
    table = pq.ParquetFile(path).read()
    told = dict(pq.read_metadata(path).metadata) | {b"trailgate.first_leaf": b"0"}
    writer = pq.ParquetWriter(path, table.schema)
    writer.write_table(table)
    writer.add_key_value_metadata({k: v for k, v in told.items() if k != b"ARROW:schema"})
    writer.close()
    assert {one["kind"] for one in stage.verify(other)["defects"]} == {"metadata"}
    broken = stage.copy("broken")
    next((broken / "authentication").rglob("*.parquet")).write_bytes(b"PAR1 no")
    assert "format" in {one["kind"] for one in stage.verify(broken)["defects"]}


def test_a_lake_in_s3(stage: Stage) -> None:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        url = "http://{}:{}".format(*server.get_host_and_port())
        keys = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
        client = boto3.client(
            "s3", endpoint_url=url, region_name="us-east-1",
            aws_access_key_id="testing", aws_secret_access_key="testing",
        )  # fmt: skip
        client.create_bucket(Bucket="lake")
        for path in stage.lake.rglob("*"):
            if path.is_file():
                client.upload_file(str(path), "lake", f"prod/{path.relative_to(stage.lake)}")
        where = ("--lake", "s3://lake/prod", "--endpoint-url", url, "--region", "us-east-1")
        sql = "select count(*) from activity"
        answer = command("audit", "query", sql, *where, "-o", "json", **keys)
        assert answer.returncode == 0, answer.stderr
        assert json.loads(answer.stdout)["rows"][0][0] > 8
        who = command("audit", "who", "--table", "customers", *where, "-o", "json", **keys)
        assert len(json.loads(who.stdout)) >= 3
        done = command("verify", str(stage.data), *where, "-o", "json", **keys)
        assert done.returncode == 0, done.stdout + done.stderr
    finally:
        server.stop()
