# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo's story, played on a real server through a real gateway by a real client."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx

from gateway.admin.api.serving import serve_api
from gateway.admin.cli._embedded import ClientFiles, auditor, embedded_settings
from gateway.admin.cli._reading import Recorded
from gateway.admin.cli.demo.postgres_server import PostgresServer
from gateway.admin.cli.demo.telling import Narrator
from gateway.app import Gateway, running
from gateway.config import IssuerObject, ObjectName, Objects
from gateway.identity.embedded_issuer import EmbeddedIssuer
from gateway.model import Credential, Target, Tls
from gateway.signals import EndSignals
from gateway.verify.run import Request, verify

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
CLIENT_SECONDS = 20.0
READ = '[{"type": "trailgate", "targets": ["shop"], "sql": {"kinds": ["read", "schema"]}}]'
"""What the reader is narrowed to. DROP TABLE is in it: it is policy that refuses it."""


class StoryFailed(Exception):
    """The story cannot go on."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a client printed."""

    out: str
    err: str
    code: int


async def play(data: Path, *, keep: bool, narrator: Narrator) -> dict[str, Any]:
    """Play it all; the document that `demo --json` prints.

    Raises StoryFailed, NoServer, OSError.
    """
    narrator.say("starting a real PostgreSQL")
    server = PostgresServer()
    await asyncio.to_thread(server.__enter__)
    try:
        secret = secrets.token_urlsafe(24)
        sql = files(__package__).joinpath("story.sql").read_text("utf-8")
        await asyncio.to_thread(server.psql, f"\\set secret '{secret}'\n{sql}")
        async with _issuer() as issuer, _gateway(data, server, secret, issuer) as gateway:
            narrator.say("alice logs in by her OpenID token and starts an agent, orchestrator")
            told = await _told(gateway, issuer, server, narrator)
            if keep:
                signals = EndSignals()
                _keep(gateway, narrator)
                await signals.wait(gateway.record_failed)
            narrator.say("the gateway ends; the record is completed")
    finally:
        await asyncio.to_thread(server.stop)
    return await asyncio.to_thread(_document, data, told, narrator)


@asynccontextmanager
async def _issuer() -> AsyncIterator[EmbeddedIssuer]:
    issuer = EmbeddedIssuer()
    serving = await serve_api(issuer.app)
    issuer.url = f"http://127.0.0.1:{serving.port}"
    try:
        yield issuer
    finally:
        await serving.close()


@asynccontextmanager
async def _gateway(
    data: Path, server: PostgresServer, secret: str, issuer: EmbeddedIssuer
) -> AsyncIterator[Gateway]:
    target = Target(
        name="shop",
        protocol="postgresql",
        host="127.0.0.1",
        port=server.port,
        credentials=("shop",),
        databases=("shop",),
        tls=Tls("disable"),
        listen=("127.0.0.1", 0),
        plain=True,
    )
    name = ObjectName("demo")
    known = IssuerObject(name, issuer.url, issuer.audience, algorithms=("ES256",))
    objects = Objects(
        targets={"shop": target},
        credentials={"shop": Credential("shop", "shop", secret=secret)},
        issuers={"demo": known},
        recipients={"auditor": auditor(data)},
    )
    policy = Path(str(files(__package__).joinpath("policy.yaml")))
    settings = embedded_settings(data, "demo")
    async with running(settings, objects, policy=policy, loopback_api=True) as gateway:
        yield gateway


async def _told(
    gateway: Gateway, issuer: EmbeddedIssuer, server: PostgresServer, narrator: Narrator
) -> dict[str, bool]:
    """The story itself; each sentence and whether it happened."""
    claims = {"name": "alice", "groups": ["data-agents"]}
    alice = issuer.sign("alice", claims=claims)
    orchestrator = await exchange(gateway.url, alice, "orchestrator")
    reader = await exchange(gateway.url, orchestrator, "reader", READ)
    writer = await exchange(gateway.url, orchestrator, "writer")
    clients = Clients(gateway, server)
    narrator.say("orchestrator starts reader and writer, each with a token of its own")
    read = await clients.psql(
        "reader",
        reader,
        "SELECT name, city FROM customers ORDER BY id",
        "DROP TABLE customers",
        "SELECT count(*) AS still_there FROM customers",
    )
    denied = "denied by agents-on-shop/no-schema-change" in read.err
    narrator.say(
        "reader reads customers, tries DROP TABLE and is "
        + ("refused" if denied else "NOT refused")
    )
    wrote = await clients.psql(
        "writer",
        writer,
        "INSERT INTO orders (customer, item) VALUES (1, 'engine'), (3, 'compiler')",
        "SELECT c.name, o.item FROM orders o JOIN customers c ON c.id = o.customer ORDER BY o.id",
    )
    narrator.say("writer takes two orders")
    stranger = await clients.psql("stranger", "tg_" + "x" * 49, "SELECT 1")
    return {
        "reader read the customers": "Ada Lovelace" in read.out,
        "DROP TABLE was refused": denied,
        "the link stayed usable after the refusal": "still_there" in read.out,
        "writer took the orders": "Grace Hopper" in wrote.out and "compiler" in wrote.out,
        "a forged token was refused": stranger.code != 0 and not stranger.out.strip(),
        "the table is still there": await asyncio.to_thread(
            server.psql, "SELECT count(*) FROM customers", "shop"
        )
        == "3",
    }


