# SPDX-License-Identifier: GPL-3.0-or-later
"""OpenID tokens against a real issuer: what is let in, each attack, and rotating keys."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import time
from collections.abc import Callable
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from gateway.admin.api.serving import serve_api
from gateway.identity.embedded_issuer import EmbeddedIssuer
from gateway.identity.jwks import Pace
from gateway.identity.oidc import Issuer, Issuers, Proof
from gateway.model import Refused


def part(document: object) -> str:
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def claims(provider: EmbeddedIssuer, **more: Any) -> dict[str, Any]:
    now = int(time.time())
    return {
        "iss": provider.url,
        "sub": "alice",
        "aud": "trailgate",
        "iat": now,
        "exp": now + 600,
        **more,
    }


def signed(provider: EmbeddedIssuer, body: dict[str, Any], **header: Any) -> str:
    key_id, key = next(reversed(provider._keys.items()))
    return jwt.encode(body, key, algorithm="ES256", headers={"kid": key_id, **header})


async def refusal(issuers: Issuers, token: str) -> Refused:
    with pytest.raises(Refused) as refused:
        await issuers.verify(token)
    said = str(refused.value) + refused.value.refusal.reason
    assert token not in said
    return refused.value


async def test_a_good_token_gives_subject_groups_and_name(
    issuers: Issuers, provider: EmbeddedIssuer
) -> None:
    token = provider.sign("00u1", claims={"groups": ["dba", "ops"], "name": "Alice"})
    proof = await issuers.verify(token)
    assert (proof.identity.issuer, proof.identity.subject) == (provider.url, "00u1")
    assert (proof.identity.name, proof.identity.kind) == ("Alice", "person")
    assert proof.groups == ("dba", "ops")
    assert proof.login["token_sha256"] == proof.token_sha256
    assert token not in repr(proof)


@pytest.mark.parametrize(
    ("mapping", "more", "groups"),
    [
        ({"groups": "realm.roles"}, {"realm": {"roles": ["a", "b"]}}, ("a", "b")),
        ({"groups": "https://x.example/groups"}, {"https://x.example/groups": ["a"]}, ("a",)),
        ({"groups": "scp"}, {"scp": "a b,c"}, ("a", "b", "c")),
        ({}, {}, ()),
    ],
)
async def test_groups_are_found_where_the_issuer_puts_them(
    provider: EmbeddedIssuer, mapping: dict[str, str], more: dict[str, Any], groups: tuple[str, ...]
) -> None:
    issuers = Issuers([Issuer("corp", provider.url, "trailgate", claims=mapping)])
    proof = await issuers.verify(provider.sign("alice", claims=more))
    assert proof.groups == groups


Forge = Callable[[EmbeddedIssuer], str]


def hs_with_the_public_key(provider: EmbeddedIssuer) -> str:
    import hashlib
    import hmac

    key_id, key = next(iter(provider._keys.items()))
    pem = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    signing = part({"alg": "HS256", "typ": "JWT", "kid": key_id}) + "." + part(claims(provider))
    return signing + "." + part(hmac.new(pem, signing.encode(), hashlib.sha256).digest())


def with_own_key(provider: EmbeddedIssuer) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    public = json.loads(ECAlgorithm.to_jwk(key.public_key()))
    return jwt.encode(claims(provider), key, algorithm="ES256", headers={"jwk": public})


def by_another_key(provider: EmbeddedIssuer) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    kid = next(iter(provider._keys))
    return jwt.encode(claims(provider), key, algorithm="ES256", headers={"kid": kid})


def tampered(provider: EmbeddedIssuer) -> str:
    head, _, tail = provider.sign("alice").split(".")
    return f"{head}.{part(claims(provider, sub='admin'))}.{tail}"


def without_signature(provider: EmbeddedIssuer) -> str:
    return part({"alg": "none", "typ": "JWT"}) + "." + part(claims(provider)) + "."


def signed_by_rs(provider: EmbeddedIssuer) -> str:
    key = rsa.generate_private_key(65537, 2048)
    kid = next(iter(provider._keys))
    return jwt.encode(claims(provider), key, algorithm="RS256", headers={"kid": kid})


def without(name: str) -> Forge:
    def forge(provider: EmbeddedIssuer) -> str:
        body = claims(provider)
        del body[name]
        return signed(provider, body)

    return forge


def header(**more: Any) -> Forge:
    return lambda provider: signed(provider, claims(provider), **more)


def body(**more: Any) -> Forge:
    return lambda provider: signed(provider, claims(provider, **more))


def unsigned(body: object) -> Forge:
    return lambda provider: part({"alg": "ES256"}) + "." + part(body) + ".AA"


ATTACKS: dict[str, tuple[Forge, str]] = {
    "none": (without_signature, "algorithm"),
    "hs256 with the public key": (hs_with_the_public_key, "algorithm"),
    "rs256 over an ec key": (signed_by_rs, "key"),
    "embedded jwk": (with_own_key, "own key"),
    "jku": (header(jku="https://evil.example/jwks"), "own key"),
    "x5u": (header(x5u="https://evil.example/x"), "own key"),
    "unknown crit": (header(crit=["exp2"], exp2=1), ""),
    "crit b64": (header(crit=["b64"]), ""),
    "logout token": (header(typ="logout+jwt"), "access token"),
    "another key": (by_another_key, "signature"),
    "tampered": (tampered, "signature"),
    "unknown kid": (header(kid="nobody"), "key"),
    "kid is a path": (header(kid="../../etc/passwd"), "key"),
    "wrong audience": (body(aud="other"), "audience"),
    "audience list of others": (body(aud=["a", "b"]), "audience"),
    "expired": (body(exp=int(time.time()) - 61), "expired"),
    "not yet": (body(nbf=int(time.time()) + 7200), "not valid yet"),
    "issued in the future": (body(iat=int(time.time()) + 7200), "not valid yet"),
    "exp is text": (body(exp="soon"), "malformed"),
    "exp is true": (body(exp=True), "malformed"),
    "no exp": (without("exp"), "exp"),
    "no aud": (without("aud"), "aud"),
    "no sub": (without("sub"), "subject"),
    "sub is a number": (body(sub=1), ""),
    "sub with control characters": (body(sub="alice\nroot"), "subject"),
    "unknown issuer": (body(iss="https://evil.example"), "issuer"),
    "issuer with another case": (body(iss="HTTP://127.0.0.1"), "issuer"),
    "issuer is a list": (unsigned({"iss": ["x"]}), "issuer"),
    "issuer is missing": (unsigned({}), "issuer"),
    "groups are a number": (body(groups=7), "groups"),
    "groups hold numbers": (body(groups=["a", 1]), "groups"),
    "too long": (body(pad="x" * 20_000), "too long"),
    "act is text": (body(act="me"), "act"),
    "deep": (
        lambda provider: part({"alg": "ES256"}) + "." + part(b"[" * 9000) + ".AA",
        "malformed",
    ),
    "two parts": (lambda provider: "a.b", "malformed"),
    "not ascii": (lambda provider: "\u00e4.b.c", "malformed"),
}


@pytest.mark.parametrize("name", ATTACKS)
async def test_each_attack_is_refused_with_its_own_words(
    name: str, issuers: Issuers, provider: EmbeddedIssuer
) -> None:
    forge, word = ATTACKS[name]
    refused = await refusal(issuers, forge(provider))
    assert word in refused.refusal.reason
    assert refused.refusal.code == ("expired" if name == "expired" else "bad_token")
    # The issuer still serves honest callers.
    assert await issuers.verify(provider.sign("bob"))


async def test_a_clock_may_differ_by_a_minute_and_no_more(
    issuers: Issuers, provider: EmbeddedIssuer
) -> None:
    now = int(time.time())
    assert await issuers.verify(signed(provider, claims(provider, exp=now - 50)))
    assert await issuers.verify(signed(provider, claims(provider, nbf=now + 50)))


@pytest.mark.parametrize("bad", [["none"], ["HS256"], ["ES256", "HS512"], []])
def test_an_issuer_cannot_be_given_a_symmetric_algorithm(bad: list[str]) -> None:
    with pytest.raises(ValueError, match="algorithms"):
        Issuer("corp", "https://id.example.com", "trailgate", tuple(bad))


@pytest.mark.parametrize("url", ["http://id.example.com", "ftp://x", "id.example.com", ""])
def test_an_issuer_without_tls_is_only_for_loopback(url: str) -> None:
    with pytest.raises(ValueError, match="https"):
        Issuer("corp", url, "trailgate")


async def test_a_new_key_is_found_and_a_withdrawn_one_ends(
    issuers: Issuers, provider: EmbeddedIssuer
) -> None:
    old = provider.sign("alice")
    await issuers.verify(old)
    provider.rotate()
    await issuers.verify(provider.sign("alice"))
    await issuers.verify(old)
    provider.rotate(withdraw=True)
    await issuers.verify(provider.sign("alice"))
    assert "key" in (await refusal(issuers, old)).refusal.reason


async def test_unknown_key_ids_cannot_make_us_fetch_without_end(provider: EmbeddedIssuer) -> None:
    issuers = Issuers([Issuer("corp", provider.url, "trailgate")], pace=Pace(between_fetches=600))
    fetched = 0

    async def counting(scope: Any, receive: Any, send: Any) -> None:
        nonlocal fetched
        fetched += scope["path"] == "/jwks"
        await provider.app(scope, receive, send)

    serving = await serve_api(counting)
    provider.url = f"http://127.0.0.1:{serving.port}"
    issuers = Issuers([Issuer("corp", provider.url, "trailgate")], pace=Pace(between_fetches=600))
    tokens = [signed(provider, claims(provider), kid=f"k{n}") for n in range(100)]
    answers = await asyncio.gather(*map(issuers.verify, tokens), return_exceptions=True)
    assert all(isinstance(answer, Refused) for answer in answers)
    assert fetched == 1
    await serving.close()


async def test_known_keys_serve_on_while_the_issuer_is_down() -> None:
    provider = EmbeddedIssuer()
    serving = await serve_api(provider.app)
    provider.url = f"http://127.0.0.1:{serving.port}"
    pace = Pace(refresh_after=0.0, between_fetches=0.0)
    issuers = Issuers([Issuer("corp", provider.url, "trailgate")], pace=pace)
    await issuers.verify(provider.sign("alice"))
    await serving.close()
    for _ in range(3):
        assert await issuers.verify(provider.sign("alice"))
    await issuers.close()


async def test_an_issuer_that_was_never_reached_is_unavailable_not_a_bad_token() -> None:
    provider = EmbeddedIssuer("http://127.0.0.1:9")
    issuers = Issuers([Issuer("corp", provider.url, "trailgate")])
    refused = await refusal(issuers, provider.sign("alice"))
    assert refused.refusal.kind == "unavailable"
    assert "127.0.0.1:9" not in refused.refusal.reason


async def odd_issuer(document: Callable[[str], Response], keys: Response) -> Refused:
    """Verify against an issuer whose documents are not what they must be."""
    url = ""

    async def discovery(request: Request) -> Response:
        return document(url)

    async def jwks(request: Request) -> Response:
        return keys

    routes = [Route("/.well-known/openid-configuration", discovery), Route("/jwks", jwks)]
    serving = await serve_api(Starlette(routes=routes))
    url = f"http://127.0.0.1:{serving.port}"
    issuers = Issuers([Issuer("corp", url, "trailgate")])
    try:
        return await refusal(issuers, EmbeddedIssuer(url).sign("alice"))
    finally:
        await serving.close()


def plain(url: str) -> Response:
    return JSONResponse({"issuer": url, "jwks_uri": url + "/jwks"})


SYMMETRIC = {"keys": [{"kty": "oct", "k": part(b"x" * 32)}]}


@pytest.mark.parametrize(
    ("document", "keys", "word"),
    [
        (lambda url: JSONResponse({"issuer": "x", "jwks_uri": url + "/jwks"}), {}, "another"),
        (lambda url: JSONResponse({"issuer": url}), {}, "jwks_uri"),
        (lambda url: JSONResponse({"issuer": url, "jwks_uri": "file:///x"}), {}, "jwks_uri"),
        (
            lambda url: JSONResponse({"issuer": url, "jwks_uri": "http://169.254.169.254/"}),
            {},
            "jwks_uri",
        ),
        (lambda url: RedirectResponse("http://127.0.0.1:9/"), {}, "307"),
        (lambda url: Response("[" * 100_000), {}, "JSON"),
        (lambda url: Response(b" " * (1 << 20) + b"{}"), {}, "over"),
        (plain, {"keys": []}, "no usable"),
        (plain, {"keys": "x"}, "list"),
        (plain, SYMMETRIC, "no usable"),
    ],
)
async def test_documents_that_are_not_what_they_must_be_are_refused(
    document: Callable[[str], Response], keys: dict[str, Any], word: str
) -> None:
    refused = await odd_issuer(document, JSONResponse(keys))
    assert refused.refusal.kind == "unavailable"
    assert word in str(refused)


async def test_a_short_rsa_key_is_no_key() -> None:
    key = rsa.generate_private_key(65537, 1024)
    public = json.loads(RSAAlgorithm.to_jwk(key.public_key()))

    async def discovery(request: Request) -> Response:
        return plain(str(request.base_url).rstrip("/"))

    async def jwks(request: Request) -> Response:
        return JSONResponse({"keys": [{**public, "kid": "k"}]})

    routes = [Route("/.well-known/openid-configuration", discovery), Route("/jwks", jwks)]
    serving = await serve_api(Starlette(routes=routes))
    url = f"http://127.0.0.1:{serving.port}"
    token = jwt.encode(claims(EmbeddedIssuer(url)), key, algorithm="RS256", headers={"kid": "k"})
    refused = await refusal(Issuers([Issuer("corp", url, "trailgate")]), token)
    assert "key" in refused.refusal.reason
    await serving.close()


async def test_no_token_reaches_the_log(
    issuers: Issuers, provider: EmbeddedIssuer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for forge, _ in ATTACKS.values():
        token = forge(provider)
        await refusal(issuers, token)
        assert not any(part in caplog.text for part in token.split(".") if len(part) > 20)


async def test_the_issuer_signs_only_for_the_holder_of_its_admin_secret(
    provider: EmbeddedIssuer, issuers: Issuers
) -> None:
    async with httpx.AsyncClient(base_url=provider.url) as client:
        asked = {"subject": "carol", "lifetime": 60}
        assert (await client.post("/admin/tokens", json=asked)).status_code == 401
        head = {"authorization": f"Bearer {provider.admin_secret}"}
        answer = await client.post("/admin/tokens", json=asked, headers=head)
        assert (await client.post("/admin/rotate", headers=head)).status_code == 200
    proof: Proof = await issuers.verify(answer.json()["token"])
    assert proof.identity.subject == "carol"
