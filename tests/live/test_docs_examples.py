# SPDX-License-Identifier: GPL-3.0-or-later
"""The shell examples of the documentation, run as they stand against real gateways."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import boto3
import psycopg
import pytest
from moto.server import ThreadedMotoServer

from gateway.admin.cli.demo.postgres_server import PostgresServer
from gateway.verify.build import build
from tests.bench.stage import free_port
from tests.live.docs_world import (
    EXAMPLES,
    FIRST_STEPS,
    NOT_RUN,
    PASSWORD,
    World,
    declare,
    first_steps,
    lines_of,
    one_session,
    serving,
    shipped_to_s3,
    to_run,
)
from tests.live.gateway_process import Gateway, command_json, start
from tests.pages import OPERATIONS, README, Block, tables, words

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def buckets() -> Iterator[dict[str, str]]:
    """The environment that boto3 finds the documented buckets by."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    client = boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    for bucket in ("trailgate-evidence", "trailgate-keys"):
        client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
        client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    yield {**keys, "AWS_ENDPOINT_URL": url, "AWS_DEFAULT_REGION": "us-east-1"}
    server.stop()


@pytest.fixture(scope="module")
def world(
    shop: PostgresServer, buckets: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    shop.psql(f"CREATE ROLE app LOGIN PASSWORD '{PASSWORD.replace(chr(39), chr(39) * 2)}'")
    shop.psql("GRANT SELECT ON customers TO app", "shop")
    made = World(tmp_path_factory.mktemp("docs"), shop, free_port(), free_port(), buckets)
    made.desk.mkdir()
    first_steps(made)
    declare(made)
    shutil.copy(made.folder / "etc" / "auditor" / "identity", made.desk / "identity")
    build(made.desk / "build" / "trailgate-verify.pyz")
    # What deletes an object is started by tests/declare/test_node.py.
    (line,) = {one for one in lines_of("trailgate serve ") if " --delete " not in one}
    shipped_to_s3(made, line)
    with serving(made, line, made.data):
        made.copied = one_session(made, made.data)
    for part in ("evidence", "keys"):
        shutil.copytree(made.data / part, made.folder / "mnt" / part)
    with serving(made, line, made.data):
        yield made
    for link in made.open_links:
        link.close()


@pytest.fixture(scope="module")
def tried(world: World) -> Iterator[Gateway]:
    """`trailgate try`, with a session that was denied something on paper."""
    user = type("User", (), {"user": "app", "password": PASSWORD, "port": world.server.port})
    gateway = start(world.folder / "tried", user(), database="shop")
    world.tried = gateway
    done = gateway.psql("select name from customers", "drop table customers", database="shop")
    assert "Ada" in done.stdout
    yield gateway
    world.tried = None
    assert gateway.stop() == 0


# --- the examples --------------------------------------------------------------------------------


@pytest.mark.parametrize("block", EXAMPLES, ids=lambda block: block.place)
def test_an_example_runs_as_it_stands(world: World, tried: Gateway, block: Block) -> None:
    if block.text.startswith(FIRST_STEPS):
        return  # `world` was made by it
    lines = to_run(block)
    if not lines:
        pytest.skip(NOT_RUN[block.text.splitlines()[0]])
    token = (world.desk / "token").read_text().strip()
    theirs = {"PGPASSWORD": token}
    if block.page == README:  # what `try` told to export
        url, file = str(tried.ready["admin_url"]), str(tried.data / "clients" / "token")
        theirs = {"TRAILGATE_URL": url, "TRAILGATE_TOKEN_FILE": file}
    script = "\n".join(lines).replace("\\\n", " ")
    lines = [world.substituted(line) for line in script.splitlines()]
    done = world.sh("\n".join(lines), **theirs)
    assert done.returncode == 0, f"{block.place}:\n{done.stdout}\n{done.stderr}"
    assert token not in done.stderr


def test_what_is_not_run_stands_in_the_documentation() -> None:
    lines = {line.strip() for block in EXAMPLES for line in block.text.splitlines()}
    assert set(NOT_RUN) <= lines


def test_what_try_tells_people_to_type_runs(world: World) -> None:
    """For people, not for machines: the lines that `try` prints."""
    log = world.folder / "try.txt"
    script = world.substituted(lines_of("trailgate try ")[0]) + f" --data {world.folder}/told"
    with log.open("wb") as out:
        child = subprocess.Popen(
            [sys.executable, "-m", "gateway", *script.split()[1:]],
            stdout=out,
            env={**os.environ, "PGPASSWORD": PASSWORD},
        )
    try:
        end = time.monotonic() + 60
        while "trailgate verify" not in log.read_text():
            assert child.poll() is None and time.monotonic() < end
            time.sleep(0.02)
        told = [line.strip() for line in log.read_text().splitlines()]
        psql = next(line for line in told if line.startswith("PGPASSFILE="))
        exports = [line.removeprefix("nested").strip() for line in told if "export " in line]
        nested = next(line for line in told if line.startswith("trailgate run "))
        done = world.sh("\n".join([f"{psql} -c 'select 1'", *exports, nested]))
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("(1 row)") == 2
        listed = command_json("sessions", "list", "--data", f"{world.folder}/told")
        sh = [line for line in told if line.startswith(("trailgate sessions", "trailgate audit"))]
        for line in [*sh, next(line for line in told if line.startswith("trailgate verify"))]:
            done = world.sh(line.replace("SESSION", listed[0]["id"]))
            assert done.returncode == 0, done.stderr
    finally:
        child.terminate()
        assert child.wait(60) == 0


def test_try_for_scripts_enforces_its_policy(world: World) -> None:
    (line,) = [one for one in lines_of("trailgate try ") if "--json" in one]
    child = subprocess.Popen(
        [sys.executable, "-m", "gateway", *world.substituted(line).split()[1:]],
        cwd=world.desk,
        stdout=subprocess.PIPE,
        env={**os.environ, "PGPASSWORD": PASSWORD},
    )
    try:
        assert child.stdout is not None
        (target,) = json.loads(child.stdout.readline())["targets"]
        with pytest.raises(psycopg.OperationalError, match="no policy gives access"):
            psycopg.connect(target["dsn"], sslmode="require")
    finally:
        child.terminate()
        assert child.wait(60) == 0


def test_demo_stays_up_until_it_is_interrupted(world: World) -> None:
    data, log = world.folder / "kept", world.folder / "kept.txt"
    with log.open("wb") as out:
        child = subprocess.Popen(
            [sys.executable, "-m", "gateway", "demo", "--keep", "--data", str(data)],
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    end = time.monotonic() + 90
    while "Ctrl-C" not in log.read_text():
        assert child.poll() is None and time.monotonic() < end, log.read_text()
        time.sleep(0.05)
    assert (data / "admin.sock").is_socket()
    child.send_signal(signal.SIGINT)
    assert child.wait(60) == 0


def test_doctor_checks_what_is_documented(world: World) -> None:
    etc = world.folder / "etc"
    config = etc / "locked.yaml"
    config.write_text(
        (etc / "trailgate.yaml").read_text()
        + "evidence: {to: 's3://trailgate-evidence/prod', keys: 's3://trailgate-keys/prod',"
        " lock: {mode: compliance, days: 400, keys_days: 7}}\n"
    )
    with (etc / "objects.yaml").open("a") as file:
        file.write("---\nissuer: corp\nurl: https://127.0.0.1:1\naudience: trailgate\n")
    done = world.sh(f"trailgate doctor --config {config} -o json")
    assert done.returncode == 1
    found = json.loads(done.stdout)
    (table,) = [one for one in tables(OPERATIONS) if one.heading == "What doctor checks"]
    assert {one["check"] for one in found} == {words(row[0])[0] for row in table.rows}
    states = {one["check"]: one["state"] for one in found}
    wrong = {check for check, state in states.items() if state not in ("ok", "note")}
    assert wrong == {"issuers"}, found
    assert states["gateway"] == states["lock"] == "ok"
    targets = {one["state"]: one["detail"] for one in found if one["check"] == "targets"}
    assert "let us in" in targets.pop("ok")
    assert all("is in the vault" in detail for detail in targets.values()), found


def test_a_chain_is_seen_by_the_auditor(world: World, tried: Gateway) -> None:
    """The README's last example leaves the tree that its comment promises."""
    line = next(one for one in lines_of("trailgate run ") if "--scope" not in one)
    done = world.sh(
        line,
        TRAILGATE_URL=str(tried.ready["admin_url"]),
        TRAILGATE_TOKEN_FILE=str(tried.data / "clients" / "token"),
    )
    assert done.returncode == 0, done.stderr
    listed = command_json("sessions", "list", "--data", str(tried.data))
    assert ["orchestrator", "reader"] in [one["chain"][1:] for one in listed]
