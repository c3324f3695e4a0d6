# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients that hold the API's connections for nothing, against real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from gateway.admin.api.connections import OF_ONE_NETWORK
from gateway.admin.api.serving import CONNECTIONS, Serving, serve_api

LONG = b"x" * (64 << 20)
"""More than the kernel keeps for a client that does not read."""
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Dial = Callable[..., Any]


def _app() -> Starlette:
    def ok(request: Request) -> Response:
        return PlainTextResponse("ok")

    def long(request: Request) -> Response:
        return Response(LONG)

    return Starlette(routes=[Route("/ok", ok), Route("/long", long)])


@asynccontextmanager
async def served(**given: float) -> AsyncIterator[Serving]:
    serving = await serve_api(_app(), **given)  # type: ignore[arg-type]
    try:
        yield serving
    finally:
        await serving.close()


async def dialled(serving: Serving, sent: bytes, source: str = "127.0.0.1") -> Streams:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", serving.port, local_addr=(source, 0)
    )
    writer.write(sent)
    return reader, writer


async def left(reader: asyncio.StreamReader) -> bytes:
    """All that still comes until the server ends it; a cut is an end, too."""
    found = bytearray()
    try:
        async with asyncio.timeout(30):
            while chunk := await reader.read(65536):
                found += chunk
    except ConnectionError:
        return bytes(found)
    return bytes(found)


@pytest.mark.parametrize(
    "sent",
    [b"", b"GET /ok HTTP/1.1\r\nhost: a\r\n", b"GET /ok HTTP/1.1\r\nhost: a\r\n\r\nGET /ok HT"],
)
async def test_a_head_that_does_not_come_ends_its_connection(sent: bytes) -> None:
    async with served(head_seconds=0.3) as serving:
        reader, writer = await dialled(serving, sent)
        assert (await left(reader)).count(b"200 OK") == sent.count(b"\r\n\r\n")
        writer.close()


async def test_a_head_that_drips_gains_no_time() -> None:
    async with served(head_seconds=0.5) as serving:
        reader, writer = await dialled(serving, b"GET /ok HTTP/1.1\r\nx: ")
        ended = asyncio.create_task(left(reader))
        for _ in range(600):
            if ended.done():
                break
            writer.write(b"a")
            await asyncio.sleep(0.05)
        assert ended.done() and ended.result() == b""
        writer.close()


async def test_an_answer_that_nobody_reads_ends_its_connection() -> None:
    async with served(unread_seconds=0.3) as serving:
        reader, writer = await dialled(serving, b"GET /long HTTP/1.1\r\nhost: a\r\n\r\n")
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(600):
            if not serving.connections:
                break
            await asyncio.sleep(0.05)
        assert serving.connections == 0
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert len(await left(reader)) < len(LONG)
        writer.close()


async def test_one_address_cannot_have_all_connections() -> None:
    async with served() as serving:
        held = await asyncio.gather(
            *(dialled(serving, b"GET /ok HTTP/1.1\r\n", "127.0.0.2") for _ in range(CONNECTIONS))
        )
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.get(f"http://127.0.0.1:{serving.port}/ok")
        assert answer.status_code == 200, answer.text
        assert serving.connections <= OF_ONE_NETWORK + 1
        for _, writer in held:
            writer.close()


async def test_a_patient_client_keeps_its_connection() -> None:
    async with served(head_seconds=0.5) as serving:
        reader, writer = await dialled(serving, b"")
        for _ in range(8):
            writer.write(b"GET /ok HTTP/1.1\r\nhost: a\r\n\r\n")
            assert b"200 OK" in await reader.readuntil(b"\r\n\r\nok")
            await asyncio.sleep(0.1)
        writer.close()
