# SPDX-License-Identifier: GPL-3.0-or-later
"""A blocking relay around one dialog and a real server behind it: all that these tests need."""

from __future__ import annotations

import contextlib
import os
import pwd
import select
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from gateway.model import Decision, Grant, Identity, Operation, Session, Target, Verdict
from gateway.protocols import Ask, Close, Done, Keep, Ready, Settled, ToClient, ToTarget
from gateway.protocols.postgresql import wire
from gateway.protocols.postgresql.dialog import PostgresDialog

BIN = Path(next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), ""))
Rule = Callable[[Operation], Decision]


def a_session(**labels: str) -> Session:
    grant = Grant("g1", Identity("issuer", "alice"))
    target = Target("orders", "postgresql", "127.0.0.1", 5432)
    return Session("sessionid", 1, grant, target, "app", "orders", "127.0.0.1:1", labels)


ALLOW = Decision(Verdict.ALLOW, "p", "v", "read")
DENY = Decision(Verdict.DENY, "agents", "v", "no-drop", "dropping is forbidden")


def deny_marked(operation: Operation) -> Decision:
    """Denies what holds the word `denied`, and what was not understood."""
    if operation.kind == "function_call":
        return ALLOW if operation.name in ("957", "715") else DENY
    return DENY if operation.text is None or "denied" in operation.text else ALLOW


class Server:
    """A PostgreSQL with trust login on loopback, in a folder of its own."""

    def __init__(self, folder: Path, port: int) -> None:
        self.port = port
        self.dsn = f"host=127.0.0.1 port={port} user=postgres dbname=postgres sslmode=disable"
        self._folder = folder

    def start(self) -> None:
        data = self._folder / "data"
        user = pwd.getpwnam("postgres") if os.getuid() == 0 else None
        if user:
            os.chown(self._folder, user.pw_uid, user.pw_gid)
        identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}

        def run(*command: str) -> None:
            subprocess.run(command, check=True, capture_output=True, cwd=self._folder, **identity)

        run(
            str(BIN / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust",
            "-E", "UTF8", "--no-locale", "--no-sync", "--no-instructions",
        )  # fmt: skip
        self._run, self._data = run, data
        options = (
            f"-c listen_addresses=127.0.0.1 -c port={self.port} -c fsync=off "
            f"-c unix_socket_directories= -c max_prepared_transactions=4"
        )
        run(
            str(BIN / "pg_ctl"), "-D", str(data), "-w", "-o", options,
            "-l", str(self._folder / "log"), "start",
        )  # fmt: skip

    def stop(self) -> None:
        self._run(str(BIN / "pg_ctl"), "-D", str(self._data), "-m", "immediate", "stop")
        shutil.rmtree(self._folder, ignore_errors=True)


class Pump:
    """Listens, and relays each link through a dialog of its own with one rule for decisions."""

    def __init__(self, server_port: int, rule: Rule) -> None:
        self._server_port = server_port
        self.rule = rule
        self.to_target = b""
        self.own = b""
        self.done: list[Done] = []
        self.asked: list[Operation] = []
        self.settled: list[str] = []
        self.closed: list[Close] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.dsn = f"host=127.0.0.1 port={self.port} user=postgres dbname=postgres sslmode=disable"
        self._threads: list[threading.Thread] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self) -> None:
        self._listener.close()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._server_port)) as target:
            target.sendall(_startup(client))
            dialog = PostgresDialog(a_session(), self._welcome(client, target))
            with contextlib.suppress(ConnectionError):
                self._relay(client, target, dialog)

    def _welcome(self, client: socket.socket, target: socket.socket) -> Ready:
        data = b""
        while not data.endswith(wire.ready_for_query("I")):
            data += target.recv(65536)
        client.sendall(data)
        parameters, at = [], 0
        while at < len(data):
            end = at + 1 + int.from_bytes(data[at + 1 : at + 5], "big")
            if data[at] == wire.PARAMETER_STATUS:
                parameters.append(wire.read_parameter(data, at + 5, end))
            at = end
        return Ready(7, b"\x01\x02\x03\x04", tuple(parameters))

    def _relay(self, client: socket.socket, target: socket.socket, dialog: PostgresDialog) -> None:
        sent = 0
        while True:
            readable, _, _ = select.select([client, target], [], [])
            effects = []
            if target in readable:
                data = target.recv(65536)
                effects += dialog.from_target(data) if data else [Close("target")]
            if client in readable:
                data = client.recv(65536)
                effects += dialog.from_client(data) if data else dialog.client_gone()
            # The client hears of it last: when a test goes on, all that belongs to it is noted.
            words = b""
            while effects:
                effect = effects.pop(0)
                if isinstance(effect, ToClient):
                    sent += len(effect.data)
                    words += effect.data
                elif isinstance(effect, ToTarget):
                    if effect.own:
                        self.own += effect.data
                    else:
                        self.to_target += effect.data
                    target.sendall(effect.data)
                elif isinstance(effect, Ask):
                    self.asked.append(effect.operation)
                    more = dialog.decided(effect.operation.id, self.rule(effect.operation))
                    effects += more
                elif isinstance(effect, Done):
                    assert effect.start <= effect.end <= sent
                    self.done.append(effect)
                elif isinstance(effect, Settled):
                    self.settled.append(effect.state)
                elif isinstance(effect, Close):
                    self.closed.append(effect)
                    client.sendall(words)
                    return
                else:
                    assert isinstance(effect, Keep)
            client.sendall(words)


def _startup(client: socket.socket) -> bytes:
    while True:
        head = client.recv(4, socket.MSG_WAITALL)
        body = client.recv(int.from_bytes(head, "big") - 4, socket.MSG_WAITALL)
        if int.from_bytes(body[:4], "big") not in (wire.SSL_REQUEST, wire.GSSENC_REQUEST):
            return head + body
        client.sendall(b"N")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def running_server(folder: Path) -> Iterator[Server]:
    server = Server(folder, free_port())
    server.start()
    yield server
    server.stop()
