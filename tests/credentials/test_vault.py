# SPDX-License-Identifier: GPL-3.0-or-later
"""The vault: versions, what is in force, re-wrapping, and what reaches the disk."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from pathlib import Path

import pytest

from gateway.credentials.catalog import VaultCatalog
from gateway.credentials.master import KeyRing, LocalKey, VaultFailed
from gateway.credentials.ports import SecretStore
from gateway.credentials.sealer import Sealer
from gateway.credentials.vault import GRACE_SECONDS, SECRET_CAP, Vault
from gateway.model import Credential, Target
from gateway.store.secrets import StoredSecrets
from gateway.store.sqlite import SqliteDatabase
from gateway.vault_model import SecretMove
from tests.credentials.conftest import Clock


class Declared:
    """A catalogue of one credential, as a file declares it."""

    def target(self, name: str) -> Target | None:
        return None

    def credential(self, name: str) -> Credential | None:
        return (
            Credential("orders-app", "app", secret="from the file")
            if name == "orders-app"
            else None
        )


def in_force(vault: Vault, name: str = "orders-app") -> list[tuple[str, str]]:
    return [(one.state, one.secret) for one in vault.secrets(name)]


async def test_a_secret_is_kept_found_again_and_dropped(
    vault: Vault, secrets: StoredSecrets
) -> None:
    port: SecretStore = secrets
    assert port is vault.store
    assert not await vault.held("orders-app")
    assert await vault.keep("orders-app", "first", "alice") == 1
    assert await vault.held("orders-app")
    again = Vault(secrets, vault.ring)
    await again.start()
    assert in_force(again) == [("current", "first")]
    await vault.drop("orders-app")
    assert not await vault.held("orders-app") and in_force(vault) == []
    (version,) = await vault.versions("orders-app")
    assert (version.state, version.sealed, version.wrapped) == ("revoked", b"", b"")
    assert await vault.keep("orders-app", "later", "alice") == 2


async def test_the_one_before_is_a_second_choice_and_then_destroyed(
    vault: Vault, clock: Clock
) -> None:
    for secret in ("first", "second"):
        await vault.keep("orders-app", secret, "alice")
    assert in_force(vault) == [("current", "second"), ("retired", "first")]
    clock.at += GRACE_SECONDS
    assert in_force(vault) == [("current", "second")]
    await vault.sweep()
    first, second = await vault.versions("orders-app")
    assert (first.state, first.sealed, first.revoked_at) == ("revoked", b"", clock.at)
    assert second.state == "current"


async def test_another_node_sees_a_change(vault: Vault, secrets: StoredSecrets) -> None:
    other = Vault(secrets, vault.ring)
    await other.start()
    await vault.keep("orders-app", "first", "alice")
    assert in_force(other) == []
    await other.refresh()
    assert in_force(other) == [("current", "first")]


async def test_many_setters_at_once_leave_one_current_version(
    vault: Vault, secrets: StoredSecrets
) -> None:
    other = Vault(secrets, vault.ring)
    numbers = await asyncio.gather(
        *(one.keep("orders-app", f"s{n}", "x") for n, one in enumerate([vault, other] * 5))
    )
    assert sorted(numbers) == list(range(1, 11))
    states = [one.state for one in await vault.versions("orders-app")]
    assert states.count("current") == 1 and states.count("retired") == 9


@pytest.mark.parametrize("secret", ["", "a\0b", "x" * (SECRET_CAP + 1), "\ud800"])
async def test_what_is_no_secret_is_refused_and_not_shown(secret: str, vault: Vault) -> None:
    with pytest.raises(VaultFailed, match="a secret is 1 to") as raised:
        await vault.keep("orders-app", secret, "alice")
    assert not secret or secret not in str(raised.value)


async def test_a_move_that_does_not_fit_changes_nothing(
    vault: Vault, secrets: StoredSecrets
) -> None:
    await vault.keep("orders-app", "first", "alice")
    (version,) = await vault.versions()
    good = SecretMove("orders-app", 1, ("current",), "retired", 1.0)
    bad = SecretMove("orders-app", 1, ("pending",), "revoked", 1.0)
    before = await secrets.changes()
    assert not await secrets.apply(None, [good, bad])
    assert not await secrets.apply(version)
    assert (await vault.versions(), await secrets.changes()) == ([version], before)


# --- rows that were changed ----------------------------------------------------------------------


def rewrite(path: Path, sql: str) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(sql)
        connection.execute("UPDATE secret_changes SET count = count + 1")
    connection.close()


async def test_swapped_rows_are_refused(vault: Vault, tmp_path: Path) -> None:
    await vault.keep("a", "secret of a", "x")
    await vault.keep("b", "secret of b", "x")
    take = "(SELECT {0} FROM secret_versions WHERE credential = 'b')"
    sets = ", ".join(f"{name} = {take.format(name)}" for name in ("wrapped", "sealed"))
    rewrite(tmp_path / "state.sqlite", f"UPDATE secret_versions SET {sets} WHERE credential = 'a'")
    fresh = Vault(vault.store, vault.ring)
    await fresh.start()
    assert in_force(fresh, "a") == [] and in_force(fresh, "b") == [("current", "secret of b")]
    assert "stands in another's place" in fresh.broken["a"]


@pytest.mark.parametrize("column", ["account = 'root'", "version = 7", "credential = 'c'"])
async def test_a_row_under_another_name_is_refused(
    column: str, vault: Vault, tmp_path: Path
) -> None:
    await vault.keep("a", "secret of a", "x", "app")
    await vault.keep("b", "secret of b", "x")
    rewrite(
        tmp_path / "state.sqlite", f"UPDATE secret_versions SET {column} WHERE credential = 'a'"
    )
    fresh = Vault(vault.store, vault.ring)
    await fresh.start()
    assert len(fresh.broken) == 1 and in_force(fresh, "a") == in_force(fresh, "c") == []


async def test_a_gateway_with_another_master_key_does_not_start(
    vault: Vault, secrets: StoredSecrets
) -> None:
    await vault.keep("a", "secret of a", "x")
    with pytest.raises(VaultFailed, match="credential a, version 1: .*master_key.previous"):
        await Vault(secrets, KeyRing(LocalKey(os.urandom(32)))).start()


# --- re-wrapping ---------------------------------------------------------------------------------


async def test_a_rewrap_that_was_cut_off_goes_on_and_then_the_old_key_is_not_needed(
    vault: Vault, secrets: StoredSecrets, master: LocalKey
) -> None:
    sealer = Sealer(secrets, vault.ring)
    token = await sealer.seal("refresh", b"token")
    for number in range(6):
        await vault.keep(f"c{number}", f"s{number}", "x")
    new = LocalKey(os.urandom(32))
    ring = KeyRing(new, [master])
    half = Vault(secrets, ring)
    for version in (await secrets.versions())[:3]:
        assert await secrets.rewrap(version, *await _wrapped_anew(ring, version))
    result = await half.rewrap()
    assert (result.done, result.kept, result.failed, result.next) == (4, 3, (), None)
    assert (await half.rewrap()).done == 0
    assert (await half.rewrap(everything=True)).done == 7
    alone = KeyRing(new)
    fresh = Vault(secrets, alone)
    await fresh.start()
    assert [in_force(fresh, f"c{n}") for n in range(6)] == [
        [("current", f"s{n}")] for n in range(6)
    ]
    assert await Sealer(secrets, alone).open("refresh", token) == b"token"


async def _wrapped_anew(ring: KeyRing, version: object) -> tuple[str, bytes]:
    from gateway.credentials.envelope import rewrapped
    from gateway.credentials.vault import secret_context
    from gateway.vault_model import SecretVersion

    assert isinstance(version, SecretVersion)
    context = secret_context(version.credential, version.version, version.account)
    return await rewrapped(ring, context, version.master, version.wrapped)


async def test_a_rewrap_names_what_does_not_open_and_does_the_rest(
    vault: Vault, secrets: StoredSecrets
) -> None:
    await vault.keep("old", "s", "x")
    new = Vault(secrets, KeyRing(LocalKey(os.urandom(32))))
    await new.keep("new", "s", "x")
    result = await new.rewrap(everything=True)
    assert (result.done, result.failed) == (1, ("old, version 000001",))
    assert (await new.rewrap(after="old")).kept == 0


# --- the sealer ----------------------------------------------------------------------------------


async def test_the_sealer_opens_for_its_purpose_only(vault: Vault, secrets: StoredSecrets) -> None:
    one, other = Sealer(secrets, vault.ring), Sealer(secrets, vault.ring)
    blobs = await asyncio.gather(*(s.seal("login", b"token") for s in (one, other) * 4))
    assert len(set(blobs)) == 8
    assert {await one.open("login", blob) for blob in blobs} == {b"token"}
    await one.seal("jwt", b"key")
    for purpose, blob in (("jwt", blobs[0]), ("none", blobs[0]), ("login", blobs[0][:4])):
        with pytest.raises(VaultFailed):
            await one.open(purpose, blob)
    changed = bytearray(blobs[0])
    changed[-1] ^= 1
    with pytest.raises(VaultFailed):
        await other.open("login", bytes(changed))


# --- the catalogue -------------------------------------------------------------------------------


async def test_the_vaults_secret_goes_before_the_files(vault: Vault) -> None:
    catalog = VaultCatalog(Declared(), vault)
    found = catalog.credential("orders-app")
    assert found is not None and (found.secret, found.version) == ("from the file", 0)
    await vault.keep("orders-app", "kept", "x", "app_a")
    found = catalog.credential("orders-app")
    assert found is not None
    assert (found.secret, found.signs_in_as, found.user, found.version) == (
        "kept",
        "app_a",
        "app",
        1,
    )
    assert catalog.credential("none") is None


async def test_what_else_a_target_may_take_has_not_been_tried(
    vault: Vault, secrets: StoredSecrets
) -> None:
    catalog = VaultCatalog(Declared(), vault)
    await vault.keep("orders-app", "first", "x")
    tried = catalog.credential("orders-app")
    assert tried is not None and await catalog.renewed(tried) == []
    elsewhere = Vault(secrets, vault.ring)
    await elsewhere.keep("orders-app", "second", "x")
    await elsewhere.add("orders-app", "", "third", "x", "pending")
    assert [one.secret for one in await catalog.renewed(tried)] == ["second", "third"]


# --- what reaches the disk -----------------------------------------------------------------------


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


async def test_no_secret_and_no_key_is_in_the_database_or_its_log(
    vault: Vault, database: SqliteDatabase, tmp_path: Path
) -> None:
    for number in range(20):
        await vault.keep("orders-app", f"seeded-secret-{number}", "alice")
    await Sealer(vault.store, vault.ring).seal("refresh", b"seeded-token")
    files = files_in(tmp_path)
    assert "state.sqlite-wal" in files
    for name, content in files.items():
        assert content.find(b"seeded-") == -1, name
    assert "seeded" not in repr(vault.secrets("orders-app"))
