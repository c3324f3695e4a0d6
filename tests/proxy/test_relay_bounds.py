# SPDX-License-Identifier: GPL-3.0-or-later
"""The relay under pressure: floods, long batches, stalled disks, and ends in the middle of them."""

from __future__ import annotations

import asyncio
import struct
from dataclasses import replace

import pytest

from gateway.model import Decision, Level, Operation, Session, Target, Tls
from gateway.protocols import Ready
from gateway.protocols.postgresql import PROTOCOL, wire
from gateway.proxy.joined import Joined
from gateway.proxy.limits import Limits
from gateway.proxy.link import Link
from gateway.proxy.metrics import Metrics
from gateway.proxy.relay import Relay
from gateway.proxy.turn import FRAME_BYTES, Streams
from tests.proxy.fakes import ALLOW, DENY, GRANT, FakePolicy, FakeRecord, FakeRecorder
from tests.proxy.house import Client, House, house

LINE = b"drop %b\n" % (b"x" * 500)
ANSWER = b"denied %b\n.\n" % (b"y" * 2000)
FLOOD = 10_000


class Wordy(FakePolicy):
    """Denies at length."""

    def decide_now(self, operation: Operation) -> Decision | None:
        return replace(DENY, reason="y" * 2000)


def link_of(h: House, client: Client) -> Link:
    relay = h.proxy._house.live[client.session].relay
    assert relay is not None
    return relay._client


async def test_denials_that_nobody_reads_do_not_pile_up() -> None:
    async with house() as h:
        h.recorder.keep = False
        h.proxy.swap(policy=Wordy())
        client = await h.enter()

        async def floods() -> None:
            for _ in range(0, FLOOD, 100):
                client.writer.write(LINE * 100)
                await client.writer.drain()

        flooding = asyncio.ensure_future(floods())
        link = link_of(h, client)
        await h.recorder.until(lambda: link.full)
        await asyncio.sleep(0.05)
        assert link.paused, "a client that does not read is not read either"
        assert link._transport is not None
        assert link._transport.get_write_buffer_size() < 8 << 20
        await client.reader.readexactly(FLOOD * len(ANSWER))
        await flooding
        assert not link.paused


async def test_a_stalled_disk_bounds_what_is_read_of_the_client() -> None:
    async with house(limits=Limits(level=Level.DISK, buffer_bytes=1 << 16, flush_seconds=0.2)) as h:
        h.proxy.swap(policy=Wordy())
        client = await h.enter()
        client.writer.write(LINE * FLOOD)
        link = link_of(h, client)
        await h.recorder.until(lambda: link.paused)
        await asyncio.sleep(0.05)
        assert len(h.record.stream("request")) < 1 << 20
        h.recorder.sync()
        assert await client.reader.readexactly(len(ANSWER)) == ANSWER


