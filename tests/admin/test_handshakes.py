# SPDX-License-Identifier: GPL-3.0-or-later
"""TLS handshakes that stall, and more links than there is room for, against real sockets."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from gateway.admin.api.handshakes import AT_ONCE, OF_ONE_NETWORK
from gateway.admin.api.serving import CONNECTIONS, Serving, serve_api
from gateway.certificates import self_made

Loop = Callable[[Coroutine[Any, Any, None]], None]
CALL = b"GET /ok HTTP/1.1\r\nhost: a\r\n\r\n"
STREAMS: list[asyncio.StreamWriter] = []
pytestmark = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])


def _app() -> Starlette:
    async def ok(request: Request) -> Response:
        return PlainTextResponse(f"{request.url.scheme} {len(await request.body())}")

    return Starlette(routes=[Route("/ok", ok, methods=["GET", "POST"])])


@asynccontextmanager
async def secured(
    folder: Path, seconds: float = 60.0
) -> AsyncIterator[tuple[Serving, ssl.SSLContext]]:
    """A server, and what a client needs to trust it."""
    made = self_made(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.cert_path, made.key_path)
    serving = await serve_api(_app(), ssl=context, handshake_seconds=seconds)
    try:
        yield serving, ssl.create_default_context(cafile=str(made.ca_path))
    finally:
        await serving.close()


async def stalled(serving: Serving, source: str) -> asyncio.StreamReader:
    """A link that says the first bytes of a handshake and no more."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", serving.port, local_addr=(source, 0)
    )
    writer.write(b"\x16\x03\x01\x02")
    STREAMS.append(writer)  # a writer that nobody holds closes its link
    return reader


async def called(serving: Serving, trust: ssl.SSLContext, sent: bytes = CALL) -> bytes:
    async with asyncio.timeout(30):
        reader, writer = await asyncio.open_connection("127.0.0.1", serving.port, ssl=trust)
        writer.write(sent)
        answer = await reader.readuntil(b"\r\n\r\n") + await reader.read(100)
        writer.close()
    return answer


async def has_ended(reader: asyncio.StreamReader) -> bool:
    async with asyncio.timeout(30):
        try:
            while await reader.read(65536):
                pass
        except ConnectionError:
            return True
    return True


async def settled(count: Callable[[], int], expected: int) -> int:
    """The count, once it is as expected or did not become so."""
    for _ in range(600):
        if count() == expected:
            break
        await asyncio.sleep(0.05)
    return count()


def test_calls_arrive_whole_however_they_are_cut(run: Loop, tmp_path: Path) -> None:
    async def body() -> None:
        async with secured(tmp_path) as (serving, trust):
            assert (await called(serving, trust)).endswith(b"https 0")
            long = (
                b"POST /ok HTTP/1.1\r\nhost: a\r\ncontent-length: 300000\r\n\r\n" + b"x" * 300_000
            )
            answers = await asyncio.gather(*(called(serving, trust, long) for _ in range(20)))
            assert all(one.endswith(b"https 300000") for one in answers)
            assert await settled(lambda: serving.handshakes, 0) == 0

    run(body())


def test_a_handshake_that_stalls_is_cut_off(run: Loop, tmp_path: Path) -> None:
    async def body() -> None:
        async with secured(tmp_path, seconds=0.3) as (serving, _):
            reader, writer = await asyncio.open_connection("127.0.0.1", serving.port)
            assert await has_ended(reader)
            writer.write(b"GET / HTTP/1.0\r\n\r\n")  # what is no handshake ends alike
            plain, other = await asyncio.open_connection("127.0.0.1", serving.port)
            other.write(b"GET / HTTP/1.0\r\n\r\n")
            assert await has_ended(plain)
            assert await settled(lambda: serving.handshakes, 0) == 0
            writer.close()
            other.close()

    run(body())


def test_stalled_handshakes_keep_nobody_out(run: Loop, tmp_path: Path) -> None:
    async def body() -> None:
        async with secured(tmp_path) as (serving, trust):
            first = await stalled(serving, "127.0.0.9")
            for network in range(2, 5):
                for _ in range(OF_ONE_NETWORK + 10):
                    await stalled(serving, f"127.0.0.{network}")
            assert await has_ended(first), "the oldest gave way"
            assert (await called(serving, trust)).endswith(b"https 0")
            assert serving.handshakes <= AT_ONCE

    run(body())


def test_a_network_has_only_its_own_share(run: Loop, tmp_path: Path) -> None:
    async def body() -> None:
        async with secured(tmp_path) as (serving, _):
            patient = await stalled(serving, "127.0.0.9")
            for _ in range(3 * OF_ONE_NETWORK):
                await stalled(serving, "127.0.0.2")
            assert await settled(lambda: serving.handshakes, OF_ONE_NETWORK + 1)
            assert serving.handshakes == OF_ONE_NETWORK + 1
            assert not patient.at_eof()

    run(body())


def test_idle_links_of_many_networks_keep_nobody_out(run: Loop, tmp_path: Path) -> None:
    async def body() -> None:
        serving = await serve_api(_app())
        held = []
        for number in range(CONNECTIONS + 40):
            source = f"127.0.{1 + number % 40}.1"
            held.append(
                await asyncio.open_connection("127.0.0.1", serving.port, local_addr=(source, 0))
            )
        reader, writer = await asyncio.open_connection("127.0.0.1", serving.port)
        writer.write(CALL)
        async with asyncio.timeout(30):
            assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
        assert serving.connections < CONNECTIONS
        for _, one in (*held, (reader, writer)):
            one.close()
        await serving.close()

    run(body())
