# SPDX-License-Identifier: GPL-3.0-or-later
"""A gateway's API at which people log in, and providers that can misbehave.

Everything is real but the providers' pages: whoever comes is logged in as `provider.subject`.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from gateway.admin.api.app import build_api
from gateway.admin.api.services import Services
from gateway.admin.api.serving import serve_api
from gateway.credentials.master import KeyRing, LocalKey
from gateway.credentials.sealer import Sealer
from gateway.identity.authenticator import TokenAuthenticator
from gateway.identity.embedded_issuer import EmbeddedIssuer
from gateway.identity.grants import Grants
from gateway.identity.jwks import Pace
from gateway.identity.login.flows import Logins
from gateway.identity.login.relying import OidcProvider, challenge_of, new_verifier
from gateway.identity.login.throttle import LoginLimits
from gateway.identity.names import Names
from gateway.identity.oidc import Issuer, Issuers
from gateway.store.grants import StoredGrants
from gateway.store.logins import StoredLogins
from gateway.store.secrets import StoredSecrets
from gateway.store.sqlite import SqliteDatabase
from gateway.wiring.providers import SealedTokens
from tests.identity.saml_signing import ENTITY, Idp

REDIRECT = "http://127.0.0.1:49152/callback"
IDP = Idp()
CLIENT, SECRET = "trailgate-client", "s3cret:with/odd chars"


class Provider:
    """An OpenID provider whose every answer can be changed by a test."""

    def __init__(self) -> None:
        self.signer = EmbeddedIssuer()
        self.subject = "00u1"
        self.groups: list[str] | None = ["dba"]
        self.changes: dict[str, Any] = {}
        """Claims of ID tokens that stand in for its own."""
        self.answer: dict[str, str] = {}
        """Parameters of the way back that stand in for its own; empty: left out."""
        self.discovery: dict[str, Any] = {}
        self.refreshes = False
        self.userinfo: dict[str, Any] | None = None
        self.failing: tuple[int, dict[str, Any]] | None = None
        """What the token endpoint answers instead."""
        self.codes: dict[str, dict[str, str]] = {}
        self.seen: list[dict[str, str]] = []
        """Authorization requests."""
        self.forms: list[dict[str, str]] = []
        """Token requests."""
        self.tokens: set[str] = set()
        self.app = Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self._discovery),
                Route("/jwks", self.signer._jwks),
                Route("/auth", self._auth),
                Route("/token", self._token, methods=["POST"]),
                Route("/userinfo", self._userinfo),
            ]
        )

    @property
    def url(self) -> str:
        return self.signer.url

    async def _discovery(self, request: Request) -> Response:
        document = {
            "issuer": self.url,
            "jwks_uri": f"{self.url}/jwks",
            "authorization_endpoint": f"{self.url}/auth",
            "token_endpoint": f"{self.url}/token",
            "authorization_response_iss_parameter_supported": True,
            **({"userinfo_endpoint": f"{self.url}/userinfo"} if self.userinfo else {}),
            **self.discovery,
        }
        return JSONResponse(document)

    async def _auth(self, request: Request) -> Response:
        asked = dict(request.query_params)
        self.seen.append(asked)
        code = secrets.token_urlsafe(16)
        self.codes[code] = asked
        answer = {"code": code, "state": asked["state"], "iss": self.url, **self.answer}
        kept = {name: value for name, value in answer.items() if value}
        return RedirectResponse(f"{asked['redirect_uri']}?{urlencode(kept)}", 302)

    async def _token(self, request: Request) -> Response:
        form = dict(parse_qsl((await request.body()).decode()))
        self.forms.append({**form, "authorization": request.headers.get("authorization", "")})
        if self.failing is not None:
            return JSONResponse(self.failing[1], self.failing[0])
        expected = (
            "Basic " + base64.b64encode(b"trailgate-client:s3cret%3Awith%2Fodd%20chars").decode()
        )
        if request.headers.get("authorization") != expected:
            return JSONResponse({"error": "invalid_client"}, 401)
        if form["grant_type"] == "refresh_token":
            if form["refresh_token"] not in self.tokens:
                return JSONResponse({"error": "invalid_grant"}, 400)
            self.tokens.discard(form["refresh_token"])
            return self._tokens(None)
        asked = self.codes.pop(form.get("code", ""), None)
        verifier = form.get("code_verifier", "")
        good = (
            asked is not None
            and asked["redirect_uri"] == form["redirect_uri"]
            and asked["code_challenge"] == challenge_of(verifier)
        )
        if not good or asked is None:
            return JSONResponse({"error": "invalid_grant"}, 400)
        return self._tokens(asked["nonce"])

    def _tokens(self, nonce: str | None) -> Response:
        claims: dict[str, Any] = {} if nonce is None else {"nonce": nonce}
        claims |= {"name": "Alice", "auth_time": int(time.time()), "amr": ["pwd"]}
        if self.groups is not None:
            claims["groups"] = self.groups
        claims |= self.changes
        document = {
            "access_token": "provider-access-token",
            "token_type": "Bearer",
            "id_token": self.signer.sign(self.subject, audience=CLIENT, claims=claims),
        }
        if self.refreshes:
            document["refresh_token"] = "provider-refresh-" + secrets.token_urlsafe(16)
            self.tokens.add(document["refresh_token"])
        return JSONResponse(document)

    async def _userinfo(self, request: Request) -> Response:
        assert request.headers["authorization"] == "Bearer provider-access-token"
        return JSONResponse(self.userinfo)


@dataclass
class World:
    """The parts that a test may turn."""

    url: str
    provider: Provider
    other: Provider
    idp: Idp
    grants: Grants
    logins: Logins
    issuers: Issuers
    clock: Any
    folder: Path
    make_logins: Callable[[], Logins]

    def another_node(self) -> Logins:
        """The same logins, as another node on the same store has them."""
        return self.make_logins()

    def browser(self) -> httpx.AsyncClient:
        """A browser with cookies of its own, which follows nothing by itself."""
        return httpx.AsyncClient(base_url=self.url, trust_env=False)

    async def get(self, path: str, token: str) -> httpx.Response:
        async with self.browser() as client:
            return await client.get(path, headers={"authorization": f"Bearer {token}"})


@dataclass
class Cli:
    """The command's side of a login."""

    world: World
    verifier: str = field(default_factory=new_verifier)
    state: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    redirect: str = REDIRECT

    def query(self, **more: str) -> dict[str, str]:
        given = {
            "response_type": "code",
            "redirect_uri": self.redirect,
            "code_challenge": challenge_of(self.verifier),
            "code_challenge_method": "S256",
            "state": self.state,
            "issuer": "corp",
            **more,
        }
        return {name: value for name, value in given.items() if value}

    async def redeem(self, code: str, **more: str) -> httpx.Response:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "code_verifier": self.verifier,
            "redirect_uri": self.redirect,
            **more,
        }
        async with self.world.browser() as client:
            return await client.post("/login/token", data=form)


