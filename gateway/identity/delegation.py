# SPDX-License-Identifier: GPL-3.0-or-later
"""The token exchange (RFC 8693): a parent's token in, a child's narrower one out."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from typing import Protocol as Interface

from gateway.identity.assertions import AgentAssertions
from gateway.identity.grants import Grants, LimitReached, Minted
from gateway.identity.names import Names
from gateway.identity.oidc import Issuers, Proof
from gateway.identity.own_jwt import OwnJwts, TokenOf
from gateway.model import Grant, Hop, Refused

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
JWT = "urn:ietf:params:oauth:token-type:jwt"
TOKEN_TYPES = {
    ACCESS_TOKEN,
    JWT,
    "urn:ietf:params:oauth:token-type:id_token",
}
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
TOKEN_PATH = "/oauth/token"
ISOLATIONS = ("none", "uid", "namespace")
AGENT_NAME = re.compile(r"[a-z0-9._-]{1,64}")
TARGET_NAME = re.compile(r"[A-Za-z0-9._*+/-]{1,128}")
DETAILS_CAP = 16 * 1024
DETAILS_COUNT = 64
LONGEST = 366 * 86400.0
BOUNDS = "above 0 and at most 366 days"

CheckDetails = Callable[[Sequence[Mapping[str, Any]]], str | None]
"""Complains about selectors that policy would not understand; None: they are fine."""


class ExchangeError(Exception):
    """An OAuth error (RFC 6749 5.2): `code` and a description that is safe for the client."""

    def __init__(self, code: str, description: str, cause: str = "") -> None:
        super().__init__(cause or description)
        self.code = code
        self.description = description


class Login(Interface):
    """How a subject token becomes a grant."""

    async def login(self, token: str) -> Grant: ...


@dataclass(frozen=True, slots=True)
class ExchangeRequest:
    """A parsed request; None: not asked for."""

    subject_token: str
    actor_token: str | None
    agent_name: str | None
    narrowing: Mapping[str, object] | None
    lifetime: float | None
    lease: float | None
    assertion: str | None = None
    """By which an agent authenticates as the client; it proves the actor too."""
    isolation: str = "none"
    token_type: str = ACCESS_TOKEN

    def __repr__(self) -> str:
        return f"ExchangeRequest(agent_name={self.agent_name!r})"


class TokenExchange:
    """Answers exchange requests. `audience` is this endpoint's URL, for which actor tokens are."""

    def __init__(
        self,
        login: Login,
        issuers: Issuers,
        grants: Grants,
        *,
        audience: str,
        check_details: CheckDetails | None = None,
        agents: AgentAssertions | None = None,
        jwts: OwnJwts | None = None,
    ) -> None:
        self._login = login
        self._issuers = issuers
        self._grants = grants
        self._audience = audience
        self._audiences = (audience, audience.removesuffix(TOKEN_PATH))
        self._check_details = check_details
        self._agents = agents
        self._jwts = jwts

    async def exchange(self, form: Mapping[str, str]) -> Minted:
        """Mint a child of the subject token's grant. Raises ExchangeError."""
        request = parse_request(form)
        self.check_narrowing(request.narrowing)
        token_of = self.token_of(request.token_type)
        try:
            parent = await self._login.login(request.subject_token)
            actor = await self._actor(request)
            check_may_act(parent, actor)
            return await self._mint(request, parent, actor, token_of)
        except Refused as refusal:
            unavailable = refusal.refusal.kind == "unavailable"
            # RFC 8693 2.2.2: an unacceptable token is invalid_request.
            code = "temporarily_unavailable" if unavailable else "invalid_request"
            raise ExchangeError(code, refusal.refusal.reason, str(refusal)) from refusal
        except LimitReached as limit:
            raise ExchangeError("invalid_request", str(limit)) from limit

    async def _actor(self, request: ExchangeRequest) -> Proof | None:
        """Who acts, proved by an actor token or as the client; both must be the same."""
        client = actor = None
        if request.assertion is not None:
            if self._agents is None:
                raise ExchangeError("invalid_client", "no agent here has a key")
            client = await verified_client(self._agents, request.assertion, self._audiences)
        if request.actor_token is not None:
            actor = await self._proved(request.actor_token)
        if client and actor and client.identity != actor.identity:
            raise ExchangeError("invalid_client", "client_assertion and actor_token differ")
        return actor or client

    async def _proved(self, token: str) -> Proof:
        """Whom an actor token proves: a workload by its issuer, or an agent by a key of its own."""
        if self._agents is not None and self._agents.signs(token):
            return await self._agents.verify(token, (self._audience,))
        return await self._issuers.verify(token, (self._audience,))

    def token_of(self, token_type: str) -> TokenOf | None:
        """How the token is written; None: as a handle. Raises ExchangeError."""
        if token_type == ACCESS_TOKEN:
            return None
        if self._jwts is None:
            raise ExchangeError("invalid_request", "requested_token_type: no JWTs are made here")
        return self._jwts.token_of

    def check_narrowing(self, narrowing: Mapping[str, object] | None) -> None:
        """Raises ExchangeError for selectors that policy would not understand."""
        details = (narrowing or {}).get("authorization_details")
        if self._check_details is not None and isinstance(details, list):
            complaint = self._check_details(details)
            if complaint is not None:
                raise ExchangeError("invalid_authorization_details", complaint)

    async def _mint(
        self,
        request: ExchangeRequest,
        parent: Grant,
        actor: Proof | None,
        token_of: TokenOf | None,
    ) -> Minted:
        now = self._grants.now()
        ends = [parent.expires_at]
        if token_of is not None:
            ends.append(now + OwnJwts.longest)
        if actor is not None:
            ends.append(actor.expires_at)
        if request.lifetime is not None:
            ends.append(now + request.lifetime)
        return await self._grants.mint_child(
            parent,
            _hop(request, actor, self._issuers.names),
            narrowing=request.narrowing,
            expires_at=min(ends),
            lease=request.lease,
            actor_groups=actor.groups if actor else (),
            actor_login=actor.login if actor else None,
            token_of=token_of,
        )


