# SPDX-License-Identifier: GPL-3.0-or-later
"""What the vault asks of the store; gateway/store/secrets.py is the one implementation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol as Interface

from gateway.vault_model import Rotation, SealingKey, SecretMove, SecretVersion


class SecretStore(Interface):
    """Sealed secrets and keys. Nothing here blocks the loop; all raise StoreFailed.

    A write has happened for good once its call returned.
    """

    async def changes(self) -> int:
        """A number that grows with every change of secret versions, by any node."""

    async def versions(self, credential: str | None = None) -> list[SecretVersion]:
        """Of one credential or of all, oldest first."""

    async def apply(self, added: SecretVersion | None, moves: Sequence[SecretMove] = ()) -> bool:
        """Add a version and move others in one transaction; False, and nothing done, when its
        number is taken or one of the others does not stand as its move says."""

    async def rewrap(self, version: SecretVersion, master: str, wrapped: bytes) -> bool:
        """Put another wrapped key in the place of a version's own; False when that has changed."""

    async def sealing_keys(self, purpose: str | None = None) -> list[SealingKey]:
        """Of one purpose or of all, oldest first."""

    async def add_sealing_key(self, key: SealingKey) -> bool:
        """False when its number is taken."""

    async def rewrap_sealing_key(self, key: SealingKey, master: str, wrapped: bytes) -> bool:
        """As `rewrap`."""


class RotationStore(Interface):
    """Rotations: how far each has come. As SecretStore."""

    async def rotations(
        self, credential: str | None = None, *, under_way: bool = False
    ) -> list[Rotation]:
        """Of one credential or of all, newest first; `under_way`: those that have not ended."""

    async def advance(
        self,
        rotation: Rotation,
        before: str,
        added: SecretVersion | None = None,
        moves: Sequence[SecretMove] = (),
    ) -> bool:
        """Write how far a rotation has come, and what that does to versions, in one transaction.

        `before`: the step that it must stand at; empty: it is new, and must be the only one of its
        credential under way. False, and nothing done, where something stands otherwise.
        """

    async def lease(self, name: str, holder: str, seconds: float) -> bool:
        """Take or renew a lease; False while somebody else holds it."""

    async def give_back(self, name: str, holder: str) -> None:
        """End a lease, if it is this holder's."""
