# SPDX-License-Identifier: GPL-3.0-or-later
"""kill -9 of the gateway under load: all that the server ran is in the record, and it verifies."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.record.reader import Evidence
from tests.bench.stage import Peer, server, server_bin
from tests.live.gateway_process import Gateway, command_json, start

ROUNDS = int(os.environ.get("TRAILGATE_KILLS", "50"))
LOGGED = re.compile(r"pid=(\d+) LOG:  (?:statement|execute [^:]*): (.*/\* mark \d+ \*/.*)")
SETTINGS = "log_statement=all\nlog_line_prefix='%m pid=%p '\n"


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[Peer]:
    tmp_path.chmod(0o755)
    for parent in list(tmp_path.parents)[:3]:
        parent.chmod(0o755)
    with server(tmp_path, SETTINGS) as peer:
        yield peer


def load(gateway: Gateway, folder: Path, clients: int) -> list[subprocess.Popen[bytes]]:
    """pgbench clients whose every statement carries a mark of its own."""
    script = folder / "marked.sql"
    script.write_text(
        "\\set n random(1, 1000000000)\n"
        "update pgbench_branches set bbalance = bbalance + 1 where bid = 1 /* mark :n */;\n"
        "select abalance from pgbench_accounts where aid = :n % 1000 /* mark :n */;\n"
    )
    return [
        subprocess.Popen(
            [str(server_bin() / "pgbench"), "-n", "-c", str(clients), "-T", "60", "-M", mode]
            + ["-f", str(script)],
            env=gateway.environment("bench"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for mode in ("simple", "extended")
    ]


def logged_statements(folder: Path) -> Counter[tuple[int, str]]:
    text = (folder / "server.log").read_text(errors="replace")
    return Counter((int(pid), statement.rstrip(";")) for pid, statement in LOGGED.findall(text))


def recorded_statements(data: Path) -> Counter[tuple[int, str]]:
    """(backend pid, text) of every request in the record."""
    found: Counter[tuple[int, str]] = Counter()
    for session in command_json("sessions", "list", "--data", str(data)):
        pid = backend_pid(data, session["id"])
        replayed = command_json("audit", "replay", session["id"], "--data", str(data))
        for operation in replayed["operations"]:
            found[pid, operation["request"]["text"].rstrip(";")] += 1
    return found


def backend_pid(data: Path, session: str) -> int:
    for frame in Evidence(data, None).frames(session):
        for event in frame.meta.get("events", ()):
            if event["ev"] == "backend":
                return int(event["pid"])
    return 0


@pytest.mark.timeout(3000)
def test_a_killed_gateway_lost_nothing_that_the_server_ran(postgres: Peer, tmp_path: Path) -> None:
    data = tmp_path / "data"
    for _ in range(ROUNDS):
        gateway = start(data, postgres)
        clients = load(gateway, tmp_path, 4)
        timer = threading.Event()
        timer.wait(random.uniform(0.05, 1.5))
        gateway.kill()
        for client in clients:
            client.wait(30)
        verdict = restarted_and_verified(data, postgres)
        assert verdict["ok"], json.dumps(verdict["defects"][:5])
    time.sleep(1)  # the server notices that its clients are gone, and has logged all by then
    missing = logged_statements(tmp_path) - recorded_statements(data)
    assert not missing, list(missing)[:10]
    assert sum(logged_statements(tmp_path).values()) > ROUNDS


def restarted_and_verified(data: Path, postgres: Peer) -> dict[str, object]:
    again = start(data, postgres)
    assert again.stop() == 0
    document: dict[str, object] = command_json("verify", str(data))
    return document
