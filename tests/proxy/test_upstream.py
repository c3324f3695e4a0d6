# SPDX-License-Identifier: GPL-3.0-or-later
"""Targets that are down, slow, refusing or false: the client hears a refusal, the log the cause."""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.model import Credential, Target, Tls
from gateway.protocols import Derive
from gateway.protocols.postgresql import PROTOCOL
from gateway.proxy.limits import Limits
from gateway.proxy.link import Link
from gateway.proxy.listener import ListenSpec, Proxy, ProxyServices
from gateway.proxy.metrics import Metrics
from gateway.proxy.upstream import Inbox, SaltedKeys, Upstream
from tests.proxy.certificates import authority
from tests.proxy.fakes import FakeAuthenticator, FakeCatalog, FakePolicy, FakeRecorder
from tests.proxy.house import House, house

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class CutLink(Link):
    """A link without a socket that knows whether it was cut."""

    cut = False

    def abort(self) -> None:
        self.cut = True


async def outcome(h: House) -> str:
    client = await h.connect()
    return await client.login()


@asynccontextmanager
async def serving(h: House, serve: Serve):  # type: ignore[no-untyped-def]
    """`serve` stands in the target's place."""
    ends = asyncio.Event()

    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
            await reader.read()
        except ConnectionError:
            return
        finally:
            writer.close()
            ends.set()

    server = await asyncio.start_server(guarded, "127.0.0.1", 0)
    catalog = h.services.catalog
    assert isinstance(catalog, FakeCatalog)
    port = server.sockets[0].getsockname()[1]
    catalog.targets["orders"] = replace(catalog.targets["orders"], port=port)
    try:
        yield ends
    finally:
        server.close()


def cause(caplog: pytest.LogCaptureFixture) -> str:
    return str(next(r.cause for r in caplog.records if r.message == "refused"))


async def test_a_target_that_is_down() -> None:
    async with house() as h:
        catalog = h.services.catalog
        assert isinstance(catalog, FakeCatalog)
        catalog.targets["orders"] = replace(catalog.targets["orders"], port=1)
        assert await outcome(h) == "refused target"
        assert await h.closed() == "target_unreachable"


async def test_a_target_that_does_not_answer() -> None:
    async with house(limits=Limits(dial_seconds=0.1)) as h:
        h.target.silent = True
        assert await outcome(h) == "refused target"
        assert await h.closed() == "target_unreachable"
        assert await h.target.left() == 1, "its link is not kept"


async def test_a_target_that_refuses(caplog: pytest.LogCaptureFixture) -> None:
    async def refuses(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"sorry\n")

    async with house() as h, serving(h, refuses) as ends:
        assert await outcome(h) == "refused target"
        assert cause(caplog) == "it said sorry"
        await asyncio.wait_for(ends.wait(), 10)
        assert await h.closed() == "target_unreachable"


