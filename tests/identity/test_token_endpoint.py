# SPDX-License-Identifier: GPL-3.0-or-later
"""The token endpoint over HTTP: agents with keys, JWTs of our own, and what the RFCs ask for."""

from __future__ import annotations

import base64
import hmac
import json
import os
import re
import secrets
import stat
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.admin.api.app import build_api
from gateway.admin.api.services import Services
from gateway.identity.assertions import AGENTS_ISSUER, AgentAssertions, agent_keys
from gateway.identity.authenticator import TokenAuthenticator
from gateway.identity.delegation import ACCESS_TOKEN, ASSERTION_TYPE, GRANT_TYPE, JWT
from gateway.identity.embedded_issuer import EmbeddedIssuer
from gateway.identity.grants import Grants
from gateway.identity.oidc import Issuers
from gateway.identity.signing import KeyFile, KeysFailed, SigningKeys
from gateway.model import Identity, Refused
from gateway.store.sqlite import SqliteDatabase
from gateway.store.used_tokens import UsedTokens

URL = "https://gateway.example"
ENDPOINT = URL + "/oauth/token"


def pem(key: Any) -> str:
    public = key.public_key()
    return str(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


def hs256(claims: dict[str, Any], secret: str) -> str:
    """Made by hand: PyJWT refuses to sign with a public key's text."""
    parts = ({"alg": "HS256", "typ": "at+jwt"}, claims)
    told = b".".join(base64.urlsafe_b64encode(json.dumps(p).encode()).rstrip(b"=") for p in parts)
    mark = hmac.digest(secret.encode(), told, "sha256")
    return (told + b"." + base64.urlsafe_b64encode(mark).rstrip(b"=")).decode()


def text_of(path: Path) -> str:
    return path.read_text()


class Agent:
    """An agent that has the private half of its object's key."""

    def __init__(self, name: str = "deployer") -> None:
        self.name = name
        self.key = ec.generate_private_key(ec.SECP256R1())

    def assertion(self, key: Any = None, algorithm: str = "ES256", **claims: Any) -> str:
        now = int(time.time())
        body = {
            "iss": self.name,
            "sub": self.name,
            "aud": ENDPOINT,
            "iat": now,
            "exp": now + 60,
            "jti": secrets.token_hex(8),
            **claims,
        }
        kept = {name: value for name, value in body.items() if value is not None}
        return jwt.encode(kept, key or self.key, algorithm=algorithm)

    def form(self, assertion: str | None = None, **more: str) -> dict[str, str]:
        return {
            "grant_type": "client_credentials",
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": assertion or self.assertion(),
            **more,
        }


@pytest.fixture
def agent() -> Agent:
    return Agent()


@pytest.fixture
def keys_path(tmp_path: Path) -> Path:
    return tmp_path / "signing-keys.json"


@pytest.fixture
async def signing(keys_path: Path, clock: Any) -> SigningKeys:
    return await SigningKeys.open(KeyFile(keys_path), now=clock)


@pytest.fixture
async def api(
    agent: Agent,
    signing: SigningKeys,
    authenticator: TokenAuthenticator,
    grants: Grants,
    issuers: Issuers,
    tmp_path: Path,
    clock: Any,
) -> AsyncIterator[httpx.AsyncClient]:
    database = await SqliteDatabase.open(tmp_path / "used.db")
    agents = AgentAssertions(
        {agent.name: agent_keys(pem(agent.key))}, UsedTokens(database), now=clock
    )
    services = Services(authenticator, grants, issuers, URL, agents=agents, signing=signing)
    transport = httpx.ASGITransport(build_api(services))
    async with httpx.AsyncClient(transport=transport, base_url=URL) as client:
        yield client
    await database.close()


async def given(api: httpx.AsyncClient, form: dict[str, str]) -> dict[str, Any]:
    answer = await api.post("/oauth/token", data=form)
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    return dict(answer.json())


async def error(api: httpx.AsyncClient, form: dict[str, str], code: str) -> str:
    answer = await api.post("/oauth/token", data=form)
    assert answer.json()["error"] == code, answer.text
    assert answer.status_code == (401 if code == "invalid_client" else 400)
    return str(answer.json()["error_description"])


def exchange(token: str, **more: str) -> dict[str, str]:
    return {
        "grant_type": GRANT_TYPE,
        "subject_token": token,
        "subject_token_type": ACCESS_TOKEN,
        "agent_name": "reader",
        **more,
    }


# --- agents with keys ---------------------------------------------------------------------------


async def test_an_agent_signs_for_a_root_grant(
    api: httpx.AsyncClient, agent: Agent, authenticator: TokenAuthenticator
) -> None:
    answer = await given(api, agent.form(scope="orders", expires_in="90"))
    assert (answer["token_type"], answer["scope"], answer["chain"]) == (
        "Bearer", "orders", ["deployer"],
    )  # fmt: skip
    assert "issued_token_type" not in answer
    grant = await authenticator.login(answer["access_token"])
    assert grant.origin == Identity(AGENTS_ISSUER, "deployer", "deployer", "workload")
    assert grant.narrowing == ({"scope": ["orders"]},)
    assert answer["expires_in"] <= 90
    assert set(grant.login) == {"iss", "issuer", "kid", "jti", "iat", "token_sha256"}


async def test_an_agents_grant_lives_an_hour_at_most(api: httpx.AsyncClient, agent: Agent) -> None:
    assert (await given(api, agent.form()))["expires_in"] <= 3600
    assert (await given(api, agent.form(expires_in="99999")))["expires_in"] <= 3600


async def test_an_assertion_is_good_once_for_all_nodes(
    api: httpx.AsyncClient, agent: Agent, tmp_path: Path
) -> None:
    form = agent.form()
    await given(api, form)
    assert "used before" in await error(api, form, "invalid_client")
    other = await SqliteDatabase.open(tmp_path / "used.db")
    claims = jwt.decode(form["client_assertion"], options={"verify_signature": False})
    elsewhere = AgentAssertions({"deployer": agent_keys(pem(agent.key))}, UsedTokens(other))
    with pytest.raises(Refused, match="replay"):
        await elsewhere.verify(form["client_assertion"], [claims["aud"]])
    await other.close()


async def test_a_full_cache_refuses_and_the_old_make_room(tmp_path: Path) -> None:
    database = await SqliteDatabase.open(tmp_path / "few.db")
    used = UsedTokens(database, most=3)
    told = [await used.use(f"a{n}", f"t{n}", 100.0, 0.0) for n in range(4)]
    assert told == ["first", "first", "first", "full"]
    assert await used.use("a0", "t0", 100.0, 99.0) == "again", "what is noted stays noted"
    assert await used.use("a9", "t9", 300.0, 101.0) == "first"
    await database.close()


async def test_one_agent_cannot_take_the_room_of_the_others(tmp_path: Path) -> None:
    database = await SqliteDatabase.open(tmp_path / "few.db")
    used = UsedTokens(database, most=10, most_of_one=3)
    told = [await used.use("busy", f"t{n}", 100.0, 0.0) for n in range(6)]
    assert told == ["first"] * 3 + ["full"] * 3
    assert await used.use("busy", "t1", 100.0, 1.0) == "again"
    assert await used.use("other", "o1", 100.0, 1.0) == "first"
    assert await used.use("busy", "t1", 100.0, 99.0) == "again", "no eviction lets a replay in"
    assert await used.use("busy", "t7", 300.0, 101.0) == "first"
    await database.close()


async def test_an_assertion_that_cannot_be_noted_gives_nothing(
    agent: Agent, tmp_path: Path
) -> None:
    database = await SqliteDatabase.open(tmp_path / "few.db")
    keys = {agent.name: agent_keys(pem(agent.key))}
    agents = AgentAssertions(keys, UsedTokens(database, most_of_one=1))
    first, second = agent.assertion(), agent.assertion()
    assert (await agents.verify(first, [ENDPOINT])).identity.subject == agent.name
    with pytest.raises(Refused) as full:
        await agents.verify(second, [ENDPOINT])
    assert full.value.refusal.kind == "unavailable" and "too many" in full.value.refusal.reason
    with pytest.raises(Refused, match="replay"):
        await agents.verify(first, [ENDPOINT])
    await database.close()


async def test_introspection_tells_the_chain_as_nested_actors(
    api: httpx.AsyncClient, agent: Agent
) -> None:
    """RFC 7662 2.2 with RFC 8693 4.1: outermost the current actor, proved by whom where it was."""
    minted = await given(api, agent.form())
    bearer = {"authorization": f"Bearer {minted['access_token']}"}

    async def told(token: str) -> dict[str, Any]:
        answer = await api.post("/oauth/introspect", data={"token": token}, headers=bearer)
        return dict(answer.json())

    assert "act" not in await told(minted["access_token"])
    form = {"grant_type": GRANT_TYPE, "subject_token_type": ACCESS_TOKEN}
    token = minted["access_token"]
    for name in ("lead", "reader"):
        child = await given(api, {**form, "subject_token": token, "agent_name": name})
        token = child["access_token"]
    proved = {"client_assertion_type": ASSERTION_TYPE, "client_assertion": agent.assertion()}
    child = await given(api, {**form, "subject_token": token, **proved})
    seen = await told(child["access_token"])
    assert (seen["active"], seen["sub"]) == (True, agent.name)
    lead = {"sub": "lead", "proved": False}
    reader = {"sub": "reader", "proved": False, "act": lead}
    assert seen["act"] == {
        "iss": AGENTS_ISSUER,
        "sub": agent.name,
        "proved": True,
        "act": reader,
    }


async def test_a_narrowed_login_sees_and_ends_only_its_own_tree(
    api: httpx.AsyncClient, agent: Agent
) -> None:
    whole = await given(api, agent.form())
    narrowed = await given(api, agent.form(scope="orders"))
    child = await given(
        api,
        {
            "grant_type": GRANT_TYPE,
            "subject_token": narrowed["access_token"],
            "subject_token_type": ACCESS_TOKEN,
            "agent_name": "reader",
        },
    )

    def bearer(minted: dict[str, Any]) -> dict[str, str]:
        return {"authorization": f"Bearer {minted['access_token']}"}

    async def seen(minted: dict[str, Any]) -> set[str]:
        answer = await api.get("/api/v1/grants", headers=bearer(minted))
        return {one["grant"] for one in answer.json()}

    async def active(asked: dict[str, Any], by: dict[str, Any]) -> bool:
        form = {"token": asked["access_token"]}
        answer = await api.post("/oauth/introspect", data=form, headers=bearer(by))
        return bool(answer.json()["active"])

    async def ended(asked: dict[str, Any], by: dict[str, Any]) -> int:
        path = f"/api/v1/grants/{asked['grant']}"
        return (await api.delete(path, headers=bearer(by))).status_code

    assert await seen(narrowed) == {narrowed["grant"]}
    assert await seen(whole) == {whole["grant"], narrowed["grant"]}
    assert not await active(whole, narrowed) and await active(child, narrowed)
    assert await active(narrowed, narrowed) and await active(narrowed, whole)
    assert await ended(whole, narrowed) == 404
    assert await ended(child, narrowed) == 200
    # Its own end is by its token, as logout does it; the whole login may end it as well.
    another = await given(api, agent.form(scope="orders"))
    assert await ended(another, narrowed) == 404
    assert (await api.post("/oauth/revoke", data={"token": narrowed["access_token"]})).is_success
    assert not await active(narrowed, whole)
    assert await ended(another, whole) == 200
    assert await active(whole, whole)


HOUR = 3600
WRONG = [
    ({"iss": "somebody"}, "no agent with a key"),
    ({"sub": "somebody"}, "iss and sub differ"),
    ({"aud": "https://elsewhere.example"}, "another audience"),
    ({"aud": None}, "lacks the claim 'aud'"),
    ({"exp": None}, "lacks the claim 'exp'"),
    ({"jti": None}, "lacks the claim 'jti'"),
    ({"jti": ""}, "jti"),
    ({"jti": "x" * 257}, "jti"),
    ({"jti": 7}, "jti|malformed"),
    ({"exp": 1}, "expired"),
    ({"exp": int(time.time()) + HOUR}, "good for over 600 seconds"),
    ({"iat": int(time.time()) + HOUR}, "not valid yet"),
    ({"nbf": int(time.time()) + HOUR}, "not valid yet"),
    ({"exp": "soon"}, "malformed|no number"),
]


@pytest.mark.parametrize(("change", "named"), WRONG)
async def test_a_wrong_assertion_is_refused_by_its_part(
    api: httpx.AsyncClient, agent: Agent, grants: Grants, change: dict[str, Any], named: str
) -> None:
    told = await error(api, agent.form(agent.assertion(**change)), "invalid_client")
    assert re.search(named, told), told
    assert await grants.store.grants_below(None) == []


async def test_another_key_or_algorithm_is_no_signature_of_the_agent(
    api: httpx.AsyncClient, agent: Agent
) -> None:
    stranger = Agent().assertion()
    assert "not signed with a key" in await error(api, agent.form(stranger), "invalid_client")
    other = agent.assertion(rsa.generate_private_key(65537, 2048), "RS256")
    assert "not signed with a key" in await error(api, agent.form(other), "invalid_client")
    shared = jwt.encode({"iss": "deployer", "sub": "deployer"}, pem(agent.key).encode()[30:90])
    assert "algorithm" in await error(api, agent.form(shared), "invalid_client")
    head, body, _ = agent.assertion().split(".")
    none = base64.urlsafe_b64encode(b'{"alg":"none"}').decode().rstrip("=")
    await error(api, agent.form(f"{none}.{body}."), "invalid_client")
    await error(api, agent.form(f"{head}.{body}.AAAA"), "invalid_client")


async def test_no_shared_secret_is_taken(api: httpx.AsyncClient, agent: Agent) -> None:
    form = {"grant_type": "client_credentials", "client_id": "deployer", "client_secret": "s"}
    assert "sign an assertion" in await error(api, form, "invalid_client")
    told = await error(api, agent.form(client_assertion_type="urn:x"), "invalid_client")
    assert "client_assertion_type" in told
    await error(api, agent.form(client_id="another"), "invalid_client")
    assert "kinds" not in await error(api, {"grant_type": "password"}, "unsupported_grant_type")


async def test_an_agents_key_proves_it_as_an_actor(
    api: httpx.AsyncClient,
    agent: Agent,
    provider: EmbeddedIssuer,
    authenticator: TokenAuthenticator,
) -> None:
    alice = provider.sign("alice", claims={"may_act": {"iss": AGENTS_ISSUER, "sub": "deployer"}})
    form = exchange(alice, actor_token=agent.assertion(), actor_token_type=JWT)
    del form["agent_name"]
    by_token = await authenticator.login((await given(api, form))["access_token"])
    form = {
        **exchange(alice),
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": agent.assertion(),
    }
    del form["agent_name"]
    as_client = await authenticator.login((await given(api, form))["access_token"])
    for grant in (by_token, as_client):
        (hop,) = grant.chain
        assert hop.proved and hop.identity and hop.identity.issuer == AGENTS_ISSUER
        assert hop.name == "deployer"
    form["client_assertion"] = Agent("deployer").assertion()
    await error(api, form, "invalid_client")


@pytest.mark.parametrize("kind", ["p256", "p384", "ed25519", "rsa"])
async def test_keys_of_every_kind_sign(kind: str, tmp_path: Path) -> None:
    made: dict[str, tuple[Any, str]] = {
        "p256": (ec.generate_private_key(ec.SECP256R1()), "ES256"),
        "p384": (ec.generate_private_key(ec.SECP384R1()), "ES384"),
        "ed25519": (ed25519.Ed25519PrivateKey.generate(), "EdDSA"),
        "rsa": (rsa.generate_private_key(65537, 2048), "PS256"),
    }
    key, algorithm = made[kind]
    database = await SqliteDatabase.open(tmp_path / "used.db")
    agents = AgentAssertions({"deployer": agent_keys(pem(key))}, UsedTokens(database))
    proof = await agents.verify(Agent().assertion(key, algorithm), [ENDPOINT])
    assert proof.identity.subject == "deployer"
    await database.close()


def test_keys_that_must_not_be_taken_are_named() -> None:
    from cryptography.hazmat.primitives.serialization import NoEncryption, PrivateFormat

    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    short = pem(rsa.generate_private_key(65537, 1024))
    symmetric = json.dumps({"kty": "oct", "k": "c2VjcmV0"})
    for text, named in (
        (private, "private key"),
        (short, "2048 bits"),
        (symmetric, "no usable signature key"),
        ("ssh-ed25519 AAAA", "neither a PEM"),
        ("{", "no JSON"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "no PEM public key"),
    ):
        with pytest.raises(ValueError, match=named):
            agent_keys(text)


# --- JWTs of our own ----------------------------------------------------------------------------


async def test_a_jwt_names_the_grant_and_ends_with_it(
    api: httpx.AsyncClient,
    provider: EmbeddedIssuer,
    authenticator: TokenAuthenticator,
    grants: Grants,
) -> None:
    alice = provider.sign("alice")
    lead = await given(api, exchange(alice, agent_name="lead", scope="orders web"))
    answer = await given(
        api, exchange(lead["access_token"], requested_token_type=JWT, scope="web lake")
    )
    assert (answer["issued_token_type"], answer["token_type"]) == (JWT, "Bearer")
    token = answer["access_token"]
    published = (await api.get("/.well-known/jwks.json")).json()
    header = jwt.get_unverified_header(token)
    (key,) = [one for one in published["keys"] if one["kid"] == header["kid"]]
    claims = jwt.decode(
        token, jwt.PyJWK(key), algorithms=["ES256"], audience=URL, issuer=URL,
        options={"require": ["exp", "iat", "jti", "sub", "client_id"]},
    )  # fmt: skip
    assert header["typ"] == "at+jwt"
    assert claims["sub_id"] == {"format": "iss_sub", "iss": provider.url, "sub": "alice"}
    assert (claims["client_id"], claims["scope"], claims["grant"]) == (
        "reader", "web", answer["grant"],
    )  # fmt: skip
    assert claims["act"]["sub"] == "reader" and claims["act"]["act"]["sub"] == "lead"
    assert (await authenticator.login(token)).id == answer["grant"]
    child = await given(api, exchange(token))
    assert child["chain"] == ["alice", "lead", "reader", "reader"]
    await grants.revoke(lead["grant"], "admin", "test")
    with pytest.raises(Refused, match="revoked"):
        await authenticator.login(token)


async def test_a_forged_jwt_of_ours_is_nobody(
    api: httpx.AsyncClient,
    provider: EmbeddedIssuer,
    authenticator: TokenAuthenticator,
    signing: SigningKeys,
) -> None:
    answer = await given(api, exchange(provider.sign("alice"), requested_token_type=JWT))
    token = answer["access_token"]
    claims = jwt.decode(token, options={"verify_signature": False})
    head, body, mark = token.split(".")
    longer = {**claims, "exp": claims["exp"] + 9999}
    stolen = signing.sign(longer, "at+jwt")  # by whoever has the very key
    none = base64.urlsafe_b64encode(b'{"alg":"none","typ":"at+jwt"}').decode().rstrip("=")
    hs = hs256(longer, json.dumps(signing.published()["keys"][0]))
    own_key = jwt.encode(longer, ec.generate_private_key(ec.SECP256R1()), algorithm="ES256")
    flipped = ("B" if mark[-3] == "A" else "A") + mark[-2:]
    for forged in (
        stolen, hs, own_key, f"{none}.{body}.", f"{none}.{body}.{mark}", f"{head}.{body}.",
        f"{head}.{body}.{mark[:-3]}{flipped}", f"{head}.{body}x.{mark}", token + "=", token + ".",
    ):  # fmt: skip
        with pytest.raises(Refused):
            await authenticator.login(forged)
    assert (await authenticator.login(token)).id == answer["grant"]


async def test_keys_rotate_are_published_ahead_and_kept_while_their_tokens_live(
    keys_path: Path, clock: Any
) -> None:
    signing = await SigningKeys.open(KeyFile(keys_path), now=clock)

    def kids() -> list[str]:
        return [key["kid"] for key in signing.published()["keys"]]

    def signer() -> str:
        return str(jwt.get_unverified_header(signing.sign({}, "at+jwt"))["kid"])

    first, following = kids()
    assert signer() == first
    assert not await signing.rotate_if_due()
    clock.ahead += 8 * 86400
    assert await signing.rotate_if_due()
    assert signer() == following and kids()[:2] == [first, following] and len(kids()) == 3
    assert text_of(keys_path).count("BEGIN PRIVATE KEY") == 2
    reopened = await SigningKeys.open(KeyFile(keys_path), now=clock)
    assert reopened.published() == signing.published()
    clock.ahead += 8 * 86400
    await signing.rotate()
    assert first not in kids()
    assert not any("d" in key for key in signing.published()["keys"])


async def test_signing_keys_are_kept_from_others(keys_path: Path, signing: SigningKeys) -> None:
    assert stat.S_IMODE(os.stat(keys_path).st_mode) == 0o600
    assert "PRIVATE" not in repr(signing.__dict__)
    os.chmod(keys_path, 0o640)
    with pytest.raises(KeysFailed, match="can be read by others"):
        await SigningKeys.open(KeyFile(keys_path))
    os.chmod(keys_path, 0o600)
    await KeyFile(keys_path).write(b"{}")
    with pytest.raises(KeysFailed, match="damaged"):
        await SigningKeys.open(KeyFile(keys_path))


# --- the RFCs -----------------------------------------------------------------------------------


async def test_the_metadata_says_what_is_served(api: httpx.AsyncClient) -> None:
    """RFC 8414 2: required members, and every URL answers."""
    document = (await api.get("/.well-known/oauth-authorization-server")).json()
    assert document["issuer"] == URL
    assert document["response_types_supported"] == []
    assert set(document["grant_types_supported"]) == {GRANT_TYPE, "client_credentials"}
    assert set(document["token_endpoint_auth_methods_supported"]) == {"none", "private_key_jwt"}
    assert "none" not in document["token_endpoint_auth_signing_alg_values_supported"]
    keys = await api.get(document["jwks_uri"])
    assert keys.headers["content-type"] == "application/jwk-set+json"
    for name in ("token", "revocation", "introspection"):
        assert (await api.post(document[f"{name}_endpoint"])).status_code != 404


async def test_the_response_says_what_was_given_where_that_is_less(
    api: httpx.AsyncClient, provider: EmbeddedIssuer
) -> None:
    """RFC 8693 2.2.1 (scope), RFC 9396 7.1 (authorization_details), RFC 7662 2.2."""
    details = [{"type": "trailgate", "targets": ["orders"], "sql": {"kinds": ["read"]}}]
    alice = provider.sign("alice")
    lead = await given(api, exchange(alice, scope="orders web"))
    child = await given(
        api, exchange(lead["access_token"], authorization_details=json.dumps(details))
    )
    assert (child["scope"], child["authorization_details"]) == ("orders web", details)
    answer = await api.post(
        "/oauth/introspect",
        data={"token": child["access_token"]},
        headers={"authorization": f"Bearer {alice}"},
    )
    told = answer.json()
    assert (told["active"], told["scope"], told["authorization_details"]) == (
        True, "orders web", details,
    )  # fmt: skip
    assert (told["iss"], told["client_id"]) == (URL, "reader")


async def test_audience_and_resource_can_only_be_this_gateway(
    api: httpx.AsyncClient, provider: EmbeddedIssuer
) -> None:
    """RFC 8693 2.2.2: a target that no token is issued for is invalid_target."""
    alice = provider.sign("alice")
    await given(api, exchange(alice, audience=URL, resource=URL + "/"))
    for name in ("audience", "resource"):
        told = await error(api, exchange(alice, **{name: "https://db.example"}), "invalid_target")
        assert "scope" in told


async def test_a_revoked_jwt_is_no_longer_active(
    api: httpx.AsyncClient, provider: EmbeddedIssuer
) -> None:
    """RFC 7009: an unknown token and a hint that is not known are no errors."""
    answer = await given(api, exchange(provider.sign("alice"), requested_token_type=JWT))
    for token in (answer["access_token"], answer["access_token"], "unknown"):
        form = {"token": token, "token_type_hint": "refresh_token"}
        assert (await api.post("/oauth/revoke", data=form)).status_code == 200
    again = await api.post("/oauth/token", data=exchange(answer["access_token"]))
    assert "revoked" in again.json()["error_description"]


async def test_isolation_is_said_of_the_hop(
    api: httpx.AsyncClient, provider: EmbeddedIssuer, authenticator: TokenAuthenticator
) -> None:
    answer = await given(api, exchange(provider.sign("alice"), isolation="uid"))
    assert (await authenticator.login(answer["access_token"])).chain[0].isolation == "uid"
    await error(api, exchange(provider.sign("alice"), isolation="vm"), "invalid_request")


async def test_a_jwt_lives_a_day_at_most(api: httpx.AsyncClient, provider: EmbeddedIssuer) -> None:
    alice = provider.sign("alice", lifetime=9 * 86400)
    long = await given(api, exchange(alice))
    assert long["expires_in"] > 8 * 86400
    short = await given(api, exchange(alice, requested_token_type=JWT))
    assert 86000 < short["expires_in"] <= 86400
