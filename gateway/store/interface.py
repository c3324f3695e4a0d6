# SPDX-License-Identifier: GPL-3.0-or-later
"""What the gateway asks of the state that outlives it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal
from typing import Protocol as Interface

from gateway.model import Ending, Grant, StoredGrant
from gateway.model import StoreFailed as StoreFailed

Ended = tuple[str, Ending]
"""A grant's id, and how it ended."""
Added = Literal["added", "dead_parent", "too_many_children"]


class GrantStore(Interface):
    """The grants, and their revocations. Nothing here blocks the loop; all raise StoreFailed.

    Times are seconds since the epoch. A write has happened for good once its call returned.
    """

    async def put_root(self, grant: Grant, login_sha256: str) -> StoredGrant:
        """Keep a login's root grant; the one that is kept already for this token wins."""

    async def add_grant(
        self,
        grant: Grant,
        token_sha256: str,
        *,
        lease_until: float | None,
        now: float,
        max_children: int,
    ) -> Added:
        """Keep a new grant, if in that moment its parent lives and has room for it."""

    async def grant_by_token(self, token_sha256: str) -> StoredGrant | None: ...

    async def grant_by_login(self, login_sha256: str) -> StoredGrant | None: ...

    async def grant_by_id(self, grant_id: str) -> StoredGrant | None: ...

    async def ancestors(self, grant_id: str) -> tuple[str, ...]:
        """The path from the grant itself up to its root; empty for an unknown one."""

    async def grants_below(self, tops: Sequence[str] | None) -> list[StoredGrant]:
        """The grants named and all below them, parents first; None: all there are."""

    async def roots_of(self, issuer: str, subject: str) -> tuple[str, ...]:
        """The root grants of one identity."""

    async def renew_lease(self, grant_id: str, until: float, now: float) -> bool:
        """Move a lease that has not lapsed; False when there is none to move."""

    async def revoke(
        self, grant_id: str, by: str, cause: str, at: float, how: str = "revoked"
    ) -> tuple[str, ...]:
        """End a grant and all below it in one transaction; the ids newly ended. `how`: as
        `Ending` has it."""

    async def revoke_lapsed(self, at: float) -> tuple[str, ...]:
        """End each grant whose lease has lapsed, and all below it."""

    async def revocations_after(self, sequence: int) -> tuple[int, tuple[Ended, ...]]:
        """What was ended since `sequence`, by any process, and the sequence to go on from."""

    async def forget_expired(self, before: float) -> int:
        """Drop grants that expired before that time, with their revocations; how many."""