async def test_a_target_that_leaves_during_the_login(caplog: pytest.LogCaptureFixture) -> None:
    async def leaves(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.close()

    async with house() as h, serving(h, leaves):
        assert await outcome(h) == "refused target"
        assert "closed" in cause(caplog)


async def test_what_a_target_sends_ahead_of_a_login_is_bounded() -> None:
    link, inbox = CutLink(), Inbox()
    for _ in range(64):
        inbox.received(link, b"x" * 65536)
    assert link.cut
    kept = 0
    with pytest.raises(ConnectionError, match="more than a login takes"):
        while True:
            kept += len(await inbox.chunk())
    assert kept <= 1 << 20


async def test_our_secret_is_in_no_log_and_no_record(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with house() as h:
        client = await h.enter()
        await client.ask("echo on")
        client.leave()
        await h.closed()
        told = [str(r.__dict__) for r in caplog.records] + [
            str(vars(r)) for r in h.recorder.records
        ]
        assert told and not any("s3cret" in text for text in told)


# --- TLS to the target ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "trusted", "name", "said", "why"),
    [
        ("verify-full", True, "", "welcome", ""),
        ("verify-full", True, "db.example", "refused target", "Hostname mismatch"),
        ("verify-full", False, "", "refused target", "verify failed|self-signed|local issuer"),
        ("require", False, "db.example", "welcome", ""),
    ],
)
async def test_verify_full_checks_chain_and_name(
    mode: str,
    trusted: bool,
    name: str,
    said: str,
    why: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    theirs, other = authority(tmp_path / "theirs"), authority(tmp_path / "other")
    ca = str((theirs if trusted else other).ca) if mode == "verify-full" else None
    tls = Tls(mode, ca_path=ca, server_name=name or None)
    async with house(target_tls=theirs.server(()), upstream_tls=tls) as h:
        assert (await outcome(h)).startswith(said)
        assert h.target.secure == ([True] if said == "welcome" else []), "no login before trust"
        if why:
            assert re.search(why, cause(caplog))


async def test_the_system_trusts_no_authority_of_ours(tmp_path: Path) -> None:
    known = authority(tmp_path)
    tls = Tls("verify-full")
    async with house(target_tls=known.server(()), upstream_tls=tls) as h:
        assert await outcome(h) == "refused target"
        assert h.target.secure == []


async def test_a_certificate_that_was_renewed_is_read_at_the_next_dial(tmp_path: Path) -> None:
    theirs, other = authority(tmp_path / "theirs"), authority(tmp_path / "other")
    ca = tmp_path / "ca.pem"
    ca.write_bytes(other.ca.read_bytes())
    tls = Tls("verify-full", ca_path=str(ca))
    async with house(target_tls=theirs.server(()), upstream_tls=tls) as h:
        assert await outcome(h) == "refused target"
        ca.write_bytes(theirs.ca.read_bytes())
        h.proxy.swap()
        assert (await outcome(h)).startswith("welcome")


async def test_a_ca_file_that_is_missing_is_a_refusal(tmp_path: Path) -> None:
    tls = Tls("verify-full", ca_path=str(tmp_path / "none.pem"))
    async with house(target_tls=authority(tmp_path).server(()), upstream_tls=tls) as h:
        assert await outcome(h) == "refused target"


async def test_tls_older_than_1_2_is_refused(tmp_path: Path) -> None:
    old = authority(tmp_path).server(())
    old.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    async with house(target_tls=old, upstream_tls=Tls("require")) as h:
        assert await outcome(h) == "refused target"
        assert h.target.secure == []


async def test_bytes_in_the_clear_behind_the_agreement_to_tls_cut_the_link() -> None:
    """In a chunk of their own, which no protocol sees before TLS has begun (CVE-2021-23222)."""
    upstream = Upstream(Limits(), Metrics())
    target = Target("orders", "lines", "localhost", 1, ("app",), tls=Tls("require"))
    link, inbox = CutLink(), Inbox()
    try:
        inbox.received(link, b"welcome 66 66666666\n")
        with pytest.raises(ConnectionError, match="in the clear"):
            await upstream._start_tls(link, inbox, target)
        assert link.tls is None
    finally:
        upstream.close()


# --- a PostgreSQL target that talks the gateway down ----------------------------------------------


async def answer(ask: bytes, login: str, caplog: pytest.LogCaptureFixture) -> tuple[str, bytes]:
    """What a target that asks with `ask` is given behind the start-up message, and the cause."""
    got = bytearray()

    async def asks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = int.from_bytes(await reader.readexactly(4), "big")
        await reader.readexactly(length - 4)
        writer.write(ask)
        got.extend(await reader.read())

    services, recorder = _services(login)
    server = await asyncio.start_server(asks, "127.0.0.1", 0)
    catalog = services.catalog
    assert isinstance(catalog, FakeCatalog)
    port = server.sockets[0].getsockname()[1]
    catalog.targets["orders"] = replace(catalog.targets["orders"], port=port)
    proxy = Proxy(services)
    address = await proxy.listen(ListenSpec("postgresql", "127.0.0.1", 0, "orders", plain=True))
    reader, writer = await asyncio.open_connection(*address)
    body = b"\0\3\0\0user\0app\0database\0db\0\0"
    writer.write((len(body) + 4).to_bytes(4, "big") + body + b"p\0\0\0\x0atoken\0")
    said = await reader.read()
    assert b"C28" not in said and b"Z\0\0\0\5I" not in said
    await recorder.until(lambda: recorder.records and recorder.records[0].closed)
    writer.close()
    await proxy.drain(1)
    server.close()
    return cause(caplog), bytes(got)


def _services(login: str) -> tuple[ProxyServices, FakeRecorder]:
    target = Target("orders", "postgresql", "127.0.0.1", 1, ("app",), tls=Tls("disable"))
    catalog = FakeCatalog({"orders": target}, {"app": Credential("app", "app", login, "s3cret")})
    recorder = FakeRecorder()
    protocols: dict[str, Any] = {"postgresql": PROTOCOL}
    services = ProxyServices(
        catalog,
        FakeAuthenticator(),
        recorder,
        FakePolicy(),
        protocols,
        Limits(),
        "node",
        None,
        Metrics(),
    )
    return services, recorder


@pytest.mark.parametrize(
    ("ask", "asked"),
    [
        (b"R\0\0\0\x08\0\0\0\0", "no password"),
        (b"R\0\0\0\x08\0\0\0\3", "a cleartext password"),
        (b"R\0\0\0\x0c\0\0\0\5abcd", "an MD5 password"),
    ],
)
async def test_a_target_cannot_talk_the_login_down(
    ask: bytes, asked: str, caplog: pytest.LogCaptureFixture
) -> None:
    told, got = await answer(ask, "scram-sha-256", caplog)
    assert f"it asks for {asked}; the credential's method is scram-sha-256" in told
    assert got == b"", "nothing of the secret is answered"


# --- keys -----------------------------------------------------------------------------------------


async def test_salted_keys_are_derived_once_and_kept_in_bounds() -> None:
    keys = SaltedKeys(size=2)
    try:
        wanted = [Derive(b"secret", bytes([number]) * 16, 4096) for number in range(4)]
        first = [await keys.derive(one) for one in wanted]
        assert len(set(first)) == 4
        assert len(keys._known) == 2
        assert await keys.derive(wanted[3]) == first[3]
        assert "secret" not in repr(keys._known)
    finally:
        keys.close()
