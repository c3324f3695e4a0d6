# SPDX-License-Identifier: GPL-3.0-or-later
"""Arrivals: who does not get in, who stalls, who leaves, and what is told of it."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from gateway.model import Refusal, Refused
from gateway.proxy.limits import Limits
from tests.proxy.certificates import authority
from tests.proxy.house import House, house

TOKEN = "tg_sEcReTtOkEn0123456789"


async def refused(h: House, line: str) -> str:
    client = await h.connect()
    client.writer.write(line.encode())
    said = await client.rest()
    await h.recorder.until(lambda: h.recorder.refusals)
    return said.decode().strip()


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("login nobody app db\n", "bad_token"),
        ("login token app other/db\n", "unknown_target"),
        ("login token stranger orders/db\n", "wrong_user"),
        ("login token app orders/secret\n", "unknown_target"),
        ("hello\n", "protocol"),
        ("tls\nlogin token app db\n", "protocol"),
    ],
)
async def test_who_does_not_get_in_is_told_once_and_counted(line: str, code: str) -> None:
    async with house(own=False, databases=("db",)) as h:
        assert await refused(h, line) == f"refused {code}"
        (event,) = h.recorder.refusals
        assert event["code"] == code and event["client"].startswith("127.0.0.1:")
        assert h.recorder.records == [] and h.target.links == []
        assert h.services.metrics.refused.labels(code)._value.get() == 1


async def test_without_a_policy_the_door_stays_shut() -> None:
    async with house() as h:
        h.policy.documents = []
        assert await refused(h, "login token app db\n") == "refused denied"
        assert h.recorder.records == []


@pytest.mark.parametrize("where", ["token", "user", "database"])
async def test_a_token_is_in_no_log_and_no_record(
    where: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    fields = {"token": TOKEN, "user": "app", "database": "db", where: TOKEN}
    async with house() as h:
        line = "login {token} {user} {database}\n".format(**fields)
        assert await refused(h, line) == "refused bad_token"
        said = [str(record.__dict__) for record in caplog.records]
        assert any("[token]" in text for text in said), "the cause is told, without the token"
        assert not any(TOKEN in text for text in said)
        assert TOKEN not in str(h.recorder.refusals)


async def test_a_token_in_an_unforeseen_error_is_in_no_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken:
        async def login(self, token: str) -> None:
            raise LookupError(f"no row for {token}")

    async with house() as h:
        h.services.authenticator = Broken()  # type: ignore[assignment]
        assert await refused(h, f"login {TOKEN} app db\n") == "refused internal"
        assert TOKEN not in caplog.text
        assert not any(TOKEN in str(record.__dict__) for record in caplog.records)
        assert any(getattr(record, "error", "") == "LookupError" for record in caplog.records)


async def test_half_a_token_is_not_left_over_where_a_cause_is_cut(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Wordy:
        async def login(self, token: str) -> None:
            raise Refused(Refusal("denied", "bad_token", "no"), "x" * 490 + token)

    async with house() as h:
        h.services.authenticator = Wordy()  # type: ignore[assignment]
        await refused(h, f"login {TOKEN} app db\n")
        assert TOKEN[:8] not in str(h.recorder.refusals)


async def test_a_listener_without_a_certificate_cuts_who_asks_for_tls() -> None:
    async with house() as h:
        client = await h.connect()
        client.writer.write(b"tls\n")
        assert await client.rest() == b"yes\n"
        assert h.recorder.refusals[0]["code"] == "no_tls"


@pytest.mark.parametrize("sent", [b"", b"log", b"login token app"])
async def test_who_stalls_is_refused_at_the_deadline(sent: bytes) -> None:
    async with house(limits=Limits(handshake_seconds=0.1)) as h:
        client = await h.connect()
        client.writer.write(sent)
        assert await client.rest() == b"refused protocol\n"
        assert "not complete within 0.1 s" in h.recorder.refusals[0]["reason"]


async def test_an_identity_provider_that_stalls_ends_at_the_same_deadline() -> None:
    async with house(limits=Limits(handshake_seconds=0.1)) as h:
        h.authenticator.wait = asyncio.Event()
        assert await refused(h, "login token app db\n") == "refused protocol"
        h.authenticator.wait.set()
        await asyncio.sleep(0)
        assert h.recorder.records == []


@pytest.mark.parametrize("sent", [b"", b"log", b"tls\n", b"login token app db\n"])
async def test_who_leaves_before_it_is_in_is_no_failure(sent: bytes, tmp_path: Path) -> None:
    async with house(tls=authority(tmp_path).server()) as h:
        h.authenticator.wait = asyncio.Event()
        client = await h.connect()
        client.writer.write(sent)
        await client.writer.drain()
        await asyncio.sleep(0.01)
        client.leave()
        abandoned = h.services.metrics.abandoned
        await h.recorder.until(lambda: abandoned._value.get())
        assert h.recorder.refusals == [] and h.recorder.records == []
        assert h.proxy.live() == []


async def test_who_leaves_while_the_target_is_signed_in_closes_its_record() -> None:
    async with house() as h:
        h.target.silent = True
        client = await h.connect()
        client.writer.write(b"login token app db\n")
        await h.recorder.until(lambda: h.target.links)
        assert [view.state for view in h.proxy.live()] == ["opening"]
        client.leave()
        assert await h.closed() == "client"
        assert h.proxy.live() == []


async def test_a_kill_while_the_target_is_signed_in_is_told_and_recorded() -> None:
    async with house() as h:
        h.target.silent = True
        client = await h.connect()
        client.writer.write(b"login token app db\n")
        await h.recorder.until(lambda: h.target.links)
        assert h.proxy.kill_grants({"grant1"}, "revoked by alice") == 1
        assert await client.rest() == b"refused revoked\n"
        assert await h.closed() == "revoked"


async def test_a_record_that_cannot_be_opened_keeps_the_door_shut() -> None:
    async with house() as h:
        h.recorder.failing = True
        assert await refused(h, "login token app db\n") == "refused record"
        assert h.target.links == []


async def test_a_record_that_does_not_open_in_time_keeps_the_door_shut() -> None:
    async with house(limits=Limits(dial_seconds=0.1)) as h:
        h.recorder.opens = asyncio.Event()
        assert await refused(h, "login token app db\n") == "refused record"
        assert h.target.links == []
        h.recorder.opens.set()
        await h.recorder.until(lambda: h.recorder.records)
        assert await h.closed() == "client", "what opened late is closed"


async def test_a_recorder_that_cannot_note_a_refusal_does_not_keep_the_link() -> None:
    async with house() as h:

        def refused_event(event: object) -> None:
            raise OSError("full")

        h.recorder.refused = refused_event  # type: ignore[method-assign,assignment]
        client = await h.connect()
        client.writer.write(b"login nobody app db\n")
        assert await client.rest() == b"refused bad_token\n"


@pytest.mark.parametrize("what", ["dialog", "welcome"])
async def test_a_session_that_cannot_be_joined_leaves_nothing_behind(what: str) -> None:
    async with house() as h:
        h.services.protocols["lines"].broken = what  # type: ignore[attr-defined]
        client = await h.connect()
        client.writer.write(b"login token app db\n")
        await client.rest()
        assert await h.closed() == "protocol"
        assert h.proxy.live() == []
        assert await h.target.left() == 1


async def test_bytes_behind_the_login_are_the_dialogs_first() -> None:
    async with house() as h:
        client = await h.connect()
        client.writer.write(b"login token app db\necho early\n")
        assert (await client.reader.readline()).startswith(b"welcome")
        assert await client.answer() == "echo early\n.\n"


async def test_an_expired_grant_ends_the_session() -> None:
    async with house() as h:
        h.authenticator.expire(0.1)
        client = await h.enter()
        assert await client.rest() == b"fatal expired\n"
        assert await h.closed() == "expired"
