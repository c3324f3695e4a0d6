# SPDX-License-Identifier: GPL-3.0-or-later
"""Cancel requests: the key finds its own session only, and what it does to the target."""

from __future__ import annotations

import asyncio
from pathlib import Path

from gateway.model import Tls
from gateway.proxy.cancels import KEY_BYTES, Cancels
from gateway.proxy.limits import Limits
from tests.proxy.certificates import authority
from tests.proxy.house import Client, House, house


async def cancel(h: House, process: int, key: str) -> None:
    """Ask, and wait until the gateway closes the link: it says nothing either way."""
    asking = await h.connect()
    asking.writer.write(f"cancel {process} {key}\n".encode())
    assert await asking.rest() == b""


async def waiting(h: House) -> Client:
    client = await h.enter()
    seen = len(h.target.seen)
    client.writer.write(b"wait one\n")
    await h.recorder.until(lambda: len(h.target.seen) > seen)
    return client


def test_keys_are_random_and_told_apart_by_process_too() -> None:
    cancels: Cancels[str] = Cancels()
    keys = {cancels.issue(7, f"session{number}") for number in range(200)}
    assert len(keys) == 200 and {len(key) for key in keys} == {KEY_BYTES}
    key = next(iter(keys))
    assert cancels.find(7, key) is not None
    assert cancels.find(8, key) is None
    cancels.drop(7, key)
    cancels.drop(7, key)
    assert cancels.find(7, key) is None


async def test_a_cancel_reaches_the_target_with_its_own_key_and_is_recorded() -> None:
    async with house() as h:
        client = await waiting(h)
        assert client.key != "0badcafe", "the target's real key never reaches a client"
        await cancel(h, client.process, client.key)
        assert await client.answer() == "wait one\n.\n"
        assert h.target.cancels == ["cancel 77 0badcafe"]
        assert h.record.events("cancel") == [{"ev": "cancel", "op": 1}]


async def test_of_two_sessions_with_one_process_id_the_key_finds_the_right_one() -> None:
    async with house() as h:
        first, second = await h.enter(), await waiting(h)
        assert first.process == second.process
        await cancel(h, first.process, first.key)
        assert h.target.cancels == []
        await cancel(h, second.process, second.key)
        assert len(h.target.cancels) == 1
        assert [len(record.events("cancel")) for record in h.recorder.records] == [0, 1]


async def test_an_unknown_or_idle_key_tells_nothing_and_sends_nothing() -> None:
    async with house() as h:
        client = await h.enter()
        await cancel(h, client.process, "00000000")
        await cancel(h, client.process, client.key)
        assert h.target.cancels == [] and h.record.events("cancel") == []
        assert await client.ask("echo on") == "echo on\n.\n"


async def test_a_key_dies_with_its_session() -> None:
    async with house() as h:
        client = await h.enter()
        client.leave()
        await h.closed()
        await cancel(h, client.process, client.key)
        assert h.target.cancels == []


async def test_nothing_else_passes_until_the_cancel_is_done() -> None:
    async with house() as h:
        h.target.cancel_closes.clear()
        client = await waiting(h)
        asking = await h.connect()
        asking.writer.write(f"cancel {client.process} {client.key}\n".encode())
        await h.recorder.until(lambda: h.target.cancels)
        assert await client.answer() == "wait one\n.\n"
        client.writer.write(b"echo next\n")
        await h.recorder.until(lambda: b"echo next\n" in h.record.stream("request"))
        await asyncio.sleep(0.02)
        assert h.target.seen == ["wait one"]
        h.target.cancel_closes.set()
        assert await client.answer() == "echo next\n.\n"


async def test_a_cancel_goes_over_tls_where_the_target_speaks_it(tmp_path: Path) -> None:
    known = authority(tmp_path)
    tls = Tls("verify-full", ca_path=str(known.ca))
    async with house(target_tls=known.server(()), upstream_tls=tls) as h:
        client = await waiting(h)
        await cancel(h, client.process, client.key)
        assert await client.answer() == "wait one\n.\n"
        assert h.target.secure == [True, True]


async def test_over_the_cap_cancels_are_refused_and_the_session_goes_on() -> None:
    async with house(limits=Limits(cancels=0)) as h:
        client = await waiting(h)
        await cancel(h, client.process, client.key)
        assert h.target.cancels == []
        h.target.proceed.set()
        assert await client.answer() == "wait one\n.\n"


async def test_a_target_that_never_ends_a_cancel_holds_the_session_no_longer_than_a_dial() -> None:
    async with house(limits=Limits(dial_seconds=0.2)) as h:
        h.target.cancel_closes.clear()
        client = await waiting(h)
        await cancel(h, client.process, client.key)
        assert await client.answer() == "wait one\n.\n"
        assert await client.ask("echo on") == "echo on\n.\n"
