# SPDX-License-Identifier: GPL-3.0-or-later
"""Wiring: the vault with its master key as the settings have it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from gateway.config import MasterKeySource, Settings
from gateway.credentials.catalog import VaultCatalog
from gateway.credentials.kms import KmsKey
from gateway.credentials.master import (
    KeyRing,
    MasterKey,
    VaultFailed,
    make_key_file,
    read_key_file,
    read_systemd_credential,
)
from gateway.credentials.sealer import Sealer
from gateway.credentials.transit import TransitKey, TransitPlace
from gateway.credentials.vault import Vault
from gateway.model import Credential
from gateway.store.database import Database
from gateway.store.interface import StoreFailed
from gateway.store.secrets import StoredSecrets

log = logging.getLogger("trailgate")


def master_key_of(settings: Settings, source: MasterKeySource) -> MasterKey:
    """One master key, not reached yet. Raises VaultFailed."""
    given = settings.master_key
    if source.kind == "file":
        return read_key_file(Path(source.name))
    if source.kind == "systemd-credential":
        return read_systemd_credential(source.name)
    if source.kind == "aws-kms":
        return KmsKey(source.name, given.region, given.endpoint)
    if given.url is None or given.token_path is None:
        raise VaultFailed("master key: vault-transit needs url and token_path")
    place = TransitPlace(
        given.url, given.token_path, given.mount, given.namespace or "", given.ca_path
    )
    return TransitKey(source.name, place)


@asynccontextmanager
async def opened_ring(settings: Settings, secrets: StoredSecrets) -> AsyncIterator[KeyRing]:
    """The master keys, reached. Raises VaultFailed, StoreFailed, OSError."""
    await _make_first(settings, secrets)
    given = settings.master_key
    previous = [master_key_of(settings, source) for source in given.previous]
    ring = KeyRing(master_key_of(settings, settings.master_key_source), previous)
    try:
        await ring.start()
        yield ring
    finally:
        await ring.close()


async def _make_first(settings: Settings, secrets: StoredSecrets) -> None:
    """A key of our own in the data folder, where none is named and nothing was sealed yet: a key
    that is lost must not be replaced unseen."""
    if settings.master_key.key is not None:
        return
    path = Path(settings.master_key_source.name)
    if path.exists() or settings.master_key.previous:
        return
    sealed = [one for one in await secrets.versions() if one.wrapped]
    if not sealed and not await secrets.sealing_keys():
        make_key_file(path)
        log.warning("a master key was made: keep a copy of it elsewhere", extra={"path": str(path)})


@asynccontextmanager
async def opened_vault(settings: Settings, store: Database) -> AsyncIterator[tuple[Vault, Sealer]]:
    """The vault, whose secrets open, and what seals the gateway's own. Raises VaultFailed,
    StoreFailed, OSError."""
    secrets = StoredSecrets(store)
    async with opened_ring(settings, secrets) as ring:
        vault = Vault(secrets, ring)
        await vault.start()
        yield vault, Sealer(secrets, ring)


class Secrets:
    """The catalogue in force, and what else a target may take that refused a credential."""

    def __init__(self, vault: Vault) -> None:
        self.vault = vault
        self.catalog: VaultCatalog | None = None

    async def renewed(self, refused: Credential) -> Sequence[Credential]:
        """As proxy/ports.py has it."""
        if self.catalog is None:
            return ()
        try:
            return await self.catalog.renewed(refused)
        except (StoreFailed, VaultFailed) as error:
            extra = {"credential": refused.name, "cause": str(error)}
            log.error("the vault cannot be asked again", extra=extra)
            return ()
