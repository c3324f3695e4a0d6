# SPDX-License-Identifier: GPL-3.0-or-later
"""The catalogue that sessions are opened by, with the secrets that the vault holds in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol as Interface

from gateway.credentials.vault import Kept, Vault
from gateway.model import Credential, Target

MOST_OTHERS = 3
"""Logins that a target may count against the account, for one session."""


class Objects(Interface):
    """What is declared."""

    def target(self, name: str) -> Target | None: ...

    def credential(self, name: str) -> Credential | None: ...


class VaultCatalog:
    """`Catalog` of proxy/ports.py. What the vault holds goes before what a file says, since a
    rotation has changed it there."""

    def __init__(self, objects: Objects, vault: Vault) -> None:
        self._objects = objects
        self._vault = vault

    def target(self, name: str) -> Target | None:
        return self._objects.target(name)

    def credential(self, name: str) -> Credential | None:
        declared = self._objects.credential(name)
        if declared is None:
            return None
        kept = self._vault.secrets(name)
        return with_secret(declared, kept[0]) if kept else declared

    async def renewed(self, refused: Credential) -> Sequence[Credential]:
        """What else a target may take that has just refused a credential: another node, or a
        rotation under way, may have changed it. Raises StoreFailed, VaultFailed."""
        await self._vault.refresh()
        declared = self._objects.credential(refused.name)
        if declared is None:
            return ()
        others = [with_secret(declared, one) for one in self._vault.secrets(refused.name)]
        tried = {(refused.signs_in_as, refused.secret)}
        return [one for one in others if not _seen(one, tried)][:MOST_OTHERS]


def with_secret(declared: Credential, kept: Kept) -> Credential:
    """A credential as it is signed in with."""
    account = kept.account or declared.account
    return replace(declared, secret=kept.secret, account=account, version=kept.version)


def _seen(one: Credential, tried: set[tuple[str, str]]) -> bool:
    key = (one.signs_in_as, one.secret)
    known = key in tried
    tried.add(key)
    return known
