# SPDX-License-Identifier: GPL-3.0-or-later
"""A COPY of gigabytes passes at a flat memory line, and every byte of it is in the record."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench.stage import Peer, descendants, server
from tests.live.gateway_process import command_json, start

GIGABYTES = float(os.environ.get("TRAILGATE_COPY_GB", "5"))
ROWS = int(GIGABYTES * 10_000_000)
SQL = f"copy (select repeat(md5(i::text), 3) || 'x' from generate_series(1, {ROWS}) i) to stdout"


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[Peer]:
    for folder in [tmp_path, *list(tmp_path.parents)[:3]]:
        folder.chmod(0o755)
    with server(tmp_path) as peer:
        yield peer


def resident_mib(pids: tuple[int, ...]) -> float:
    """Anonymous memory only: pages of the mapped journal belong to the page cache."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                total += int(line.split()[1])
    return total / 1024


def watch(pids: tuple[int, ...], samples: list[float], stop: threading.Event) -> None:
    while not stop.wait(0.5):
        samples.append(resident_mib(pids))


@pytest.mark.timeout(1800)
def test_a_copy_of_gigabytes_leaves_memory_flat(postgres: Peer, tmp_path: Path) -> None:
    gateway = start(tmp_path / "data", postgres)
    samples: list[float] = []
    stop = threading.Event()
    watcher = threading.Thread(
        target=watch, args=(descendants(gateway.child.pid), samples, stop), daemon=True
    )
    watcher.start()
    command = ["psql", "-X", "-q", "-c", SQL]
    child = subprocess.Popen(command, env=gateway.environment("bench"), stdout=subprocess.PIPE)
    assert child.stdout is not None
    size = 0
    while chunk := child.stdout.read(1 << 20):
        size += len(chunk)
    assert child.wait() == 0
    stop.set()
    watcher.join()
    assert size == ROWS * 98
    assert max(samples) - samples[0] < 96, samples
    assert gateway.stop() == 0
    assert command_json("verify", str(gateway.data))["ok"]
    (session,) = [
        found
        for found in command_json("sessions", "list", "--data", str(gateway.data))
        if found["rows"] == ROWS
    ]
    assert session["bytes"] >= size
