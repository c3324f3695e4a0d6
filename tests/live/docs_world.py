# SPDX-License-Identifier: GPL-3.0-or-later
"""The world in which the documentation's shell examples run: gateways, evidence, a desk.

`serve` runs as the systemd unit of operations.md has it, as far as that can be done without
systemd: no memory that is writable and executable, umask 0077, the unit's limits.
"""

from __future__ import annotations

import os
import resource
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import psycopg
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.admin.cli.demo.postgres_server import PostgresServer
from tests.live.gateway_process import Gateway, command_json
from tests.pages import (
    API,
    AUDITORS,
    CLIENTS,
    CREDENTIALS,
    OBJECTS,
    OPERATING,
    README,
    Block,
    blocks,
)

_TWO_NODES = "tests/verify/test_nodes_together.py does so: here is one node"
NOT_RUN = {
    "rsync -a gw1:/var/lib/trailgate/evidence gw1:/var/lib/trailgate/keys /mnt/": _TWO_NODES,
    "rsync -a gw2:/var/lib/trailgate/evidence gw2:/var/lib/trailgate/keys /mnt/": _TWO_NODES,
    "cat gw1.vkey gw2.vkey > both.vkeys": _TWO_NODES,
    "trailgate verify /mnt/evidence --trust both.vkeys --identity identity": _TWO_NODES,
    "kubectl get --raw /openid/v1/jwks > cluster-jwks.json": "there is no cluster here",
    "make demo": "test_demo.py plays the story; make would install what is installed here",
    "make verifier": "it is build() below, without make's installing",
    "python3 -m venv /opt/trailgate": "it would install from the package index",
    "/opt/trailgate/bin/pip install .": "it would install from the package index",
    "trailgate serve --config /etc/trailgate/trailgate.yaml --delete target/stock"
    " --delete credential/stock-app": "tests/declare/test_node.py starts so: here a gateway serves",
    "trailgate node retire --config /etc/trailgate/trailgate.yaml": "nothing would run any more",
}
STARTED = (
    "trailgate audit open ",
    "trailgate serve ",
    "trailgate try ",
    "trailgate witness --dir witness --listen ",
)
"""What does not end by itself: the fixtures start it, by the line in the documentation."""
FIRST_STEPS = "trailgate init --dir /etc/trailgate "
"""The block that begins so makes the world in which the others run."""
PASSWORD = "app's own"
AGENT_KEY = ec.generate_private_key(ec.SECP256R1())
REPORTS = "the first secret of reports"
PR_SET_MDWE = 65
SERVE = f"""
import ctypes, os, sys
ctypes.CDLL(None).prctl({PR_SET_MDWE}, 1, 0, 0, 0)
os.umask(0o077)
os.execv(sys.executable, [sys.executable, "-m", "gateway", *sys.argv[1:]])
"""