async def exchange(url: str, token: str, name: str, details: str = "") -> str:
    """A child's token by RFC 8693, from the gateway's own endpoint. Raises StoryFailed."""
    form = {
        "grant_type": EXCHANGE,
        "subject_token": token,
        "subject_token_type": ACCESS_TOKEN,
        "agent_name": name,
    }
    if details:
        form["authorization_details"] = details
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.post(f"{url}/oauth/token", data=form)
    if answer.status_code != 200:
        raise StoryFailed(f"no token for {name}: {answer.text}")
    return str(answer.json()["access_token"])


@dataclass(frozen=True, slots=True)
class Clients:
    """psql, as anyone would use it: token in the password file, nothing else special."""

    gateway: Gateway
    server: PostgresServer

    async def psql(self, name: str, token: str, *statements: str) -> Said:
        """Each statement on the same link, going on after an error. Raises StoryFailed."""
        files = self.files(name, token)
        program, mode = self._program()
        command = [program, "-X", "-P", "pager=off", *(f"-c{sql}" for sql in statements)]
        process = await asyncio.create_subprocess_exec(
            *command,
            env=_environment({**files.environment, "PGSSLMODE": mode}),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(CLIENT_SECONDS):
                out, err = await process.communicate()
        except TimeoutError:
            process.kill()
            raise StoryFailed(f"{name}'s psql did not end") from None
        return Said(out.decode(), err.decode(), process.returncode or 0)

    def files(self, name: str, token: str) -> ClientFiles:
        folder = self.gateway.settings.data / "clients"
        port, ca = self.gateway.port_of("shop"), self.gateway.ca_path
        return ClientFiles.written(folder, name, port, "shop", "shop", token, ca)

    def _program(self) -> tuple[str, str]:
        """The installed psql; the wheel's is built without TLS, so it uses the plain link."""
        installed = shutil.which("psql")
        if installed:
            return installed, "verify-full"
        return self.server.binaries.path("psql"), "disable"


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
    return {**kept, **more, "LC_ALL": "C"}


def _keep(gateway: Gateway, narrator: Narrator) -> None:
    folder = gateway.settings.data / "clients"
    environment = (
        f"PGHOST=127.0.0.1 PGPORT={gateway.port_of('shop')} PGUSER=shop PGDATABASE=shop "
        f"PGSSLMODE=verify-full PGSSLROOTCERT={gateway.ca_path}"
    )
    narrator.say("staying up until Ctrl-C; be the writer yourself:")
    narrator.say(f"  {environment} PGPASSFILE={folder / 'writer.pgpass'} psql")


def _document(data: Path, told: dict[str, bool], narrator: Narrator) -> dict[str, Any]:
    """What the record says of it, and whether the record is sound."""
    narrator.say("reading the record back with the auditor's key, and verifying it")
    identity = data / "auditor" / "identity"
    recorded = Recorded.opened(data, identity)
    sessions = recorded.sessions()
    replays = [recorded.replay(one["id"]) for one in sessions]
    denied = [
        {"session": one["session"]["id"], "chain": one["session"]["chain"], **operation}
        for one in replays
        for operation in one["operations"]
        if operation["decision"]["verdict"] == "deny"
    ]
    verification = verify(Request(str(data), identity=identity)).document()
    told["the record says that DROP TABLE was refused"] = [
        one["request"]["text"] for one in denied
    ] == ["DROP TABLE customers"]
    told["the record is sound"] = bool(verification["ok"])
    return {
        "ok": all(told.values()),
        "data": str(data),
        "told": told,
        "tree": recorded.tree(),
        "sessions": sessions,
        "denied": denied,
        "verification": verification,
        "replays": replays,
    }
