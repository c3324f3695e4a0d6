# SPDX-License-Identifier: GPL-3.0-or-later
"""Starts what is compared: a PostgreSQL, the gateway at two levels, pgbouncer and a TCP proxy."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

SERVER_USER = "postgres"
PASSWORD = "bench-only-password"
POLICY = """\
policy: bench
description: What the benchmark may do.
mode: enforce
durability: {level}
match: {{targets: ["*"]}}
rules:
  - id: all
    allow:
      sql: {{kinds: [read, write, schema, session, admin], functions: ["*", "*.*"]}}
"""


@dataclass(frozen=True)
class Peer:
    """One way to reach the server. `pids` are the processes whose CPU and memory count."""

    name: str
    port: int
    user: str
    password: str
    pids: tuple[int, ...]
    database: str = "bench"
    ca: Path | None = None

    def environment(self, tls: bool) -> dict[str, str]:
        extra = {
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.port),
            "PGUSER": self.user,
            "PGPASSWORD": self.password,
            "PGDATABASE": self.database,
            "PGSSLMODE": "require" if tls else "disable",
            "PGGSSENCMODE": "disable",
        }
        return {**os.environ, **extra}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def server_bin() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not found:
        raise SystemExit("no PostgreSQL server: run tests/install-servers --bench")
    return found[-1]


def as_server_user(command: list[str]) -> list[str]:
    if os.getuid() != 0:
        return command
    ids = ["--reuid", SERVER_USER, "--regid", SERVER_USER, "--clear-groups"]
    return ["setpriv", *ids, "--", *command]


def wait_for(port: int, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise SystemExit(f"nothing answers on 127.0.0.1:{port}")


def certificate(folder: Path) -> None:
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-subj", "/CN=localhost", "-days", "2"),
            *("-keyout", str(folder / "server.key"), "-out", str(folder / "server.crt")),
        ],
        check=True,
        capture_output=True,
    )
    (folder / "server.pem").write_text(
        (folder / "server.crt").read_text() + (folder / "server.key").read_text()
    )


def owned(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    if os.getuid() == 0:
        shutil.chown(folder, SERVER_USER, SERVER_USER)
    return folder


@contextmanager
def process(command: list[str], log: Path, **options: object) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out:
        child = subprocess.Popen(command, stdout=out, stderr=out, **options)  # type: ignore[call-overload]
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(20)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def make_server(folder: Path, settings: str) -> tuple[Path, int]:
    data, port = owned(folder / "server") / "data", free_port()
    secret = folder / "server" / "pw"
    secret.write_text(PASSWORD)
    secret.chmod(0o644)
    initdb = [str(server_bin() / "initdb"), "-D", str(data), "-A", "scram-sha-256", "-U"]
    command = as_server_user([*initdb, SERVER_USER, f"--pwfile={secret}", "--no-sync"])
    subprocess.run(command, check=True, capture_output=True, cwd="/")
    certificate(folder)
    for name in ("server.key", "server.crt"):
        shutil.copy(folder / name, data / name)
        if os.getuid() == 0:
            shutil.chown(data / name, SERVER_USER, SERVER_USER)
        (data / name).chmod(0o600)
    with (data / "postgresql.conf").open("a") as conf:
        conf.write(
            f"port={port}\nlisten_addresses='127.0.0.1'\nunix_socket_directories=''\nssl=on\n"
            "fsync=off\nmax_connections=1300\nshared_buffers=256MB\n" + settings
        )
    return data, port


@contextmanager
def server(folder: Path, settings: str = "") -> Iterator[Peer]:
    """A PostgreSQL with a database `bench`; `settings` are lines for postgresql.conf."""
    data, port = make_server(folder, settings)
    command = as_server_user([str(server_bin() / "postgres"), "-D", str(data)])
    with process(command, folder / "server.log", cwd="/"):
        wait_for(port)
        peer = Peer("direct", port, SERVER_USER, PASSWORD, ())
        fill = {**peer.environment(False), "PGDATABASE": "postgres"}
        subprocess.run(["createdb", "bench"], env=fill, check=True)
        pgbench = str(server_bin() / "pgbench")
        init = [pgbench, "-i", "-s", "5", "-q"]
        subprocess.run(init, env=peer.environment(False), check=True, capture_output=True)
        yield peer


@contextmanager
def pgbouncer(folder: Path, direct: Peer) -> Iterator[Peer]:
    home, port = owned(folder / "pgbouncer"), free_port()
    (home / "users").write_text(f'"{direct.user}" "{direct.password}"\n')
    shutil.copy(folder / "server.crt", home / "server.crt")
    shutil.copy(folder / "server.key", home / "server.key")
    (home / "server.key").chmod(0o644)
    (home / "ini").write_text(
        f"[databases]\n* = host=127.0.0.1 port={direct.port}\n[pgbouncer]\nlisten_addr=127.0.0.1\n"
        f"listen_port={port}\nauth_type=scram-sha-256\nauth_file={home}/users\npool_mode=session\n"
        "unix_socket_dir=\nmax_client_conn=2000\ndefault_pool_size=1200\npkt_buf=65536\n"
        "server_tls_sslmode=disable\nclient_tls_sslmode=allow\n"
        f"client_tls_key_file={home}/server.key\nclient_tls_cert_file={home}/server.crt\n"
        "ignore_startup_parameters=extra_float_digits,options\nlog_connections=0\nlog_disconnections=0\n"
    )
    command = as_server_user(["pgbouncer", "-q", str(home / "ini")])
    with process(command, folder / "pgbouncer.log", cwd="/") as child:
        wait_for(port)
        yield Peer("pgbouncer", port, direct.user, direct.password, (child.pid,))


@contextmanager
def tcp_proxy(folder: Path, direct: Peer) -> Iterator[Peer]:
    port = free_port()
    (folder / "haproxy.cfg").write_text(
        "global\n  nbthread 1\n  tune.bufsize 262144\n  maxconn 4000\ndefaults\n  mode tcp\n"
        "  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n"
        f"listen pg\n  bind 127.0.0.1:{port}\n  server one 127.0.0.1:{direct.port}\n"
    )
    command = ["haproxy", "-db", "-q", "-f", str(folder / "haproxy.cfg")]
    with process(command, folder / "haproxy.log") as child:
        wait_for(port)
        yield Peer("haproxy (tcp)", port, direct.user, direct.password, (child.pid,))


def descendants(pid: int) -> tuple[int, ...]:
    """The process and all below it, so that helpers' CPU counts as the gateway's."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found.extend(descendants(int(child)))
    return tuple(found)