def _hop(request: ExchangeRequest, actor: Proof | None, names: Names) -> Hop:
    """A proved hop has its agent object's name, and no parent may call it by another's."""
    asked = request.agent_name
    if actor is None:
        return Hop(name=asked or "", isolation=request.isolation)
    if actor.declared and asked not in (None, actor.declared):
        raise ExchangeError("invalid_request", f"agent_name: the actor_token is {actor.declared}'s")
    if not actor.declared and asked is not None and names.taken(asked):
        raise ExchangeError("invalid_request", "agent_name: the actor_token is not that agent's")
    name = actor.declared or asked or actor.identity.label
    return Hop(name, True, actor.identity, isolation=request.isolation)


async def verified_client(
    agents: AgentAssertions, assertion: str, audiences: Sequence[str]
) -> Proof:
    """The agent that authenticates as the client. Raises ExchangeError (RFC 7521 4.2.1)."""
    try:
        return await agents.verify(assertion, [one for one in audiences if one])
    except Refused as refusal:
        unavailable = refusal.refusal.kind == "unavailable"
        code = "temporarily_unavailable" if unavailable else "invalid_client"
        raise ExchangeError(code, refusal.refusal.reason, str(refusal)) from refusal


def check_may_act(parent: Grant, actor: Proof | None) -> None:
    """RFC 8693 4.4: an origin's token may name who alone may act for it. Raises ExchangeError."""
    named = parent.login.get("may_act")
    if named is None or parent.chain:
        return
    if actor is None:
        raise ExchangeError("invalid_request", "the token's may_act asks for an actor_token")
    expected = {"iss": parent.origin.issuer, **(named if isinstance(named, dict) else {})}
    given = {"iss": actor.identity.issuer, "sub": actor.identity.subject}
    if "sub" not in expected or any(given.get(key) != value for key, value in expected.items()):
        raise ExchangeError("invalid_request", "the token's may_act names another actor")


def checked_assertion(form: Mapping[str, str]) -> str:
    """The client assertion of a request. Raises ExchangeError."""
    if "client_secret" in form:
        raise ExchangeError("invalid_client", "client secrets are not taken: sign an assertion")
    if form.get("client_assertion_type") != ASSERTION_TYPE:
        raise ExchangeError("invalid_client", f"client_assertion_type must be {ASSERTION_TYPE}")
    if not form.get("client_assertion"):
        raise ExchangeError("invalid_client", "client_assertion is missing")
    return form["client_assertion"]