class Sink(Link):
    """A link without a socket: what is written is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.said.append(data)

    @property
    def gone(self) -> bool:
        return False


def postgresql_relay(recorder: FakeRecorder, policy: FakePolicy) -> tuple[Relay, Sink, Sink]:
    target = Target("orders", "postgresql", "127.0.0.1", 1, ("app",), tls=Tls("disable"))
    session = Session("session0", 0, GRANT, target, "app", "db", "")
    record = FakeRecord(recorder, 0, {})
    recorder.records.append(record)
    client, upstream = Sink(), Sink()
    relay = Relay(
        Joined(
            PROTOCOL.dialog(session, Ready(1, b"key1", (("client_encoding", "UTF8"),))),
            policy,
            record,
            recorder,
            client,
            upstream,
            Limits(),
            Metrics(),
            lambda reason, detail: None,
        )
    )
    return relay, client, upstream


async def test_a_batch_of_thousands_of_questions_in_one_chunk_is_one_turn() -> None:
    """Each decision brings about the next question: not by recursion."""
    recorder = FakeRecorder()
    relay, _, upstream = postgresql_relay(recorder, FakePolicy())
    parse = wire.message(wire.PARSE, b"\0insert into t values ($1)\0\0\0")
    bind = wire.message(wire.BIND, b"\0\0\0\0\0\1" + struct.pack(">i", 1) + b"7\0\0")
    batch = parse + (bind + wire.execute(b"")) * 5000 + wire.SYNC_MESSAGE
    relay.received(relay._client, batch)
    assert not relay.over
    said = b"".join(upstream.said)
    theirs = said.replace(wire.describe_portal(b""), b"", 1) == batch  # a diff would take minutes
    assert theirs
    record = recorder.records[0]
    recorded = record.stream("request") == batch
    assert recorded
    assert len(record.events("ask")) == 5001


async def test_events_of_a_turn_are_cut_into_frames_that_fit() -> None:
    recorder = FakeRecorder()
    record = FakeRecord(recorder, 0, {})
    event = b'{"ev":"ask","text":"%b"}' % (b"x" * 100_000)
    position = Streams(record).append("request", "client", b"data", [event] * 50, 1)
    assert position == recorder.position > 1
    assert record.stream("request") == b"data"
    assert len(record.events("ask")) == 50
    sizes = [sum(len(str(one)) for one in frame.meta["events"]) for frame in record.frames]
    assert max(sizes) <= FRAME_BYTES


async def test_what_waits_for_the_disk_does_not_run_after_a_kill() -> None:
    async with house() as h:
        client = await h.enter()
        client.writer.write(b"disk insert\n")
        await h.recorder.until(lambda: h.recorder.waiters)
        h.proxy.kill_session(client.session, "by alice")
        h.recorder.sync()
        assert await client.rest() == b"fatal killed\n"
        assert await h.closed() == "killed"
        assert await h.target.left() >= 1
        assert h.target.seen == []


async def test_what_waits_for_the_disk_runs_for_a_client_that_only_ended_its_stream() -> None:
    async with house() as h:
        client = await h.enter()
        client.writer.write(b"disk insert\n")
        await h.recorder.until(lambda: h.recorder.waiters)
        client.writer.write_eof()
        await asyncio.sleep(0.02)
        assert h.target.seen == []
        h.recorder.sync()
        await h.recorder.until(lambda: h.target.seen)
        await h.recorder.until(lambda: h.recorder.waiters)
        h.recorder.sync()
        assert await client.rest() == b"disk insert\n.\n"


async def test_a_decision_that_is_cancelled_from_within_denies() -> None:
    async def cancelled(operation: Operation, fact: object) -> Decision:
        raise asyncio.CancelledError

    async with house() as h:
        h.policy.slow = cancelled
        client = await h.enter()
        assert "CancelledError" in await client.ask("slow one")
        assert h.target.seen == []
        assert await client.ask("echo on") == "echo on\n.\n"


async def test_a_statement_in_an_unforeseen_error_is_in_no_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def quotes(operation: Operation, fact: object) -> Decision:
        raise ValueError(f"cannot parse {operation.text}")

    async with house() as h:
        h.policy.slow = quotes
        client = await h.enter()
        await client.ask("slow password 'hunter2'")
        assert caplog.records and "hunter2" not in caplog.text
        assert not any("hunter2" in str(record.__dict__) for record in caplog.records)


@pytest.mark.parametrize("moment", ["asking", "running", "idle"])
async def test_whoever_leaves_at_any_moment_the_record_is_closed(moment: str) -> None:
    async def hangs(operation: Operation, fact: object) -> Decision:
        await asyncio.Event().wait()
        return ALLOW

    async with house(limits=Limits(linger_seconds=0.2)) as h:
        h.policy.slow = hangs
        client = await h.enter()
        if moment != "idle":
            client.writer.write(b"slow one\n" if moment == "asking" else b"wait one\n")
            await h.recorder.until(lambda: h.record.stream("request"))
        if moment == "running":
            await h.recorder.until(lambda: h.target.seen)
        client.writer.transport.abort()
        assert await h.closed() == "client"
        assert h.proxy.live() == []
        h.target.proceed.set()
        assert await h.target.left() == 1


async def test_the_target_leaving_while_a_decision_is_awaited_ends_the_session() -> None:
    async def hangs(operation: Operation, fact: object) -> Decision:
        await asyncio.Event().wait()
        return ALLOW

    async with house() as h:
        h.policy.slow = hangs
        client = await h.enter()
        client.writer.write(b"slow one\n")
        await h.recorder.until(lambda: h.record.stream("request"))
        h.target.links[0].close()
        assert await client.rest() == b"fatal target\n"
        assert await h.closed() == "target"
        assert h.record.events("ask")[0]["decision"]["verdict"] == "hold"


async def test_a_finished_link_takes_no_more_and_closes() -> None:
    got = asyncio.Queue[bytes]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.put_nowait(await reader.read())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    loop = asyncio.get_running_loop()
    _, link = await loop.create_connection(Link, *server.sockets[0].getsockname()[:2])
    link.write(b"one")
    link.finish()
    link.write(b"two")
    link.finish()
    link.close()
    assert await asyncio.wait_for(got.get(), 10) == b"one"
    server.close()
