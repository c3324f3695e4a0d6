# SPDX-License-Identifier: GPL-3.0-or-later
"""Workloads' own tokens, in the shapes that they have: CI jobs, Kubernetes, SPIFFE."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from gateway.admin.api.serving import serve_api
from gateway.config import ConfigError, load_objects
from gateway.identity.authenticator import TokenAuthenticator
from gateway.identity.claims import lookup
from gateway.identity.grants import Grants
from gateway.identity.jwks import Pace
from gateway.identity.oidc import Issuer, Issuers
from gateway.identity.spiffe import trust_domain_of
from gateway.model import Identity, Refused
from gateway.wiring.parts import issuers_of, names_of

DOMAIN = "spiffe://prod.example"
K8S = "https://kubernetes.default.svc.cluster.local"


class Signer:
    """Whoever signs a platform's tokens."""

    def __init__(self, kind: str = "EC", use: str = "sig") -> None:
        self.kid = secrets.token_hex(4)
        self.key: Any = (
            ec.generate_private_key(ec.SECP256R1())
            if kind == "EC"
            else rsa.generate_private_key(65537, 2048)
        )
        self.algorithm = "ES256" if kind == "EC" else "RS256"
        kinds: dict[str, Any] = {"EC": ECAlgorithm, "RSA": RSAAlgorithm}
        public = json.loads(kinds[kind].to_jwk(self.key.public_key()))
        self.jwk = {**public, "kid": self.kid, "use": use}

    def sign(self, typ: str | None = "JWT", **claims: Any) -> str:
        now = int(time.time())
        body = {"aud": "trailgate", "iat": now, "exp": now + 300, **claims}
        kept = {name: value for name, value in body.items() if value is not None}
        return jwt.encode(
            kept, self.key, algorithm=self.algorithm, headers={"kid": self.kid, "typ": typ}
        )


def github(signer: Signer, **claims: Any) -> str:
    """As GitHub documents its tokens: the job stands in the subject."""
    return signer.sign(
        iss="https://token.actions.githubusercontent.com",
        sub="repo:shop/etl:environment:Production EU",
        jti=secrets.token_hex(8),
        repository="shop/etl",
        repository_owner="shop",
        actor="alice",
        actor_id="12",
        ref="refs/heads/main",
        run_id="1",
        workflow="nightly load",
        **claims,
    )


def kubernetes(signer: Signer, **claims: Any) -> str:
    """As the API server projects it for a service account."""
    return signer.sign(
        typ=None,
        **{
            "iss": K8S,
            "aud": ["trailgate"],
            "sub": "system:serviceaccount:batch:loader",
            "kubernetes.io": {
                "namespace": "batch",
                "pod": {"name": "loader-1", "uid": "u"},
                "serviceaccount": {"name": "loader", "uid": "u"},
            },
            **claims,
        },
    )


async def proved(issuer: Issuer, token: str) -> Any:
    issuers = Issuers([issuer])
    try:
        return await issuers.verify(token)
    finally:
        await issuers.close()


def given(name: str, url: str, *signers: Signer, **more: Any) -> Issuer:
    keys = tuple(signer.jwk for signer in signers)
    known: dict[str, Any] = {"algorithms": ("RS256", "ES256"), "kind": "workload", **more}
    return Issuer(name, url, "trailgate", given_keys=keys, **known)


async def test_a_ci_job_is_its_repository_and_who_started_it_is_kept(grants: Grants) -> None:
    signer = Signer("RSA")
    url = "https://token.actions.githubusercontent.com"
    claims = {"groups": "repository_owner", "triggered_by": "actor"}
    issuers = Issuers([given("github", url, signer, claims=claims)])
    grant = await TokenAuthenticator(issuers, grants).login(github(signer))
    assert grant.origin == Identity(url, "repo:shop/etl:environment:Production EU", "", "workload")
    assert (grant.groups, grant.login["triggered_by"]) == (("shop",), "alice")


async def test_a_gitlab_job_is_its_project_and_branch(grants: Grants) -> None:
    signer = Signer("RSA")
    url = "https://gitlab.example"
    token = signer.sign(
        iss=url,
        sub="project_path:shop/etl:ref_type:branch:ref:main",
        namespace_path="shop",
        user_login="alice",
        pipeline_id="7",
        jti="j",
        nbf=int(time.time()) - 5,
    )
    claims = {"groups": "namespace_path", "triggered_by": "user_login"}
    proof = await proved(given("gitlab", url, signer, claims=claims), token)
    assert proof.identity.subject == "project_path:shop/etl:ref_type:branch:ref:main"
    assert proof.groups == ("shop",) and proof.login["triggered_by"] == "alice"


