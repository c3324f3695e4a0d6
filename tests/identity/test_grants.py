# SPDX-License-Identifier: GPL-3.0-or-later
"""The tree of grants: what a child may never have, revocation, leases, limits."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.identity.authenticator import TokenAuthenticator
from gateway.identity.embedded_issuer import EmbeddedIssuer
from gateway.identity.grants import Grants, LimitReached, Limits, Minted
from gateway.identity.handles import new_handle
from gateway.identity.tree import grant_tree
from gateway.model import Grant, Hop, Identity, Refused
from gateway.store.grants import StoredGrants
from gateway.store.sqlite import SqliteDatabase
from tests.examples import examples

ALICE = Identity("corp", "alice", "Alice")


async def child(grants: Grants, parent: Grant, name: str = "a", **more: object) -> Minted:
    return await grants.mint_child(parent, Hop(name), **more)  # type: ignore[arg-type]


async def code_of(grants: Grants, minted: Minted) -> str:
    try:
        await grants.by_handle(minted.token)
    except Refused as refused:
        return refused.refusal.code
    return "live"


async def test_a_child_carries_its_origin_and_every_hop(grants: Grants) -> None:
    root = await grants.mint_root(ALICE, ("dba",), 600)
    one = await child(grants, root.grant, "lead")
    two = await child(grants, one.grant, "reader", narrowing={"scope": ["orders"]})
    found = await grants.by_handle(two.token)
    assert found == two.grant
    assert found.labels == ("Alice", "lead", "reader")
    assert [hop.grant for hop in found.chain] == [one.grant.id, two.grant.id]
    assert (found.parent, found.root) == (one.grant.id, root.grant.id)
    assert found.groups == ("dba",)
    assert found.narrowing == ({"scope": ["orders"]},)


async def test_revoking_the_middle_ends_what_is_below_and_nothing_else(grants: Grants) -> None:
    told: list[str] = []
    grants.on_revoked = lambda ids, ending: told.extend(ids)
    root = await grants.mint_root(ALICE, (), 600)
    middle = await child(grants, root.grant)
    leaf = await child(grants, middle.grant)
    sibling = await child(grants, root.grant, "b")
    revoked = await grants.revoke(middle.grant.id, "Alice", "test")
    assert set(revoked) == set(told) == {middle.grant.id, leaf.grant.id}
    codes = [await code_of(grants, minted) for minted in (root, middle, leaf, sibling)]
    assert codes == ["live", "revoked", "revoked", "live"]
    assert await grants.revoke(middle.grant.id, "Alice", "again") == ()
    with pytest.raises(Refused):
        await child(grants, middle.grant)


async def test_another_process_hears_of_a_revocation(grants: Grants, tmp_path: Path) -> None:
    root = await grants.mint_root(ALICE, (), 600)
    told: list[str] = []
    store = await SqliteDatabase.open(tmp_path / "store.db")
    elsewhere = Grants(StoredGrants(store), on_revoked=lambda ids, ending: told.extend(ids))
    await elsewhere.start()
    await grants.revoke(root.grant.id, "admin", "test")
    await elsewhere.sweep()
    assert told == [root.grant.id]
    await elsewhere.sweep()
    assert told == [root.grant.id]
    await store.close()


async def test_ones_own_revocation_is_told_once(grants: Grants) -> None:
    told: list[str] = []
    grants.on_revoked = lambda ids, ending: told.extend(ids)
    root = await grants.mint_root(ALICE, (), 600)
    await grants.revoke(root.grant.id, "admin", "test")
    await grants.sweep()
    assert told == [root.grant.id]


async def test_a_lease_that_lapses_ends_the_subtree_and_one_renewed_does_not(
    grants: Grants, clock: object
) -> None:
    told: list[str] = []
    grants.on_revoked = lambda ids, ending: told.extend(ids)
    root = await grants.mint_root(ALICE, (), 6000)
    leased = await child(grants, root.grant, lease=60.0)
    below = await child(grants, leased.grant)
    clock.ahead = 50  # type: ignore[attr-defined]
    assert await grants.renew_lease(leased.grant.id, 60) is not None
    clock.ahead = 100  # type: ignore[attr-defined]
    await grants.sweep()
    assert await code_of(grants, below) == "live"
    clock.ahead = 111  # type: ignore[attr-defined]
    # Even before the sweep: the whole path's leases count.
    assert await code_of(grants, below) == "revoked"
    with pytest.raises(Refused):
        await child(grants, below.grant)
    assert await grants.renew_lease(leased.grant.id, 60) is None
    await grants.sweep()
    assert set(told) == {leased.grant.id, below.grant.id}
    clock.ahead = 0  # type: ignore[attr-defined]
    # A clock that goes back brings nothing back.
    assert await code_of(grants, leased) == "revoked"
    assert await code_of(grants, root) == "live"


async def test_a_lease_that_lapsed_while_nobody_ran_ends_at_the_start(
    grants: Grants, clock: object
) -> None:
    root = await grants.mint_root(ALICE, (), 6000)
    leased = await child(grants, root.grant, lease=60.0)
    clock.ahead = 61  # type: ignore[attr-defined]
    await Grants(grants.store, now=grants.now).start()
    clock.ahead = 0  # type: ignore[attr-defined]
    assert await code_of(grants, leased) == "revoked"


async def test_an_expired_grant_is_refused_to_the_second(grants: Grants, clock: object) -> None:
    root = await grants.mint_root(ALICE, (), 600)
    clock.ahead = 600  # type: ignore[attr-defined]
    assert await code_of(grants, root) == "expired"


async def test_a_chain_has_eight_actors_and_no_more(grants: Grants) -> None:
    at = (await grants.mint_root(ALICE, (), 600)).grant
    for n in range(8):
        at = (await child(grants, at, f"a{n}")).grant
    with pytest.raises(LimitReached, match="8 actors"):
        await child(grants, at)


async def test_fan_out_counts_live_children_even_when_they_come_at_once(
    grants: Grants,
) -> None:
    few = Grants(grants.store, now=grants.now, limits=Limits(children=5))
    root = (await few.mint_root(ALICE, (), 600)).grant
    answers = await asyncio.gather(
        *(child(few, root, f"a{n}") for n in range(20)), return_exceptions=True
    )
    born = [answer for answer in answers if isinstance(answer, Minted)]
    assert len(born) == 5
    assert sum(isinstance(answer, LimitReached) for answer in answers) == 15
    await few.revoke(born[0].grant.id, "admin", "room")
    assert await child(few, root, "next")


async def test_a_thousand_logins_with_one_token_make_one_grant(
    authenticator: TokenAuthenticator, provider: EmbeddedIssuer, grants: Grants
) -> None:
    token = provider.sign("alice")
    logins = await asyncio.gather(*(authenticator.login(token) for _ in range(1000)))
    assert len({grant.id for grant in logins}) == 1
    assert len(await grants.store.grants_below(None)) == 1


async def test_a_revoked_login_stays_out_with_the_same_token(
    authenticator: TokenAuthenticator, provider: EmbeddedIssuer, grants: Grants
) -> None:
    token = provider.sign("alice")
    grant = await authenticator.login(token)
    await grants.revoke(grant.id, "admin", "test")
    with pytest.raises(Refused) as refused:
        await authenticator.login(token)
    assert refused.value.refusal.code == "revoked"
    assert (await authenticator.login(provider.sign("alice"))).id != grant.id


async def test_guessed_and_mistyped_handles_are_bad_tokens(
    authenticator: TokenAuthenticator,
) -> None:
    for token in (new_handle(), "tg_", "tg_" + "A" * 49, "", "hunter2", "a.b.c", "\ud800.x.y"):
        with pytest.raises(Refused) as refused:
            await authenticator.login(token)
        assert refused.value.refusal.code == "bad_token"


async def test_a_store_that_fails_lets_nobody_in(
    authenticator: TokenAuthenticator, grants: Grants
) -> None:
    minted = await grants.mint_root(ALICE, (), 600)
    await grants.store._database.close()  # type: ignore[attr-defined]
    with pytest.raises(Refused) as refused:
        await authenticator.login(minted.token)
    assert refused.value.refusal.kind == "unavailable"
    assert minted.token not in str(refused.value)


def all_bytes(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.glob("store.db*"))


async def test_no_token_and_no_handle_is_in_the_database_file(
    authenticator: TokenAuthenticator, provider: EmbeddedIssuer, grants: Grants, tmp_path: Path
) -> None:
    token = provider.sign("alice")
    login = await authenticator.login(token)
    minted = await child(grants, login)
    kept = all_bytes(tmp_path)
    assert minted.grant.id.encode() in kept
    for secret in (token, token.rpartition(".")[2], minted.token, minted.token[3:46]):
        assert secret.encode() not in kept
    assert minted.token not in repr(minted)


async def test_who_stands_above_whom(grants: Grants) -> None:
    root = (await grants.mint_root(ALICE, (), 600)).grant
    one = (await child(grants, root)).grant
    two = (await child(grants, one)).grant
    other_login = (await grants.mint_root(Identity("corp", "alice", "x"), (), 600)).grant
    stranger = (await grants.mint_root(Identity("corp2", "alice", "Alice"), (), 600)).grant
    assert await grants.governs(root, two.id) and await grants.governs(one, two.id)
    assert await grants.governs(other_login, two.id)
    assert not await grants.governs(two, one.id)
    assert not await grants.governs(two, two.id)
    assert await grants.governs(two, two.id, itself=True)
    assert not await grants.governs(stranger, two.id)
    assert not await grants.governs(root, "g_nothing")


async def test_the_tree_nests_and_shows_only_ones_own(grants: Grants) -> None:
    root = (await grants.mint_root(ALICE, (), 600)).grant
    one = (await child(grants, root)).grant
    two = (await child(grants, one)).grant
    await grants.mint_root(Identity("corp", "bob"), (), 600)
    (top,) = grant_tree(await grants.visible(root), grants.now())
    assert top["children"][0]["children"][0]["grant"] == two.id
    (own,) = grant_tree(await grants.visible(one), grants.now())
    assert (own["grant"], own["state"]) == (one.id, "live")
    assert len(grant_tree(await grants.visible(None), grants.now())) == 2


async def test_expired_grants_are_forgotten_in_time(grants: Grants, clock: object) -> None:
    root = (await grants.mint_root(ALICE, (), 600)).grant
    await child(grants, root)
    keeper = (await grants.mint_root(ALICE, (), 9000)).grant
    assert await grants.store.forget_expired(grants.now() + 700) == 2
    assert [stored.grant.id for stored in await grants.store.grants_below(None)] == [keeper.id]


Step = tuple[int, float, bool]
STEPS = st.lists(
    st.tuples(st.integers(0, 30), st.floats(1, 5000), st.booleans()), min_size=1, max_size=25
)


async def grown(store: SqliteDatabase, steps: Sequence[Step]) -> tuple[Grants, list[Grant]]:
    grants = Grants(StoredGrants(store), now=lambda: 1000.0)
    tree = [(await grants.mint_root(ALICE, ("dba",), 2000)).grant]
    for place, expires_at, narrow in steps:
        parent = tree[place % len(tree)]
        if len(parent.chain) < 8:
            narrowing = {"scope": [f"t{len(tree)}"]} if narrow else None
            minted = await child(
                grants, parent, narrowing=narrowing, expires_at=1000.0 + expires_at
            )
            tree.append(minted.grant)
    return grants, tree


@settings(max_examples=examples(25), deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=STEPS, victim=st.integers(0, 30))
def test_no_child_has_more_or_lives_longer_than_its_parent(
    steps: list[Step], victim: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    async def scenario() -> None:
        store = await SqliteDatabase.open(tmp_path_factory.mktemp("tree") / "store.db")
        try:
            grants, tree = await grown(store, steps)
            by_id = {grant.id: grant for grant in tree}
            for grant in tree[1:]:
                parent = by_id[grant.parent or ""]
                assert grant.expires_at <= parent.expires_at
                assert grant.narrowing[: len(parent.narrowing)] == parent.narrowing
                assert grant.chain[:-1] == parent.chain
                assert grant.origin == parent.origin and grant.groups == parent.groups
            top = tree[victim % len(tree)]
            below = {g.id for g in tree if top.id in (g.id, g.root, *(h.grant for h in g.chain))}
            assert set(await grants.revoke(top.id, "admin", "test")) == below
        finally:
            await store.close()

    asyncio.run(scenario())


async def test_children_born_while_their_parent_is_revoked_are_dead_or_refused(
    grants: Grants,
) -> None:
    root = (await grants.mint_root(ALICE, (), 600)).grant
    middle = (await child(grants, root)).grant
    births = [child(grants, middle, f"a{n}") for n in range(30)]
    work = [*births, grants.revoke(middle.id, "admin", "test")]
    random.Random(7).shuffle(work)
    answers = await asyncio.gather(*work, return_exceptions=True)
    born = [answer for answer in answers if isinstance(answer, Minted)]
    assert {await code_of(grants, minted) for minted in born} <= {"revoked"}
