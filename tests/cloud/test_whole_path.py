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

from gateway.admin.cli._terraform import Plan, Terraform
from gateway.admin.cli.demo.postgres_server import NoServer, PostgresServer
from gateway.config import load_settings
from tests.bench.stage import free_port
from tests.cloud.conftest import (
    AUDITOR,
    AWS_SECRET,
    NAME,
    REGION,
    Cloud,
    Made,
    documented,
    trailgate,
)
from tests.collection.conftest import Ansible
from tests.collection.leaks import files_with, holds
from tests.collection.test_roles import OWNERS
from tests.live.gateway_process import command, command_json
from tests.live.test_serve import Served, serving

pytestmark = [pytest.mark.live, pytest.mark.slow]

POLICY = {
    "policy": "agents",
    "match": {"targets": ["orders"], "groups": ["data"]},
    "rules": [
        {"id": "read", "allow": {"sql": {"kinds": ["read"], "functions": ["*", "*.*"]}}},
        {
            "id": "no-schema-change",
            "deny": {"sql": {"kinds": ["schema"]}},
            "reason": "The schema changes elsewhere.",
        },
    ],
}
ROLE = "trailgate.gateway.trailgate"
EVIDENCE, KEYS = f"s3://{NAME}-evidence", f"s3://{NAME}-keys"


@dataclass(frozen=True)
class Shipped:
    """What a gateway left in the buckets, and where else a secret could have come to lie."""

    identity: Path
    tree: str
    said: str
    token: str


@dataclass(frozen=True)
class Deployed:
    """What the Ansible role made of Terraform's outputs, and what it said about it."""

    etc: Path
    data: Path
    ports: tuple[int, int]
    said: list[str]


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
def deployed(
    cloud: Cloud, made: Made, ansible: Ansible, tmp_path_factory: pytest.TempPathFactory
) -> Deployed:
    """The role's own tasks and templates, on the output `role_vars` as it stands."""
    folder = tmp_path_factory.mktemp("deployed")
    etc, data, ports = folder / "etc", folder / "data", (free_port(), free_port())
    etc.mkdir()
    (output,) = [line for line in documented({}) if line.startswith("terraform output ")]
    words, _, name = output.partition(" > ")
    with (folder / name).open("w") as file:
        subprocess.run(words.split(), cwd=made.etc / "terraform", stdout=file, check=True)
    recipient = (made.etc / "auditor" / "recipient.pub").read_text()
    host = {
        **OWNERS,
        "trailgate_release": str(Path(sys.executable).parents[1]),
        "trailgate_etc": str(etc),
        "trailgate_data": str(data),
        "trailgate_node": "gw1",
        "trailgate_listeners": {
            "postgresql": f"127.0.0.1:{ports[0]}",
            "https": f"127.0.0.1:{ports[1]}",
        },
        "trailgate_recipients": [{"name": "auditor", "key": recipient}],
        "trailgate_environment": {
            name: value for name, value in cloud.environment.items() if name.startswith("AWS_")
        },
        "trailgate_master_key_path": str(etc / "master.key"),
        # No systemd is there to hand it over.
        "trailgate_settings": {"master_key": {"key": f"file:{etc}/master.key"}},
    }
    (folder / "host.json").write_text(json.dumps(host))
    files = [f"@{folder}/role_vars.json", f"@{folder}/host.json"]
    settings = {"ansible.builtin.include_role": {"name": ROLE, "tasks_from": "settings"}}
    # Handlers restart a service that is not on this machine.
    tasks = [settings, {"ansible.builtin.meta": "end_play"}]
    done = ansible.play(tasks, "-vvv", "-e", files[0], "-e", files[1])
    assert done.returncode == 0, done.stdout + done.stderr
    return Deployed(etc, data, ports, [done.stdout + done.stderr])


@pytest.fixture(scope="module")
def served(deployed: Deployed, database: PostgresServer, ansible: Ansible) -> Iterator[Served]:
    """A gateway on what the role wrote, its objects declared by the role's own task."""
    lines = (deployed.etc / "environment").read_text().splitlines()
    pairs = [line.partition("=") for line in lines if not line.startswith("#")]
    environment = {name: json.loads(value) for name, _, value in pairs}
    target = {
        "target": "orders",
        "protocol": "postgresql",
        "address": f"localhost:{database.port}",
        "databases": ["shop"],
        "credentials": ["app"],
        "tls": {"mode": "verify-full", "ca_path": str(database.ca_path)},
    }
    given = {
        "trailgate_admin_url": f"unix://{deployed.data}/admin.sock",
        "trailgate_objects": [target, {"credential": "app", "user": "postgres"}, POLICY],
        "trailgate_secrets": {"app": database.password},
    }
    path = deployed.etc.parent / "objects.json"
    path.write_text(json.dumps(given))
    declare = {"ansible.builtin.include_role": {"name": ROLE, "tasks_from": "objects"}}
    with serving(deployed.etc, deployed.ports, deployed.data, **environment) as running:
        done = ansible.play([declare], "-vvv", "-e", f"@{path}")
        assert done.returncode == 0, done.stdout + done.stderr
        deployed.said.append(done.stdout + done.stderr)
        yield running


