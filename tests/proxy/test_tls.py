# SPDX-License-Identifier: GPL-3.0-or-later
"""TLS of clients: how it begins, what it carries, how it ends, and what breaks it."""

from __future__ import annotations

import asyncio
import ssl

import pytest

from gateway.model import Tls
from gateway.proxy.limits import Limits
from gateway.proxy.tls import Engine, TlsFailed, client_context, server_context
from tests.proxy.certificates import Authority, authority
from tests.proxy.house import BULK, Client, House, house


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("tls"))


async def direct(h: House, context: ssl.SSLContext) -> Client:
    """Direct TLS: the handshake is the first that the gateway sees."""
    reader, writer = await asyncio.open_connection(
        *h.address, ssl=context, server_hostname="localhost"
    )
    client = Client(reader, writer)
    h.clients.append(client)
    return client


async def upgraded(h: House, context: ssl.SSLContext) -> Client:
    """TLS that is asked for in the clear first."""
    client = await h.connect()
    client.writer.write(b"tls\n")
    assert await client.reader.readline() == b"yes\n"
    await client.writer.start_tls(context, server_hostname="localhost")
    return client


@pytest.mark.parametrize("begin", [direct, upgraded])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_session_over_tls(begin: object, version: ssl.TLSVersion, known: Authority) -> None:
    context = known.client(("line",))
    context.minimum_version = context.maximum_version = version
    async with house(tls=known.server()) as h:
        client = await (direct if begin is direct else upgraded)(h, context)
        assert (await client.login()).startswith("welcome")
        assert await client.ask("echo hello") == "echo hello\n.\n"
        assert h.record.stream("request") == b"echo hello\n"
        assert h.record.stream("answer") == b"echo hello\n.\n"


@pytest.mark.parametrize("offered", [(), ("http/1.1",), ("h2", "postgresql")])
async def test_direct_tls_without_our_alpn_is_cut(
    offered: tuple[str, ...], known: Authority
) -> None:
    async with house(tls=known.server()) as h:
        client = await direct(h, known.client(offered))
        client.writer.write(b"login token app db\n")
        try:
            said = await client.rest()
        except ConnectionError:
            said = b""
        assert said == b"", "nothing of another protocol's client is answered"
        await h.recorder.until(lambda: h.recorder.refusals)
        assert h.recorder.refusals[0]["code"] == "protocol"
        assert h.recorder.records == []


async def test_bytes_behind_the_request_for_tls_cut_the_link(known: Authority) -> None:
    async with house(tls=known.server()) as h:
        client = await h.connect()
        client.writer.write(b"tls\nlogin token app db\n")
        assert b"welcome" not in await client.rest()
        assert h.recorder.refusals[0]["code"] == "protocol" and h.recorder.records == []


@pytest.mark.parametrize("cut", [1, 5, 50, -1])
async def test_half_a_handshake_ends_at_the_deadline_or_with_its_client(
    cut: int, known: Authority
) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    hello = known.client(("line",)).wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        hello.do_handshake()
    sent = outgoing.read()[:cut]
    async with house(tls=known.server(), limits=Limits(handshake_seconds=0.15)) as h:
        stays, leaves = await h.connect(), await h.connect()
        stays.writer.write(sent)
        leaves.writer.write(sent)
        await leaves.writer.drain()
        leaves.leave()
        try:
            assert b"refused" not in await stays.rest(), "words in the clear break a handshake"
        except ConnectionError:
            pass  # the link was cut: as good an end
        await h.recorder.until(lambda: h.recorder.refusals)
        links = h.services.metrics.links
        await h.recorder.until(lambda: links._value.get() == 0)


async def test_rubbish_in_a_handshake_is_one_refusal(known: Authority) -> None:
    async with house(tls=known.server()) as h:
        client = await h.connect()
        client.writer.write(b"\x16\x03\x01\x00\x05hello")
        await client.rest()
        await h.recorder.until(lambda: h.recorder.refusals)
        assert [event["code"] for event in h.recorder.refusals] == ["protocol"]


@pytest.mark.parametrize("target", ["plain", "tls"])
async def test_big_writes_both_ways_carry_every_byte(target: str, known: Authority) -> None:
    tls = Tls("verify-full", ca_path=str(known.ca)) if target == "tls" else None
    theirs = known.server(()) if tls else None
    async with house(tls=known.server(), target_tls=theirs, upstream_tls=tls) as h:
        client = await direct(h, known.client(("line",)))
        assert (await client.login()).startswith("welcome")
        line = "echo " + "z" * 60_000
        client.writer.write((line + "\n").encode() * 100)
        for _ in range(100):
            assert await client.answer() == line + "\n.\n"
        h.recorder.keep = False
        client.writer.write(b"bulk 8000\n")
        got = await client.reader.readexactly(8000 * len(BULK))
        assert got == BULK * 8000
        assert await client.answer() == "bulk 8000\n.\n"


