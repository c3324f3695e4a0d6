# SPDX-License-Identifier: GPL-3.0-or-later
"""The vault with its master key as the settings have it."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from gateway.config import MasterKeySource, Objects, Settings
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
from gateway.credentials.rotation.attempt import Refused
from gateway.credentials.rotation.schedule import Schedule
from gateway.credentials.rotation.steps import StepRecord
from gateway.credentials.sealer import Sealer
from gateway.credentials.transit import TransitKey, TransitPlace
from gateway.credentials.vault import Before, Vault
from gateway.declare.ports import record_unknown
from gateway.identity.tree import rfc3339
from gateway.model import Credential, RecordFailed
from gateway.store.database import Database
from gateway.store.interface import StoreFailed
from gateway.store.secrets import StoredSecrets
from gateway.vault_model import Rotation, SecretVersion

log = logging.getLogger("trailgate")

ROTATE_SECONDS = 8.0
"""That a caller waits; what is not done by then goes on without it."""


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
    sealed = [one for one in await secrets.versions() if one.wrapped]
    if settings.master_key.previous or sealed or await secrets.sealing_keys():
        return
    path = Path(settings.master_key_source.name)
    with suppress(FileExistsError):
        await asyncio.to_thread(make_key_file, path)
        log.warning("a master key was made: keep a copy of it elsewhere", extra={"path": str(path)})


@asynccontextmanager
async def opened_vault(settings: Settings, store: Database) -> AsyncIterator[tuple[Vault, Sealer]]:
    """The vault, whose secrets open, and what seals the gateway's own. Raises VaultFailed,
    StoreFailed, OSError."""
    secrets = StoredSecrets(store)
    async with opened_ring(settings, secrets) as ring:
        vault = Vault(secrets, ring, now=store.now)
        await vault.start()
        yield vault, Sealer(secrets, ring)


class Custody:
    """Secrets of the objects in force: what sessions sign in with, and what the API shows."""

    def __init__(self, vault: Vault, objects: Objects) -> None:
        self.vault = vault
        self.schedule: Schedule | None = None
        self.record: StepRecord | None = None
        """Both are set once rotations run."""
        self.put_in_force(objects)

    def put_in_force(self, objects: Objects) -> VaultCatalog:
        """The catalogue of these objects, for sessions from now on."""
        self.objects = objects
        self.catalog = VaultCatalog(objects, self.vault)
        return self.catalog

    async def renewed(self, refused: Credential) -> Sequence[Credential]:
        """As proxy/ports.py has it."""
        try:
            return await self.catalog.renewed(refused)
        except (StoreFailed, VaultFailed) as error:
            extra = {"credential": refused.name, "cause": str(error)}
            log.error("the vault cannot be asked again", extra=extra)
            return ()

    # --- what the API asks (CredentialDesk of admin/api/services.py) -----------------------------

    def declared(self, name: str) -> Credential | None:
        return self.objects.credential(name)

    async def listed(self) -> Sequence[Mapping[str, Any]]:
        """Every credential that is declared, or that the vault still holds."""
        by_name: dict[str, list[SecretVersion]] = {name: [] for name in self.objects.credentials}
        for version in await self.vault.versions():
            by_name.setdefault(version.credential, []).append(version)
        return [self._document(name, by_name[name]) for name in sorted(by_name)]

    def _document(self, name: str, versions: Sequence[SecretVersion]) -> dict[str, Any]:
        declared = self.objects.credential(name)
        current = next((one for one in versions if one.state == "current"), None)
        source = "vault" if current else "file" if declared and declared.secret else None
        return {
            "name": name,
            "user": declared.user if declared else None,
            "login": declared.login if declared else None,
            "source": source,
            "version": current.version if current else None,
            "account": (current.account or (declared.user if declared else ""))
            if current
            else None,
            "since": rfc3339(current.current_at) if current else None,
            "opens": name not in self.vault.broken,
        }

    async def versions(self, name: str) -> Sequence[Mapping[str, Any]]:
        return [version_document(one) for one in await self.vault.versions(name)]

    async def set_secret(self, name: str, secret: str, by: str, account: str) -> Mapping[str, Any]:
        """In force at once, but for an account whose turn it is not."""
        declared = self.declared(name)
        users = declared.rotation.users if declared and declared.rotation else ()
        if users and account and account not in users:
            raise Refused(f"credential {name}: account {account} is none of {', '.join(users)}")
        current = next((o for o in await self.vault.versions(name) if o.state == "current"), None)
        resting = users and account and current and (current.account or users[0]) != account
        state = "retired" if resting else "current"
        async with self._recorded_first("secret.set", name, by, state=state) as before:
            if resting:
                added = await self.vault.add(name, account, secret, by, state, before)
                version = added.version
            else:
                version = await self.vault.keep(name, secret, by, account, before)
        return {"name": name, "version": version, "state": state}

    async def drop_secret(self, name: str, by: str) -> None:
        async with self._recorded_first("secret.drop", name, by) as before:
            await self.vault.drop(name, by, before)

    @asynccontextmanager
    async def _recorded_first(
        self, event: str, name: str, by: str, **more: Any
    ) -> AsyncIterator[Before]:
        """Gives what records a change of these versions before it is made. Raises RecordFailed:
        then nothing is changed. Of several events of one `change`, the last says what was done."""
        if self.record is None:
            raise RecordFailed("the gateway starts, and its record is not open yet: try again")
        record, change, told = self.record, secrets.token_hex(8), False
        fields = {"event": event, "change": change, "kind": "credential", "credential": name}

        async def before(versions: Sequence[SecretVersion]) -> None:
            nonlocal told
            numbers = {"version": max(one.version for one in versions)}
            await record.config_changed({**fields, "by": by, **numbers, **more}, b"")
            told = True

        try:
            yield before
        except BaseException:
            if told:
                # A link that broke at the commit leaves open whether it was done.
                await record_unknown(record, change)
            raise

    async def rotate(
        self, name: str, by: str, max_age: float | None, force: bool
    ) -> Mapping[str, Any]:
        if self.schedule is None:
            raise Refused("rotations do not run yet; try again")
        began, rotation = await self.schedule.request(name, by, max_age=max_age, force=force)
        if rotation is not None:
            rotation = await self.schedule.settled(rotation, ROTATE_SECONDS)
        return {
            "changed": began,
            "rotation": rotation_document(rotation) if rotation is not None else None,
        }

    async def rotations(self, name: str) -> Sequence[Mapping[str, Any]]:
        if self.schedule is None:
            return []
        return [rotation_document(one) for one in await self.schedule.rotations(name)]

    async def rewrap(self, everything: bool, after: str) -> Mapping[str, Any]:
        result = await self.vault.rewrap(everything, after)
        return {
            "master_key": result.master,
            "rewrapped": result.done,
            "kept": result.kept,
            "failed": list(result.failed),
            "next": result.next,
        }


def rotation_document(one: Rotation) -> dict[str, Any]:
    """A rotation as the API shows it."""
    return {
        "id": one.id,
        "kind": one.kind,
        "mode": one.mode,
        "account": one.account or None,
        "version": one.version,
        "previous": one.previous or None,
        "step": one.step,
        "cause": one.cause,
        "by": one.by,
        "begun_at": rfc3339(one.begun_at),
        "step_at": rfc3339(one.step_at),
        "attempts": one.attempts,
        "retry_at": rfc3339(one.retry_at),
        "grace_until": rfc3339(one.until),
        "ended_at": rfc3339(one.ended_at),
        "outcome": one.outcome or None,
        "detail": one.detail or None,
    }


def version_document(one: SecretVersion) -> dict[str, Any]:
    """A version as the API shows it: its history, nothing sealed."""
    return {
        "version": one.version,
        "account": one.account or None,
        "state": one.state,
        "made_by": one.made_by,
        "made_at": rfc3339(one.made_at),
        "proved_at": rfc3339(one.proved_at),
        "current_at": rfc3339(one.current_at),
        "retired_at": rfc3339(one.retired_at),
        "revoked_at": rfc3339(one.revoked_at),
        "until": rfc3339(one.until),
        "master_key": one.master or None,
    }