async def test_a_service_account_is_verified_by_the_keys_of_its_cluster() -> None:
    signer, other = Signer("RSA"), Signer("RSA")
    claims = {"groups": "kubernetes.io.namespace", "name": "kubernetes.io.serviceaccount.name"}
    issuer = given("cluster", K8S, signer, claims=claims)
    proof = await proved(issuer, kubernetes(signer))
    assert proof.identity == Identity(
        K8S, "system:serviceaccount:batch:loader", "loader", "workload"
    )
    assert proof.groups == ("batch",)
    for token, named in (
        (kubernetes(other), "does not publish"),
        (kubernetes(signer, aud=["https://kubernetes.default.svc"]), "another audience"),
        (kubernetes(signer, iss="kubernetes/serviceaccount"), "not trusted"),
        (kubernetes(signer, exp=None), "lacks the claim 'exp'"),
    ):
        with pytest.raises(Refused) as refused:
            await proved(issuer, token)
        assert named in refused.value.refusal.reason


@pytest.fixture
async def bundle() -> AsyncIterator[tuple[str, list[dict[str, Any]]]]:
    """A SPIFFE bundle endpoint, and the keys that it has."""
    keys: list[dict[str, Any]] = []

    async def answer(request: Any) -> JSONResponse:
        return JSONResponse({"keys": keys, "spiffe_sequence": 1, "spiffe_refresh_hint": 300})

    serving = await serve_api(Starlette(routes=[Route("/bundle", answer)]))
    yield f"http://127.0.0.1:{serving.port}/bundle", keys
    await serving.close()


async def test_a_jwt_svid_is_its_spiffe_id_and_the_bundles_keys_rotate(
    bundle: tuple[str, list[dict[str, Any]]], grants: Grants
) -> None:
    url, keys = bundle
    signer, later = Signer(use="jwt-svid"), Signer(use="jwt-svid")
    x509 = Signer(use="x509-svid")
    keys += [signer.jwk, x509.jwk]
    issuer = Issuer("prod", DOMAIN, "trailgate", kind="workload", jwks_url=url)
    issuers = Issuers([issuer], pace=Pace(between_fetches=0.0))
    login = TokenAuthenticator(issuers, grants).login
    subject = f"{DOMAIN}/ns/batch/sa/loader"
    grant = await login(signer.sign(sub=subject))
    assert grant.origin == Identity(DOMAIN, subject, "", "workload")
    assert (await login(signer.sign(typ="JOSE", sub=subject))).origin == grant.origin
    keys.append(later.jwk)
    assert (await login(later.sign(sub=subject, iss="https://spire.example"))).origin.subject
    for token, named in (
        (x509.sign(sub=subject), "does not publish"),
        (Signer(use="jwt-svid").sign(sub=subject), "does not publish"),
        (signer.sign(sub=subject, aud="other"), "another audience"),
        (signer.sign(sub=subject, aud=None), "lacks the claim 'aud'"),
        (signer.sign(sub=subject, exp=None), "lacks the claim 'exp'"),
        (signer.sign(sub="spiffe://other.example/x"), "not trusted"),
        (signer.sign(sub=DOMAIN), "not trusted"),
        (signer.sign(sub=f"{DOMAIN}/../x"), "not trusted"),
        (signer.sign(sub=None), "not trusted"),
        (signer.sign(sub="alice", iss=DOMAIN), "not trusted|no SPIFFE ID"),
        (signer.sign(typ="dpop+jwt", sub=subject), "not an access token"),
    ):
        with pytest.raises(Refused) as refused:
            await login(token)
        reason = refused.value.refusal.reason
        assert any(part in reason for part in named.split("|")), (named, reason)
    await issuers.close()


@pytest.mark.parametrize(
    ("subject", "domain"),
    [
        (f"{DOMAIN}/a", DOMAIN),
        (f"{DOMAIN}/a/b-c_d.e", DOMAIN),
        (DOMAIN, ""),
        (f"{DOMAIN}/", ""),
        (f"{DOMAIN}/a/", ""),
        (f"{DOMAIN}//a", ""),
        (f"{DOMAIN}/a/../b", ""),
        (f"{DOMAIN}/./b", ""),
        (f"{DOMAIN}/a?b", ""),
        (f"{DOMAIN}/a#b", ""),
        (f"{DOMAIN}/a%2Fb", ""),
        (f"{DOMAIN}:8443/a", ""),
        ("spiffe://user@prod.example/a", ""),
        ("spiffe://PROD.example/a", ""),
        ("SPIFFE://prod.example/a", ""),
        ("https://prod.example/a", ""),
        (f"{DOMAIN}/" + "a" * 3000, ""),
        (7, ""),
        (None, ""),
    ],
)
def test_spiffe_ids_are_read_strictly(subject: object, domain: str) -> None:
    assert trust_domain_of(subject) == domain


