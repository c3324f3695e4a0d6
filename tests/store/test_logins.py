# SPDX-License-Identifier: GPL-3.0-or-later
"""Logins under way, assertions seen once, and logins to confirm, on both databases."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from gateway.model import PendingLogin, StoredRefresh
from gateway.store.grants import StoredGrants
from gateway.store.logins import StoredLogins
from tests.store.conftest import Place
from tests.store.grant_samples import add, grant

BASE = PendingLogin("l1", "loopback", "away", {"a": 1}, 100.0, "192.0.2.1", "t1", "o1")


async def both(place: Place) -> tuple[StoredLogins, StoredGrants]:
    database = await place.open()
    return StoredLogins(database), StoredGrants(database)


async def begin(logins: StoredLogins, login: PendingLogin, **caps: Any) -> bool:
    return await logins.begin(login, **{"cap": 100, "cap_of_client": 100, **caps})


async def test_a_login_is_found_by_each_of_its_secrets_on_any_node(place: Place) -> None:
    here, _ = await both(place)
    there, _ = await both(place)
    device = replace(BASE, id="l2", kind="device", ticket_sha256=None, outside_sha256=None)
    device = replace(device, code_sha256="c2", user_code_sha256="u2")
    assert await begin(here, BASE) and await begin(here, device)
    assert await there.login_by("ticket_sha256", "t1") == BASE
    assert await there.login_by("outside_sha256", "o1") == BASE
    assert await there.login_by("code_sha256", "c2") == device
    assert await there.login_by("user_code_sha256", "u2") == device
    assert await there.login_by("code_sha256", "x' OR '1'='1") is None


async def test_only_one_of_many_moves_a_login_out_of_a_phase(place: Place) -> None:
    nodes = [(await both(place))[0] for _ in range(3)]
    await begin(nodes[0], BASE)
    moved = replace(BASE, phase="proved", document={"b": 2}, code_sha256="c")
    done = await asyncio.gather(*(node.move(moved, old=("away", "asked")) for node in nodes * 4))
    assert done.count(True) == 1
    assert await nodes[1].login_by("code_sha256", "c") == moved


async def test_logins_are_capped_in_all_and_by_client(place: Place) -> None:
    logins, _ = await both(place)
    for number in range(3):
        one = replace(BASE, id=f"n{number}", ticket_sha256=f"t{number}", outside_sha256=None)
        assert await begin(logins, one, cap_of_client=3)
    again = replace(BASE, id="n3", ticket_sha256="t3", outside_sha256=None)
    assert not await begin(logins, again, cap_of_client=3)
    assert not await begin(logins, replace(again, client="192.0.2.2"), cap=3)
    assert await begin(logins, replace(again, client="192.0.2.2"), cap_of_client=3)


async def test_an_assertion_is_used_once_on_all_nodes(place: Place) -> None:
    nodes = [(await both(place))[0] for _ in range(3)]
    uses = await asyncio.gather(*(node.first_use("idp", "a", 50.0) for node in nodes * 4))
    assert uses.count("first") == 1 and uses.count("again") == 11
    assert await nodes[0].first_use("other idp", "a", 50.0) == "first"
    assert await nodes[0].first_use("idp", "b", 500.0) == "first"


async def test_assertions_are_capped_and_none_is_forgotten_for_another(place: Place) -> None:
    logins, _ = await both(place)
    for name, use in (("a", "first"), ("b", "first"), ("c", "full"), ("a", "again")):
        assert await logins.first_use("idp", name, 50.0, most=2) == use
    assert await logins.first_use("other idp", "c", 50.0, most=2) == "first"
    await logins.forget_before(51.0)
    assert await logins.first_use("idp", "c", 90.0, most=2) == "first"


async def test_what_is_over_is_forgotten_and_nothing_else(place: Place) -> None:
    logins, _ = await both(place)
    await begin(logins, BASE)
    await begin(
        logins, replace(BASE, id="l2", ticket_sha256="t2", outside_sha256=None, expires_at=900.0)
    )
    await logins.first_use("idp", "a", 50.0)
    await logins.first_use("idp", "b", 900.0)
    await logins.forget_before(200.0)
    await logins.forget_before(200.0)
    assert await logins.login_by("ticket_sha256", "t1") is None
    assert await logins.login_by("ticket_sha256", "t2") is not None
    assert await logins.first_use("idp", "a", 50.0) == "first"
    assert await logins.first_use("idp", "b", 900.0) == "again"


async def test_one_node_confirms_a_login_at_a_time(place: Place) -> None:
    (here, grants), (there, _) = await both(place), await both(place)
    await add(grants, grant("g1"))
    kept = StoredRefresh("g1", "corp", b"\x00sealed\xff", 10.0, 20.0)
    await here.keep_refresh(kept)
    assert await here.due_refreshes(9.0) == []
    assert await there.due_refreshes(10.0) == [kept]
    claims = await asyncio.gather(
        *(one.claim_refresh(kept, 10.0, 15.0) for one in (here, there) * 3)
    )
    assert claims.count(True) == 1
    assert await there.due_refreshes(14.0) == []
    assert await there.due_refreshes(15.0) == [kept], "a node that died lets go"
    confirmed = replace(kept, sealed=b"next", next_at=30.0, good_until=40.0)
    await here.put_refresh(confirmed)
    assert not await there.claim_refresh(kept, 31.0, 35.0), "it has been asked meanwhile"
    assert await there.due_refreshes(31.0) == [confirmed]


async def test_a_tree_that_is_not_confirmed_is_suspended_until_it_is(place: Place) -> None:
    logins, grants = await both(place)
    await add(grants, grant("g1"))
    await add(grants, grant("g2", parent="g1"))
    await add(grants, grant("h1"))
    await logins.keep_refresh(StoredRefresh("g1", "corp", b"s", 10.0, 20.0))
    assert await logins.unconfirmed(19.0) == ()
    assert sorted(await logins.unconfirmed(20.0)) == ["g1", "g2"]
    for known in ("g1", "g2"):
        stored = await grants.grant_by_id(known)
        assert stored is not None and stored.good_until == 20.0
    alone = await grants.grant_by_id("h1")
    assert alone is not None and alone.good_until is None
    late = grant("g3", parent="g1")
    added = await grants.add_grant(late, "t3", lease_until=None, now=21.0, max_children=64)
    assert added == "dead_parent"
    await logins.put_refresh(StoredRefresh("g1", "corp", b"s", 30.0, 40.0))
    assert await logins.unconfirmed(21.0) == ()
    added = await grants.add_grant(late, "t3", lease_until=None, now=21.0, max_children=64)
    assert added == "added"
    await grants.revoke("g1", "x", "x", 22.0)
    assert await logins.unconfirmed(50.0) == ()
    assert await logins.due_refreshes(50.0) == []


async def test_refresh_tokens_go_with_their_grants(place: Place) -> None:
    logins, grants = await both(place)
    await add(grants, grant("g1"))
    await add(grants, grant("h1"))
    await logins.keep_refresh(StoredRefresh("g1", "corp", b"s", 10.0, 20.0))
    await logins.keep_refresh(StoredRefresh("h1", "corp", b"s", 10.0, 20.0))
    await logins.drop_refresh("h1")
    assert [one.grant_id for one in await logins.due_refreshes(10.0)] == ["g1"]
    await grants.revoke("g1", "x", "x", 11.0)
    await logins.forget_before(11.0)
    (row,) = await place.open_ones[0].read(
        lambda connection: connection.execute("SELECT count(*) AS kept FROM refreshes")
    )
    assert row["kept"] == 0
    await add(grants, grant("i1"))
    await logins.keep_refresh(StoredRefresh("i1", "corp", b"s", 10.0, 20.0))
    await grants.forget_expired(1e12)
    await add(grants, grant("g1"))
    assert await logins.due_refreshes(10.0) == []
