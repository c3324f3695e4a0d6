# SPDX-License-Identifier: GPL-3.0-or-later
"""A person's login from its beginning to the token: for a browser beside the command, or afar.

The command talks to the gateway only. The browser is bound to the login by a cookie (its ticket),
the provider's answer by `state` or a SAML request's id, the command by PKCE or its device code.
Phases: asked (device only), away, returned, proved, confirmed, redeemed; or denied.
"""

from __future__ import annotations

import base64
import hmac
import logging
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any

from gateway.identity.grants import Grants, Minted
from gateway.identity.handles import token_sha256
from gateway.identity.login.asking import Command, DeviceStart, LoginError, LoginOver, Sent
from gateway.identity.login.devices import PollTimes, new_user_code, plain_user_code
from gateway.identity.login.ports import LoginStore, Vault, Verified
from gateway.identity.login.refreshing import Refresher
from gateway.identity.login.relying import (
    OidcProvider,
    RelyingParty,
    challenge_of,
    new_verifier,
)
from gateway.identity.oidc import Issuers
from gateway.identity.refusal import check_first_use, refused, shown, unavailable
from gateway.identity.saml.logins import (
    answers_request,
    new_request_id,
    read_answer,
    request_url,
    verified_by,
)
from gateway.identity.saml.metadata import own_metadata
from gateway.identity.saml.response import SamlProvider
from gateway.model import Identity, PendingLogin, Refused

log = logging.getLogger(__name__)

LASTS = 600.0
"""Seconds for the person to log in and to confirm."""
CODE_LASTS = 60.0
"""RFC 6749 4.1.2: the code goes through a browser, so it must be short-lived."""
POLL_EVERY = 5
CAP = 10_000
CAP_OF_CLIENT = 200


