# SPDX-License-Identifier: GPL-3.0-or-later
"""Chains that nobody was given: forged, spliced, reordered, cyclic, truncated, expired."""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
import pytest

from gateway.identity.authenticator import TokenAuthenticator
from gateway.identity.delegation import (
    ACCESS_TOKEN,
    GRANT_TYPE,
    JWT,
    ExchangeError,
    TokenExchange,
)
from gateway.identity.embedded_issuer import EmbeddedIssuer
from gateway.identity.grants import Grants, Minted
from gateway.identity.oidc import Issuers
from gateway.identity.own_jwt import OwnJwts
from gateway.identity.signing import KeyFile, SigningKeys
from gateway.model import Refused

ENDPOINT = "https://gateway.example/oauth/token"


@dataclass
class Family:
    """alice - lead - reader - deep and alice - writer; bob - other; all of them in force."""

    exchange: TokenExchange
    login: Callable[[str], Any]
    provider: EmbeddedIssuer
    path: Path
    by_name: dict[str, Minted]

    def id(self, name: str) -> str:
        return self.by_name[name].grant.id

    def token(self, name: str) -> str:
        return self.by_name[name].token

    def change(self, name: str, **columns: Any) -> None:
        """Change a row behind the gateway's back."""
        with sqlite3.connect(self.path) as database:
            for column, value in columns.items():
                database.execute(
                    f"UPDATE grants SET {column} = ? WHERE id = ?", (value, self.id(name))
                )
        database.close()

    def chain(self, name: str) -> list[dict[str, Any]]:
        with sqlite3.connect(self.path) as database:
            (text,) = database.execute(
                "SELECT chain FROM grants WHERE id = ?", (self.id(name),)
            ).fetchone()
        database.close()
        return list(json.loads(text))


def form(token: str, **more: str) -> dict[str, str]:
    return {
        "grant_type": GRANT_TYPE,
        "subject_token": token,
        "subject_token_type": ACCESS_TOKEN,
        "agent_name": "reader",
        **more,
    }


@pytest.fixture
async def family(
    authenticator: TokenAuthenticator,
    issuers: Issuers,
    grants: Grants,
    provider: EmbeddedIssuer,
    tmp_path: Path,
) -> Family:
    keys = await SigningKeys.open(KeyFile(tmp_path / "keys.json"))
    jwts = OwnJwts(keys, "https://gateway.example")
    exchange = TokenExchange(authenticator, issuers, grants, audience=ENDPOINT, jwts=jwts)
    made: dict[str, Minted] = {}

    async def child(parent: str, name: str, **more: str) -> None:
        made[name] = await exchange.exchange(form(parent, agent_name=name, **more))

    alice, bob = provider.sign("alice", lifetime=900), provider.sign("bob")
    await child(alice, "lead", scope="orders")
    await child(made["lead"].token, "reader")
    await child(made["reader"].token, "deep", requested_token_type=JWT)
    await child(alice, "writer")
    await child(bob, "other")
    return Family(exchange, authenticator.login, provider, tmp_path / "store.db", made)


async def refused(family: Family, token: str) -> set[str]:
    """The reasons with which it is refused, as a login and in an exchange."""
    with pytest.raises(Refused) as login:
        await family.login(token)
    with pytest.raises(ExchangeError) as exchange:
        await family.exchange.exchange(form(token))
    assert token not in str(login.value) + str(exchange.value)
    reasons = {login.value.refusal.reason, exchange.value.description}
    assert all(reasons)
    return reasons


# --- rows that were changed ---------------------------------------------------------------------


