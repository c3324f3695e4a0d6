# SPDX-License-Identifier: GPL-3.0-or-later
"""The token exchange over HTTP: RFC 8693 answers, errors, and what no request can obtain."""

from __future__ import annotations

import base64
import json
import random
from typing import Any

import pytest

ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
JWT = "urn:ietf:params:oauth:token-type:jwt"
READ = {"type": "trailgate", "targets": ["orders"], "sql": {"kinds": ["read"]}}


def actor(api: Any, subject: str, **more: Any) -> dict[str, str]:
    """An actor token, made for the exchange itself, as parts of a form."""
    token = api.sign(subject, audience=f"{api.url}/oauth/token", **more)
    return {"actor_token": token, "actor_token_type": JWT}


def refused(api: Any, form: dict[str, str], code: str = "invalid_request") -> str:
    answer = api.http.post("/oauth/token", data=form)
    assert answer.status_code == 400, answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json()["error"] == code
    return str(answer.json()["error_description"])


def test_an_answer_key_by_key(api: Any) -> None:
    form = api.form(
        api.sign("alice"),
        scope="orders web orders",
        authorization_details=json.dumps([READ]),
        lease="60",
        expires_in="600",
    )
    answer = api.http.post("/oauth/token", data=form)
    assert answer.headers["cache-control"] == "no-store"
    told = answer.json()
    assert set(told) == {
        "access_token", "issued_token_type", "token_type", "expires_in", "scope",
        "authorization_details", "grant", "chain", "expires", "lease_until", "lease_seconds",
    }  # fmt: skip
    assert (told["issued_token_type"], told["token_type"]) == (ACCESS_TOKEN, "Bearer")
    assert 590 <= told["expires_in"] <= 600
    assert told["scope"] == "orders web"
    assert told["authorization_details"] == [READ]
    assert told["chain"] == ["alice", "reader"]
    bare = api.exchange(api.sign("alice"))
    assert "scope" not in bare and "authorization_details" not in bare
    assert (bare["lease_until"], bare["lease_seconds"]) == (None, None)


def test_each_hop_narrows_and_none_widens(api: Any) -> None:
    lead = api.exchange(api.sign("alice"), agent_name="lead", scope="orders")
    reader = api.exchange(
        lead["access_token"], scope="orders web", authorization_details=json.dumps([READ])
    )
    (seen,) = api.get("/api/v1/grants", reader["access_token"]).json()
    assert seen["narrowing"] == [
        {"scope": ["orders"]},
        {"authorization_details": [READ], "scope": ["orders", "web"]},
    ]
    nothing = api.exchange(reader["access_token"], scope="", authorization_details="[]")
    (seen,) = api.get("/api/v1/grants", nothing["access_token"]).json()
    assert seen["narrowing"][2] == {"authorization_details": [], "scope": []}


def test_a_child_lives_no_longer_than_its_parent(api: Any) -> None:
    parent = api.exchange(api.sign("alice"), expires_in="100")
    child = api.exchange(parent["access_token"], expires_in="99999")
    assert child["expires"] == parent["expires"]


def test_an_actor_token_proves_its_hop(api: Any) -> None:
    form = api.form(api.sign("alice"), **actor(api, "job-7", lifetime=30))
    del form["agent_name"]
    told = api.http.post("/oauth/token", data=form).json()
    assert told["chain"] == ["alice", "job-7"]
    assert told["expires_in"] <= 90  # its own life, and the leeway for its issuer's clock
    (seen,) = api.get("/api/v1/grants", told["access_token"]).json()
    assert seen["proved"] is True
    below = api.exchange(told["access_token"], agent_name="helper")
    (seen,) = api.get("/api/v1/grants", below["access_token"]).json()
    assert seen["proved"] is False
    told = api.admin.post("/oauth/introspect", data={"token": below["access_token"]}).json()
    assert told["act"] == {
        "sub": "helper",
        "proved": False,
        "act": {"iss": api.issuer, "sub": "job-7", "proved": True},
    }


def test_an_actor_token_for_anything_else_proves_nothing(api: Any) -> None:
    wrong = [
        api.sign("job-7"),
        api.sign("job-7", audience=f"{api.url}/oauth/token", lifetime=1)[:-3] + "AAA",
        api.exchange(api.sign("job-7"))["access_token"],
        "nonsense",
    ]
    for token in wrong:
        form = api.form(api.sign("alice"), actor_token=token, actor_token_type=JWT)
        assert token not in refused(api, form)


def test_a_token_made_for_the_exchange_is_no_subject(api: Any) -> None:
    token = actor(api, "job-7")["actor_token"]
    assert "audience" in refused(api, api.form(token))
    assert api.get("/api/v1/self", token).status_code == 401


@pytest.mark.parametrize(
    "may_act", [{"sub": "job-7"}, {"sub": "job-8"}, {}, {"sub": "job-7", "iss": "https://x"}]
)
def test_may_act_names_who_alone_may(api: Any, may_act: dict[str, str]) -> None:
    token = api.sign("alice", claims={"may_act": may_act})
    assert "may_act" in refused(api, api.form(token))
    form = api.form(token, **actor(api, "job-7"))
    if may_act == {"sub": "job-7"}:
        assert api.http.post("/oauth/token", data=form).status_code == 200
    else:
        assert "may_act" in refused(api, form)


def test_a_may_act_that_is_not_understood_refuses_the_token(api: Any) -> None:
    assert "may_act" in refused(api, api.form(api.sign("alice", claims={"may_act": "job-7"})))


