# SPDX-License-Identifier: GPL-3.0-or-later
"""What logins need of the store and of the vault, and what a provider proves of a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol as Interface

from gateway.model import Identity, PendingLogin, StoredRefresh, Use


@dataclass(frozen=True, slots=True)
class Verified:
    """A person whom a provider has just authenticated. `expires_at`: seconds since the epoch."""

    identity: Identity
    groups: tuple[str, ...]
    expires_at: float
    login: Mapping[str, object]
    """For the record; never a token."""
    refresh_token: str = field(default="", repr=False)


class LoginStore(Interface):
    """Logins under way and refreshes, for all nodes (store/logins.py says what each call means)."""

    async def begin(self, login: PendingLogin, *, cap: int, cap_of_client: int) -> bool: ...

    async def login_by(self, column: str, secret_sha256: str) -> PendingLogin | None: ...

    async def move(self, login: PendingLogin, *, old: Sequence[str]) -> bool: ...

    async def first_use(self, issuer: str, assertion_sha256: str, until: float) -> Use: ...

    async def forget_before(self, now: float) -> None: ...

    async def keep_refresh(self, refresh: StoredRefresh) -> None: ...

    async def due_refreshes(self, now: float) -> list[StoredRefresh]: ...

    async def claim_refresh(self, refresh: StoredRefresh, now: float, until: float) -> bool: ...

    async def put_refresh(self, refresh: StoredRefresh) -> None: ...

    async def unconfirmed(self, now: float) -> tuple[str, ...]: ...

    async def drop_refresh(self, grant_id: str) -> None: ...


class CannotOpen(Exception):
    """What was sealed elsewhere, or by a key that is gone."""


class Vault(Interface):
    """Keeps a provider's refresh tokens from whoever reads the store."""

    async def seal(self, secret: bytes) -> bytes: ...

    async def open(self, sealed: bytes) -> bytes:
        """Raises CannotOpen."""
