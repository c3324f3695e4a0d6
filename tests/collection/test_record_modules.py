# SPDX-License-Identifier: GPL-3.0-or-later
"""What works on sessions and their record: session_info, the lookup, audit modules, playbooks."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
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
from tests.collection.stage import ROOT
from tests.live.rotating_world import token_of
from tests.live.test_serve import Served, serving, written

pytestmark = pytest.mark.live

COMMAND = str(Path(sys.executable).with_name("trailgate"))
CLOUD = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
WRONG_TOKEN = "tg_wrong-s3eded"
BUCKET = "s3://toolkit-evidence/prod"
SESSIONS, VERIFY = "trailgate.gateway.session_info", "trailgate.gateway.audit_verify"
EXPORT = "trailgate.gateway.audit_export"


@dataclass(frozen=True)
class Recorded:
    """A gateway that has gone, what it left in a folder and a bucket, and what was seen of it."""

    shipped: Path
    local: Path
    endpoint: str
    day: str
    open_then: list[Any]
    lookups: list[Any]
    said: str
    tokens: tuple[str, ...]

    @property
    def data(self) -> str:
        return str(self.local / "data")

    def identity(self, place: str) -> str:
        folder = self.shipped if place.startswith("s3:") else self.local
        return str(folder / "auditor" / "identity")


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


def lookup_examples(served: Served, folder: Path) -> list[dict[str, Any]]:
    """The tasks of the lookup's documentation, on this gateway."""
    text = (ROOT / "plugins" / "lookup" / "token.py").read_text()
    example = text.partition('EXAMPLES = r"""')[2].partition('"""')[0]
    for name, place in {
        "gateway.example.com -p 15432 -U app": f"127.0.0.1 -p {served.port} -U postgres",
        "from orders'": "from customers'",
        "/run/reader": str(folder),
        "/etc/trailgate/ca.pem": served.ca,
    }.items():
        assert name in example
        example = example.replace(name, place)
    tasks: list[dict[str, Any]] = yaml.safe_load(example)
    return tasks


def job(served: Served, folder: Path, shop: PostgresServer) -> list[dict[str, Any]]:
    """session_info while a session is open, and tokens by the lookup: right ones and wrong ones."""
    url = {"url": f"unix://{served.data}/admin.sock"}
    wrong = (
        {"url": "http://gateway.example.com"},
        {"ca_path": "/nowhere/ca.pem"},
        {"ca_path": str(shop.ca_path)},
    )
    said = [", ".join(f"{name}={value!r}" for name, value in each.items()) for each in wrong]
    said.append("token=lookup('ansible.builtin.env', 'WRONG')")
    lookups = [f"{{{{ lookup('trailgate.gateway.token', 'reader', {words}) }}}}" for words in said]
    return [
        {SESSIONS: url},
        {SESSIONS: {**url, "target": "orders"}},
        {SESSIONS: {**url, "target": "nowhere"}},
        {SESSIONS: {**url, "origin": "tester"}, "check_mode": True},
        *lookup_examples(served, folder),
        *({"ansible.builtin.debug": {"msg": text}, "no_log": True} for text in lookups),
    ]


@contextmanager
def at_work(folder: Path, shop: PostgresServer, evidence: str) -> Iterator[tuple[Served, str]]:
    """A gateway with an open session that read, and was refused a write. At the end it is ended,
    and what it had to publish is published."""
    with serving(folder, written(folder, shop, evidence), **CLOUD) as served:
        token = token_of(served, "data")
        with psycopg.connect(served.dsn(token, user="postgres"), autocommit=True) as link:
            assert link.execute("select email from customers where id = 1").fetchone()
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                link.execute("insert into notes (body) values ('no')")
            yield served, token
        served.child.terminate()
        assert served.child.wait(60) == 0, (folder / "log").read_text()


@pytest.fixture(scope="module")
def recorded(
    ansible: Ansible,
    shop: PostgresServer,
    endpoint: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Recorded:
    folder, local = tmp_path_factory.mktemp("recorded"), tmp_path_factory.mktemp("local")
    evidence = (
        f"evidence: {{to: '{BUCKET}', keys: 's3://toolkit-keys/prod', endpoint: '{endpoint}', "
        "region: us-east-1}\n"
    )
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    with at_work(folder, shop, evidence) as (served, token):
        here = {
            "TRAILGATE_URL": f"https://127.0.0.1:{served.api}",
            "TRAILGATE_CA_PATH": served.ca,
            "TRAILGATE_TOKEN": token,
            "WRONG": WRONG_TOKEN,
        }
        found, said = ansible.tried(job(served, folder, shop), "-vvv", **here)
    with at_work(local, shop, ""):
        pass
    secret = (folder / "pgpass").read_text().strip().rpartition(":")[2]
    tokens = (token, secret, WRONG_TOKEN)
    return Recorded(folder, local, endpoint, day, found[:4], found[4:], said, tokens)


def test_open_sessions_are_told_with_their_chain(recorded: Recorded) -> None:
    everything, there, elsewhere, mine = [one["sessions"] for one in recorded.open_then]
    assert [one["id"] for one in everything] == [one["id"] for one in there]
    (session,) = mine
    assert (session["target"], session["state"]) == ("orders", "open")
    assert session["chain"] == ["tester"] and elsewhere == []


def test_a_token_that_was_looked_up_works_and_a_wrong_way_names_its_cure(
    recorded: Recorded,
) -> None:
    _, query, *failed = recorded.lookups
    assert query["stdout"].split()[2] == "2", query
    cures = ("name the gateway's CA", "is not trusted", "token")
    for result, cure in zip(failed, ("no place where a token is safe", *cures), strict=True):
        assert result["failed"] and cure in result["msg"], result
    assert not [token for token in recorded.tokens if token in recorded.said]


def where(recorded: Recorded, place: str) -> dict[str, Any]:
    given = {"data": place, "identity": recorded.identity(place), "executable": COMMAND}
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
    segments = [path for path in broken.rglob("*") if path.is_file() and "/seg/" in str(path)]
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
    evidence = recorded.data if place == "folder" else BUCKET
    options = {
        "audit_evidence": evidence,
        "audit_identity": recorded.identity(evidence),
        "audit_executable": COMMAND,
        "audit_day": recorded.day,
    }
    if place == "bucket":
        options |= {"audit_endpoint_url": recorded.endpoint, "audit_region": "us-east-1"}
    done = ansible.run("trailgate.gateway.audit", "-e", json.dumps(options), **CLOUD)
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout.partition("TASK [Report]")[2].partition("=> ")[2].partition("\n\nTASK")[0]
    report = yaml.safe_load(said)["msg"]
    assert report["sound"] is True and report["day"] == recorded.day
    assert report["checked"]["sessions"] >= 1 and report["defects"] == []
    assert "customers" in report["touched"]
    chains = {"tester", "tester > reader"} if place == "bucket" else {"tester"}
    assert set(report["by"]) == chains
    (violation,) = report["violations"]
    assert violation["chain"] == ["tester"] and violation["verdict"] == "deny"
