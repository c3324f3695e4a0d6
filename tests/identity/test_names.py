# SPDX-License-Identifier: GPL-3.0-or-later
"""Declared names: an agent or person object names its identity, and nobody else may have it."""

from __future__ import annotations

import asyncio

import pytest

from gateway.identity.authenticator import TokenAuthenticator
from gateway.identity.delegation import ACCESS_TOKEN, GRANT_TYPE, ExchangeError, TokenExchange
from gateway.identity.embedded_issuer import EmbeddedIssuer
from gateway.identity.grants import Grants
from gateway.identity.names import Names
from gateway.identity.oidc import Issuer, Issuers
from gateway.model import Refused, StoredGrant

ENDPOINT = "https://gateway.example/oauth/token"


@pytest.fixture
def named(provider: EmbeddedIssuer) -> Issuers:
    declared = {(provider.url, "job-7"): "reader", (provider.url, "00u1"): "alice"}
    return Issuers([Issuer("corp", provider.url, "trailgate")], names=Names(declared))


@pytest.fixture
def exchange(named: Issuers, grants: Grants) -> TokenExchange:
    return TokenExchange(TokenAuthenticator(named, grants), named, grants, audience=ENDPOINT)


def form(provider: EmbeddedIssuer, actor: str, **more: str) -> dict[str, str]:
    return {
        "grant_type": GRANT_TYPE,
        "subject_token": provider.sign("00u1", claims={"name": "Alice A."}),
        "subject_token_type": ACCESS_TOKEN,
        "actor_token": provider.sign(actor, audience=ENDPOINT),
        "actor_token_type": ACCESS_TOKEN,
        **more,
    }


async def test_a_declared_person_has_its_objects_name(
    named: Issuers, provider: EmbeddedIssuer
) -> None:
    proof = await named.verify(provider.sign("00u1", claims={"name": "Somebody Else"}))
    assert (proof.identity.label, proof.declared) == ("alice", "alice")


@pytest.mark.parametrize(
    ("subject", "claimed", "shown"),
    [
        ("00u2", "alice", "00u2"),
        ("00u2", "Bob", "Bob"),
        ("alice", "", "corp:alice"),
        ("reader", "alice", "corp:reader"),
    ],
)
async def test_no_token_can_claim_a_declared_name(
    named: Issuers, provider: EmbeddedIssuer, subject: str, claimed: str, shown: str
) -> None:
    proof = await named.verify(provider.sign(subject, claims={"name": claimed}))
    assert (proof.identity.label, proof.declared) == (shown, "")


async def test_a_proved_hop_has_its_agents_name(
    exchange: TokenExchange, provider: EmbeddedIssuer
) -> None:
    for more in ({}, {"agent_name": "reader"}):
        (hop,) = (await exchange.exchange(form(provider, "job-7", **more))).grant.chain
        assert (hop.name, hop.proved) == ("reader", True)
        assert hop.identity is not None and hop.identity.subject == "job-7"


@pytest.mark.parametrize(("actor", "name"), [("job-7", "writer"), ("job-8", "reader")])
async def test_a_parent_cannot_call_a_proved_actor_by_anothers_name(
    exchange: TokenExchange, provider: EmbeddedIssuer, actor: str, name: str
) -> None:
    with pytest.raises(ExchangeError, match="agent_name") as error:
        await exchange.exchange(form(provider, actor, agent_name=name))
    assert error.value.code == "invalid_request"


async def test_an_undeclared_actor_keeps_the_name_it_was_given(
    exchange: TokenExchange, provider: EmbeddedIssuer
) -> None:
    minted = await exchange.exchange(form(provider, "job-8", agent_name="loader"))
    assert minted.grant.labels == ("alice", "loader")


async def test_each_proved_actors_login_is_kept(
    exchange: TokenExchange, provider: EmbeddedIssuer
) -> None:
    first = await exchange.exchange(form(provider, "job-7"))
    below = {**form(provider, "job-8"), "subject_token": first.token}
    second = await exchange.exchange(below)
    actors = second.grant.login["actors"]
    assert isinstance(actors, list)
    assert [one["grant"] for one in actors] == [first.grant.id, second.grant.id]
    assert actors[0]["token_sha256"] != actors[1]["token_sha256"]


async def test_names_are_replaced_with_the_issuers(
    named: Issuers, provider: EmbeddedIssuer
) -> None:
    issuer = Issuer("corp", provider.url, "trailgate")
    await named.replace([issuer], Names({(provider.url, "00u1"): "bob"}))
    assert (await named.verify(provider.sign("00u1"))).identity.label == "bob"


async def test_a_login_read_before_a_revocation_and_told_after_it_is_refused(
    exchange: TokenExchange, provider: EmbeddedIssuer, grants: Grants
) -> None:
    """The store answered `live`; the revocation was announced before the answer was used."""
    minted = await exchange.exchange(form(provider, "job-7"))
    read: StoredGrant | None = await grants.store.grant_by_id(minted.grant.id)
    assert read is not None and read.ending is None
    await asyncio.create_task(grants.revoke(minted.grant.id, "admin", "test"))  # type: ignore[arg-type]
    with pytest.raises(Refused) as refused:
        grants.in_force(read)
    assert refused.value.refusal.code == "revoked"
