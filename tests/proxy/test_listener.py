# SPDX-License-Identifier: GPL-3.0-or-later
"""Listeners: caps, stalled logins by the thousand, kill, reload and drain."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.model import Refused
from gateway.proxy.limits import Limits
from tests.proxy.certificates import authority
from tests.proxy.fakes import DENY, FakeCatalog, FakePolicy
from tests.proxy.house import House, house

STALLED = 1000


def resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def stalled_hello(context: ssl.SSLContext) -> bytes:
    """A whole ClientHello; nothing follows it."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


async def stalled(h: House, sent: bytes, count: int) -> list[socket.socket]:
    """Links that send this much and no more; all were accepted."""
    loop = asyncio.get_running_loop()
    links = []
    for _ in range(count):
        link = socket.socket()
        link.setblocking(False)
        await loop.sock_connect(link, h.address)
        await loop.sock_sendall(link, sent)
        links.append(link)
    gauge = h.services.metrics.unauthenticated
    await h.recorder.until(lambda: gauge._value.get() >= count)
    return links


@pytest.mark.parametrize("kind", ["silent", "half a login", "half a handshake"])
async def test_a_thousand_stalled_logins_neither_slow_nor_cost(kind: str, tmp_path: Path) -> None:
    known = authority(tmp_path)
    sent = {"silent": b"", "half a login": b"login to"}.get(kind)
    sent = stalled_hello(known.client(("line",))) if sent is None else sent
    async with house(tls=known.server()) as h:
        await (await h.enter()).ask("echo warm")
        before = resident_bytes()
        links = await stalled(h, sent, STALLED)
        cost = resident_bytes() - before
        started = time.monotonic()
        client = await h.enter()
        assert await client.ask("echo served") == "echo served\n.\n"
        took = time.monotonic() - started
        for link in links:
            link.close()
    assert took < 1.0, "a new session waited behind stalled ones"
    assert cost < 64 << 20


async def test_of_unknown_links_the_oldest_gives_way() -> None:
    async with house(limits=Limits(unauthenticated=3)) as h:
        oldest = await h.connect()
        others = [await h.connect() for _ in range(3)]
        assert await oldest.rest() == b"refused capacity\n"
        for client in others:
            assert (await client.login()).startswith("welcome")
        assert [event["code"] for event in h.recorder.refusals] == ["capacity"]


async def test_who_is_in_does_not_count_as_unknown() -> None:
    async with house(limits=Limits(unauthenticated=1)) as h:
        clients = [await h.enter() for _ in range(4)]
        for client in clients:
            assert await client.ask("echo on") == "echo on\n.\n"
        assert h.recorder.refusals == []


async def test_over_the_cap_of_links_the_newest_is_refused_and_a_place_comes_free() -> None:
    async with house(limits=Limits(connections=2)) as h:
        first, second = await h.enter(), await h.enter()
        third = await h.connect()
        assert await third.rest() == b"refused capacity\n"
        assert await second.ask("echo on") == "echo on\n.\n"
        first.leave()
        links = h.services.metrics.links
        await h.recorder.until(lambda: links._value.get() == 1)
        assert await (await h.enter()).ask("echo in") == "echo in\n.\n"


async def test_a_link_that_cannot_be_greeted_is_cut_and_counted_off() -> None:
    class Broken(FakeCatalog):
        def target(self, name: str) -> None:
            raise LookupError("no catalogue")

    async with house() as h:
        good = h.services.catalog
        h.services.catalog = Broken({})
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            client = await h.connect()
            await client.reader.readexactly(1)
        links = h.services.metrics.links
        await h.recorder.until(lambda: links._value.get() == 0)
        h.services.catalog = good
        await h.enter()


