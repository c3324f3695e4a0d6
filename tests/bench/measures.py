# SPDX-License-Identifier: GPL-3.0-or-later
"""What is measured of one peer: latency, throughput, bulk, memory, connection set-up."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import statistics
import struct
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.bench.stage import Peer, server_bin

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
ROWS = "select i, i * 2, md5(i::text) from generate_series(1, {rows}) i"


@dataclass(frozen=True)
class Latency:
    """Microseconds of one transaction as its client saw them, and CPU a transaction."""

    p50: float
    p99: float
    tps: float
    cpu: float


@dataclass(frozen=True)
class Bulk:
    seconds: float
    bytes: int
    digest: str
    cpu: float


def cpu_seconds(peer: Peer) -> float:
    total = 0.0
    for pid in peer.pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
        total += (int(fields[11]) + int(fields[12])) / TICKS
    return total


def resident_bytes(peer: Peer) -> int:
    return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE for pid in peer.pids)


def pgbench(peer: Peer, tls: bool, clients: int, seconds: int, arguments: list[str]) -> Latency:
    """One run of pgbench; percentiles come from its own log of every transaction."""
    with tempfile.TemporaryDirectory() as folder:
        before = cpu_seconds(peer)
        command = [str(server_bin() / "pgbench"), "-n", "-c", str(clients), "-T", str(seconds)]
        command += ["-l", "--log-prefix", f"{folder}/log", *arguments]
        run = subprocess.run(command, env=peer.environment(tls), capture_output=True, text=True)
        spent = cpu_seconds(peer) - before
        if run.returncode != 0:
            raise RuntimeError(f"{peer.name}: pgbench failed: {run.stderr[-500:]}")
        times = [
            int(line.split(" ", 3)[2])
            for log in Path(folder).glob("log.*")
            for line in log.read_text().splitlines()
        ]
    tps = float(re.search(r"tps = ([\d.]+)", run.stdout).group(1))  # type: ignore[union-attr]
    times.sort()
    return Latency(
        statistics.median(times), times[int(len(times) * 0.99)], tps, spent / len(times) * 1e6
    )


def select_one(peer: Peer, tls: bool, clients: int, seconds: int) -> Latency:
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        script.write("select 1;\n")
        script.flush()
        return pgbench(peer, tls, clients, seconds, ["-f", script.name])


def pgbench_select(peer: Peer, tls: bool, clients: int, seconds: int, mode: str) -> Latency:
    return pgbench(peer, tls, clients, seconds, ["-S", "-M", mode])


def connects(peer: Peer, tls: bool, seconds: int) -> float:
    """Connections with one query each, per second, one after the other."""
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        script.write("select 1;\n")
        script.flush()
        return pgbench(peer, tls, 1, seconds, ["-C", "-f", script.name]).tps


def psql_bulk(peer: Peer, tls: bool, sql: str) -> Bulk:
    before, start = cpu_seconds(peer), time.perf_counter()
    command = ["psql", "-X", "-A", "-t", "-q", "-c", sql]
    child = subprocess.Popen(command, env=peer.environment(tls), stdout=subprocess.PIPE)
    assert child.stdout is not None
    digest, size = hashlib.sha256(), 0
    while chunk := child.stdout.read(1 << 20):
        digest.update(chunk)
        size += len(chunk)
    if child.wait() != 0:
        raise RuntimeError(f"{peer.name}: psql failed")
    spent = cpu_seconds(peer) - before
    return Bulk(time.perf_counter() - start, size, digest.hexdigest(), spent)


def million_rows(peer: Peer, tls: bool, rows: int) -> Bulk:
    return psql_bulk(peer, tls, ROWS.format(rows=rows))


def copy_out(peer: Peer, tls: bool, megabytes: int) -> Bulk:
    rows = megabytes * 10_000  # 100 bytes a row
    return psql_bulk(
        peer,
        tls,
        f"copy (select repeat(md5(i::text), 3) from generate_series(1, {rows}) i) to stdout",
    )


def open_idle(peer: Peer) -> socket.socket:
    """A session by hand: start-up, clear-text password (the gateway) or SCRAM is left to libpq."""
    link = socket.create_connection(("127.0.0.1", peer.port))
    body = f"user\0{peer.user}\0database\0{peer.database}\0\0".encode()
    link.sendall(struct.pack("!II", len(body) + 8, 196608) + body)
    received = b""
    while b"Z\0\0\0\5" not in received:
        piece = link.recv(4096)
        if not piece:
            raise RuntimeError(f"{peer.name} closed the link: {received[:200]!r}")
        received += piece
        if received.startswith(b"R\0\0\0\x08\0\0\0\3") and len(received) == 9:
            secret = peer.password.encode() + b"\0"
            link.sendall(b"p" + struct.pack("!I", len(secret) + 4) + secret)
    return link


def idle_kib(peer: Peer, sessions: int) -> float:
    """Resident KiB that each idle session adds to the proxy."""
    first = open_idle(peer)
    before = resident_bytes(peer)
    links = [open_idle(peer) for _ in range(sessions)]
    time.sleep(1)
    grown = resident_bytes(peer) - before
    for link in [first, *links]:
        link.close()
    return grown / sessions / 1024
