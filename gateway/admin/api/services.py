# SPDX-License-Identifier: GPL-3.0-or-later
"""What the API needs of the rest of the gateway; `app` passes it all in one typed object."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from typing import Protocol as Interface

from prometheus_client import REGISTRY, CollectorRegistry

from gateway.config import Objects
from gateway.declare.declarer import Declarer
from gateway.declare.ports import SecretKeeper
from gateway.declare.rights import Rights
from gateway.identity.assertions import AgentAssertions
from gateway.identity.client_credentials import ClientCredentials
from gateway.identity.delegation import TOKEN_PATH, CheckDetails, TokenExchange
from gateway.identity.grants import Grants
from gateway.identity.login.flows import Logins
from gateway.identity.login.throttle import LoginLimits
from gateway.identity.oidc import Issuers
from gateway.identity.own_jwt import OwnJwts
from gateway.identity.signing import SigningKeys
from gateway.model import Credential, Grant
from gateway.proxy.ports import Authenticator

__all__ = ["ReadyCheck", "SecretKeeper", "Services", "SessionsView", "TargetDirectory"]

ReadyCheck = Callable[[], Awaitable[str | None]]
"""Complains, in words that anyone may read, or returns None."""


class SessionsView(Interface):
    """Sessions that are open now."""

    async def live(self, *, own: bool = False) -> Sequence[Mapping[str, Any]]:
        """One document a session, as `sessions list` prints it; `id` and `grant` at least.

        Of all nodes that share the store, or of this one alone (`own`).
        """

    async def kill_session(self, session_id: str, reason: str) -> bool:
        """End a session, or have its node end it; False when none of that id is open."""


class TargetDirectory(Interface):
    """Targets as clients address them through this gateway."""

    def reachable(self, grant: Grant | None) -> Sequence[Mapping[str, Any]]:
        """Targets that a grant may try (None: all): name, protocol, host, port, database, user,
        own_listener, and tls (false: that listener takes plain links only)."""


class KeyKeeping(Interface):
    """The wrapped keys of recorded sessions."""

    async def erase(self, session: str) -> Mapping[str, Any]:
        """Erase a session's key: what was sealed under it can never be opened again.

        {"session", "state": "erased" or "pending", "cause"}. Raises ValueError, whose text says
        why it may not be.
        """


class CredentialDesk(Interface):
    """Credentials and their secrets. Nothing here gives a secret back. Raises VaultFailed."""

    def declared(self, name: str) -> Credential | None: ...

    async def listed(self) -> Sequence[Mapping[str, Any]]:
        """A document for each credential."""

    async def versions(self, name: str) -> Sequence[Mapping[str, Any]]:
        """The history of one; empty where the vault never held it."""

    async def set_secret(self, name: str, secret: str, by: str, account: str) -> Mapping[str, Any]:
        """Put a secret in force, or keep it for the account whose turn is next: {"name",
        "version", "state"}. Raises RotationFailed for an account that has no part in it."""

    async def drop_secret(self, name: str, by: str) -> None: ...

    async def rotate(
        self, name: str, by: str, max_age: float | None, force: bool
    ) -> Mapping[str, Any]:
        """Begin a rotation: {"changed", "rotation"}. Raises RotationFailed."""

    async def rotations(self, name: str) -> Sequence[Mapping[str, Any]]:
        """The latest rotations of one, newest first."""

    async def rewrap(self, everything: bool, after: str) -> Mapping[str, Any]:
        """Wrap keys under the current master key; `next` says where to go on, None: all done."""


class NoSessions:
    """For a gateway without a proxy."""

    async def live(self, *, own: bool = False) -> Sequence[Mapping[str, Any]]:
        return ()

    async def kill_session(self, session_id: str, reason: str) -> bool:
        return False


class NoTargets:
    """For a gateway without targets."""

    def reachable(self, grant: Grant | None) -> Sequence[Mapping[str, Any]]:
        return ()


@dataclass(frozen=True, slots=True)
class Services:
    """The parts behind the API. `url` is where clients reach it, without a slash at its end."""

    authenticator: Authenticator
    grants: Grants
    issuers: Issuers
    url: str
    sessions: SessionsView = field(default_factory=NoSessions)
    targets: TargetDirectory = field(default_factory=NoTargets)
    ready: Mapping[str, ReadyCheck] = field(default_factory=dict)
    metrics: CollectorRegistry = REGISTRY
    check_details: CheckDetails | None = None
    keeping: KeyKeeping | None = None
    declarer: Declarer | None = None
    """None: this gateway's objects cannot be asked for or changed."""
    rights: Rights = field(default_factory=lambda: Rights(Objects))
    agents: AgentAssertions | None = None
    """Agents that prove themselves by a key of their own."""
    signing: SigningKeys | None = None
    """None: tokens are handles only."""
    logins: Logins | None = None
    """None: people do not log in here."""
    login_limits: LoginLimits = field(default_factory=LoginLimits)
    ca_pem: str = ""
    """Certificates that clients need to trust this gateway's listeners; empty: public ones."""
    credentials: CredentialDesk | None = None
    noted: Callable[[Mapping[str, Any]], object] = lambda event: None
    """Takes what happened here outside of sessions, for the node's record."""

    def exchange(self) -> TokenExchange:
        """The token exchange, whose actor tokens are made for this API's own endpoint."""
        jwts = OwnJwts(self.signing, self.url) if self.signing and self.url else None
        return TokenExchange(
            self.authenticator,
            self.issuers,
            self.grants,
            audience=self.url + TOKEN_PATH,
            check_details=self.check_details,
            agents=self.agents,
            jwts=jwts,
        )

    def client_credentials(self) -> ClientCredentials | None:
        """The login of agents that sign for themselves; None: there are none."""
        if self.agents is None:
            return None
        audiences = (self.url + TOKEN_PATH, self.url)
        return ClientCredentials(self.agents, self.grants, self.exchange(), audiences)
