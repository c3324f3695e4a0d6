# SPDX-License-Identifier: GPL-3.0-or-later
"""A secret is set or dropped only once that stands in the record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from gateway.config import Objects
from gateway.credentials.vault import SECRET_CAP, Vault, VaultFailed
from gateway.model import RecordFailed
from gateway.store.interface import StoreFailed
from gateway.store.secrets import StoredSecrets
from gateway.store.sqlite import SqliteDatabase
from gateway.vault_model import SecretMove, SecretVersion
from gateway.wiring.custody import Custody

State = list[tuple[int, str]]


class Record:
    """Notes each event with what the store held at that moment."""

    def __init__(self, secrets: StoredSecrets) -> None:
        self.secrets = secrets
        self.events: list[Mapping[str, Any]] = []
        self.stood: list[State] = []
        self.fails = False

    async def config_changed(self, event: Mapping[str, Any], document: bytes) -> None:
        if self.fails:
            raise RecordFailed("the disk is full")
        self.events.append(event)
        self.stood.append(await stored(self.secrets))


class Secrets(StoredSecrets):
    """One whose next write breaks, or comes after somebody else's."""

    breaks = beaten = False

    async def apply(self, added: SecretVersion | None, moves: Sequence[SecretMove] = ()) -> bool:
        if self.breaks:
            raise StoreFailed("the link broke")
        if self.beaten:
            self.beaten = False
            await Vault(StoredSecrets(self.database), self.ring).keep("app", "theirs", "bob")
        return await super().apply(added, moves)

    def __init__(self, database: SqliteDatabase, vault: Vault) -> None:
        super().__init__(database)
        self.database, self.ring = database, vault.ring


async def stored(secrets: StoredSecrets) -> State:
    return [(one.version, one.state) for one in await secrets.versions("app")]


class Desk:
    def __init__(self, database: SqliteDatabase, vault: Vault) -> None:
        self.secrets = Secrets(database, vault)
        self.record = Record(self.secrets)
        self.custody = Custody(Vault(self.secrets, vault.ring), Objects())
        self.custody.record = self.record

    async def put(self, secret: str = "first") -> Mapping[str, Any]:
        return await self.custody.set_secret("app", secret, "alice", "")

    def told(self) -> list[tuple[str, Any]]:
        return [(one["event"], one.get("version")) for one in self.record.events]


@pytest.fixture
def desk(database: SqliteDatabase, vault: Vault) -> Desk:
    return Desk(database, vault)


async def test_the_record_has_a_secret_before_the_store_and_its_end_before_that(
    desk: Desk,
) -> None:
    await desk.put()
    await desk.custody.drop_secret("app", "bob")
    assert desk.record.stood == [[], [(1, "current")]]
    assert await stored(desk.secrets) == [(1, "revoked")]
    assert desk.told() == [("secret.set", 1), ("secret.drop", 1)]
    assert [one["by"] for one in desk.record.events] == ["alice", "bob"]
    assert "first" not in repr(desk.record.events)


async def test_without_a_record_no_secret_is_set_or_dropped(desk: Desk) -> None:
    await desk.put()
    desk.record.fails = True
    with pytest.raises(RecordFailed):
        await desk.put("second")
    with pytest.raises(RecordFailed):
        await desk.custody.drop_secret("app", "bob")
    desk.custody.record = None
    with pytest.raises(RecordFailed, match="try again"):
        await desk.put("second")
    assert await stored(desk.secrets) == [(1, "current")]
    assert [one.secret for one in desk.custody.vault.secrets("app")] == ["first"]


async def test_a_change_that_breaks_off_is_recorded_as_unknown(desk: Desk) -> None:
    desk.secrets.breaks = True
    with pytest.raises(StoreFailed):
        await desk.put()
    first, last = desk.record.events
    assert (first["event"], last["event"]) == ("secret.set", "config.unknown")
    assert first["change"] == last["change"]


async def test_a_change_that_another_beats_is_recorded_as_it_was_made(desk: Desk) -> None:
    desk.secrets.beaten = True
    answer = await desk.put()
    assert answer["version"] == 2
    assert desk.told() == [("secret.set", 1), ("secret.set", 2)]
    assert len({one["change"] for one in desk.record.events}) == 1


async def test_nothing_is_recorded_of_what_is_not_begun(desk: Desk) -> None:
    with pytest.raises(VaultFailed):
        await desk.put("x" * (SECRET_CAP + 1))
    await desk.custody.drop_secret("app", "bob")
    assert desk.record.events == []
