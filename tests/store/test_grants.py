# SPDX-License-Identifier: GPL-3.0-or-later
"""What is kept of grants, on each database, by one process and by several."""

from __future__ import annotations

import asyncio
import random

import pytest

from gateway.identity.grant_store import GrantStore as GrantPort
from gateway.model import Ending
from gateway.store.database import ANYTHING, Connection
from gateway.store.grants import StoredGrants
from gateway.store.interface import GrantStore, StoreFailed
from tests.store.conftest import Place
from tests.store.grant_samples import add, grant


async def test_a_grant_comes_back_as_it_was_kept_also_after_a_restart(place: Place) -> None:
    database = await place.open()
    store = StoredGrants(database)
    seam: GrantStore = store
    port: GrantPort = store
    assert seam is port
    assert await add(store, grant("g1")) == "added"
    await database.close()
    store = StoredGrants(await place.open())
    found = await store.grant_by_token("sha-g1")
    assert found is not None and found.grant == grant("g1")
    assert await store.grant_by_token("sha-g2") is None
    await database.close()


async def test_two_processes_see_each_others_grants(place: Place) -> None:
    one, two = StoredGrants(await place.open()), StoredGrants(await place.open())
    await add(one, grant("g0"))
    names = [f"g{n}" for n in range(1, 41)]
    await asyncio.gather(
        *(add(one if n % 2 else two, grant(name, "g0")) for n, name in enumerate(names))
    )
    below = await two.grants_below(("g0",))
    assert {stored.grant.id for stored in below} == {"g0", *names}
    assert await one.revoke("g0", "admin", "test", 20.0)
    sequence, revoked = await two.revocations_after(0)
    assert {name for name, _ in revoked} == {"g0", *names}
    assert {ending for _, ending in revoked} == {Ending("revoked", "admin")}
    assert await two.revocations_after(sequence) == (sequence, ())


async def test_a_write_that_fails_leaves_nothing_and_the_store_goes_on(place: Place) -> None:
    store = StoredGrants(await place.open())
    assert await add(store, grant("g1")) == "added"
    with pytest.raises(StoreFailed, match="(?i)unique"):
        await add(store, grant("g1"))
    assert await add(store, grant("g2")) == "added"
    assert len(await store.grants_below(None)) == 2


async def test_hostile_ids_are_values_not_sql(place: Place) -> None:
    store = StoredGrants(await place.open())
    await add(store, grant("g1"))
    for hostile in ("x' OR '1'='1", "%s %(id)s", ":id", "\\'; DROP TABLE grants; --"):
        assert await store.grant_by_token(hostile) is None
        assert await store.revoke(hostile, hostile, hostile, 1.0) == ()
        assert await store.grants_below((hostile,)) == []
        assert not await store.renew_lease(hostile, 1.0, 1.0)
        assert await add(store, grant(hostile)) == "added"
        kept = await store.grant_by_id(hostile)
        assert kept is not None and kept.grant == grant(hostile)


async def test_a_parent_has_room_for_so_many_however_many_ask_at_once(place: Place) -> None:
    stores = [StoredGrants(await place.open()) for _ in range(3)]
    await add(stores[0], grant("top"))

    async def child(number: int) -> str:
        return await stores[number % 3].add_grant(
            grant(f"c{number}", "top"), f"s{number}", lease_until=None, now=10.0, max_children=7
        )

    answers = await asyncio.gather(*(child(number) for number in range(30)))
    assert sorted(answers) == ["added"] * 7 + ["too_many_children"] * 23


async def test_what_lapsed_is_revoked_and_what_expired_is_forgotten(place: Place) -> None:
    store = StoredGrants(await place.open())
    await add(store, grant("g1"), lease=20.0)
    await add(store, grant("g2", "g1"))
    await add(store, grant("g3"))
    assert await store.renew_lease("g1", 30.0, 15.0)
    assert await store.revoke_lapsed(25.0) == ()
    assert set(await store.revoke_lapsed(30.0)) == {"g1", "g2"}
    assert not await store.renew_lease("g1", 60.0, 31.0)
    assert await store.revoke("g3", "alice", "done", 31.0, "ended") == ("g3",)
    _, told = await store.revocations_after(0)
    lapsed, ended = Ending("lapsed", "gateway"), Ending("ended", "alice")
    assert sorted(told, key=lambda one: one[0]) == [("g1", lapsed), ("g2", lapsed), ("g3", ended)]
    kept = await store.grant_by_id("g3")
    assert kept is not None and (kept.ending, kept.ended_at) == (ended, 31.0)
    assert await store.forget_expired(100.0) == 0
    assert await store.forget_expired(101.0) == 3
    assert await store.revocations_after(0) == (0, ())


@pytest.mark.parametrize("seed", range(3))
async def test_no_interleaving_loses_a_revocation(place: Place, seed: int) -> None:
    """Minting and revoking at once, by several processes: below what is revoked nothing lives, and
    whoever follows the sequence meanwhile hears of each revocation."""
    choices = random.Random(seed)
    stores = [StoredGrants(await place.open()) for _ in range(3)]
    known = ["top"]
    await add(stores[0], grant("top"))
    heard: set[str] = set()
    done = asyncio.Event()

    async def follow(store: StoredGrants) -> set[str]:
        sequence, seen = 0, set[str]()
        while True:
            last = done.is_set()
            sequence, ended = await store.revocations_after(sequence)
            ids = [name for name, _ in ended]
            assert not seen & set(ids)
            seen |= set(ids)
            if last:
                return seen

    async def work(store: StoredGrants, worker: int) -> None:
        for step in range(25):
            await asyncio.sleep(choices.random() / 500)
            if choices.random() < 0.75:
                name, parent = f"{worker}-{step}", choices.choice(known)
                if await add(store, grant(name, parent)) == "added":
                    known.append(name)
            else:
                picked = choices.choice(known[1:] or ["none"])
                revoked = await store.revoke(picked, "admin", "test", 20.0)
                assert not heard & set(revoked)
                heard.update(revoked)

    followers = [asyncio.ensure_future(follow(store)) for store in stores]
    await asyncio.gather(*(work(stores[worker % 3], worker) for worker in range(6)))
    done.set()
    for follower in followers:
        assert await follower == heard
    dead = set[str]()
    for stored in await stores[0].grants_below(None):
        if stored.ending is not None:
            dead.add(stored.grant.id)
        assert (stored.grant.parent in dead) <= (stored.grant.id in dead)
    assert dead == heard


async def test_a_change_is_told_once_it_is_committed_and_not_before(place: Place) -> None:
    database = await place.open()
    store, told = StoredGrants(database), asyncio.Queue[str]()
    await add(store, grant("g1"))
    database.when_changed(told.put_nowait)
    with pytest.raises(StoreFailed):
        await database.write(_notify_and_fail)
    assert await store.revoke("g1", "admin", "test", 20.0)
    topics = [await asyncio.wait_for(told.get(), 10)]
    while topics[-1] not in ("revocations", ANYTHING):
        topics.append(await asyncio.wait_for(told.get(), 10))
    assert set(topics) <= {"revocations", ANYTHING}


def _notify_and_fail(connection: Connection) -> None:
    connection.notify("never")
    connection.execute("INSERT INTO grants (id) VALUES ('g1')")
