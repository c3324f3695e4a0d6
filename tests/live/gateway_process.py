# SPDX-License-Identifier: GPL-3.0-or-later
"""`trailgate try` and `trailgate serve` as processes of their own, and the commands beside them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from typing import Protocol as Interface

READY_SECONDS = 60


class Server(Interface):
    """A PostgreSQL server that a gateway is put in front of."""

    user: str
    password: str
    port: int


@dataclass
class Gateway:
    """A running `trailgate try` and what its ready line said."""

    child: subprocess.Popen[bytes]
    ready: dict[str, Any]
    data: Path
    log: Path

    @property
    def target(self) -> dict[str, Any]:
        return dict(self.ready["targets"][0])

    @property
    def port(self) -> int:
        return int(self.target["port"])

    @property
    def token(self) -> str:
        return str(self.ready["token"])

    def environment(self, database: str, token: str = "") -> dict[str, str]:
        """For libpq's clients and for `trailgate run`."""
        mine = {
            "PGHOST": self.target["host"],
            "PGPORT": str(self.port),
            "PGUSER": "postgres",
            "PGPASSWORD": token or self.token,
            "PGDATABASE": database,
            "TRAILGATE_URL": self.ready["admin_url"],
            "TRAILGATE_TOKEN": token or self.token,
            "TRAILGATE_CA_PATH": self.ready["ca"],
        }
        return {**os.environ, **mine}

    def dsn(self, database: str, token: str = "", **options: str) -> str:
        """A connection string with the token, and no TLS unless asked for."""
        given = {"sslmode": "disable", "connect_timeout": "20", **options}
        words = " ".join(f"{key}='{value}'" for key, value in given.items())
        return (
            f"host=127.0.0.1 port={self.port} user=postgres dbname={database} "
            f"password={token or self.token} {words}"
        )

    def psql(
        self, *statements: str, database: str, token: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Each statement on one link, going on after an error."""
        command = ["psql", "-XAt", *(f"-c{sql}" for sql in statements)]
        env = {**self.environment(database, token), "PGSSLMODE": "disable"}
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)

    def kill(self) -> None:
        self.child.send_signal(signal.SIGKILL)
        self.child.wait()

    def stop(self) -> int:
        """End it in order; its exit code."""
        if self.child.poll() is None:
            self.child.terminate()
        return self.child.wait(60)


def start(data: Path, server: Server, *arguments: str, database: str = "bench") -> Gateway:
    """`trailgate try` in front of a server; the target has the database's name."""
    url = f"postgresql://{server.user}@127.0.0.1:{server.port}/{database}?sslmode=disable"
    command = [sys.executable, "-m", "gateway", "try", "--json", "--data", str(data), *arguments]
    path = data.with_suffix(".log")
    with path.open("ab") as log:
        child = subprocess.Popen(
            [*command, f"{database}={url}"],
            env={**os.environ, "PGPASSWORD": server.password},
            stdout=subprocess.PIPE,
            stderr=log,
        )
    assert child.stdout is not None
    line = child.stdout.readline()
    assert line, f"the gateway did not start: {path.read_text()[-2000:]}"
    return Gateway(child, json.loads(line), data, path)


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`trailgate ...` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "gateway", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **environment},
    )


def command_json(*arguments: str, **environment: str) -> Any:
    """The JSON document that a command prints with `-o json`."""
    run = command(*arguments, "-o", "json", **environment)
    assert run.stdout, run.stderr
    return json.loads(run.stdout)
