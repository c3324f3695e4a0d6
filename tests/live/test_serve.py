# SPDX-License-Identifier: GPL-3.0-or-later
"""`trailgate serve` from a settings file: doors, reload, drain, health, metrics, evidence in S3."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import boto3
import httpx
import psycopg
import pytest
from moto.server import ThreadedMotoServer

from gateway.admin.cli.demo.postgres_server import PostgresServer
from tests.bench.stage import free_port
from tests.live.gateway_process import command, command_json

pytestmark = pytest.mark.live

POLICY = """\
policy: shop
match: {targets: [orders], groups: [data]}
rules:
  - id: read
    allow: {sql: {kinds: [read], functions: ["*", "*.*"]}}
"""


@dataclass
class Served:
    """A running `trailgate serve` and where it lies."""

    folder: Path
    port: int
    api: int
    child: subprocess.Popen[bytes]
    environment: dict[str, str]
    own_data: Path | None = None

    @property
    def data(self) -> Path:
        return self.own_data or self.folder / "data"

    @property
    def ca(self) -> str:
        return str(self.data / "ca.pem")

    def token(self, *groups: str) -> str:
        chosen = [part for group in groups for part in ("--group", group)]
        done = command("token", "--data", str(self.data), *chosen, "-o", "json")
        assert done.returncode == 0, done.stderr
        return str(json.loads(done.stdout)["token"])

    def dsn(self, token: str, **options: str) -> str:
        given = {"dbname": "orders", "user": "app", "sslmode": "verify-full", **options}
        words = " ".join(f"{key}={value}" for key, value in given.items())
        return f"host=127.0.0.1 port={self.port} password={token} sslrootcert={self.ca} {words}"

    def get(self, path: str) -> httpx.Response:
        context = ssl.create_default_context(cafile=self.ca)
        url = f"https://127.0.0.1:{self.api}{path}"
        return httpx.get(url, verify=context, trust_env=False)

    def ready(self) -> None:
        end = time.monotonic() + 30
        while time.monotonic() < end:
            if self.child.poll() is not None:
                raise AssertionError((self.folder / "log").read_text())
            try:
                if self.get("/readyz").status_code == 200:
                    with psycopg.connect(
                        self.dsn("x" * 10, sslmode="require", connect_timeout="2")
                    ):
                        pass
            except psycopg.OperationalError as error:
                if "token" in str(error):
                    return
            except (httpx.HTTPError, OSError):
                time.sleep(0.05)
            time.sleep(0.02)
        raise AssertionError("not ready in time")

    def log(self) -> list[dict[str, Any]]:
        lines = (self.folder / "log").read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]


def written(folder: Path, server: PostgresServer, evidence: str = "") -> tuple[int, int]:
    """Settings, objects and a policy; the two ports."""
    port, api = free_port(), free_port()
    init = command("init", "--dir", str(folder), "--data", str(folder / "data"))
    assert init.returncode == 0, init.stderr
    (folder / "secret").write_text(server.password)
    (folder / "secret").chmod(0o600)
    (folder / "trailgate.yaml").write_text(
        f"data: {folder}/data\nnode: gw-test\nobjects: [objects.yaml]\npolicies: [policies]\n"
        f"listeners: {{postgresql: 127.0.0.1:{port}, https: 127.0.0.1:{api}}}\n"
        f"limits: {{drain_seconds: 5}}\n{evidence}"
    )
    with (folder / "objects.yaml").open("a") as objects:
        objects.write(
            f"---\ntarget: orders\nprotocol: postgresql\naddress: localhost:{server.port}\n"
            f"databases: [shop]\ncredentials: [app]\n"
            f"tls: {{mode: verify-full, ca_path: {server.ca_path}}}\n"
            f"---\ncredential: app\nuser: postgres\nsecret: {{from: 'file:secret'}}\n"
        )
    (folder / "policies" / "shop.yaml").write_text(POLICY)
    return port, api


@contextmanager
def serving(
    folder: Path, ports: tuple[int, int], data: Path | None = None, **environment: str
) -> Iterator[Served]:
    env = {**os.environ, **environment}
    arguments = [
        sys.executable,
        "-m",
        "gateway",
        "serve",
        "--config",
        str(folder / "trailgate.yaml"),
    ]
    with (folder / "log").open("wb") as log:
        child = subprocess.Popen(arguments, stderr=log, env=env)
    served = Served(folder, *ports, child, env, data)
    try:
        served.ready()
        yield served
    finally:
        if child.poll() is None:
            child.terminate()
            child.wait(30)


@pytest.fixture
def served(shop: PostgresServer, tmp_path: Path) -> Iterator[Served]:
    with serving(tmp_path, written(tmp_path, shop)) as running:
        yield running


def test_a_target_is_named_by_the_database_and_default_is_deny(served: Served) -> None:
    token = served.token("data")
    with psycopg.connect(served.dsn(token, user="postgres"), autocommit=True) as link:
        assert link.execute("select count(*) from customers").fetchone() == (2,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            link.execute("insert into notes (body) values ('no')")
    for given, said in (
        ({"user": "somebody"}, 'no user "somebody"'),
        ({"user": "postgres", "dbname": "nowhere"}, 'no postgresql target "nowhere"'),
        ({"user": "postgres", "dbname": "orders/other"}, 'no database "other"'),
        ({"user": "postgres", "sslmode": "disable"}, "TLS"),
    ):
        with pytest.raises(psycopg.OperationalError, match=said):
            psycopg.connect(served.dsn(token, **given))
    with pytest.raises(psycopg.OperationalError, match="no policy gives access"):
        psycopg.connect(served.dsn(served.token("others"), user="postgres"))


def test_health_readiness_and_metrics(served: Served) -> None:
    with psycopg.connect(served.dsn(served.token("data"), user="postgres")) as link:
        link.execute("select 1")
        text = served.get("/metrics").text
    assert served.get("/healthz").text == "ok\n"
    assert served.get("/readyz").json()["ready"] is True
    assert 'trailgate_sessions_open{target="orders"} 1.0' in text
    assert 'trailgate_operations_total{verdict="allow"}' in text
    assert "trailgate_record_frames_total" in text


def test_reload_takes_what_is_right_and_keeps_the_rest(served: Served) -> None:
    policy = served.folder / "policies" / "shop.yaml"
    with psycopg.connect(
        served.dsn(served.token("data"), user="postgres"), autocommit=True
    ) as link:
        policy.write_text(POLICY.replace("[read]", "[read, insert]"))
        served.child.send_signal(signal.SIGHUP)
        _until(lambda: any(line["message"] == "reloaded" for line in served.log()))
        link.execute("insert into notes (body) values ('after the reload')")
        policy.write_text(POLICY.replace("rules:", "rulez:"))
        served.child.send_signal(signal.SIGHUP)
        _until(lambda: any("not reloaded" in line["message"] for line in served.log()))
        (line,) = [one for one in served.log() if "not reloaded" in one["message"]]
        assert "shop.yaml:3" in line["cause"] and "rules" in line["cause"]
        link.execute("insert into notes (body) values ('the last good policy stays')")


def _until(good: Any, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not good():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_sigterm_lets_a_transaction_end_and_refuses_new_ones(served: Served) -> None:
    token = served.token("data")
    link = psycopg.connect(served.dsn(token, user="postgres"))
    idle = psycopg.connect(served.dsn(token, user="postgres"), autocommit=True)
    idle.execute("select 1")
    link.execute("select 1")  # a transaction is open
    done: list[object] = []
    running = threading.Thread(
        target=lambda: done.append(link.execute("select pg_sleep(1), 'done'").fetchone())
    )
    running.start()
    time.sleep(0.3)
    served.child.terminate()
    running.join()
    assert done == [("", "done")]
    with pytest.raises(psycopg.OperationalError, match="shutting down"):
        idle.execute("select 1")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(served.dsn(token, user="postgres", connect_timeout="3"))
    link.commit()
    assert served.child.wait(20) == 0
    assert command("verify", str(served.data)).returncode == 0
    reasons = {
        one["reason"] for one in command_json("sessions", "list", "--data", str(served.data))
    }
    assert reasons <= {"drain", "client"}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("data: [a]\n", "trailgate.yaml:1"),
        ("data: /tmp/x\nlisteners: {postgres: 127.0.0.1:1}\n", "postgresql"),
        ("data: /tmp/x\nlimits: {conections: 5}\n", "connections"),
        ("data: /tmp/x\nevidence: {durability: maybe}\n", "durability"),
        ("", "one YAML document"),
    ],
)
def test_wrong_settings_are_named_at_their_place(tmp_path: Path, wrong: str, said: str) -> None:
    (tmp_path / "trailgate.yaml").write_text(wrong)
    done = command("serve", "--config", str(tmp_path / "trailgate.yaml"))
    assert done.returncode == 2
    assert said in done.stderr and "trailgate.yaml" in done.stderr
    assert "Traceback" not in done.stderr


# --- evidence in S3 ------------------------------------------------------------------------------


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    url = f"http://{host}:{port}"
    urlopen(f"{url}/moto-api/reset", data=b"").close()
    client = boto3.client("s3", endpoint_url=url)
    for bucket in ("evidence-test", "keys-test"):
        client.create_bucket(Bucket=bucket)
        client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    yield url
    server.stop()


def test_evidence_is_shipped_to_s3_and_verifies_there(
    shop: PostgresServer, tmp_path: Path, endpoint: str
) -> None:
    evidence = (
        "evidence: {to: 's3://evidence-test/prod', keys: 's3://keys-test/prod', "
        f"endpoint: '{endpoint}', region: us-east-1}}\n"
    )
    with serving(tmp_path, written(tmp_path, shop, evidence)) as served:
        with psycopg.connect(
            served.dsn(served.token("data"), user="postgres"), autocommit=True
        ) as link:
            link.execute("select 'in the bucket'")
        served.child.terminate()
        assert served.child.wait(30) == 0
    identity = str(tmp_path / "auditor" / "identity")
    place = ("s3://evidence-test/prod", "--endpoint-url", endpoint, "--identity", identity)
    done = command("verify", *place, "-o", "json")
    document = json.loads(done.stdout)
    assert document["ok"], document
    assert document["content"] == "opened" and document["checked"]["sessions"] >= 1


def test_no_core_is_left_and_children_know_no_secret(shop: PostgresServer, tmp_path: Path) -> None:
    ports = written(tmp_path, shop)
    with serving(tmp_path, ports, AWS_SECRET_ACCESS_KEY="seeded-secret-51aple") as served:
        own = Path(f"/proc/{served.child.pid}")
        children = (own / f"task/{served.child.pid}/children").read_text().split()
        assert children, "the parser's processes"
        for place in (own, *(Path(f"/proc/{pid}") for pid in children)):
            (line,) = [
                line
                for line in (place / "limits").read_text().splitlines()
                if line.startswith("Max core file size")
            ]
            assert line.split()[4:6] == ["0", "0"], place
        token = served.token("data")
        for pid in children:
            for name in ("environ", "cmdline"):
                seen = Path(f"/proc/{pid}/{name}").read_bytes()
                for secret in ("seeded-secret-51aple", shop.password, token):
                    assert secret.encode() not in seen, name


def test_the_gateway_is_closed_to_processes_of_its_own_user() -> None:
    """Linux then takes ptrace and /proc/PID/mem from all but root; a child may undo it by exec."""
    program = (
        "import ctypes, resource\n"
        "from gateway.admin.cli._isolating import PR_GET_DUMPABLE, be_undumpable\n"
        "libc = ctypes.CDLL(None)\n"
        "before = libc.prctl(PR_GET_DUMPABLE, 0, 0, 0, 0)\n"
        "be_undumpable(cores=False)\n"
        "after = libc.prctl(PR_GET_DUMPABLE, 0, 0, 0, 0)\n"
        "print(before, after, *resource.getrlimit(resource.RLIMIT_CORE))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.split() == ["1", "0", "0", "0"], done.stderr
