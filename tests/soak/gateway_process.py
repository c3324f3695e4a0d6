# SPDX-License-Identifier: GPL-3.0-or-later
"""`trailgate try` as a process of its own, and the commands that read its folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.stage import Peer


@dataclass
class Gateway:
    """A running `trailgate try` and what its ready line said."""

    child: subprocess.Popen[bytes]
    ready: dict[str, Any]
    data: Path

    @property
    def target(self) -> dict[str, Any]:
        return dict(self.ready["targets"][0])

    def environment(self, database: str) -> dict[str, str]:
        target = self.target
        mine = {
            "PGHOST": target["host"],
            "PGPORT": str(target["port"]),
            "PGUSER": "postgres",
            "PGPASSWORD": self.ready["token"],
            "PGDATABASE": database,
            "TRAILGATE_URL": self.ready["admin_url"],
            "TRAILGATE_TOKEN": self.ready["token"],
            "TRAILGATE_CA_PATH": self.ready["ca"],
        }
        return {**os.environ, **mine}

    def kill(self) -> None:
        self.child.send_signal(signal.SIGKILL)
        self.child.wait()

    def stop(self) -> int:
        self.child.terminate()
        return self.child.wait(60)


def start(data: Path, server: Peer, *arguments: str) -> Gateway:
    url = f"postgresql://{server.user}@127.0.0.1:{server.port}/bench?sslmode=disable"
    command = [sys.executable, "-m", "gateway", "try", "--json", "--data", str(data), *arguments]
    log = data.with_suffix(".log").open("ab")
    child = subprocess.Popen(
        [*command, f"bench={url}"],
        env={**os.environ, "PGPASSWORD": server.password},
        stdout=subprocess.PIPE,
        stderr=log,
    )
    assert child.stdout is not None
    line = child.stdout.readline()
    assert line, f"the gateway did not start: {log.name}"
    return Gateway(child, json.loads(line), data)


def command_json(*arguments: str) -> Any:
    """The JSON document that a command prints with `-o json`."""
    run = subprocess.run(
        [sys.executable, "-m", "gateway", *arguments, "-o", "json"], capture_output=True, text=True
    )
    assert run.stdout, run.stderr
    return json.loads(run.stdout)