def rows(family: Family) -> Iterator[tuple[str, str, dict[str, Any], str]]:
    """What is done, to which grant, how, and what it is called."""
    reader, deep = family.chain("reader"), family.chain("deep")
    writer, other = family.chain("writer"), family.chain("other")
    order = "name its ancestors in their order"
    step = "another chain than its parent"
    yield "truncated", "deep", {"chain": json.dumps(deep[:-1])}, order
    yield "beheaded", "deep", {"chain": json.dumps(deep[1:])}, order
    yield "emptied", "deep", {"chain": "[]"}, order
    yield "gutted", "deep", {"chain": json.dumps([deep[0], deep[2]])}, order
    yield "reordered", "deep", {"chain": json.dumps([deep[1], deep[0], deep[2]])}, step
    yield "reversed", "deep", {"chain": json.dumps(deep[::-1])}, step
    yield "doubled", "deep", {"chain": json.dumps([*deep[:2], deep[1]])}, "twice"
    yield "cyclic", "deep", {"chain": json.dumps([*deep, deep[0]])}, "twice"
    yield "lengthened", "deep", {"chain": json.dumps([*deep, writer[0]])}, order
    yield "spliced", "deep", {"chain": json.dumps([other[0], *deep[1:]])}, step
    yield "spliced in", "reader", {"chain": json.dumps([writer[0], reader[1]])}, step
    yield "regrafted", "reader", {"parent": family.id("other")}, "another origin"
    yield "moved up", "reader", {"parent": family.by_name["lead"].grant.parent}, order
    yield "moved aside", "reader", {"parent": family.id("writer")}, step
    yield "orphaned", "reader", {"parent": None}, order
    yield "its own parent", "reader", {"parent": family.id("reader")}, "twice"
    yield "a ring", "lead", {"parent": family.id("deep")}, "twice"
    yield (
        "renamed hop",
        "deep",
        {"chain": json.dumps([{**deep[0], "name": "root"}, *deep[1:]])},
        step,
    )
    proved = [{**deep[0], "proved": True}, *deep[1:]]
    yield "proved hop", "deep", {"chain": json.dumps(proved)}, step
    grouped = [{**deep[0], "groups": ["dba"]}, *deep[1:]]
    yield "grouped hop", "deep", {"chain": json.dumps(grouped)}, step
    yield "another subject", "deep", {"subject": "bob"}, "another origin"
    yield "another issuer", "deep", {"issuer": "https://else.example"}, "another origin"
    yield "another kind", "deep", {"kind": "workload"}, "another origin"
    yield "more groups", "deep", {"groups": '["dba"]'}, "another origin"
    yield "another root", "deep", {"root": family.id("other")}, "another origin"
    yield "widened", "deep", {"narrowing": "[]"}, "narrowed less"
    yield "widened to all", "reader", {"narrowing": '[{"scope": ["orders", "lake"]}]'}, "narrowed"
    yield "outlived", "deep", {"expires_at": 4e9}, "outlives"
    yield "no JSON", "deep", {"chain": "nope"}, "not of this format|damaged"
    yield "an object", "deep", {"chain": "{}"}, "not of this format|damaged"
    yield "hops without grants", "deep", {"chain": '[{"name": "x"}]'}, "format|damaged"
    yield "narrowing no list", "deep", {"narrowing": "7"}, "not of this format|damaged"