def test_an_act_chain_from_outside_gives_nobody_a_hop(api: Any) -> None:
    """It is kept with the login and shown; ours is what was exchanged here."""
    token = api.sign("alice", claims={"act": {"sub": "boss", "act": {"sub": "root"}}})
    child = api.exchange(token)
    assert child["chain"] == ["alice", "reader"]
    told = api.admin.post("/oauth/introspect", data={"token": child["access_token"]}).json()
    assert told["act"] == {"sub": "reader", "proved": False}


NAMES = ["", "Reader", "a" * 65, "a b", "a/b", "../x", "a\n", "ünder", "a\u200b"]


@pytest.mark.parametrize("name", NAMES)
def test_an_agents_name_is_of_few_letters(api: Any, name: str) -> None:
    assert "agent_name" in refused(api, api.form(api.sign("alice"), agent_name=name))


def test_somebody_must_act(api: Any) -> None:
    form = api.form(api.sign("alice"))
    del form["agent_name"]
    assert "agent_name or actor_token" in refused(api, form)


BAD = [
    ({"grant_type": "authorization_code"}, "unsupported_grant_type"),
    ({"subject_token": ""}, "invalid_request"),
    ({"subject_token_type": "urn:ietf:params:oauth:token-type:saml2"}, "invalid_request"),
    ({"requested_token_type": JWT}, "invalid_request"),
    ({"actor_token_type": JWT}, "invalid_request"),
    ({"actor_token": "x"}, "invalid_request"),
    ({"expires_in": "0"}, "invalid_request"),
    ({"expires_in": "1e400"}, "invalid_request"),
    ({"lease": "nan"}, "invalid_request"),
    ({"audience": "orders"}, "invalid_target"),
    ({"resource": "https://x"}, "invalid_target"),
    ({"scope": "a;b"}, "invalid_scope"),
    ({"authorization_details": "{"}, "invalid_authorization_details"),
    ({"authorization_details": '[{"type": "payment"}]'}, "invalid_authorization_details"),
    ({"authorization_details": json.dumps([READ] * 65)}, "invalid_authorization_details"),
    ({"authorization_details": f'["{"a" * 20_000}"]'}, "invalid_authorization_details"),
]


@pytest.mark.parametrize(("change", "code"), BAD, ids=lambda value: str(value)[:40])
def test_a_wrong_request_is_an_error_of_its_own(
    api: Any, change: dict[str, str], code: str
) -> None:
    token = api.sign("alice")
    description = refused(api, {**api.form(token), **change}, code)
    assert description and token not in description


def test_a_chain_has_eight_actors(api: Any) -> None:
    token = api.sign("deep")
    for depth in range(8):
        told = api.exchange(token, agent_name=f"a{depth}")
        token = told["access_token"]
    assert told["chain"] == ["deep", *(f"a{depth}" for depth in range(8))]
    assert "8 actors" in refused(api, api.form(token))


def test_a_grant_has_sixty_four_live_children(api: Any) -> None:
    token = api.sign("wide")
    children = [api.exchange(token) for _ in range(64)]
    assert "64 live children" in refused(api, api.form(token))
    api.http.post("/oauth/revoke", data={"token": children[0]["access_token"]})
    assert api.exchange(token)


def test_an_expired_and_a_revoked_parent_have_no_children(api: Any) -> None:
    lead = api.exchange(api.sign("alice"), agent_name="lead")
    reader = api.exchange(lead["access_token"])
    api.http.post("/oauth/revoke", data={"token": lead["access_token"]})
    for gone in (lead, reader):
        assert "revoked" in refused(api, api.form(gone["access_token"]))
    expired = api.sign("alice", claims={"exp": 1_700_000_000, "iat": 1_600_000_000})
    assert "expired" in refused(api, api.form(expired))


def forged(token: str, chance: random.Random) -> str:
    """A token with one thing changed: a character, its algorithm, its issuer, its subject."""
    header, body, signature = token.split(".")
    change = chance.choice(["none", "alg", "sub", "crit", "byte"])
    head, claims = (json.loads(base64.urlsafe_b64decode(part + "==")) for part in (header, body))
    if change == "none":
        head, signature = {"alg": "none"}, ""
    elif change == "alg":
        head["alg"] = chance.choice(["HS256", "RS256", "ES384", "EdDSA", "es256"])
    elif change == "sub":
        claims["sub"], claims["act"] = "admin", {"sub": "lead"}
    elif change == "crit":
        head["crit"] = ["exp"]
    else:
        place = chance.randrange(len(signature) - 2)
        other = "A" if signature[place] != "A" else "B"
        signature = signature[:place] + other + signature[place + 1 :]
    parts = [json.dumps(part).encode() for part in (head, claims)]
    encoded = [base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts]
    return ".".join((*encoded, signature))


def test_two_hundred_forged_chains_mint_nothing(api: Any) -> None:
    chance = random.Random(20)
    token, subject = api.sign("victim"), api.sign("alice")
    before = len(api.admin.get("/api/v1/grants").json())
    for n in range(200):
        if n % 2:
            form = api.form(forged(token, chance))
        else:
            fake = forged(actor(api, "job-7")["actor_token"], chance)
            form = api.form(subject, actor_token=fake, actor_token_type=JWT)
        refused(api, form)
    # `alice` herself logged in, at the first exchange that showed her own token.
    assert len(api.admin.get("/api/v1/grants").json()) == before + 1
    assert not [one for one in api.admin.get("/api/v1/grants").json() if one["subject"] == "admin"]
