# SPDX-License-Identifier: GPL-3.0-or-later
"""Sealed secrets and wrapped keys in a database; nothing here can open them."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence

from gateway.store.database import Connection, Database, Row
from gateway.vault_model import SealingKey, SecretMove, SecretVersion

_COLUMNS = (
    "credential, version, account, state, made_by, made_at, proved_at, current_at, retired_at,"
    " revoked_at, until, placed_at, master, wrapped, sealed"
)
_NAMES = tuple(name.strip() for name in _COLUMNS.split(","))
_PLACES = ", ".join(f":{name}" for name in _NAMES)
_TIMES = {"proved", "current", "retired", "revoked"}


class _Stale(Exception):
    """Something stands otherwise than the caller thought: the transaction is given up."""


class StoredSecrets:
    """`SecretStore` (gateway/credentials/ports.py) on any database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def changes(self) -> int:
        query = "SELECT count FROM secret_changes"
        return await self._database.read(
            lambda connection: int(connection.execute(query)[0]["count"])
        )

    async def versions(self, credential: str | None = None) -> list[SecretVersion]:
        where = "" if credential is None else "WHERE credential = :credential"
        query = f"SELECT {_COLUMNS} FROM secret_versions {where} ORDER BY credential, version"
        values = {} if credential is None else {"credential": credential}
        return await self._database.read(
            lambda connection: [_version(row) for row in connection.execute(query, values)]
        )

    async def apply(self, added: SecretVersion | None, moves: Sequence[SecretMove] = ()) -> bool:
        def work(connection: Connection) -> None:
            apply_moves(connection, moves)
            if added is not None:
                add_version(connection, added)
            count_change(connection)

        return await done(self._database, work)

    async def rewrap(self, version: SecretVersion, master: str, wrapped: bytes) -> bool:
        values = {
            "credential": version.credential,
            "version": version.version,
            "master": master,
            "wrapped": _text(wrapped),
            "before": _text(version.wrapped),
        }
        query = (
            "UPDATE secret_versions SET master = :master, wrapped = :wrapped WHERE"
            " credential = :credential AND version = :version AND wrapped = :before"
            " RETURNING version"
        )
        return await self._database.write(lambda one: bool(one.execute(query, values)))

    async def sealing_keys(self, purpose: str | None = None) -> list[SealingKey]:
        where = "" if purpose is None else "WHERE purpose = :purpose"
        query = f"SELECT purpose, number, master, wrapped FROM sealing_keys {where} ORDER BY 1, 2"
        values = {} if purpose is None else {"purpose": purpose}
        return await self._database.read(
            lambda connection: [_sealing_key(row) for row in connection.execute(query, values)]
        )

    async def add_sealing_key(self, key: SealingKey) -> bool:
        query = (
            "INSERT INTO sealing_keys (purpose, number, master, wrapped) VALUES"
            " (:purpose, :number, :master, :wrapped) ON CONFLICT (purpose, number) DO NOTHING"
            " RETURNING number"
        )
        values = _sealing_values(key, key.master, key.wrapped)
        return await self._database.write(lambda one: bool(one.execute(query, values)))

    async def rewrap_sealing_key(self, key: SealingKey, master: str, wrapped: bytes) -> bool:
        query = (
            "UPDATE sealing_keys SET master = :master, wrapped = :wrapped WHERE purpose = :purpose"
            " AND number = :number AND wrapped = :before RETURNING number"
        )
        values = {**_sealing_values(key, master, wrapped), "before": _text(key.wrapped)}
        return await self._database.write(lambda one: bool(one.execute(query, values)))


async def done(database: Database, work: Callable[[Connection], None]) -> bool:
    """Run `work` in one transaction; False, and nothing done, where it finds things otherwise."""
    try:
        await database.write(work)
    except _Stale:
        return False
    return True


def expect(found: object) -> None:
    """Give the transaction up if there is none. Raises what `done` knows."""
    if not found:
        raise _Stale


def apply_moves(connection: Connection, moves: Sequence[SecretMove]) -> None:
    """Move versions; a revoked one loses what was sealed."""
    for move in moves:
        names = {f"before{index}": state for index, state in enumerate(move.before)}
        places = ", ".join(f":{name}" for name in names)
        columns = ["state = :to", "until = :until"]
        if move.to in _TIMES:
            columns.append(f"{move.to}_at = :at")
        if move.placed:
            columns.append("placed_at = :at")
        if move.to == "revoked":
            columns.append("wrapped = '', sealed = ''")
        values = {
            "credential": move.credential,
            "version": move.version,
            "to": move.to,
            "until": move.until,
            **({"at": move.at} if move.to in _TIMES or move.placed else {}),
        }
        expect(
            connection.execute(
                f"UPDATE secret_versions SET {', '.join(columns)} WHERE credential = :credential"
                f" AND version = :version AND state IN ({places}) RETURNING version",
                {**values, **names},
            )
        )


def count_change(connection: Connection) -> None:
    connection.execute("UPDATE secret_changes SET count = count + 1")
    connection.notify("secrets")


def add_version(connection: Connection, version: SecretVersion) -> None:
    values = {name: getattr(version, name) for name in _NAMES}
    values |= {"wrapped": _text(version.wrapped), "sealed": _text(version.sealed)}
    expect(
        connection.execute(
            f"INSERT INTO secret_versions ({_COLUMNS}) VALUES ({_PLACES})"
            " ON CONFLICT DO NOTHING RETURNING version",
            values,
        )
    )


def _version(row: Row) -> SecretVersion:
    values = {name: row[name] for name in _NAMES}
    values |= {name: base64.b64decode(row[name]) for name in ("wrapped", "sealed")}
    return SecretVersion(**values)


def _sealing_key(row: Row) -> SealingKey:
    return SealingKey(
        row["purpose"], row["number"], row["master"], base64.b64decode(row["wrapped"])
    )


def _sealing_values(key: SealingKey, master: str, wrapped: bytes) -> dict[str, object]:
    return {
        "purpose": key.purpose,
        "number": key.number,
        "master": master,
        "wrapped": _text(wrapped),
    }


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
