# SPDX-License-Identifier: GPL-3.0-or-later
"""Record before relay, for grants: nobody is given a token whose mint is not in the record."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.identity.authenticator import TokenAuthenticator
from gateway.identity.embedded_issuer import EmbeddedIssuer
from gateway.identity.grants import Grants
from gateway.identity.oidc import Issuers
from gateway.model import Hop, Identity, Refused
from gateway.record.recorder import NodeRecorder
from gateway.store.grants import StoredGrants
from gateway.store.interface import StoreFailed
from gateway.store.sqlite import SqliteDatabase
from tests.record.place import Place

ALICE = Identity("https://id", "u1", "alice")


class Disk:
    """fdatasync that can be made to fail."""

    def __init__(self) -> None:
        self.broken = False

    def sync(self, descriptor: int) -> None:
        if self.broken:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        os.fdatasync(descriptor)


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
async def recorder(place: Place, disk: Disk) -> AsyncIterator[NodeRecorder]:
    running = await place.start(disk.sync)
    yield running
    await running.stop()


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[SqliteDatabase]:
    opened = await SqliteDatabase.open(tmp_path / "grants.db")
    yield opened
    await opened.close()


@pytest.fixture
def recorded(recorder: NodeRecorder, database: SqliteDatabase) -> Grants:
    return Grants(StoredGrants(database), ledger=recorder.grants)


async def test_a_record_that_fails_gives_no_token_and_keeps_no_grant(
    recorded: Grants, disk: Disk, provider: EmbeddedIssuer, issuers: Issuers
) -> None:
    parent = (await recorded.mint_root(ALICE, (), 600)).grant
    before = await recorded.store.grants_below(None)
    disk.broken = True
    for minting in (
        recorded.mint_child(parent, Hop("reader")),
        recorded.mint_root(ALICE, (), 600),
        TokenAuthenticator(issuers, recorded).login(provider.sign("alice")),
    ):
        with pytest.raises(Refused) as refused:
            await minting
        assert (refused.value.refusal.kind, refused.value.refusal.code) == ("unavailable", "record")
    assert await recorded.store.grants_below(None) == before


async def test_each_mint_is_on_disk_before_its_token_is_given(
    recorded: Grants, place: Place, tmp_path: Path
) -> None:
    """Whatever was given is in the record as a kill at that moment leaves it."""
    root = (await recorded.mint_root(ALICE, (), 600)).grant
    for number in range(3):
        minted = await recorded.mint_child(root, Hop(f"h{number}"))
        killed = place.as_killed(tmp_path / f"killed{number}")
        journal = b"".join(one.read_bytes() for one in killed.journal.glob("*.journal"))
        assert minted.grant.id.encode() in journal
        node, number_of_log, record = minted.grant.minted_in.split("/")
        assert (node, number_of_log) == ("gw1", "0") and record.encode() in journal


async def test_many_links_with_one_new_token_make_one_record(
    recorded: Grants, recorder: NodeRecorder, provider: EmbeddedIssuer, issuers: Issuers
) -> None:
    login = TokenAuthenticator(issuers, recorded).login
    token = provider.sign("alice")
    grants = await asyncio.gather(*(login(token) for _ in range(50)))
    assert len({grant.id for grant in grants}) == 1
    assert recorder.grants.open_count == 1


async def test_two_nodes_that_see_one_token_first_agree(
    database: SqliteDatabase, tmp_path: Path, provider: EmbeddedIssuer, issuers: Issuers
) -> None:
    """The loser's mint ends as not kept, and its sessions cite the winner's."""
    nodes = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        nodes.append(Place(tmp_path / name))
    recorders = [await node.start() for node in nodes]
    token = provider.sign("alice")
    logins = [
        TokenAuthenticator(issuers, Grants(StoredGrants(database), ledger=one.grants)).login(token)
        for one in recorders
    ]
    first, second = await asyncio.gather(*logins)
    assert first.id == second.id and first.minted_in == second.minted_in != ""
    for recorder in recorders:
        await recorder.stop()
    for node in nodes:
        assert node.verify().defects == []


async def test_a_mint_that_the_store_does_not_keep_ends_so(
    recorded: Grants, recorder: NodeRecorder, database: SqliteDatabase, place: Place
) -> None:
    parent = (await recorded.mint_root(ALICE, (), 600)).grant
    await recorded.revoke(parent.id, "admin", "test")
    with pytest.raises(Refused):
        await recorded.mint_child(parent, Hop("late"))
    with sqlite3.connect(database.path) as vandal:
        vandal.execute("ALTER TABLE grants RENAME TO gone")
    vandal.close()
    with pytest.raises(StoreFailed):
        await recorded.mint_root(ALICE, (), 600)
    await recorder.stop()
    assert recorder.grants.open_count == 0
    assert place.assert_complete().exit_code == 0


async def test_a_lease_and_a_revocation_reach_the_record(
    recorded: Grants, recorder: NodeRecorder, place: Place
) -> None:
    parent = (await recorded.mint_root(ALICE, (), 600)).grant
    child = (await recorded.mint_child(parent, Hop("reader"), lease=60)).grant
    assert await recorded.renew_lease(child.id, 60, "alice")
    assert set(await recorded.revoke(parent.id, "admin", "because")) == {parent.id, child.id}
    await recorder.stop()
    place.assert_complete()
    record = b"".join(one.read_bytes() for one in place.evidence.glob("seg/*/*/*"))
    assert record.count(b'"event":"mint"') == 2
    assert b'"event":"refresh"' in record
    assert record.count(b'"event":"revoke"') == record.count(b'"reason":"revoked"') == 2
