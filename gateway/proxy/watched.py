# SPDX-License-Identifier: GPL-3.0-or-later
"""Somebody who is told of each decision as it is made; `try` shows them to its user."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gateway.model import Decision, Operation, Session
from gateway.proxy.ports import Policy, SessionPolicy

Watch = Callable[[Session, Decision], None]
"""Told of decisions, on the loop: it must neither wait nor raise."""


@dataclass(frozen=True, slots=True)
class WatchedPolicy:
    """A `ports.Policy` that decides as `inner` does, and tells `watch`."""

    inner: Policy
    watch: Watch

    def for_session(self, session: Session) -> SessionPolicy:
        return _WatchedSession(self.inner.for_session(session), session, self.watch)

    def summary(self, session: Session) -> list[dict[str, str]]:
        return self.inner.summary(session)

    def gaps_allowed(self, session: Session) -> bool:
        return self.inner.gaps_allowed(session)


@dataclass(frozen=True, slots=True)
class _WatchedSession:
    inner: SessionPolicy
    session: Session
    watch: Watch

    def decide_now(self, operation: Operation) -> Decision | None:
        decision = self.inner.decide_now(operation)
        if decision is not None:
            self.watch(self.session, decision)
        return decision

    async def decide(self, operation: Operation, fact: Callable[[str], str | None]) -> Decision:
        decision = await self.inner.decide(operation, fact)
        self.watch(self.session, decision)
        return decision
