# SPDX-License-Identifier: GPL-3.0-or-later
"""A proxy with fakes around it, a target that speaks lines, and a client of it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from gateway.model import Target, Tls
from gateway.proxy.limits import Limits
from gateway.proxy.listener import ListenSpec, Proxy, ProxyServices
from gateway.proxy.metrics import Metrics
from tests.proxy.fakes import FakeAuthenticator, FakeCatalog, FakePolicy, FakeRecorder
from tests.proxy.line_protocol import LineProtocol

BULK = b"x" * 1022 + b"\n"


@dataclass
class LineTarget:
    """Answers `echo`; `bulk N` with N KiB; `wait` only when cancelled or released; `bye` leaves."""

    tls: ssl.SSLContext | None = None
    port: int = 0
    seen: list[str] = field(default_factory=list)
    cancels: list[str] = field(default_factory=list)
    secure: list[bool] = field(default_factory=list)
    links: list[asyncio.StreamWriter] = field(default_factory=list)
    proceed: asyncio.Event = field(default_factory=asyncio.Event)
    cancel_closes: asyncio.Event = field(default_factory=asyncio.Event)
    silent: bool = False
    ended: int = 0
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def left(self) -> int:
        """Wait until a link of the gateway has ended; how many have."""
        await asyncio.wait_for(self.over.wait(), 10)
        return self.ended

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.links.append(writer)
        try:
            await self._serve(reader, writer)
        except ConnectionError:
            return
        finally:
            self.ended += 1
            self.over.set()
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := (await reader.readline()).decode().strip():
            words = line.split(" ")
            if words[0] == "tls":
                writer.write(b"yes\n")
                assert self.tls is not None
                await writer.start_tls(self.tls)
            elif words[0] == "login":
                if self.silent:
                    continue
                self.secure.append(writer.get_extra_info("ssl_object") is not None)
                writer.write(b"welcome 77 0badcafe\n")
            elif words[0] == "cancel":
                self.cancels.append(line)
                self.secure.append(writer.get_extra_info("ssl_object") is not None)
                self.proceed.set()
                await self.cancel_closes.wait()
                return
            else:
                self.seen.append(line)
                if not await self._answer(words, reader, writer):
                    return

    async def _answer(
        self, words: list[str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        if words[0] == "bye":
            return False
        if words[0] == "half":
            writer.write(b"half a li")
            return False
        if words[0] == "wait":
            await self.proceed.wait()
        if words[0] == "bulk":
            for _ in range(int(words[1])):
                writer.write(BULK)
                if writer.transport.get_write_buffer_size() > 1 << 20:
                    await writer.drain()
        writer.write(" ".join(words).encode() + b"\n.\n")
        return True


@dataclass
class Client:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    process: int = 0
    key: str = ""
    session: str = ""

    async def login(self, token: str = "token", user: str = "app", database: str = "db") -> str:
        self.writer.write(f"login {token} {user} {database}\n".encode())
        line = (await self.reader.readline()).decode().strip()
        words = line.split(" ")
        if words[0] == "welcome":
            self.process, self.key, self.session = int(words[1]), words[2], words[3]
        return line

    async def ask(self, line: str) -> str:
        self.writer.write(line.encode() + b"\n")
        return await self.answer()

    async def answer(self) -> str:
        return (await self.reader.readuntil(b".\n")).decode()

    async def rest(self) -> bytes:
        return await self.reader.read()

    def leave(self) -> None:
        self.writer.close()


@dataclass
class House:
    proxy: Proxy
    services: ProxyServices
    recorder: FakeRecorder
    policy: FakePolicy
    authenticator: FakeAuthenticator
    target: LineTarget
    address: tuple[str, int]
    clients: list[Client] = field(default_factory=list)

    async def connect(self) -> Client:
        client = Client(*await asyncio.open_connection(*self.address))
        self.clients.append(client)
        return client

    async def enter(self) -> Client:
        client = await self.connect()
        assert (await client.login()).startswith("welcome")
        return client

    @property
    def record(self):  # type: ignore[no-untyped-def]
        return self.recorder.records[-1]

    async def closed(self) -> str:
        record = self.record
        await self.recorder.until(lambda: record.closed)
        assert record.closed is not None
        return str(record.closed[0])


@asynccontextmanager
async def house(
    *,
    limits: Limits | None = None,
    tls: ssl.SSLContext | None = None,
    target_tls: ssl.SSLContext | None = None,
    upstream_tls: Tls | None = None,
    own: bool = True,
    **options: object,
) -> AsyncIterator[House]:
    target = LineTarget(tls=target_tls)
    target.cancel_closes.set()
    server = await asyncio.start_server(target.serve, "127.0.0.1", 0)
    target.port = server.sockets[0].getsockname()[1]
    known = Target(
        "orders",
        "lines",
        "127.0.0.1",
        target.port,
        ("app",),
        tls=upstream_tls or Tls("disable"),
        **options,  # type: ignore[arg-type]
    )
    recorder, policy, authenticator = FakeRecorder(), FakePolicy(), FakeAuthenticator()
    services = ProxyServices(
        FakeCatalog({"orders": known}),
        authenticator,
        recorder,
        policy,
        {"lines": LineProtocol()},
        limits or Limits(),
        "node",
        tls,
        Metrics(),
    )
    proxy = Proxy(services)
    spec = ListenSpec("lines", "127.0.0.1", 0, "orders" if own else None)
    address = await proxy.listen(spec)
    built = House(proxy, services, recorder, policy, authenticator, target, address)
    try:
        yield built
    finally:
        target.proceed.set()
        target.cancel_closes.set()
        for client in built.clients:
            client.leave()
        await proxy.drain(1)
        server.close()
        for link in target.links:
            link.close()
