# SPDX-License-Identifier: GPL-3.0-or-later
"""A secret and its document go together, whatever fails between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from gateway.config import Objects
from gateway.declare.declarer import Declarer
from gateway.declare.orders import Author, Order, Rejected, Wanted
from gateway.declare.whole import Base, Whole
from gateway.model import RecordFailed
from gateway.policy.documents import PolicySet
from gateway.store.interface import StoreFailed
from gateway.store.objects import Edit, StoredObjects
from gateway.store.sqlite import SqliteDatabase


class Vault:
    """A keeper that may fail."""

    def __init__(self) -> None:
        self.secrets: dict[str, str] = {}
        self.fails = False

    async def keep(self, credential: str, secret: str, by: str) -> int:
        if self.fails:
            raise StoreFailed("the vault's store is away")
        self.secrets[credential] = secret
        return 1

    async def drop(self, credential: str) -> None:
        self.secrets.pop(credential, None)

    async def held(self, credential: str) -> bool:
        return credential in self.secrets


class Force:
    """What is in force: nothing but the last set that was committed."""

    def __init__(self) -> None:
        self.whole: Whole | None = None
        self.undone = 0

    async def check(self, whole: Whole) -> None: ...

    async def prepare(self, whole: Whole) -> Any:
        force = self

        class Prepared:
            async def commit(self) -> None:
                force.whole = whole

            async def undo(self) -> None:
                force.undone += 1

        return Prepared()


class Record:
    def __init__(self) -> None:
        self.events: list[Mapping[str, Any]] = []
        self.fails = False

    async def config_changed(self, event: Mapping[str, Any], document: bytes) -> None:
        if self.fails:
            raise RecordFailed("the disk is full")
        self.events.append(event)


class Store(StoredObjects):
    """One whose writes fail, or are always too late, when they are told to."""

    away = late = False

    async def write(self, edits: Sequence[Edit], **more: Any) -> Any:
        if self.away:
            raise StoreFailed("the link broke")
        return None if self.late else await super().write(edits, **more)


class Desk:
    def __init__(self, database: SqliteDatabase) -> None:
        self.vault, self.force, self.record = Vault(), Force(), Record()
        self.store = Store(database)
        base = Base(Objects(), PolicySet())
        self.declarer = Declarer(self.store, base, self.force, self.record, keeper=self.vault)

    async def put(self, user: str, secret: str) -> None:
        wanted = Wanted("credential", "app", {"credential": "app", "user": user, "secret": secret})
        await self.declarer.order(Order((wanted,), "api", Author("somebody")))


@pytest.fixture
async def desk(tmp_path: Path) -> Any:
    database = await SqliteDatabase.open(tmp_path / "store.db")
    yield Desk(database)
    await database.close()


@pytest.mark.parametrize("what", ["away", "late", "record"])
async def test_a_first_secret_goes_with_an_order_that_fails(desk: Desk, what: str) -> None:
    desk.record.fails = what == "record"
    desk.store.away, desk.store.late = what == "away", what == "late"
    with pytest.raises((StoreFailed, Rejected, RecordFailed)):
        await desk.put("app", "first")
    assert desk.vault.secrets == {} and desk.force.whole is None and desk.force.undone >= 1
    assert (await desk.store.everything())[1] == ()
    last = desk.record.events[-1]["event"] if desk.record.events else None
    assert last == {"away": "config.unknown", "late": "config.not_changed", "record": None}[what]


@pytest.mark.parametrize("what", ["away", "late", "record"])
async def test_the_secret_in_force_stays_when_its_change_fails(desk: Desk, what: str) -> None:
    await desk.put("app", "first")
    before = await desk.store.everything()
    desk.record.fails = what == "record"
    desk.store.away, desk.store.late = what == "away", what == "late"
    with pytest.raises((StoreFailed, Rejected, RecordFailed)):
        await desk.put("other", "second")
    assert desk.vault.secrets == {"app": "first"}
    assert await desk.store.everything() == before


async def test_a_vault_that_fails_is_told_and_the_old_secret_stays(desk: Desk) -> None:
    desk.vault.fails = True
    with pytest.raises(StoreFailed):
        await desk.put("app", "first")
    assert (await desk.store.everything())[1] == ()
    desk.vault.fails = False
    await desk.put("app", "first")
    desk.vault.fails = True
    with pytest.raises(StoreFailed):
        await desk.put("app", "second")
    assert desk.vault.secrets == {"app": "first"}
    desk.vault.fails = False
    await desk.put("app", "second")
    assert desk.vault.secrets == {"app": "second"}
    assert (await desk.store.everything())[1][0].version == 3
