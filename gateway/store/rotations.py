# SPDX-License-Identifier: GPL-3.0-or-later
"""Rotations in a database: each step in one transaction with what it does to versions."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.store.database import Connection, Database, Row
from gateway.store.secrets import add_version, apply_moves, count_change, done, expect
from gateway.vault_model import Rotation, SecretMove, SecretVersion

_COLUMNS = (
    "id, credential, kind, mode, account, version, previous, step, cause, by, begun_at, step_at,"
    " attempts, retry_at, until, ended_at, outcome, detail"
)
_NAMES = tuple(name.strip() for name in _COLUMNS.split(","))
_PLACES = ", ".join(f":{name}" for name in _NAMES)
_CHANGING = (
    "step", "step_at", "attempts", "retry_at", "until", "ended_at", "outcome", "detail",
)  # fmt: skip
MOST = 100
"""Of one credential, that a list holds."""


class StoredRotations:
    """`RotationStore` (gateway/credentials/ports.py) on any database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def rotations(
        self, credential: str | None = None, *, under_way: bool = False
    ) -> list[Rotation]:
        wanted = ["ended_at IS NULL"] if under_way else []
        wanted += [] if credential is None else ["credential = :credential"]
        where = f"WHERE {' AND '.join(wanted)}" if wanted else ""
        limit = "" if under_way else f"LIMIT {MOST}"
        query = f"SELECT {_COLUMNS} FROM rotations {where} ORDER BY begun_at DESC, id {limit}"
        values = {} if credential is None else {"credential": credential}
        return await self._database.read(
            lambda connection: [_rotation(row) for row in connection.execute(query, values)]
        )

    async def advance(
        self,
        rotation: Rotation,
        before: str,
        added: SecretVersion | None = None,
        moves: Sequence[SecretMove] = (),
    ) -> bool:
        values = {name: getattr(rotation, name) for name in _NAMES}

        def work(connection: Connection) -> None:
            if before:
                sets = ", ".join(f"{name} = :{name}" for name in _CHANGING)
                expect(
                    connection.execute(
                        f"UPDATE rotations SET {sets} WHERE id = :id AND step = :before"
                        " AND ended_at IS NULL RETURNING id",
                        {name: values[name] for name in ("id", *_CHANGING)} | {"before": before},
                    )
                )
            else:
                expect(
                    connection.execute(
                        f"INSERT INTO rotations ({_COLUMNS}) VALUES ({_PLACES})"
                        " ON CONFLICT DO NOTHING RETURNING id",
                        values,
                    )
                )
            apply_moves(connection, moves)
            if added is not None:
                add_version(connection, added)
            count_change(connection)

        return await done(self._database, work)

    async def lease(self, name: str, holder: str, seconds: float) -> bool:
        query = (
            "INSERT INTO leases (name, holder, until) VALUES (:name, :holder, :until)"
            " ON CONFLICT (name) DO UPDATE SET holder = :holder, until = :until"
            " WHERE leases.holder = :holder OR leases.until <= :now RETURNING name"
        )
        now = self._database.now()
        values = {"name": name, "holder": holder, "until": now + seconds, "now": now}
        return await self._database.write(lambda one: bool(one.execute(query, values)))

    async def give_back(self, name: str, holder: str) -> None:
        query = "DELETE FROM leases WHERE name = :name AND holder = :holder"
        await self._database.write(lambda one: one.execute(query, {"name": name, "holder": holder}))


def _rotation(row: Row) -> Rotation:
    return Rotation(**{name: row[name] for name in _NAMES})