@pytest.mark.parametrize("target", ["plain", "tls"])
async def test_who_leaves_while_something_runs_is_recorded_to_the_end(
    target: str, known: Authority
) -> None:
    """TLS has no half-closed links: the target must not hear of it before it has answered."""
    tls = Tls("verify-full", ca_path=str(known.ca)) if target == "tls" else None
    theirs = known.server(()) if tls else None
    async with house(target_tls=theirs, upstream_tls=tls) as h:
        client = await h.enter()
        client.writer.write(b"wait one\n")
        await h.recorder.until(lambda: h.target.seen)
        client.leave()
        await asyncio.sleep(0.02)
        assert h.record.closed is None
        h.target.proceed.set()
        assert await h.closed() == "client"
        assert h.record.events("done")[0]["status"] == "ok"
        assert h.proxy.live() == []


async def test_a_kill_while_a_client_that_left_is_waited_for(known: Authority) -> None:
    tls = Tls("verify-full", ca_path=str(known.ca))
    async with house(target_tls=known.server(()), upstream_tls=tls) as h:
        client = await h.enter()
        client.writer.write(b"wait one\n")
        await h.recorder.until(lambda: h.target.seen)
        client.leave()
        await asyncio.sleep(0.02)
        h.proxy.kill_session(client.session, "by alice")
        assert await h.closed() == "killed"
        assert h.proxy.live() == []


async def test_a_client_hears_the_end_of_our_stream(known: Authority) -> None:
    async with house(tls=known.server()) as h:
        client = await direct(h, known.client(("line",)))
        await client.login()
        client.writer.write(b"bye\n")
        assert await client.rest() == b"fatal target\n"


# --- the engine alone -----------------------------------------------------------------------------


def joined(
    known: Authority, most: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
) -> tuple[Engine, Engine]:
    """Both ends, shaken hands."""
    there = server_context(known.cert, known.key, ())
    there.maximum_version = most
    server = Engine(there, server=True)
    client = Engine(
        client_context(Tls("verify-full", ca_path=str(known.ca))),
        server=False,
        server_name="localhost",
    )
    client.handshake()
    while not (server.established and client.established):
        server.feed(client.pending())
        client.feed(server.pending())
    return server, client


def test_whatever_the_cuts_the_plain_text_is_the_same(known: Authority) -> None:
    server, client = joined(known)
    text = bytes(range(256)) * 300
    sealed = client.seal(text)
    assert b"".join(server.feed(sealed[at : at + 7]) for at in range(0, len(sealed), 7)) == text
    assert server.feed(client.seal(text)) == text
    long = b"x" * (1 << 20)
    assert client.feed(server.seal(long)) == long


@pytest.mark.parametrize("at", [0, 2, 5, 20, -1])
def test_a_changed_byte_breaks_the_link(at: int, known: Authority) -> None:
    server, client = joined(known)
    sealed = bytearray(client.seal(b"insert into t values (1)"))
    sealed[at] ^= 0x40
    try:
        assert server.feed(bytes(sealed)) == b"", "a record that lies about its length is not read"
    except TlsFailed as failed:
        assert "insert" not in str(failed)


def test_the_farewell_ends_the_stream_and_nothing_is_read_behind_it(known: Authority) -> None:
    server, client = joined(known)
    assert server.feed(client.seal(b"last") + client.farewell()) == b"last"
    assert server.ended


def test_nothing_is_sealed_before_the_handshake_is_over(known: Authority) -> None:
    engine = Engine(server_context(known.cert, known.key), server=True)
    with pytest.raises(TlsFailed):
        engine.seal(b"secret")
    assert b"secret" not in engine.pending()


def test_both_ends_refuse_renegotiation_and_old_versions(known: Authority) -> None:
    for context in (server_context(known.cert, known.key), client_context(Tls("require"))):
        assert context.options & ssl.OP_NO_RENEGOTIATION
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2


def test_tls_that_is_disabled_has_no_context() -> None:
    with pytest.raises(ValueError, match="does not speak TLS"):
        client_context(Tls("disable"))