def parse_request(form: Mapping[str, str]) -> ExchangeRequest:
    """Check the form of a request. Raises ExchangeError."""
    if form.get("grant_type") != GRANT_TYPE:
        raise ExchangeError("unsupported_grant_type", f"grant_type must be {GRANT_TYPE}")
    if not form.get("subject_token"):
        raise ExchangeError("invalid_request", "subject_token is missing")
    _check_type(form, "subject_token_type", required=True)
    actor_token = form.get("actor_token") or None
    _check_type(form, "actor_token_type", required=actor_token is not None)
    if "actor_token_type" in form and actor_token is None:
        raise ExchangeError("invalid_request", "actor_token_type without actor_token")
    name = form.get("agent_name")
    if name is not None and not AGENT_NAME.fullmatch(name):
        raise ExchangeError("invalid_request", "agent_name must match [a-z0-9._-]{1,64}")
    named = {"client_assertion", "client_assertion_type", "client_secret"} & set(form)
    assertion = checked_assertion(form) if named else None
    if name is None and actor_token is None and assertion is None:
        raise ExchangeError("invalid_request", "agent_name or actor_token must say who acts")
    return ExchangeRequest(
        subject_token=form["subject_token"],
        actor_token=actor_token,
        agent_name=name,
        narrowing=parse_narrowing(form),
        lifetime=parse_seconds(form, "expires_in"),
        lease=parse_seconds(form, "lease"),
        assertion=assertion,
        isolation=_one_of(form, "isolation", ISOLATIONS),
        token_type=_one_of(form, "requested_token_type", (ACCESS_TOKEN, JWT)),
    )


def _one_of(form: Mapping[str, str], name: str, known: Sequence[str]) -> str:
    value = form.get(name, known[0])
    if value not in known:
        raise ExchangeError("invalid_request", f"{name} must be one of {', '.join(known)}")
    return value


def _check_type(form: Mapping[str, str], name: str, *, required: bool) -> None:
    if name not in form and not required:
        return
    if form.get(name) not in TOKEN_TYPES:
        raise ExchangeError("invalid_request", f"{name} must be {ACCESS_TOKEN} or the jwt type")


def parse_seconds(form: Mapping[str, str], name: str) -> float | None:
    if name not in form:
        return None
    try:
        seconds = float(form[name])
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= LONGEST:
        raise ExchangeError("invalid_request", f"{name} must be a number of seconds, {BOUNDS}")
    return seconds


def parse_narrowing(form: Mapping[str, str]) -> Mapping[str, object] | None:
    """What this hop narrows: absent parts narrow nothing, empty ones leave nothing."""
    entry: dict[str, object] = {}
    if "authorization_details" in form:
        entry["authorization_details"] = parse_details(form["authorization_details"])
    if "scope" in form:
        entry["scope"] = parse_scope(form["scope"])
    return entry or None


def parse_scope(text: str) -> list[str]:
    """Target names, space-delimited (RFC 6749 3.3)."""
    names = text.split()
    if not all(TARGET_NAME.fullmatch(name) for name in names):
        raise ExchangeError("invalid_scope", "scope must be names of targets")
    return list(dict.fromkeys(names))


def parse_details(text: str) -> list[dict[str, Any]]:
    """RFC 9396 objects of our type. What the selectors mean is policy's to say."""
    if len(text) > DETAILS_CAP:
        raise _details_error(f"is over {DETAILS_CAP} bytes")
    try:
        details = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise _details_error("is not JSON") from None
    if not isinstance(details, list) or len(details) > DETAILS_COUNT:
        raise _details_error(f"must be a list of at most {DETAILS_COUNT} objects")
    for place, element in enumerate(details):
        if not isinstance(element, dict) or element.get("type") != "trailgate":
            raise _details_error(f'element {place} must be an object of type "trailgate"')
        targets = element.get("targets", [])
        if not isinstance(targets, list) or not all(isinstance(name, str) for name in targets):
            raise _details_error(f"element {place}: targets must be a list of names")
        if not all(isinstance(element[key], dict) for key in set(element) - {"type", "targets"}):
            raise _details_error(f"element {place}: selectors must be objects, e.g. sql: {{...}}")
    return details


def _no_constant(name: str) -> float:
    raise ValueError(name)


def _details_error(what: str) -> ExchangeError:
    return ExchangeError("invalid_authorization_details", f"authorization_details {what}")
