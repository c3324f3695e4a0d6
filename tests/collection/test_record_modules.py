# SPDX-License-Identifier: GPL-3.0-or-later
"""What works on sessions and their record: session_info, the lookup, audit modules, playbooks."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import psycopg
import pytest
import yaml
from moto.server import ThreadedMotoServer

from gateway.admin.cli.demo.postgres_server import PostgresServer
from tests.collection.conftest import Ansible
from tests.live.rotating_world import token_of
from tests.live.test_serve import Served, serving, written

pytestmark = pytest.mark.live

COMMAND = str(Path(sys.executable).with_name("trailgate"))
CLOUD = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
BUCKET = "s3://toolkit-evidence/prod"
SESSIONS, VERIFY = "trailgate.gateway.session_info", "trailgate.gateway.audit_verify"
EXPORT = "trailgate.gateway.audit_export"


@dataclass(frozen=True)
class Recorded:
    """A gateway that has gone, what it left in a folder and a bucket, and what was seen of it."""

    folder: Path
    endpoint: str
    day: str
    open_then: list[Any]
    lookups: list[Any]
    said: str
    tokens: tuple[str, ...]

    @property
    def data(self) -> str:
        return str(self.folder / "data")

    @property
    def identity(self) -> str:
        return str(self.folder / "auditor" / "identity")


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    client = boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    for bucket in ("toolkit-evidence", "toolkit-keys"):
        client.create_bucket(Bucket=bucket)
        client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    yield url
    server.stop()


def job(served: Served, token: str) -> list[dict[str, Any]]:
    """session_info while a session is open, and tokens by the lookup: right ones and wrong ones."""
    url = {"url": f"unix://{served.data}/admin.sock"}
    api = f"https://127.0.0.1:{served.api}"

    def looked_up(**options: str) -> str:
        given = {"url": api, "ca_path": served.ca, "token": token, **options}
        words = ", ".join(f"{name}={value!r}" for name, value in given.items())
        return f"{{{{ lookup('trailgate.gateway.token', 'reader', targets=['orders'], {words}) }}}}"

    psql = f"psql -XAt -h 127.0.0.1 -p {served.port} -U postgres -d orders -c"
    tls = {"PGSSLMODE": "verify-full", "PGSSLROOTCERT": served.ca}
    query = {"argv": [*psql.split(), "select count(*) from customers"]}
    return [
        {SESSIONS: url},
        {SESSIONS: {**url, "target": "orders"}},
        {SESSIONS: {**url, "target": "nowhere"}},
        {SESSIONS: {**url, "origin": "tester"}, "check_mode": True},
        *(
            {
                "ansible.builtin.command": query,
                "environment": {**tls, "PGPASSWORD": looked_up(**options)},
            }
            for options in (
                {},
                {"ca_path": "/nowhere/ca.pem"},
                {"ca_path": ""},
                {"url": ""},
                {"token": "tg_wrong-s3eded"},
            )
        ),
    ]


@pytest.fixture(scope="module")
def recorded(
    ansible: Ansible,
    shop: PostgresServer,
    endpoint: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Recorded:
    folder = tmp_path_factory.mktemp("recorded")
    evidence = (
        f"evidence: {{to: '{BUCKET}', keys: 's3://toolkit-keys/prod', endpoint: '{endpoint}', "
        "region: us-east-1}\n"
    )
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    with serving(folder, written(folder, shop, evidence), **CLOUD) as served:
        token = token_of(served, "data")
        with psycopg.connect(served.dsn(token, user="postgres"), autocommit=True) as link:
            assert link.execute("select email from customers where id = 1").fetchone()
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                link.execute("insert into notes (body) values ('no')")
            found, said = ansible.tried(job(served, token), "-vvv")
        served.child.terminate()
        assert served.child.wait(60) == 0, (folder / "log").read_text()
    return Recorded(folder, endpoint, day, found[:4], found[4:], said, (token, "tg_wrong-s3eded"))


def test_open_sessions_are_told_with_their_chain(recorded: Recorded) -> None:
    everything, there, elsewhere, mine = [one["sessions"] for one in recorded.open_then]
    assert [one["id"] for one in everything] == [one["id"] for one in there]
    (session,) = mine
    assert (session["target"], session["state"]) == ("orders", "open")
    assert session["chain"] == ["tester"] and elsewhere == []


def test_a_token_that_was_looked_up_works_and_a_wrong_way_names_its_cure(
    recorded: Recorded,
) -> None:
    worked, *failed = recorded.lookups
    assert worked["stdout"] == "2", worked
    cures = ("name the gateway's CA", "is not trusted", "set url: https://HOST:PORT", "token")
    for result, cure in zip(failed, cures, strict=True):
        assert result["failed"] and cure in result["msg"], result
    shown = [token for token in recorded.tokens if token in recorded.said]
    assert len(shown) <= 2  # they stand in the play itself, which names no file


def where(recorded: Recorded, place: str) -> dict[str, Any]:
    given = {"data": place, "identity": recorded.identity, "executable": COMMAND}
    if place.startswith("s3:"):
        given |= {"endpoint_url": recorded.endpoint, "region": "us-east-1"}
    return given


def test_a_record_is_verified_and_exported_from_a_folder_and_a_bucket(
    recorded: Recorded, ansible: Ansible, tmp_path: Path
) -> None:
    tasks: list[dict[str, Any]] = []
    for name, place in (("folder", recorded.data), ("bucket", BUCKET)):
        at = where(recorded, place)
        export = {EXPORT: {**at, "format": "ocsf", "dest": str(tmp_path / f"{name}.jsonl")}}
        tasks += [{VERIFY: at}, {**export, "check_mode": True}, export, export]
    at = where(recorded, recorded.data)
    broken = tmp_path / "broken"
    shutil.copytree(recorded.data, broken, ignore=shutil.ignore_patterns("admin.sock"))
    segments = [path for path in broken.rglob("*") if path.is_file() and "seg" in str(path)]
    longest = max(segments, key=lambda path: path.stat().st_size)
    content = bytearray(longest.read_bytes())
    content[len(content) // 2] ^= 1
    longest.write_bytes(content)
    tasks += [
        {VERIFY: where(recorded, str(broken))},
        {VERIFY: {**where(recorded, str(broken)), "fail_on_defect": False}},
        {VERIFY: {**at, "data": str(tmp_path / "nothing")}},
        {VERIFY: {**where(recorded, "s3://toolkit-nowhere/x")}},
        {VERIFY: {**at, "executable": "trailgate-that-is-not-there"}},
        {EXPORT: {**at, "format": "asciicast", "dest": str(tmp_path / "one.cast")}},
        {EXPORT: {**at, "format": "ocsf", "dest": str(tmp_path / "no" / "folder")}},
    ]
    found, _ = ansible.tried(tasks, **CLOUD)
    for index in (0, 4):
        verified, foreseen, done, again = found[index : index + 4]
        assert verified["verdict"]["ok"] and verified["verdict"]["content"] == "opened"
        assert verified["verdict"]["checked"]["sessions"] >= 1 and not verified["changed"]
        assert [one["changed"] for one in (foreseen, done, again)] == [True, True, False]
        assert foreseen["sha256"] == done["sha256"] == again["sha256"]
        dest = Path(done["dest"])
        assert dest.stat().st_mode & 0o777 == 0o600
        events = [json.loads(line) for line in dest.read_text().splitlines()]
        assert events and all("class_uid" in one for one in events)
    defect, told, nothing, nowhere, command, one_only, no_folder = found[8:]
    assert defect["failed"] and defect["msg"].startswith("not sound: ")
    assert told["failed"] is False and told["verdict"]["defects"]
    for one in (nothing, nowhere, command, one_only, no_folder):
        assert one["failed"] and one["msg"] and "Traceback" not in one["msg"], one
    assert not (tmp_path / "one.cast").exists()


@pytest.mark.parametrize("place", ["folder", "bucket"])
def test_the_playbook_audit_tells_who_did_what(
    place: str, recorded: Recorded, ansible: Ansible
) -> None:
    options = {
        "audit_evidence": recorded.data if place == "folder" else BUCKET,
        "audit_identity": recorded.identity,
        "audit_executable": COMMAND,
        "audit_day": recorded.day,
    }
    if place == "bucket":
        options |= {"audit_endpoint_url": recorded.endpoint, "audit_region": "us-east-1"}
    done = ansible.run("trailgate.gateway.audit", "-e", json.dumps(options), **CLOUD)
    assert done.returncode == 0, done.stdout + done.stderr
    report = yaml.safe_load(
        done.stdout.partition("TASK [Report]")[2].partition("=> ")[2].partition("\n\nTASK")[0]
    )["msg"]
    assert report["sound"] is True and report["day"] == recorded.day
    assert report["checked"]["sessions"] >= 1 and report["defects"] == []
    assert "public.customers" in report["touched"]
    assert {"tester", "tester > reader"} <= set(report["by"])
    (violation,) = report["violations"]
    assert violation["chain"] == ["tester"] and violation["verdict"] == "deny"
