# SPDX-License-Identifier: GPL-3.0-or-later
"""The token exchange: forms, attenuation, proved actors, and a hundred forged requests."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.identity.authenticator import TokenAuthenticator
from gateway.identity.delegation import (
    ACCESS_TOKEN,
    GRANT_TYPE,
    ExchangeError,
    TokenExchange,
    parse_details,
    parse_request,
)
from gateway.identity.embedded_issuer import EmbeddedIssuer
from gateway.identity.grants import Grants
from gateway.identity.handles import new_handle
from gateway.identity.oidc import Issuers
from gateway.model import Identity

ENDPOINT = "https://gateway.example/oauth/token"


@pytest.fixture
def exchange(authenticator: TokenAuthenticator, issuers: Issuers, grants: Grants) -> TokenExchange:
    return TokenExchange(authenticator, issuers, grants, audience=ENDPOINT)


def form(token: str, **more: str) -> dict[str, str]:
    return {
        "grant_type": GRANT_TYPE,
        "subject_token": token,
        "subject_token_type": ACCESS_TOKEN,
        "agent_name": "reader",
        **more,
    }


async def error_of(exchange: TokenExchange, request: dict[str, str]) -> ExchangeError:
    with pytest.raises(ExchangeError) as error:
        await exchange.exchange(request)
    return error.value


async def test_an_issuers_token_is_exchanged_and_its_child_again(
    exchange: TokenExchange, provider: EmbeddedIssuer, grants: Grants
) -> None:
    details = [{"type": "trailgate", "targets": ["orders"], "sql": {"kinds": ["read"]}}]
    first = await exchange.exchange(
        form(provider.sign("alice"), agent_name="lead", scope="orders web")
    )
    second = await exchange.exchange(
        form(first.token, authorization_details=json.dumps(details), expires_in="60")
    )
    assert second.grant.labels == ("alice", "lead", "reader")
    assert second.grant.narrowing == (
        {"scope": ["orders", "web"]},
        {"authorization_details": details},
    )
    assert second.grant.expires_at <= grants.now() + 60
    assert [hop.proved for hop in second.grant.chain] == [False, False]


async def test_absent_narrows_nothing_and_empty_leaves_nothing(
    exchange: TokenExchange, provider: EmbeddedIssuer
) -> None:
    token = provider.sign("alice")
    assert (await exchange.exchange(form(token))).grant.narrowing == ()
    empty = await exchange.exchange(form(token, authorization_details="[]", scope=""))
    assert empty.grant.narrowing == ({"authorization_details": [], "scope": []},)


async def test_a_longer_life_than_the_parents_is_cut(
    exchange: TokenExchange, provider: EmbeddedIssuer
) -> None:
    parent = await exchange.exchange(form(provider.sign("alice"), expires_in="100"))
    child = await exchange.exchange(form(parent.token, expires_in="99999"))
    assert child.grant.expires_at == parent.grant.expires_at


async def test_an_actor_token_proves_the_hop_and_bounds_its_life(
    exchange: TokenExchange, provider: EmbeddedIssuer
) -> None:
    actor = provider.sign("ci-job", audience=ENDPOINT, lifetime=30, claims={"groups": ["ci"]})
    minted = await exchange.exchange(
        form(provider.sign("alice"), actor_token=actor, actor_token_type=ACCESS_TOKEN)
    )
    (hop,) = minted.grant.chain
    assert hop.proved and hop.identity == Identity(provider.url, "ci-job")
    assert minted.grant.actor_groups == ("ci",)
    assert minted.grant.groups == ()
    assert minted.grant.expires_at - minted.grant.issued_at < 100
    assert actor not in repr(minted.grant)


async def test_an_actor_token_for_the_gateway_itself_proves_nothing(
    exchange: TokenExchange, provider: EmbeddedIssuer
) -> None:
    request = form(
        provider.sign("alice"),
        actor_token=provider.sign("ci-job"),
        actor_token_type=ACCESS_TOKEN,
    )
    assert "audience" in (await error_of(exchange, request)).description
    request = form(provider.sign("ci-job", audience=ENDPOINT))
    assert "audience" in (await error_of(exchange, request)).description


async def test_may_act_names_the_only_actor(
    exchange: TokenExchange, provider: EmbeddedIssuer
) -> None:
    token = provider.sign("alice", claims={"may_act": {"sub": "ci-job"}})
    good = provider.sign("ci-job", audience=ENDPOINT)
    other = provider.sign("mallory", audience=ENDPOINT)
    assert "may_act" in (await error_of(exchange, form(token))).description
    request = form(token, actor_token=other, actor_token_type=ACCESS_TOKEN)
    assert "may_act" in (await error_of(exchange, request)).description
    request = form(token, actor_token=good, actor_token_type=ACCESS_TOKEN)
    assert (await exchange.exchange(request)).grant.chain[0].proved


async def test_an_outside_act_chain_is_kept_and_adds_no_hop(
    exchange: TokenExchange, provider: EmbeddedIssuer
) -> None:
    token = provider.sign("alice", claims={"act": {"sub": "broker"}})
    grant = (await exchange.exchange(form(token))).grant
    assert grant.login["act"] == {"sub": "broker"}
    assert grant.labels == ("alice", "reader")


async def test_policy_may_complain_of_selectors(
    authenticator: TokenAuthenticator, issuers: Issuers, grants: Grants, provider: EmbeddedIssuer
) -> None:
    picky = TokenExchange(
        authenticator, issuers, grants, audience=ENDPOINT, check_details=lambda d: "no such kind"
    )
    request = form(provider.sign("alice"), authorization_details='[{"type": "trailgate"}]')
    error = await error_of(picky, request)
    assert (error.code, error.description) == ("invalid_authorization_details", "no such kind")


BAD_FORMS = [
    ({"grant_type": "client_credentials"}, "unsupported_grant_type"),
    ({"subject_token": ""}, "invalid_request"),
    ({"subject_token_type": "urn:ietf:params:oauth:token-type:saml2"}, "invalid_request"),
    ({"requested_token_type": "urn:x"}, "invalid_request"),
    ({"agent_name": "Reader"}, "invalid_request"),
    ({"agent_name": ""}, "invalid_request"),
    ({"agent_name": "a\n"}, "invalid_request"),
    ({"agent_name": "a" * 65}, "invalid_request"),
    ({"actor_token": "x"}, "invalid_request"),
    ({"actor_token_type": ACCESS_TOKEN}, "invalid_request"),
    ({"expires_in": "-1"}, "invalid_request"),
    ({"expires_in": "nan"}, "invalid_request"),
    ({"expires_in": "inf"}, "invalid_request"),
    ({"lease": "soon"}, "invalid_request"),
    ({"scope": "a;b"}, "invalid_scope"),
    ({"authorization_details": "{}"}, "invalid_authorization_details"),
    ({"authorization_details": "nope"}, "invalid_authorization_details"),
    ({"authorization_details": "[" * 15_000}, "invalid_authorization_details"),
    ({"authorization_details": '[{"type": "other"}]'}, "invalid_authorization_details"),
    ({"authorization_details": '[{"type": "trailgate", "targets": "x"}]'}, "invalid_auth"),
    ({"authorization_details": '[{"type": "trailgate", "sql": true}]'}, "invalid_auth"),
    ({"authorization_details": '[{"type":"trailgate","sql":{"n":NaN}}]'}, "invalid_auth"),
    ({"authorization_details": "[" + " " * 20_000 + "]"}, "invalid_auth"),
]


@pytest.mark.parametrize(("change", "code"), BAD_FORMS)
def test_a_wrong_form_is_refused_by_its_part(change: dict[str, str], code: str) -> None:
    with pytest.raises(ExchangeError) as error:
        parse_request(form("tg_x", **change))
    assert error.value.code.startswith(code)


@given(st.text(max_size=200))
def test_details_parse_or_complain_and_nothing_else(text: str) -> None:
    try:
        assert isinstance(parse_details(text), list)
    except ExchangeError as error:
        assert error.code == "invalid_authorization_details"


async def test_two_hundred_forged_exchanges_mint_nothing(
    exchange: TokenExchange, provider: EmbeddedIssuer, grants: Grants
) -> None:
    root = await grants.mint_root(Identity("corp", "alice"), (), 600)
    dead = await grants.mint_root(Identity("corp", "bob"), (), 600)
    await grants.revoke(dead.grant.id, "admin", "test")
    stranger = EmbeddedIssuer(provider.url)
    chance = random.Random(11)
    before = len(await grants.store.grants_below(None))
    for n in range(200):
        place = chance.randrange(3, len(root.token))
        other = "A" if root.token[place] != "A" else "B"
        forged = [
            new_handle(),
            root.token[:place] + other + root.token[place + 1 :],
            dead.token,
            stranger.sign("alice"),
            provider.sign("alice", audience="other"),
            provider.sign("alice", lifetime=-1000),
            root.grant.id,
            root.grant.login["token_sha256"],
        ][n % 8]
        error = await error_of(exchange, form(str(forged)))
        assert error.code == "invalid_request"
        assert str(forged) not in str(error) + error.description
    assert len(await grants.store.grants_below(None)) == before
