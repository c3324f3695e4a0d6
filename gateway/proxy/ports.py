# SPDX-License-Identifier: GPL-3.0-or-later
"""What the relay needs of the record, of policy and of identity; `app` passes implementations."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from typing import Protocol as Interface

from gateway.model import (
    Credential,
    Decision,
    Grant,
    Level,
    Operation,
    RecordFailed,
    Refused,
    Session,
    Target,
)

__all__ = [
    "Authenticator",
    "Catalog",
    "Policy",
    "RecordFailed",
    "Recorder",
    "Refused",
    "Renewed",
    "SessionPolicy",
    "SessionRecord",
]

Renewed = Callable[[Credential], Awaitable[Sequence[Credential]]]
"""What else may be in force where a target refused a credential; nothing where that cannot be
known. Never raises."""


class SessionRecord(Interface):
    """The record of one session; every method but `close` returns at once."""

    id: str
    ordinal: int

    def append(
        self, kind: str, party: str, payload: bytes, meta: bytes = b"{}", operation: int = 0
    ) -> int:
        """Seal and append one frame; return its journal position. Raises RecordFailed.

        kind: request (bytes from the client), answer (bytes to the client), sent (our own bytes to
        the target), kept (the target's bytes that answer ours), event (no bytes).
        party: client, target or own. meta: a JSON object.
        """

    def allow_gaps(self, allowed: Callable[[], bool]) -> None:
        """From now on `append` does not raise for want of room, while `allowed()` says so: what is
        missing is told in the record as a gap."""

    async def close(self, reason: str, summary: Mapping[str, Any]) -> None:
        """Write the close frame from reserved space, and the close leaf. Idempotent."""


class Recorder(Interface):
    """The node's record."""

    async def open(self, opening: Mapping[str, Any], grant: Grant) -> SessionRecord:
        """Give a session its id and ordinal; its key wrap and open frame are durable at return.

        The open frame cites the record of `grant`, which is opened before where it is not open.
        """

    def refused(self, event: Mapping[str, Any]) -> None:
        """Count and record one refused login or link, rate-bounded. Never raises."""

    def reached(self, position: int, level: Level) -> bool:
        """True when everything up to `position` is as durable as `level` asks."""

    def when_reached(self, position: int, level: Level, then: Callable[[bool], None]) -> None:
        """Call `then(True)` on the loop once reached, `then(False)` if the record failed first."""


class SessionPolicy(Interface):
    """Policy as it stands for one session."""

    def decide_now(self, operation: Operation) -> Decision | None:
        """A decision from the cache, or None. Never waits, never raises."""

    async def decide(self, operation: Operation, fact: Callable[[str], str | None]) -> Decision:
        """Analyse and decide. Any exception is a denial (the relay makes it one)."""


class Policy(Interface):
    """The policies in force."""

    def for_session(self, session: Session) -> SessionPolicy: ...

    def summary(self, session: Session) -> list[dict[str, str]]:
        """Documents that match: [{"name", "version", "mode"}]. Empty: nothing is allowed."""

    def gaps_allowed(self, session: Session) -> bool:
        """Whether all that match let it go on while there is no room for the record."""


class Authenticator(Interface):
    """Who is calling."""

    async def login(self, token: str) -> Grant:
        """Validate a token of any kind; return the grant in force. Raises Refused."""


class Catalog(Interface):
    """Targets and the credentials that only the gateway holds."""

    def target(self, name: str) -> Target | None: ...

    def credential(self, name: str) -> Credential | None: ...