@dataclass
class World:
    """A served gateway, one that `try` started, evidence at rest, and a desk to type at."""

    folder: Path
    server: PostgresServer
    port: int
    api: int
    environment: dict[str, str] = field(default_factory=dict)
    tried: Gateway | None = None
    copied: str = ""
    """A session of the evidence at rest."""
    in_s3: str = ""

    @property
    def desk(self) -> Path:
        return self.folder / "desk"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def places(self) -> Mapping[str, str | Callable[[str], str]]:
        """What stands in the documentation, and what is put in its place; longest first."""
        return {
            "postgresql://app@db.example.com:5432/orders": self.server_url,
            "log/NODE/N/": f"log/{self.node}/",
            "gateway.example.com:8443": f"localhost:{self.api}",
            "gateway.example.com:15432": f"localhost:{self.port}",
            "gateway.example.com port=15432": f"localhost port={self.port}",
            "/etc/trailgate": str(self.folder / "etc"),
            "/var/lib/trailgate": str(self.data),
            "/var/log/postgresql/postgresql-15-main.log": str(self.server.log),
            "/run/secrets/orders": str(self.folder / "etc" / "secret"),
            "/mnt/lake": str(self.folder / "lake"),
            "/mnt/evidence": str(self.folder / "mnt" / "evidence"),
            "/mnt/keys": str(self.folder / "mnt" / "keys"),
            "https://minio.example:9000": self.environment["AWS_ENDPOINT_URL"],
            " p.yaml": f" {self.folder}/etc/policies/read-only.yaml",
            ". .venv/bin/activate": f". {sys.prefix}/bin/activate",
            "SESSION": self.session,
            "GRANT": self.grant,
            " DIR": f" {self.tried.data}" if self.tried else " DIR",
            "--since 2026-11-24 --until 2026-11-25": self.since_yesterday(),
        }

    @staticmethod
    def since_yesterday() -> str:
        """The interval in which all here happened, midnight in the midst of it too."""
        today = datetime.now(UTC).date()
        return f"--since {today - timedelta(days=1)} --until {today + timedelta(days=1)}"

    def substituted(self, line: str) -> str:
        for written, put in self.places().items():
            if written in line:
                line = line.replace(written, put if isinstance(put, str) else put(line))
        return line

    @property
    def server_url(self) -> str:
        return f"postgresql://app@localhost:{self.server.port}/shop"

    @property
    def node(self) -> str:
        logs = sorted((self.data / "evidence" / "log").glob("*/*"))
        return "/".join(logs[-1].parts[-2:]) if logs else "NODE/N"

    def session(self, line: str) -> str:
        if "DIR" in line or (self.tried and str(self.tried.data) in line):
            assert self.tried is not None
            return str(command_json("sessions", "list", "--data", str(self.tried.data))[0]["id"])
        if " kill " not in line:
            return self.in_s3 if "s3://" in line else self.copied
        link = psycopg.connect(self.dsn())
        self.open_links.append(link)
        listed = command_json("sessions", "list", "--data", str(self.data))
        return str([one["id"] for one in listed if one["state"] == "open"][-1])

    open_links: list[psycopg.Connection[Any]] = field(default_factory=list)

    def grant(self, line: str) -> str:
        return str(command_json("token", "--data", str(self.data))["grant"])

    def dsn(self) -> str:
        token = (self.desk / "token").read_text().strip()
        where = f"host=localhost port={self.port} user=app dbname=orders"
        return f"{where} password={token} sslmode=verify-full sslrootcert={self.desk}/ca.pem"

    def sh(self, script: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run lines in a shell at the desk; the first that fails ends them."""
        if "assertion.jwt" in script:
            (self.desk / "assertion.jwt").write_text(assertion(self))
        clean = {name: value for name, value in os.environ.items() if name[:2] != "PG"}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.desk,
            env={**clean, "PATH": path, **self.environment, **more},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=100,
        )


def to_run(block: Block) -> list[str]:
    """The lines of a block without those that are not run, or not by themselves."""
    return [
        line
        for line in block.text.splitlines()
        if line.strip() not in NOT_RUN and not line.startswith(STARTED)
    ]


def lines_of(begin: str) -> list[str]:
    """Every line of an example that begins so."""
    pages = (README, CLIENTS, CREDENTIALS, AUDITORS, *OPERATING, OBJECTS, API)
    every = [line for page in pages for one in blocks(page, "sh") for line in one.text.splitlines()]
    return [line for line in every if line.startswith(begin)]


EXAMPLES = [
    block
    for page in (README, *OPERATING, CLIENTS, CREDENTIALS, OBJECTS, API, AUDITORS)
    for block in blocks(page, "sh")
]


# --- the world -----------------------------------------------------------------------------------


def first_steps(world: World) -> subprocess.CompletedProcess[str]:
    (block,) = [one for one in EXAMPLES if one.text.startswith(FIRST_STEPS)]
    done = world.sh(world.substituted("\n".join(to_run(block))))
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def assertion(world: World) -> str:
    """What the agent `deployer` signs to log in: good once, for ten minutes."""
    claims = {
        "iss": "deployer",
        "sub": "deployer",
        "aud": [f"https://{host}:{world.api}/oauth/token" for host in ("localhost", "127.0.0.1")],
        "jti": secrets.token_urlsafe(16),
        "iat": int(time.time()),
        "exp": int(time.time()) + 300,
    }
    return jwt.encode(claims, AGENT_KEY, algorithm="ES256")


def declare(world: World) -> None:
    """Write the target into what `init` made, and put the listeners on free ports."""
    etc = world.folder / "etc"
    settings = etc / "trailgate.yaml"
    text = (
        settings.read_text().replace(":15432", f":{world.port}").replace(":8443", f":{world.api}")
    )
    settings.write_text(text)
    (etc / "secret").write_text(PASSWORD)
    (etc / "secret").chmod(0o600)
    world.server.psql(f"CREATE ROLE reports LOGIN PASSWORD '{REPORTS}'")
    (etc / "reports").write_text(REPORTS)
    (etc / "reports").chmod(0o600)
    (etc / "deployer.pub").write_bytes(
        AGENT_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    with (etc / "objects.yaml").open("a") as file:
        file.write(
            f"---\ntarget: orders\nprotocol: postgresql\naddress: localhost:{world.server.port}\n"
            "databases: [shop]\ncredentials: [orders-app, reports-app]\n"
            f"tls: {{mode: verify-full, ca_path: {world.server.ca_path}}}\n"
            "---\ncredential: orders-app\nuser: app\nsecret: {from: 'file:secret'}\n"
            "---\nagent: deployer\nkey: {from: 'file:deployer.pub'}\n"
            "---\ncredential: reports-app\nuser: reports\nsecret: {from: 'file:reports'}\n"
            "rotation: {kind: postgresql, grace: 1s}\n"
        )


@contextmanager
def serving(world: World, line: str, data: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`trailgate serve` by a line of the documentation, until the block ends."""
    words_ = world.substituted(line).split()
    assert words_[:2] == ["trailgate", "serve"]
    log_path = world.folder / "serve.log"
    log_path.unlink(missing_ok=True)
    with log_path.open("wb") as log:
        child = subprocess.Popen(
            [sys.executable, "-c", SERVE, *words_[1:]],
            stderr=log,
            env={**os.environ, **world.environment},
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)),
        )
    try:
        end = time.monotonic() + 40
        while b'"ready"' not in log_path.read_bytes():
            assert child.poll() is None and time.monotonic() < end, log_path.read_text()
            time.sleep(0.02)
        shutil.copy(data / "ca.pem", world.desk / "ca.pem")
        yield child
    finally:
        if child.poll() is None:
            child.send_signal(signal.SIGTERM)
        assert child.wait(60) == 0, log_path.read_text()


def one_session(world: World, data: Path) -> str:
    """A token by the documented line, and a session in which a row is read."""
    line = next(one for one in lines_of("trailgate token ") if "--file token" in one)
    done = world.sh(world.substituted(line).replace(str(world.data), str(data)))
    assert done.returncode == 0, done.stderr
    with psycopg.connect(world.dsn(), autocommit=True) as link:
        assert link.execute("select name from customers where id = 1").fetchone() == ("Ada",)
    return str(command_json("sessions", "list", "--data", str(data))[-1]["id"])


def shipped_to_s3(world: World, line: str) -> None:
    """A session whose evidence lies in the documented bucket."""
    etc, data = world.folder / "etc", world.folder / "data-s3"
    text = (etc / "trailgate.yaml").read_text().replace(str(world.data), str(data))
    text += "evidence: {to: 's3://trailgate-evidence/prod', keys: 's3://trailgate-keys/prod'}\n"
    (etc / "s3.yaml").write_text(text)
    with serving(world, line.replace("trailgate.yaml", "s3.yaml"), data):
        world.in_s3 = one_session(world, data)