def test_a_path_of_claims_passes_names_with_dots() -> None:
    claims = {"kubernetes.io": {"serviceaccount": {"name": "x"}}, "a": {"b.c": {"d": 1}}, "e.f": 2}
    for path, value in (
        ("kubernetes.io.serviceaccount.name", "x"),
        ("a.b.c.d", 1),
        ("e.f", 2),
        ("kubernetes.io.pod", None),
        ("kubernetes", None),
        ("", None),
        (".", None),
        ("a.b.c.d.e", None),
    ):
        assert lookup(claims, path) == value


# --- as objects ---------------------------------------------------------------------------------


def objects_of(tmp_path: Path, text: str) -> Any:
    path = tmp_path / "objects.yaml"
    path.write_text(text)
    return load_objects([path])[0]


async def test_objects_name_keys_by_file_by_url_and_in_place(tmp_path: Path) -> None:
    cluster, agent = Signer("RSA"), Signer()
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": [cluster.jwk]}))
    (tmp_path / "agent.jwk").write_text(json.dumps(agent.jwk))
    inline = {"kty": "EC", "crv": "P-256", "kid": "1", "x": agent.jwk["x"], "y": agent.jwk["y"]}
    objects = objects_of(
        tmp_path,
        f"""
issuer: cluster
url: {K8S}
audience: trailgate
subjects: workload
jwks: {{from: "file:jwks.json"}}
claims: {{groups: kubernetes.io.namespace}}
---
issuer: prod
kind: spiffe
url: {DOMAIN}
audience: trailgate
subjects: workload
jwks: {{url: "https://spire.example/bundle"}}
---
issuer: edge
url: https://edge.example
audience: trailgate
jwks: {{keys: [{json.dumps(inline)}]}}
---
agent: deployer
key: {{from: "file:agent.jwk"}}
---
agent: loader
issuer: cluster
subject: system:serviceaccount:batch:loader
""",
    )
    by_name = {issuer.name: issuer for issuer in issuers_of(objects)}
    proof = await proved(by_name["cluster"], kubernetes(cluster))
    assert proof.groups == ("batch",)
    assert by_name["prod"].jwks_url == "https://spire.example/bundle" and by_name["prod"].spiffe
    assert [dict(key) for key in by_name["edge"].given_keys] == [inline]
    names = names_of(objects)
    assert names.declared(K8S, "system:serviceaccount:batch:loader") == "loader"
    assert names.declared("trailgate:agents", "deployer") == "deployer"
    assert names.taken("deployer")


MISTAKES = [
    ("issuer: a\nurl: https://a.example\naudience: t\njwks: {}", "needs one source"),
    (
        'issuer: a\nurl: https://a.example\naudience: t\njwks: {url: "https://b", keys: []}',
        "one source",
    ),
    (
        'issuer: a\nurl: https://a.example\naudience: t\njwks: {url: "http://b.example"}',
        "not safe there",
    ),
    ("issuer: a\nurl: https://a.example\naudience: t\njwks: {keys: []}", "no public key"),
    (
        "issuer: a\nurl: https://a.example\naudience: t\njwks: {keys: [{kty: oct, k: eA}]}",
        "no public key",
    ),
    ('issuer: a\nurl: https://a.example\naudience: t\njwks: {from: "file:gone"}', "cannot be read"),
    ('issuer: a\nurl: https://a.example\naudience: t\njwks: {from: "file:text"}', "no JWK set"),
    (
        "issuer: a\nkind: spiffe\nurl: spiffe://a\naudience: t\nsubjects: workload",
        "keys of its bun",
    ),
    (
        'issuer: a\nkind: spiffe\nurl: https://a\naudience: t\njwks: {url: "https://b"}',
        "no trust domain",
    ),
    (
        'issuer: a\nkind: spiffe\nurl: spiffe://a\naudience: t\njwks: {url: "https://b"}',
        "names workloads",
    ),
    ("agent: a", "nothing proves it"),
    ("agent: a\nsubject: x", "belong together"),
    ('agent: a\nkey: {from: "file:text"}', "neither a PEM"),
]


@pytest.mark.parametrize(("text", "named"), MISTAKES)
def test_a_mistake_in_keys_is_named(tmp_path: Path, text: str, named: str) -> None:
    (tmp_path / "text").write_text("hello")
    with pytest.raises(ConfigError, match=named):
        objects_of(tmp_path, text)