def _job(served: Served, token: str) -> str:
    """Person, orchestrator, child agent: a query that is allowed, a change that is not."""
    run = [sys.executable, "-m", "gateway", "run", "--as"]
    words = [*run, "orchestrator", "--", *run, "reader", "--", "psql", "-XAt"]
    words += ["-cselect email from customers", "-cdrop table customers"]
    environment = {
        **os.environ,
        "TRAILGATE_URL": f"https://127.0.0.1:{served.api}",
        "TRAILGATE_CA_PATH": served.ca,
        "TRAILGATE_TOKEN": token,
    }
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120)
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def shipped(made: Made, served: Served) -> Shipped:
    token = served.token("data")
    said = _job(served, token)
    served.child.terminate()
    assert served.child.wait(60) == 0, (served.folder / "log").read_text()
    tree = command("sessions", "tree", "--data", EVIDENCE).stdout
    return Shipped(made.etc / "auditor" / "identity", tree, said, token)


@pytest.fixture(scope="module")
def second_plan(made: Made, shipped: Shipped) -> Plan:
    return Terraform(made.etc / "terraform").plan({})


def test_the_plan_was_shown_and_the_settings_name_the_buckets(made: Made) -> None:
    assert "Plan: " in made.said and "Apply complete!" in made.said
    text = (made.etc / "trailgate.yaml").read_text()
    assert f"\n  to: {EVIDENCE} " in text and f"\n  keys: {KEYS} " in text


def test_role_vars_are_the_roles_variables_and_what_the_settings_say(
    made: Made, deployed: Deployed
) -> None:
    given = Terraform(made.etc / "terraform").outputs()["role_vars"]
    assert given == {
        "trailgate_evidence_to": EVIDENCE,
        "trailgate_evidence_keys": KEYS,
        "trailgate_evidence_region": REGION,
    }
    of_init, _ = load_settings(made.etc / "trailgate.yaml")
    of_role, _ = load_settings(deployed.etc / "trailgate.yaml")
    assert of_init.evidence == of_role.evidence


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
    lines = [one for one in lines if one.startswith("trailgate ")]
    for line in [one for one in lines if not one.startswith("trailgate init ")]:
        done = trailgate(line)
        assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"


def test_a_second_plan_is_empty(second_plan: Plan) -> None:
    assert second_plan.changes is False


def test_no_secret_is_anywhere(
    cloud: Cloud,
    made: Made,
    deployed: Deployed,
    shipped: Shipped,
    second_plan: Plan,
    database: PostgresServer,
    tmp_path: Path,
) -> None:
    secrets = {AWS_SECRET, database.password, shipped.token}
    terraform = made.etc / "terraform"
    states = [*terraform.glob("*.tfstate*"), *terraform.glob("*.json"), second_plan.path]
    assert {"terraform.tfstate", "terraform.tfvars.json"} <= {path.name for path in states}
    assert not [path for path in states if holds(path.read_bytes(), secrets)]
    outputs = json.dumps(Terraform(terraform).outputs())
    for text in (outputs, made.said, shipped.said, *deployed.said):
        assert text and not holds(text.encode(), secrets)
    given = {deployed.etc / "environment"}
    assert set(files_with(secrets, deployed.etc, deployed.data)) == given
    assert given.pop().stat().st_mode & 0o777 == 0o600
    assert (deployed.data / "state.sqlite").exists() and (deployed.etc / "log").exists()
    _pull(cloud, tmp_path / "pulled")
    assert not files_with(secrets, tmp_path / "pulled")
    options = ("--format", "jsonl", "--data", EVIDENCE, "--identity", str(shipped.identity))
    opened = command("audit", "export", *options, "--out", str(tmp_path / "opened.jsonl"))
    assert opened.returncode == 0, opened.stderr
    content = (tmp_path / "opened.jsonl").read_bytes()
    assert b"ada@example.com" in content and not holds(content, secrets)


def _pull(cloud: Cloud, folder: Path) -> None:
    """Every object of the buckets, in a folder."""
    s3 = cloud.client("s3")
    for kind in ("evidence", "keys", "lake"):
        bucket = f"{NAME}-{kind}"
        for found in s3.list_objects_v2(Bucket=bucket).get("Contents", []):
            path = folder / kind / found["Key"]
            path.parent.mkdir(parents=True, exist_ok=True)
            s3.download_file(bucket, found["Key"], str(path))


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
