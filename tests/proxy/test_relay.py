# SPDX-License-Identifier: GPL-3.0-or-later
"""The relay over real sockets, with a protocol of lines."""

from __future__ import annotations

import asyncio

import pytest

from gateway.model import Decision, Level, Operation, Verdict
from gateway.proxy.limits import Limits
from tests.proxy.fakes import ALLOW
from tests.proxy.house import BULK, house


async def test_a_line_goes_through_and_costs_two_frames() -> None:
    async with house() as h:
        client = await h.enter()
        before = len(h.record.frames)
        assert await client.ask("echo hello") == "echo hello\n.\n"
        request, answer = h.record.frames[before:]
        assert (request.kind, request.party, request.payload) == (
            "request",
            "client",
            b"echo hello\n",
        )
        assert request.meta["at"] == 0
        assert request.meta["events"] == [
            {
                "ev": "ask",
                "op": 1,
                "kind": "line",
                "start": 0,
                "end": 11,
                "name": "",
                "prepared_by": 0,
                "decision": {"verdict": "allow"},
            },
        ]
        assert (answer.kind, answer.party) == ("answer", "target")
        assert [event["ev"] for event in answer.meta["events"]] == ["done", "settled"]
        client.leave()
        assert await h.closed() == "client"
        assert h.record.closed[1]["operations"] == 1
        assert h.record.closed[1]["rows"] == 1


async def test_what_is_denied_reaches_the_target_with_no_byte_and_the_link_goes_on() -> None:
    async with house() as h:
        client = await h.enter()
        assert await client.ask("drop table") == "denied because\n.\n"
        assert await client.ask("echo on") == "echo on\n.\n"
        assert h.target.seen == ["echo on"]
        own = [frame for frame in h.record.frames if frame.party == "own" and frame.payload]
        assert [frame.payload for frame in own] == [b"denied because\n.\n"]


async def test_bytes_recorded_are_the_bytes_relayed() -> None:
    async with house() as h:
        client = await h.enter()
        sent = b"".join(b"echo %d\n" % number for number in range(500))
        for start in range(0, len(sent), 7):
            client.writer.write(sent[start : start + 7])
            if start % 91 == 0:
                await client.writer.drain()
                await asyncio.sleep(0)
        got = b""
        while got.count(b".\n") < 500:
            got += await client.reader.read(65536)
        assert h.record.stream("request") == sent
        assert h.record.stream("answer") == got
        at = {"request": 0, "answer": 0}
        for frame in h.record.frames:
            if frame.kind in at:
                assert frame.meta["at"] == at[frame.kind]
                at[frame.kind] += len(frame.payload)


async def test_a_policy_that_raises_denies() -> None:
    async def raises(operation: Operation, fact: object) -> Decision:
        raise ValueError("boom")

    async with house() as h:
        h.policy.slow = raises
        client = await h.enter()
        assert "policy could not decide (ValueError)" in await client.ask("slow one")
        assert h.target.seen == []
        assert h.record.events("ask")[0]["decision"]["verdict"] == "deny"


async def test_a_policy_that_never_answers_denies() -> None:
    async def hangs(operation: Operation, fact: object) -> Decision:
        await asyncio.Event().wait()
        return ALLOW

    async with house(limits=Limits(decision_seconds=0.05)) as h:
        h.policy.slow = hangs
        client = await h.enter()
        assert "no decision in time" in await client.ask("slow one")
        assert h.target.seen == []


async def test_a_late_decision_is_recorded_as_an_event_and_keeps_the_order() -> None:
    go = asyncio.Event()

    async def waits(operation: Operation, fact: object) -> Decision:
        await go.wait()
        return ALLOW

    async with house() as h:
        h.policy.slow = waits
        client = await h.enter()
        client.writer.write(b"slow one\necho two\n")
        await h.recorder.until(lambda: h.record.stream("request"))
        assert h.target.seen == []
        go.set()
        assert await client.answer() == "slow one\n.\n"
        assert await client.answer() == "echo two\n.\n"
        assert h.target.seen == ["slow one", "echo two"]
        event = [f for f in h.record.frames if f.kind == "event" and f.meta["events"]][-1]
        assert event.meta["events"][0]["op"] == 1


async def test_a_client_that_leaves_during_a_wait_gets_nothing_run() -> None:
    go = asyncio.Event()

    async def waits(operation: Operation, fact: object) -> Decision:
        await go.wait()
        return ALLOW

    async with house() as h:
        h.policy.slow = waits
        client = await h.enter()
        client.writer.write(b"slow one\n")
        await h.recorder.until(lambda: h.record.stream("request"))
        client.leave()
        assert await h.closed() == "client"
        go.set()
        await asyncio.sleep(0)
        assert h.target.seen == []
        assert h.record.events("done")[0]["status"] == "not_run"


async def test_a_hang_up_is_seen_while_reading_is_paused() -> None:
    async def waits(operation: Operation, fact: object) -> Decision:
        await asyncio.Event().wait()
        return ALLOW

    async with house(limits=Limits(held_bytes=1 << 16)) as h:
        h.policy.slow = waits
        client = await h.enter()
        client.writer.write(b"slow one\n" + b"echo %b\n" % (b"y" * 1000) * 500)
        await h.recorder.until(lambda: h.record.bytes > 1 << 16)
        client.leave()
        assert await h.closed() == "client"
        assert h.target.seen == []


