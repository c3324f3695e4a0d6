# SPDX-License-Identifier: GPL-3.0-or-later
"""Rotations and leases, on both databases."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from gateway.credentials.ports import RotationStore
from gateway.store.rotations import StoredRotations
from gateway.store.secrets import StoredSecrets
from gateway.vault_model import Rotation, SecretMove, SecretVersion
from tests.store.conftest import Place

NEW = SecretVersion("app", 1, "", "pending", "alice", 1.5, master="m", wrapped=b"w", sealed=b"s")
MADE = Rotation(
    id="r_1", credential="app", kind="postgresql", mode="single-user", account="", version=1,
    previous=0, step="made", cause="command", by="alice", begun_at=1.5, step_at=1.5,
)  # fmt: skip


async def test_a_rotation_and_its_version_go_on_together(place: Place) -> None:
    database = await place.open()
    store, secrets = StoredRotations(database), StoredSecrets(database)
    port: RotationStore = store
    assert await port.advance(MADE, "", NEW)
    assert await store.rotations() == await store.rotations("app", under_way=True) == [MADE]
    changing = replace(MADE, step="changing", step_at=2.0, attempts=1, retry_at=9.5, detail="x")
    assert await store.advance(changing, "made")
    assert not await store.advance(changing, "made")
    placed = SecretMove("app", 1, ("pending",), "pending", 3.0, placed=True)
    wrong = SecretMove("app", 1, ("current",), "retired", 3.0)
    changed = replace(changing, step="changed")
    assert not await store.advance(changed, "changing", None, [placed, wrong])
    assert (await secrets.versions())[0].placed_at is None
    assert await store.rotations() == [changing]
    assert await store.advance(changed, "changing", None, [placed])
    assert (await secrets.versions())[0].placed_at == 3.0
    ended = replace(changed, ended_at=4.0, outcome="done")
    assert await store.advance(ended, "changed")
    assert not await store.advance(ended, "changed")
    assert await store.rotations(under_way=True) == []
    assert await store.rotations("other") == []


async def test_one_rotation_of_a_credential_at_a_time(place: Place) -> None:
    stores = [StoredRotations(await place.open()) for _ in range(2)]
    tries = [
        store.advance(replace(MADE, id=f"r_{n}", version=n), "", replace(NEW, version=n))
        for n, store in enumerate(stores * 3, 1)
    ]
    assert sum(await asyncio.gather(*tries)) == 1
    assert len(await stores[0].rotations()) == 1


async def test_a_lease_is_one_holders(place: Place) -> None:
    one, other = StoredRotations(await place.open()), StoredRotations(await place.open())
    assert await one.lease("rotation app", "a", 60)
    assert await one.lease("rotation app", "a", 60)
    assert not await other.lease("rotation app", "b", 60)
    assert await other.lease("rotation more", "b", 60)
    await other.give_back("rotation app", "b")
    assert not await other.lease("rotation app", "b", 60)
    await one.give_back("rotation app", "a")
    assert await other.lease("rotation app", "b", -1)
    assert await one.lease("rotation app", "a", 60)