class Logins:
    """All logins of people. `base` is the gateway's own URL, without a slash at its end."""

    def __init__(self, store: LoginStore, grants: Grants, issuers: Issuers, vault: Vault) -> None:
        self._store = store
        self._grants = grants
        self._issuers = issuers
        self._vault = vault
        self._parties: dict[str, RelyingParty] = {}
        self._saml: dict[str, SamlProvider] = {}
        self._polls = PollTimes(POLL_EVERY)
        self.refresher = Refresher(store, grants, vault, lambda name: self._parties.get(name))

    def replace(self, oidc: Iterable[OidcProvider], saml: Iterable[SamlProvider]) -> None:
        """People log in at these from now on."""
        known = {name: party for name, party in self._parties.items()}
        self._parties = {
            one.name: (
                known[one.name]
                if one.name in known and known[one.name].provider == one
                else RelyingParty(one, self._issuers, now=self._grants.now)
            )
            for one in oidc
        }
        self._saml = {one.name: one for one in saml}

    @property
    def providers(self) -> list[str]:
        """The names of the issuers at which people log in."""
        return sorted([*self._parties, *self._saml])

    def saml_metadata(self, issuer: str, base: str) -> str | None:
        """What a SAML provider needs to know of this gateway; None for an unknown issuer."""
        provider = self._saml.get(issuer)
        if provider is None:
            return None
        return own_metadata(provider.audience, acs_url(provider, base))

    # --- begin -----------------------------------------------------------------------------------

    async def begin_loopback(self, issuer: str, command: Command, client: str, base: str) -> Sent:
        """Send the browser away, on behalf of a command beside it. Raises Refused."""
        login = PendingLogin(
            id=secrets.token_hex(16),
            kind="loopback",
            phase="away",
            document={"command": asdict(command), "began": self._grants.now()},
            expires_at=self._grants.now() + LASTS,
            client=client,
        )
        login, sent = await self._away(login, issuer, base)
        await self._begin(login)
        return sent

    async def begin_device(self, client: str) -> DeviceStart:
        """A login that somebody confirms in a browser elsewhere (RFC 8628). Raises Refused."""
        start = DeviceStart(secrets.token_urlsafe(32), new_user_code())
        login = PendingLogin(
            id=secrets.token_hex(16),
            kind="device",
            phase="asked",
            document={"began": self._grants.now()},
            expires_at=self._grants.now() + LASTS,
            client=client,
            code_sha256=token_sha256(start.device_code),
            user_code_sha256=token_sha256(plain_user_code(start.user_code)),
        )
        await self._begin(login)
        return start

    async def _begin(self, login: PendingLogin) -> None:
        if not await self._store.begin(login, cap=CAP, cap_of_client=CAP_OF_CLIENT):
            raise unavailable("too many logins are under way; try again in some minutes", "cap")

    async def claim_device(self, user_code: str, issuer: str, base: str) -> Sent:
        """Send the browser away, on behalf of the terminal that shows this code. Raises Refused."""
        sha256 = token_sha256(plain_user_code(user_code))
        login = await self._live("user_code_sha256", sha256)
        if login is None or login.phase not in ("asked", "away"):
            raise refused("no login waits for this code: check it, or begin again at the terminal")
        login, sent = await self._away(replace(login, phase="away"), issuer, base)
        await self._move(login, "asked", "away")
        return sent

    async def _away(self, login: PendingLogin, issuer: str, base: str) -> tuple[PendingLogin, Sent]:
        """The login with new secrets, and the provider's page for it."""
        ticket, kept = secrets.token_urlsafe(32), {"issuer": issuer}
        if (party := self._parties.get(issuer)) is not None:
            outside = secrets.token_urlsafe(32)
            kept |= {"nonce": secrets.token_urlsafe(32), "verifier": new_verifier()}
            url = await party.authorization_url(
                redirect=_callback(party, base),
                state=outside,
                nonce=kept["nonce"],
                verifier=kept["verifier"],
            )
        elif (provider := self._saml.get(issuer)) is not None:
            outside = new_request_id()
            url = request_url(provider, outside, acs_url(provider, base), self._grants.now())
        else:
            raise refused("nobody logs in at that issuer here", f"issuer {shown(issuer)}")
        moved = replace(
            login,
            document={**login.document, **kept},
            ticket_sha256=token_sha256(ticket),
            outside_sha256=token_sha256(outside),
        )
        return moved, Sent(url, ticket)

    # --- back from the provider ------------------------------------------------------------------

    async def back_by_code(
        self, issuer: str, ticket: str, query: Mapping[str, str], base: str
    ) -> None:
        """The browser is back from an OpenID provider. Raises Refused; the login is over then."""
        login = await self._mine(ticket, "away")
        party = self._parties.get(issuer)
        state = token_sha256(query.get("state", ""))
        # Each provider has a callback of its own, so that one cannot answer for another.
        if party is None or login.document.get("issuer") != issuer:
            raise refused("the answer came from another provider than was asked", "mix-up")
        if not hmac.compare_digest(state, login.outside_sha256 or ""):
            raise refused("the answer belongs to another login: begin again", "state differs")
        await self._move(replace(login, phase="returned"), "away")
        try:
            verified = await self._by_code(party, login, query, base)
        except Refused as error:
            await self._move(replace(login, phase="denied"), "returned")
            raise LoginOver(error, login) from error
        await self._proved(login, verified, "returned")

    async def _by_code(
        self, party: RelyingParty, login: PendingLogin, query: Mapping[str, str], base: str
    ) -> Verified:
        await party.check_sender(query.get("iss"))
        if "error" in query or not query.get("code"):
            cause = f"issuer {party.provider.name}: {shown(query.get('error'))}"
            raise refused("the provider did not log you in", cause)
        return await party.redeem(
            query["code"],
            redirect=_callback(party, base),
            nonce=str(login.document["nonce"]),
            verifier=str(login.document["verifier"]),
        )

    async def back_by_saml(self, issuer: str, encoded: str, base: str) -> str:
        """A provider's answer was posted: a secret for the browser that did it. Raises Refused.

        The post comes from the provider's site, so the ticket is not there to be asked for. The
        one who began may have sent somebody else to the provider's page: what is proved is shown
        only to a browser that has both the ticket and this secret.
        """
        provider, now = self._saml.get(issuer), self._grants.now()
        if provider is None:
            raise refused("nobody logs in at that issuer here", f"issuer {shown(issuer)}")
        try:
            assertion, claims = await read_answer(encoded, provider, acs_url(provider, base), now)
        except Refused as error:
            answers = await answers_request(encoded)
            raise await self._over(error, await self._away_by_saml(answers, issuer)) from error
        seen = token_sha256(assertion.id)
        use = await self._store.first_use(provider.url, seen, assertion.good_until)
        check_first_use(use, "the provider's answer", f"issuer {issuer}")
        login = await self._away_by_saml(assertion.in_response_to, issuer)
        if login is None:
            raise refused("begin at the gateway: trailgate login", "unsolicited: no such request")
        try:
            verified = verified_by(assertion, claims, provider, self._issuers.names, now)
        except Refused as error:
            raise await self._over(error, login) from error
        posted = secrets.token_urlsafe(32)
        await self._proved(login, verified, "away", token_sha256(posted))
        return posted

    async def _away_by_saml(self, request_id: str, issuer: str) -> PendingLogin | None:
        """The login that waits for an answer to that request."""
        login = await self._live("outside_sha256", token_sha256(request_id))
        waits = login is not None and login.phase == "away"
        return login if waits and login and login.document.get("issuer") == issuer else None

    async def _over(self, error: Refused, login: PendingLogin | None) -> Refused:
        """End a login whose answer is refused. Nobody vouches for what the answer says it is to;
        but who knows the id of a request, which cannot be guessed, can end that login, no more."""
        if login is None or not await self._store.move(
            replace(login, phase="denied"), old=("away",)
        ):
            return error
        return LoginOver(error, login)

    async def _proved(
        self, login: PendingLogin, verified: Verified, old: str, posted: str = ""
    ) -> None:
        """`posted`: the SHA-256 of what the browser must show besides its ticket; empty: the
        ticket was there when it came back."""
        proof = {
            "identity": asdict(verified.identity),
            "groups": list(verified.groups),
            "expires_at": verified.expires_at,
            "login": dict(verified.login),
        }
        if verified.refresh_token:
            sealed = await self._vault.seal(verified.refresh_token.encode())
            proof["sealed"] = base64.b64encode(sealed).decode("ascii")
        kept = {key: login.document[key] for key in ("command", "began") if key in login.document}
        document = {**kept, "issuer": login.document["issuer"], "proof": proof, "posted": posted}
        await self._move(replace(login, phase="proved", document=document), old)

    # --- the person's word -----------------------------------------------------------------------

    async def waiting(self, ticket: str, posted: str) -> PendingLogin:
        """The login that this browser may confirm now. Raises Refused.

        `posted`: what it was given when it brought a posted answer; empty: nothing.
        """
        login = await self._mine(ticket, "proved")
        expected = login.document.get("posted")
        if expected is None or (
            expected and not hmac.compare_digest(token_sha256(posted), str(expected))
        ):
            cause = "the answer was posted by another browser than began"
            raise refused("the login was finished in another browser: begin again", cause)
        return login

    async def answer(
        self, ticket: str, posted: str, csrf: str, yes: bool
    ) -> tuple[PendingLogin, str]:
        """The person's word: the login, and the code for a command beside the browser."""
        login = await self.waiting(ticket, posted)
        if not hmac.compare_digest(csrf, csrf_of(ticket)):
            raise refused("the page is an old one: begin again", "csrf differs")
        code = ""
        moved = replace(login, phase="confirmed" if yes else "denied", ticket_sha256=None)
        if yes and login.kind == "loopback":
            code = secrets.token_urlsafe(32)
            ends = self._grants.now() + CODE_LASTS
            moved = replace(moved, code_sha256=token_sha256(code), expires_at=ends)
        await self._move(moved, "proved")
        return moved, code

    # --- the command's part ----------------------------------------------------------------------

    async def redeem_code(self, code: str, verifier: str, redirect: str) -> Minted:
        """The token for a command's code. Raises LoginError."""
        login = await self._live("code_sha256", token_sha256(code))
        if login is None or login.kind != "loopback":
            raise LoginError("invalid_grant", "the code is not known, or has expired")
        if login.phase == "redeemed":
            await self._used_twice(login)
        command = login.document["command"]
        good = login.phase == "confirmed" and command["redirect"] == redirect
        if not good or not verifier.isascii() or challenge_of(verifier) != command["challenge"]:
            # Whoever has the code but not its verifier has it from the browser: it is spoilt.
            await self._store.move(replace(login, phase="denied"), old=("confirmed",))
            raise LoginError("invalid_grant", "the code is another command's")
        return await self._mint(login)

    async def _used_twice(self, login: PendingLogin) -> None:
        """RFC 6749 4.1.2: what the first use gave is revoked."""
        given = str(login.document.get("grant", ""))
        await self._grants.revoke(given, "gateway", "its code was used twice")
        raise LoginError("invalid_grant", "the code was used before; what it gave is revoked")

    async def poll_device(self, device_code: str) -> Minted:
        """The token for a terminal, once somebody has confirmed. Raises LoginError."""
        sha256 = token_sha256(device_code)
        login = await self._live("code_sha256", sha256)
        if login is None or login.kind != "device":
            raise LoginError("expired_token", "nobody confirmed in time: begin again")
        if self._polls.too_soon(sha256):
            raise LoginError("slow_down", f"ask every {POLL_EVERY} seconds")
        if login.phase == "denied":
            raise LoginError("access_denied", "the login was refused in the browser")
        if login.phase == "redeemed":
            await self._used_twice(login)
        if login.phase != "confirmed":
            raise LoginError("authorization_pending", "nobody has confirmed yet")
        return await self._mint(login)

    async def _mint(self, login: PendingLogin) -> Minted:
        proof, now = login.document["proof"], self._grants.now()
        done = replace(login, phase="redeemed", document={}, expires_at=now + LASTS)
        if not await self._store.move(done, old=("confirmed",)):
            raise LoginError("invalid_grant", "the code was used before")
        lifetime = float(proof["expires_at"]) - now
        if lifetime <= 0:
            raise LoginError("invalid_grant", "the provider's login is over already")
        told = {**proof["login"], "interactive": True, "by": login.kind}
        minted = await self._grants.mint_root(
            Identity(**proof["identity"]), proof["groups"], lifetime, login=told
        )
        if "sealed" in proof:
            sealed = base64.b64decode(proof["sealed"])
            await self.refresher.keep(minted.grant, login.document["issuer"], sealed)
        await self._store.move(
            replace(done, document={"grant": minted.grant.id}), old=("redeemed",)
        )
        log.info(
            "person logged in",
            extra={"grant": minted.grant.id, "person": minted.grant.origin.label, "by": login.kind},
        )
        return minted

    # --- shared ----------------------------------------------------------------------------------

    async def _live(self, column: str, sha256: str) -> PendingLogin | None:
        login = await self._store.login_by(column, sha256)
        return login if login is not None and login.expires_at > self._grants.now() else None

    async def _mine(self, ticket: str, phase: str) -> PendingLogin:
        """The login that this browser began, in that phase. Raises Refused."""
        login = await self._live("ticket_sha256", token_sha256(ticket)) if ticket else None
        if login is None or login.phase != phase:
            raise refused(
                "this browser has no login under way: begin again",
                f"login in phase {login.phase if login else 'none'}, not {phase}",
            )
        return login

    async def _move(self, login: PendingLogin, *old: str) -> None:
        if not await self._store.move(login, old=old):
            raise refused("the login went on elsewhere: begin again", f"not in phase {old}")


def csrf_of(ticket: str) -> str:
    """What a form must carry: only a page that was made for this browser knows it."""
    return token_sha256("confirm:" + ticket)


def acs_url(provider: SamlProvider, base: str) -> str:
    return f"{base}/login/saml/{provider.name}/acs"


def _callback(party: RelyingParty, base: str) -> str:
    return party.provider.redirect or f"{base}/login/oidc/{party.provider.name}/callback"


def subject_of(login: PendingLogin) -> Mapping[str, Any]:
    """The identity that a proved login shows: issuer, subject, name."""
    identity: Mapping[str, Any] = login.document["proof"]["identity"]
    return identity