async def test_a_record_that_fails_closes_the_session_in_the_protocols_words() -> None:
    async with house() as h:
        client = await h.enter()
        await client.ask("echo one")
        h.recorder.failing = True
        client.writer.write(b"echo two\n")
        assert await client.rest() == b"fatal record\n"
        assert h.target.seen == ["echo one"]
        assert await h.closed() == "record"


async def test_where_policy_allows_a_gap_the_session_goes_on_until_it_does_not() -> None:
    async with house() as h:
        h.policy.gaps = True
        client = await h.enter()
        h.recorder.failing = True
        assert "echo one" in await client.ask("echo one")
        assert h.record.lost >= 2
        h.policy.gaps = False
        client.writer.write(b"echo two\n")
        assert await client.rest() == b"fatal record\n"
        assert h.target.seen == ["echo one"]
        assert await h.closed() == "record"


async def test_an_answer_that_cannot_be_recorded_does_not_reach_the_client() -> None:
    async with house() as h:
        client = await h.enter()
        client.writer.write(b"wait one\n")
        await h.recorder.until(lambda: h.target.seen)
        h.recorder.failing = True
        h.target.proceed.set()
        assert b"wait one" not in await client.rest()
        assert await h.closed() == "record"


async def test_at_disk_level_nothing_moves_before_the_sync() -> None:
    async with house(limits=Limits(level=Level.DISK)) as h:
        client = await h.enter()
        client.writer.write(b"echo one\n")
        await h.recorder.until(lambda: h.recorder.waiters)
        assert h.target.seen == []
        h.recorder.sync()
        await h.recorder.until(lambda: h.recorder.waiters)
        assert h.target.seen == ["echo one"]
        h.recorder.sync()
        assert await client.answer() == "echo one\n.\n"


async def test_a_rule_can_ask_for_the_disk_for_one_operation_alone() -> None:
    async with house() as h:
        client = await h.enter()
        assert await client.ask("echo one") == "echo one\n.\n"
        client.writer.write(b"disk two\n")
        await h.recorder.until(lambda: h.recorder.waiters)
        assert h.target.seen == ["echo one"]
        h.recorder.sync()
        await h.recorder.until(lambda: h.recorder.waiters)
        h.recorder.sync()
        assert await client.answer() == "disk two\n.\n"
        assert await client.ask("echo three") == "echo three\n.\n"


async def test_a_sync_that_fails_ends_the_session_and_forwards_nothing() -> None:
    async with house(limits=Limits(level=Level.DISK)) as h:
        client = await h.enter()
        client.writer.write(b"echo one\n")
        await h.recorder.until(lambda: h.recorder.waiters)
        h.recorder.sync(good=False)
        assert await client.rest() == b"fatal record\n"
        assert h.target.seen == []
        assert await h.closed() == "record"


async def test_a_client_that_does_not_read_blocks_nobody_else() -> None:
    async with house() as h:
        h.recorder.keep = False
        stalled = await h.enter()
        stalled.writer.write(b"bulk 20000\n")
        other = await h.enter()
        for number in range(20):
            assert await other.ask(f"echo {number}") == f"echo {number}\n.\n"
        assert h.recorder.records[0].bytes < 12 << 20, "back-pressure did not reach the target"
        total = 0
        while total < 20000 * len(BULK):
            total += len(await stalled.reader.read(1 << 20))


async def test_the_target_leaving_is_told_at_a_border() -> None:
    async with house() as h:
        client = await h.enter()
        client.writer.write(b"bye\n")
        assert await client.rest() == b"fatal target\n"
        assert await h.closed() == "target"


async def test_inside_a_message_the_link_is_cut_without_a_word() -> None:
    async with house() as h:
        client = await h.enter()
        client.writer.write(b"half\n")
        assert await client.rest() == b"half a li"
        assert await h.closed() == "target"


@pytest.mark.parametrize(("line", "code"), [(b"gibberish", b"protocol"), (b"explode", b"internal")])
async def test_a_dialog_that_raises_ends_its_own_session_only(line: bytes, code: bytes) -> None:
    async with house() as h:
        client, other = await h.enter(), await h.enter()
        record = h.recorder.records[0]
        client.writer.write(line + b"\n")
        assert await client.rest() == b"fatal %b\n" % code
        await h.recorder.until(lambda: record.closed)
        assert record.closed is not None and record.closed[0] == "protocol"
        assert record.stream("request") == line + b"\n"
        assert await other.ask("echo") == "echo\n.\n"


async def test_what_runs_when_the_client_leaves_is_still_recorded() -> None:
    async with house() as h:
        client = await h.enter()
        client.writer.write(b"wait insert\n")
        await h.recorder.until(lambda: h.target.seen)
        client.leave()
        await asyncio.sleep(0.05)
        assert h.record.closed is None
        h.target.proceed.set()
        assert await h.closed() == "client"
        assert h.record.events("done")[0]["status"] == "ok"


async def test_observed_operations_go_on_and_are_counted() -> None:
    async with house() as h:
        would = Decision(Verdict.WOULD_DENY, record=b'{"verdict":"would_deny"}')

        async def observes(operation: Operation, fact: object) -> Decision:
            return would

        h.policy.slow = observes
        client = await h.enter()
        assert await client.ask("slow one") == "slow one\n.\n"
        assert h.services.metrics.totals.verdicts["would_deny"] == 1
