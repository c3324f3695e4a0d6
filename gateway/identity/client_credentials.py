# SPDX-License-Identifier: GPL-3.0-or-later
"""An agent's own login: client_credentials (RFC 6749 4.4) with a client assertion (RFC 7523 2.2).

No client secret is taken: what is shared can be copied, and says nothing about who shows it.
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway.identity.assertions import AGENT_LIFETIME, AgentAssertions
from gateway.identity.delegation import (
    ACCESS_TOKEN,
    ExchangeError,
    TokenExchange,
    checked_assertion,
    parse_narrowing,
    parse_seconds,
    verified_client,
)
from gateway.identity.grants import Grants, Minted
from gateway.identity.own_jwt import OwnJwts
from gateway.model import Refused

GRANT_TYPE = "client_credentials"


class ClientCredentials:
    """Answers such requests. `audiences`: what an assertion may be made for."""

    def __init__(
        self,
        agents: AgentAssertions,
        grants: Grants,
        exchange: TokenExchange,
        audiences: tuple[str, ...],
    ) -> None:
        self._agents = agents
        self._grants = grants
        self._exchange = exchange
        self._audiences = audiences

    async def login(self, form: Mapping[str, str]) -> Minted:
        """A root grant for the agent that signed the assertion. Raises ExchangeError."""
        assertion = checked_assertion(form)
        narrowing, lifetime = parse_narrowing(form), parse_seconds(form, "expires_in")
        self._exchange.check_narrowing(narrowing)
        token_of = self._exchange.token_of(form.get("requested_token_type", ACCESS_TOKEN))
        proof = await verified_client(self._agents, assertion, self._audiences)
        try:
            if form.get("client_id", proof.identity.subject) != proof.identity.subject:
                raise ExchangeError("invalid_client", "client_id is not the assertion's subject")
            longest = AGENT_LIFETIME if token_of is None else min(AGENT_LIFETIME, OwnJwts.longest)
            return await self._grants.mint_root(
                proof.identity,
                proof.groups,
                min(lifetime or longest, longest),
                login=proof.login,
                narrowing=narrowing,
                token_of=token_of,
            )
        except Refused as refusal:
            reason = refusal.refusal.reason
            raise ExchangeError("temporarily_unavailable", reason, str(refusal)) from refusal
