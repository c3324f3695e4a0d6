# SPDX-License-Identifier: GPL-3.0-or-later
"""What grants need of the store (gateway/store/interface.py says what each call means)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal
from typing import Protocol as Interface

from gateway.model import Ending, Grant, StoredGrant


class GrantStore(Interface):
    """Where grants are kept."""

    async def put_root(self, grant: Grant, login_sha256: str) -> StoredGrant: ...

    async def add_grant(
        self,
        grant: Grant,
        token_sha256: str,
        *,
        lease_until: float | None,
        now: float,
        max_children: int,
    ) -> Literal["added", "dead_parent", "too_many_children"]: ...

    async def grant_by_token(self, token_sha256: str) -> StoredGrant | None: ...

    async def grant_by_login(self, login_sha256: str) -> StoredGrant | None: ...

    async def grant_by_id(self, grant_id: str) -> StoredGrant | None: ...

    async def ancestors(self, grant_id: str) -> tuple[str, ...]: ...

    async def grants_below(self, tops: Sequence[str] | None) -> list[StoredGrant]: ...

    async def roots_of(self, issuer: str, subject: str) -> tuple[str, ...]: ...

    async def renew_lease(self, grant_id: str, until: float, now: float) -> bool: ...

    async def revoke(
        self, grant_id: str, by: str, cause: str, at: float, how: str = "revoked"
    ) -> tuple[str, ...]: ...

    async def revoke_lapsed(self, at: float) -> tuple[str, ...]: ...

    async def revocations_after(
        self, sequence: int
    ) -> tuple[int, tuple[tuple[str, Ending], ...]]: ...

    async def forget_expired(self, before: float) -> int: ...