async def test_sessions_of_a_grant_and_one_session_can_be_killed() -> None:
    async with house() as h:
        first, second = await h.enter(), await h.enter()
        assert h.proxy.kill_session(first.session, "by alice") is True
        assert await first.rest() == b"fatal killed\n"
        assert h.proxy.kill_session(first.session, "again") is False
        assert h.proxy.kill_grants({"another"}, "no") == 0
        assert h.proxy.kill_grants({"grant1"}, "by alice") == 1
        assert await second.rest() == b"fatal revoked\n"
        await h.recorder.until(lambda: all(record.closed for record in h.recorder.records))
        reasons = [record.closed[0] for record in h.recorder.records if record.closed]
        assert reasons == ["killed", "revoked"]


async def test_a_kill_cancels_what_runs_at_the_target() -> None:
    async with house() as h:
        client = await h.enter()
        client.writer.write(b"wait one\n")
        await h.recorder.until(lambda: h.target.seen)
        h.proxy.kill_session(client.session, "by alice")
        assert b"fatal killed\n" in await client.rest()
        await h.recorder.until(lambda: h.target.cancels)
        assert h.record.events("cancel")


async def test_new_policies_count_for_sessions_that_are_open() -> None:
    class Denies(FakePolicy):
        def decide_now(self, operation: object) -> object:  # type: ignore[override]
            return DENY

    async with house() as h:
        client = await h.enter()
        assert await client.ask("echo on") == "echo on\n.\n"
        h.proxy.swap(policy=Denies())  # type: ignore[arg-type]
        assert await client.ask("echo on") == "denied because\n.\n"


async def test_a_target_is_reached_or_the_cause_is_told() -> None:
    async with house() as h:
        target = h.services.catalog.target("orders")
        assert target is not None
        await h.proxy.reach(target)
        assert await h.target.left() == 1
        with pytest.raises(Refused, match="cannot be reached|refused|Connect call failed"):
            await h.proxy.reach(replace(target, port=1))


# --- drain ---------------------------------------------------------------------------------------


async def test_a_drain_ends_quiet_sessions_at_once_and_lets_others_finish() -> None:
    async with house() as h:
        quiet, busy = await h.enter(), await h.enter()
        busy.writer.write(b"wait one\n")
        await h.recorder.until(lambda: h.target.seen)
        draining = asyncio.ensure_future(h.proxy.drain(10))
        assert await quiet.rest() == b"fatal drain\n"
        assert not draining.done()
        h.target.proceed.set()
        assert await busy.rest() == b"wait one\n.\nfatal drain\n"
        await draining
        assert [record.closed[0] for record in h.recorder.records if record.closed] == ["drain"] * 2


async def test_a_drain_ends_what_is_not_quiet_in_time() -> None:
    async with house() as h:
        client = await h.enter()
        client.writer.write(b"wait one\n")
        await h.recorder.until(lambda: h.target.seen)
        await h.proxy.drain(0.05)
        assert await client.rest() == b"fatal drain\n"
        assert await h.closed() == "drain"


async def test_a_drain_refuses_who_is_not_in_yet_and_takes_nobody_new() -> None:
    async with house(limits=Limits(flush_seconds=0.2)) as h:
        h.target.silent = True
        stalled_login, dialling = await h.connect(), await h.connect()
        dialling.writer.write(b"login token app db\n")
        await h.recorder.until(lambda: h.target.links)
        await h.proxy.drain(0.2)
        assert await stalled_login.rest() == b"refused drain\n"
        assert await dialling.rest() == b"refused drain\n"
        assert await h.closed() == "drain"
        with pytest.raises(ConnectionError):
            await h.connect()


async def test_sessions_that_ended_leave_no_memory_behind() -> None:
    async with house() as h:
        h.recorder.keep = False

        async def once() -> None:
            client = await h.enter()
            await client.ask("echo on")
            client.leave()
            await h.closed()
            h.clients.clear()
            h.recorder.records.clear()
            h.target.links.clear()
            h.target.seen.clear()
            h.policy.asked.clear()

        for _ in range(20):
            await once()
        tracemalloc.start()
        try:
            await once()
            gc.collect()
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(100):
                await once()
            gc.collect()
            grown = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        assert h.proxy.live() == []
        assert grown < 100 * 1024, "a session that ended keeps a KiB or more"