@contextmanager
def gateway(folder: Path, direct: Peer, level: str) -> Iterator[Peer]:
    policy = folder / f"policy-{level}.yaml"
    policy.write_text(POLICY.format(level=level))
    url = f"postgresql://{direct.user}@127.0.0.1:{direct.port}/bench?sslmode=disable"
    command = [sys.executable, "-m", "gateway", "try", "--json", "--policy", str(policy)]
    command += ["--data", str(folder / f"gateway-{level}"), f"bench={url}"]
    env = {**os.environ, "PGPASSWORD": direct.password}
    log = (folder / f"gateway-{level}.log").open("wb")
    child = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=log)
    try:
        assert child.stdout is not None
        line = child.stdout.readline()
        if not line:
            raise SystemExit(f"the gateway did not start: see {log.name}")
        ready = json.loads(line)
        target = ready["targets"][0]
        name = f"trailgate ({level})"
        yield Peer(name, target["port"], direct.user, ready["token"], descendants(child.pid))
    finally:
        child.terminate()
        child.wait(60)
        log.close()


@contextmanager
def everything(folder: Path) -> Iterator[list[Peer]]:
    with ExitStack() as stack:
        direct = stack.enter_context(server(folder))
        peers = [direct, stack.enter_context(tcp_proxy(folder, direct))]
        peers.append(stack.enter_context(pgbouncer(folder, direct)))
        for level in ("process", "disk"):
            peers.append(stack.enter_context(gateway(folder, direct, level)))
        yield peers
