# SPDX-License-Identifier: GPL-3.0-or-later
"""Rotations under pgbench through the gateway: some clients log in for each transaction, some keep
their session over all rotations."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.admin.cli.demo.postgres_server import PostgresServer
from tests.bench.stage import server_bin
from tests.live.rotating_world import accounts, asked, rotating, seed, token_of
from tests.live.test_serve import Served, serving

PIECE_SECONDS = 4


def environment(served: Served, token: str) -> dict[str, str]:
    given = {"PGHOST": "127.0.0.1", "PGPORT": str(served.port), "PGUSER": "keeper"}
    tls = {"PGSSLMODE": "verify-full", "PGSSLROOTCERT": served.ca}
    return {**os.environ, **given, **tls, "PGPASSWORD": token, "PGDATABASE": "orders"}


class Load:
    """pgbench until `stop`; `complaints` are of clients that failed."""

    def __init__(self, served: Served, token: str, folder: Path) -> None:
        script = folder / "load.sql"
        script.write_text("select count(*) from customers;\n")
        self.complaints: list[str] = []
        self.logins = 0
        bench = [str(server_bin() / "pgbench"), "-n", "-f", str(script)]
        self._short = [*bench, "-C", "-c", "3", "-T", str(PIECE_SECONDS)]
        self._env = environment(served, token)
        self._over = threading.Event()
        self._long = subprocess.Popen(
            [*bench, "-c", "2", "-R", "50", "-T", "100000"],
            env=self._env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        self._thread = threading.Thread(target=self._login_again_and_again)
        self._thread.start()

    def _login_again_and_again(self) -> None:
        while not self._over.is_set() and not self.complaints:
            done = subprocess.run(self._short, env=self._env, capture_output=True, text=True)
            for line in done.stdout.splitlines():
                if line.startswith("number of transactions actually processed:"):
                    self.logins += int(line.split(":")[1].split("/")[0])
            if done.returncode or "failed transactions: 0 " not in done.stdout:
                self.complaints.append(done.stdout + done.stderr)

    def stop(self) -> None:
        """The sessions that were kept must still be there."""
        if self._long.poll() is not None:
            assert self._long.stderr is not None
            self.complaints.append(self._long.stderr.read().decode())
        self._over.set()
        self._thread.join()
        self._long.kill()
        self._long.wait()


@contextmanager
def loaded(served: Served, token: str, folder: Path) -> Iterator[Load]:
    load = Load(served, token, folder)
    try:
        yield load
    finally:
        load.stop()


def rotate_under_load(plan: str, times: int, server: PostgresServer, folder: Path) -> Load:
    """So many rotations, each ending the grace of the one before."""
    made = accounts(server)
    with serving(folder, rotating(folder, server, plan)) as served:
        seed(served, made, plan)
        if plan == "two":
            body = {"secret": made["app_b"], "account": "app_b"}
            asked(served.data, "PUT", "credentials/app/secret", body)
        with loaded(served, token_of(served, "data"), folder) as load:
            for number in range(times):
                answer = asked(served.data, "POST", "credentials/app/rotate", {"force": True})
                assert answer["changed"] and answer["rotation"]["step"] in ("switched", "retiring")
                assert not load.complaints, (number, load.complaints)
        versions = asked(served.data, "GET", "credentials/app/versions")
        spare = 1 if plan == "two" else 0
        assert len(versions) == times + 1 + spare and versions[-1]["state"] == "current"
    return load
