# SPDX-License-Identifier: GPL-3.0-or-later
"""From `init --aws` to the auditor's answers: real Terraform and provider, moto as the cloud."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from gateway.admin.cli._terraform import Terraform
from gateway.admin.cli.demo.postgres_server import NoServer, PostgresServer
from tests.bench.stage import free_port
from tests.cloud.conftest import AUDITOR, NAME, REGION, Cloud, Made, documented, trailgate
from tests.live.gateway_process import command, command_json
from tests.live.test_serve import Served, serving

pytestmark = [pytest.mark.live, pytest.mark.slow]

POLICY = """\
policy: agents
match: {targets: [orders], groups: [data]}
rules:
  - id: read
    allow: {sql: {kinds: [read], functions: ["*", "*.*"]}}
  - id: no-schema-change
    deny: {sql: {kinds: [schema]}}
    reason: The schema changes elsewhere.
"""
EVIDENCE, KEYS = f"s3://{NAME}-evidence", f"s3://{NAME}-keys"


@dataclass(frozen=True)
class Shipped:
    """What a gateway left in the buckets; its own data folder is gone."""

    identity: Path
    tree: str
    said: str


@pytest.fixture(scope="module")
def database() -> Iterator[PostgresServer]:
    try:
        server = PostgresServer(tls=True)
    except NoServer as missing:
        pytest.fail(str(missing), pytrace=False)
    with server:
        server.psql("CREATE DATABASE shop")
        server.psql(
            "CREATE TABLE customers (id int, email text);"
            "INSERT INTO customers VALUES (1, 'ada@example.com')",
            "shop",
        )
        yield server


@pytest.fixture(scope="module")
def served(made: Made, database: PostgresServer) -> Iterator[Served]:
    """A gateway on the settings as they were written, with a target and a policy declared."""
    port, api = free_port(), free_port()
    settings = made.etc / "trailgate.yaml"
    text = settings.read_text()
    text = text.replace("127.0.0.1:15432", f"127.0.0.1:{port}")
    settings.write_text(text.replace("127.0.0.1:8443", f"127.0.0.1:{api}"))
    (made.etc / "secret").write_text(database.password)
    (made.etc / "secret").chmod(0o600)
    with (made.etc / "objects.yaml").open("a") as objects:
        objects.write(
            f"---\ntarget: orders\nprotocol: postgresql\naddress: localhost:{database.port}\n"
            "databases: [shop]\ncredentials: [app]\n"
            f"tls: {{mode: verify-full, ca_path: {database.ca_path}}}\n"
            "---\ncredential: app\nuser: postgres\nsecret: {from: 'file:secret'}\n"
        )
    (made.etc / "policies" / "agents.yaml").write_text(POLICY)
    with serving(made.etc, (port, api), made.data) as running:
        yield running


def _job(served: Served) -> str:
    """Person, orchestrator, child agent: a query that is allowed, a change that is not."""
    run = [sys.executable, "-m", "gateway", "run", "--as"]
    words = [*run, "orchestrator", "--", *run, "reader", "--", "psql", "-XAt"]
    words += ["-cselect email from customers", "-cdrop table customers"]
    environment = {
        **os.environ,
        "TRAILGATE_URL": f"https://127.0.0.1:{served.api}",
        "TRAILGATE_CA_PATH": served.ca,
        "TRAILGATE_TOKEN": served.token("data"),
    }
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120)
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def shipped(made: Made, served: Served) -> Shipped:
    said = _job(served)
    served.child.terminate()
    assert served.child.wait(60) == 0, (served.folder / "log").read_text()
    tree = command("sessions", "tree", "--data", EVIDENCE).stdout
    return Shipped(made.etc / "auditor" / "identity", tree, said)


def test_the_plan_was_shown_and_the_settings_name_the_buckets(made: Made) -> None:
    assert "Plan: " in made.said and "Apply complete!" in made.said
    text = (made.etc / "trailgate.yaml").read_text()
    assert f"\n  to: {EVIDENCE} " in text and f"\n  keys: {KEYS} " in text


def test_role_vars_are_what_the_settings_say(made: Made) -> None:
    outputs = Terraform(made.etc / "terraform").outputs()
    assert outputs["role_vars"] == {
        "trailgate_evidence_to": EVIDENCE,
        "trailgate_evidence_keys": KEYS,
        "trailgate_evidence_region": REGION,
    }


def test_the_buckets_are_locked_versioned_encrypted_and_closed(cloud: Cloud, made: Made) -> None:
    s3 = cloud.client("s3")
    for kind, days in (("evidence", 1), ("keys", 1), ("lake", None)):
        bucket = {"Bucket": f"{NAME}-{kind}"}
        assert s3.get_bucket_versioning(**bucket)["Status"] == "Enabled"
        assert all(s3.get_public_access_block(**bucket)["PublicAccessBlockConfiguration"].values())
        rules = s3.get_bucket_encryption(**bucket)["ServerSideEncryptionConfiguration"]["Rules"]
        assert rules[0]["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "aws:kms"
        (denial,) = json.loads(s3.get_bucket_policy(**bucket)["Policy"])["Statement"]
        assert (denial["Effect"], denial["Action"]) == ("Deny", "s3:*")
        assert denial["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
        if days is not None:
            lock = s3.get_object_lock_configuration(**bucket)["ObjectLockConfiguration"]
            assert lock["Rule"]["DefaultRetention"]["Days"] == days


def test_the_writer_can_put_and_not_delete(cloud: Cloud, made: Made) -> None:
    iam = cloud.client("iam")
    found = iam.get_role_policy(RoleName=f"{NAME}-writer", PolicyName="write-evidence")
    statements = {one["Sid"]: one for one in found["PolicyDocument"]["Statement"]}
    assert "s3:PutObject" in statements["Put"]["Action"]
    assert statements["NeverDelete"]["Effect"] == "Deny"
    never = {"s3:DeleteObject", "s3:DeleteObjectVersion", "s3:BypassGovernanceRetention"}
    assert never <= set(statements["NeverDelete"]["Action"])
    trust = iam.get_role(RoleName=f"{NAME}-auditor")["Role"]["AssumeRolePolicyDocument"]
    assert trust["Statement"][0]["Principal"] == {"AWS": AUDITOR}


def test_a_nested_job_runs_and_is_held_to_the_policy(shipped: Shipped) -> None:
    assert "ada@example.com" in shipped.said
    assert "trailgate: denied by agents/no-schema-change" in shipped.said


def test_the_evidence_verifies_in_the_bucket(shipped: Shipped) -> None:
    done = command("verify", EVIDENCE, "--identity", str(shipped.identity), "-o", "json")
    verdict = json.loads(done.stdout)
    assert (done.returncode, verdict["ok"], verdict["content"]) == (0, True, "opened"), verdict
    assert verdict["defects"] == [] and verdict["checked"]["sessions"] >= 1


def test_an_auditor_has_the_three_answers(shipped: Shipped) -> None:
    where, identity = ("--data", EVIDENCE), ("--identity", str(shipped.identity))
    touched = command_json("audit", "who", "--table", "public.customers", *where)
    assert {tuple(one["chain"][1:]) for one in touched} == {("orchestrator", "reader")}
    (violation,) = command_json("audit", "violations", *where)
    assert violation["rule"] == "no-schema-change" and violation["verdict"] == "deny"
    replay = command_json("audit", "replay", violation["session"], *where, *identity)
    rows = [row for one in replay["operations"] for each in one["results"] for row in each["rows"]]
    assert ["ada@example.com"] in rows
    assert "orchestrator" in shipped.tree and "reader" in shipped.tree


def test_what_the_page_tells_an_auditor_to_type_runs(shipped: Shipped) -> None:
    lines = documented({"auditor/identity": str(shipped.identity)})
    for line in [one for one in lines if not one.startswith("trailgate init ")]:
        done = trailgate(line)
        assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"


def test_a_second_plan_is_empty(made: Made, shipped: Shipped) -> None:
    terraform = Terraform(made.etc / "terraform")
    assert terraform.plan({}).changes is False


def test_what_is_locked_cannot_be_deleted(cloud: Cloud, shipped: Shipped) -> None:
    s3 = cloud.client("s3")
    for bucket, prefix in ((f"{NAME}-evidence", "evidence/seg/"), (f"{NAME}-keys", "keys/")):
        versions = s3.list_object_versions(Bucket=bucket, Prefix=prefix)["Versions"]
        assert versions, prefix
        for version in versions:
            with pytest.raises(ClientError, match="AccessDenied"):
                s3.delete_object(Bucket=bucket, Key=version["Key"], VersionId=version["VersionId"])


def test_at_the_end_all_of_it_can_be_taken_down(cloud: Cloud, made: Made, shipped: Shipped) -> None:
    s3 = cloud.client("s3")
    for kind in ("evidence", "keys", "lake"):
        bucket = f"{NAME}-{kind}"
        for version in s3.list_object_versions(Bucket=bucket).get("Versions", []):
            # What an administrator may do under GOVERNANCE, and nobody under COMPLIANCE.
            which = {"Key": version["Key"], "VersionId": version["VersionId"]}
            s3.delete_object(Bucket=bucket, **which, BypassGovernanceRetention=True)
    Terraform(made.etc / "terraform").destroy({})
    assert s3.list_buckets()["Buckets"] == []