def parameters(answer: httpx.Response) -> dict[str, str]:
    """Those of a redirect's target."""
    assert answer.status_code in (302, 303), answer.text
    return dict(parse_qsl(urlsplit(answer.headers["location"]).query))


def hidden(page: str, name: str) -> str:
    return page.partition(f'name="{name}" value="')[2].partition('"')[0]


async def to_provider(browser: httpx.AsyncClient, cli: Cli, **more: str) -> str:
    """Begin; the address at the provider."""
    answer = await browser.get("/login/authorize", params=cli.query(**more))
    assert answer.status_code == 303, answer.text
    return str(answer.headers["location"])


async def at_provider(url: str) -> str:
    """Log in there; the address back at the gateway."""
    async with httpx.AsyncClient(trust_env=False) as client:
        return str((await client.get(url)).headers["location"])


async def confirmed(browser: httpx.AsyncClient, answer: str = "yes") -> httpx.Response:
    """Say yes, or no, on the page that asks."""
    page = await browser.get("/login/confirm")
    assert page.status_code == 200, page.text
    form = {"csrf": hidden(page.text, "csrf"), "answer": answer}
    return await browser.post("/login/confirm", data=form)


async def logged_in(world: World, browser: httpx.AsyncClient, cli: Cli) -> Mapping[str, Any]:
    """A whole login by OpenID; the answer to the command."""
    back = await at_provider(await to_provider(browser, cli))
    answer = await browser.get(back)
    assert answer.status_code == 303, answer.text
    given = parameters(await confirmed(browser))
    assert given["state"] == cli.state and given["iss"] == world.url
    answer = await cli.redeem(given["code"])
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


@asynccontextmanager
async def world_at(folder: Path, clock: Any) -> AsyncIterator[World]:
    """Everything, served on loopback."""
    provider, other = Provider(), Provider()
    servings = [await serve_api(one.app) for one in (provider, other)]
    for one, serving in zip((provider, other), servings, strict=True):
        one.signer.url = f"http://127.0.0.1:{serving.port}"
    trusted = [Issuer("corp", provider.url, "trailgate"), Issuer("rival", other.url, "trailgate")]
    alice = {(provider.url, "00u1"): "alice", (ENTITY, "alice@example.com"): "alice"}
    issuers = Issuers(trusted, names=Names(alice), pace=Pace(between_fetches=0.0), now=clock)
    store = await SqliteDatabase.open(folder / "store.db")
    grants = Grants(StoredGrants(store), now=clock)
    grants.kin = lambda who: issuers.names.kin(who.issuer, who.subject)
    secrets_kept = StoredSecrets(store)
    sealer = Sealer(secrets_kept, KeyRing(LocalKey(secrets.token_bytes(32))))

    def make_logins() -> Logins:
        made = Logins(StoredLogins(store), grants, issuers, SealedTokens(sealer))
        scopes = ("openid", "groups")
        made.replace(
            [OidcProvider(one, CLIENT, SECRET, scopes) for one in trusted], [IDP.provider()]
        )
        return made

    logins = make_logins()
    services = Services(TokenAuthenticator(issuers, grants), grants, issuers, "", logins=logins)
    app = build_api(services)
    serving = await serve_api(app)
    url = f"http://127.0.0.1:{serving.port}"
    # Allowances refill when a test turns the clock, however slow the machine is.
    limits = LoginLimits(now=lambda: float(clock.ahead))
    authenticator = TokenAuthenticator(issuers, grants)
    app.state.services = Services(
        authenticator, grants, issuers, url, logins=logins, login_limits=limits
    )
    yield World(url, provider, other, IDP, grants, logins, issuers, clock, folder, make_logins)
    await asyncio.gather(*(one.close() for one in (serving, *servings)))
    await issuers.close()
    await store.close()
