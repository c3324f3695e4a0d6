# SPDX-License-Identifier: GPL-3.0-or-later
"""Sealed secrets and wrapped keys, on both databases."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from gateway.store.secrets import StoredSecrets
from gateway.vault_model import SealingKey, SecretMove, SecretVersion
from tests.store.conftest import Place

FIRST = SecretVersion(
    "app", 1, "app_a", "current", "alice", 1.5, current_at=1.5, master="m", wrapped=b"\0w",
    sealed=b"s\xff",
)  # fmt: skip


async def opened(place: Place) -> StoredSecrets:
    return StoredSecrets(await place.open())


async def test_a_version_comes_back_as_it_was_kept(place: Place) -> None:
    store = await opened(place)
    before = await store.changes()
    assert await store.apply(FIRST)
    assert not await store.apply(FIRST) and not await store.apply(replace(FIRST, version=2))
    again = await opened(place)
    assert await again.versions() == await again.versions("app") == [FIRST]
    assert await again.versions("other") == []
    assert await again.changes() == before + 1


async def test_moves_are_all_or_nothing_and_revoking_destroys(place: Place) -> None:
    store = await opened(place)
    await store.apply(FIRST)
    second = replace(FIRST, version=2, state="pending", current_at=None)
    retire = SecretMove("app", 1, ("current",), "retired", 3.0, 9.0)
    wrong = SecretMove("app", 2, ("proved",), "current", 3.0)
    await store.apply(second)
    assert not await store.apply(None, [retire, wrong])
    assert [one.state for one in await store.versions()] == ["current", "pending"]
    assert await store.apply(None, [retire, replace(wrong, before=("pending", "proved"))])
    first, second = await store.versions()
    assert (first.state, first.retired_at, first.until) == ("retired", 3.0, 9.0)
    assert (second.state, second.current_at) == ("current", 3.0)
    assert await store.apply(None, [SecretMove("app", 1, ("retired",), "revoked", 4.0)])
    first, _ = await store.versions()
    assert (first.state, first.revoked_at, first.wrapped, first.sealed) == (
        "revoked",
        4.0,
        b"",
        b"",
    )


async def test_of_many_writers_one_wins_each_number(place: Place) -> None:
    stores = [await opened(place) for _ in range(3)]
    tried = [replace(FIRST, state="pending", version=number) for number in (1, 2, 3) * 3]
    won = await asyncio.gather(
        *(stores[index % 3].apply(one) for index, one in enumerate(sorted(tried, key=str)))
    )
    assert sum(won) == 3 and len(await stores[0].versions()) == 3


async def test_a_rewrap_replaces_only_what_it_read(place: Place) -> None:
    store = await opened(place)
    await store.apply(FIRST)
    assert await store.rewrap(FIRST, "new", b"again")
    assert not await store.rewrap(FIRST, "late", b"late")
    (found,) = await store.versions()
    assert found == replace(FIRST, master="new", wrapped=b"again")


async def test_sealing_keys(place: Place) -> None:
    store = await opened(place)
    key = SealingKey("login", 1, "m", b"\1wrapped")
    assert await store.add_sealing_key(key) and not await store.add_sealing_key(key)
    assert await store.add_sealing_key(replace(key, number=2))
    assert await store.add_sealing_key(replace(key, purpose="jwt"))
    assert [one.number for one in await store.sealing_keys("login")] == [1, 2]
    assert await store.rewrap_sealing_key(key, "n", b"new")
    assert not await store.rewrap_sealing_key(key, "late", b"late")
    assert len(await store.sealing_keys()) == 3
    assert (await store.sealing_keys("login"))[0] == replace(key, master="n", wrapped=b"new")
