# SPDX-License-Identifier: GPL-3.0-or-later
"""How a denial is said, and how it fails the transaction or batch that it stands in.

An INSERT that went out, a denied statement only faked, then Sync: the INSERT would commit although
its client saw an error. So the target itself is made to fail, by an Execute of a portal that cannot
exist, and the client sees our error in the place of that one.
"""

from __future__ import annotations

import hashlib

from gateway.model import Decision, Refusal
from gateway.protocols.postgresql import wire


def denied(decision: Decision, session: str, operation: int) -> Refusal:
    """The refusal that says `decision` of one operation."""
    return Refusal(
        kind="denied",
        code="denied",
        reason=decision.reason or "no rule allows it",
        policy=decision.policy,
        rule=decision.rule,
        session=session,
        operation=operation,
    )


class Saboteur:
    """Makes messages that fail the target's transaction without doing anything else.

    The portal's name must not be foreseeable, or a client could create it and outlive a denial: it
    is derived from the target's cancel key, which no client ever sees.
    """

    __slots__ = ("_count", "_seed")

    def __init__(self, session: str, process: int, key: bytes) -> None:
        self._seed = hashlib.sha256(b"%d/%b/%b" % (process, key, session.encode())).digest()
        self._count = 0

    def message(self) -> bytes:
        """Execute of a portal that does not exist: 34000, and the transaction has failed."""
        self._count += 1
        name = hashlib.sha256(self._seed + self._count.to_bytes(8, "big")).hexdigest()[:40]
        return wire.execute(b"trailgate-denied-" + name.encode())