NAMES = [
    "truncated", "beheaded", "emptied", "gutted", "reordered", "reversed", "doubled", "cyclic",
    "lengthened", "spliced", "spliced in", "regrafted", "moved up", "moved aside", "orphaned",
    "its own parent", "a ring", "renamed hop", "proved hop", "grouped hop", "another subject",
    "another issuer", "another kind", "more groups", "another root", "widened", "widened to all",
    "outlived", "no JSON", "an object", "hops without grants", "narrowing no list",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
async def test_a_row_that_was_changed_is_no_authority(family: Family, name: str) -> None:
    known = {one[0]: one[1:] for one in rows(family)}
    assert list(known) == NAMES
    victim, columns, named = known[name]
    family.change(victim, **columns)
    with pytest.raises(Exception) as login:
        await family.login(family.token(victim))
    assert isinstance(login.value, Refused), login.value
    reason = f"{login.value.refusal.reason} {login.value}"
    odd = "cannot check tokens now" in reason
    assert odd or any(part in reason for part in named.split("|")), reason
    with pytest.raises(Exception):  # noqa: B017 - StoreFailed where the row cannot be read
        await family.exchange.exchange(form(family.token(victim)))


@pytest.mark.parametrize("above", ["lead", "reader"])
async def test_what_is_below_a_changed_row_falls_with_it(family: Family, above: str) -> None:
    family.change(above, revoked_at=1.0)
    for name in ("reader", "deep"):
        reasons = await refused(family, family.token(name))
        assert any("revoked" in reason for reason in reasons)


# --- tokens that were changed -------------------------------------------------------------------


def spliced(family: Family) -> Iterator[str]:
    """Forty JWTs made of pieces of good ones, and good ones cut or changed."""
    own, alice, bob = family.token("deep"), family.provider.sign("alice"), family.provider.sign("b")
    whole = [token.split(".") for token in (own, alice, bob)]
    for one in range(3):
        for two in range(3):
            for three in range(3):
                # Two heads of one issuer are alike.
                if (pieces := ".".join((whole[one][0], whole[two][1], whole[three][2]))) not in (
                    own,
                    alice,
                    bob,
                ):
                    yield pieces
    for token in (own, alice):
        for cut in (1, 10, 40, 86):
            yield token[:-cut]
        yield from (token[1:], token + "A", "." + token, token.replace(".", "..", 1))
        claims = jwt.decode(token, options={"verify_signature": False})
        head, _, mark = token.split(".")
        for change in ({"sub": "root"}, {"exp": 4e9}, {"grant": family.id("lead")}, {"act": {}}):
            body = base64.urlsafe_b64encode(json.dumps({**claims, **change}).encode())
            yield f"{head}.{body.decode().rstrip('=')}.{mark}"


async def test_forty_tokens_made_of_pieces_are_nobodys(family: Family) -> None:
    tried = 0
    for token in spliced(family):
        with pytest.raises(Refused) as login:
            await family.login(token)
        assert login.value.refusal.reason and token not in str(login.value)
        tried += 1
    assert tried >= 40
    assert (await family.login(family.token("deep"))).labels == ("alice", "lead", "reader", "deep")


async def test_forty_handles_that_were_cut_or_changed_are_named(family: Family) -> None:
    token = family.token("reader")
    tried = 0
    for cut in range(1, 20):
        assert any("whole" in r or "neither" in r for r in await refused(family, token[:-cut]))
        tried += 1
    for place in range(3, 46, 2):
        changed = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
        assert any("mistyped" in reason for reason in await refused(family, changed))
        tried += 1
    assert tried >= 40


async def test_an_act_chain_from_outside_is_no_authority(family: Family) -> None:
    """Cyclic, deep, long or odd: kept as it came, or refused by its name; never a hop."""
    deep: dict[str, Any] = {"sub": "x"}
    for _ in range(100):
        deep = {"sub": "x", "act": deep}
    for act, named in (
        ("admin", "claim 'act' is not understood"),
        ([{"sub": "admin"}], "claim 'act' is not understood"),
        ({"sub": "x" * 5000}, "claim 'act' is not understood"),
        (7, "claim 'act' is not understood"),
        (None, "claim 'act' is not understood"),
    ):
        token = family.provider.sign("carol", claims={"act": act})
        assert any(named in reason for reason in await refused(family, token))
    for act in (deep, {"sub": "alice", "act": {"sub": "alice"}}, {"iss": "x", "proved": True}):
        grant = await family.login(family.provider.sign("carol", claims={"act": act}))
        assert (grant.labels, grant.chain, grant.login["act"]) == (("carol",), (), act)


async def test_tokens_in_the_wrong_place_prove_nothing(family: Family) -> None:
    good = family.provider.sign("ci", audience=ENDPOINT)
    for actor, named in (
        (family.token("writer"), "malformed"),
        (family.token("deep"), "not trusted"),
        (family.provider.sign("ci"), "another audience"),
        (family.provider.sign("ci", audience=ENDPOINT, lifetime=-999), "expired"),
        (EmbeddedIssuer(family.provider.url).sign("ci", audience=ENDPOINT), "does not publish"),
        (good[:-9], "malformed"),
        (".".join((*good.split(".")[:2], "A" * 86)), "signature"),
    ):
        request = form(family.token("lead"), actor_token=actor, actor_token_type=JWT)
        with pytest.raises(ExchangeError) as error:
            await family.exchange.exchange(request)
        assert named in error.value.description, error.value.description
        assert error.value.code == "invalid_request"
    assert any("another audience" in reason for reason in await refused(family, good))
    for stolen in (family.id("lead"), family.by_name["lead"].grant.login["token_sha256"]):
        assert any("neither" in reason for reason in await refused(family, str(stolen)))


async def test_a_chain_ends_with_the_first_of_its_ends(
    family: Family, clock: Any, grants: Grants
) -> None:
    short = await family.exchange.exchange(form(family.token("lead"), expires_in="30"))
    below = await family.exchange.exchange(form(short.token, expires_in="9999"))
    leased = await family.exchange.exchange(form(family.token("writer"), lease="5"))
    under = await family.exchange.exchange(form(leased.token))
    clock.ahead = 31.0
    for minted, named in ((short, "expired"), (below, "expired"), (under, "has lapsed")):
        assert any(named in reason for reason in await refused(family, minted.token))
    clock.ahead = 1000.0
    for name in ("lead", "reader", "deep"):
        assert any("expired" in reason for reason in await refused(family, family.token(name)))
