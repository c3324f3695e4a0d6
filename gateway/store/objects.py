# SPDX-License-Identifier: GPL-3.0-or-later
"""Declared objects in a database: their documents, and one sequence over all their changes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gateway.store.database import Connection, Database, Row

OBJECTS = "objects"
"""The topic of their changes."""
AT_ONCE = 500
"""Objects of one statement; databases bound the values of one at 32,766 and more."""
Action = Literal["create", "update", "delete"]
REVISION = "SELECT coalesce(max(sequence), 0) AS revision FROM object_changes"


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as the store keeps it; `document` is canonical JSON without any secret."""

    kind: str
    name: str
    document: str
    version: int
    managed_by: str
    changed_by: str
    changed_at: float
    """Seconds since the epoch."""

    @property
    def etag(self) -> str:
        """A strong entity tag (RFC 9110 8.8.3): another one for every state there was."""
        told = f"{self.kind}\0{self.name}\0{self.managed_by}\0{self.document}"
        return f'"{self.version}-{hashlib.sha256(told.encode()).hexdigest()[:16]}"'


@dataclass(frozen=True, slots=True)
class Edit:
    """One object to be written; without a document it is to be deleted."""

    kind: str
    name: str
    document: str | None
    managed_by: str


class StoredObjects:
    """The objects that are declared through the API. All raise StoreFailed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def revision(self) -> int:
        """The number of the last change that any process made; 0 before the first."""
        return await self._database.read(_revision)

    async def everything(self) -> tuple[int, tuple[StoredObject, ...]]:
        """The revision, and every object by kind and name. Never newer than the objects."""

        def work(connection: Connection) -> tuple[int, tuple[StoredObject, ...]]:
            revision = _revision(connection)
            rows = connection.execute("SELECT * FROM objects ORDER BY kind, name")
            return revision, tuple(_from_row(row) for row in rows)

        return await self._database.read(work)

    async def write(
        self, edits: Sequence[Edit], *, by: str, at: float, revision: int
    ) -> tuple[int, tuple[StoredObject, ...]] | None:
        """Make all edits, each of another object, in one transaction, if nobody changed anything
        since `revision`.

        The new revision and the objects written; None, and nothing is done, if somebody did.
        """

        def work(connection: Connection) -> tuple[int, tuple[StoredObject, ...]] | None:
            if _revision(connection) != revision:
                return None
            connection.notify(OBJECTS)
            found: list[StoredObject] = []
            for start in range(0, len(edits), AT_ONCE):
                found += _written(connection, edits[start : start + AT_ONCE], by, at)
            return _revision(connection), tuple(found)

        return await self._database.write(work)


def _revision(connection: Connection) -> int:
    (row,) = connection.execute(REVISION)
    return int(row["revision"])


def _from_row(row: Row) -> StoredObject:
    return StoredObject(**row)


def _written(
    connection: Connection, edits: Sequence[Edit], by: str, at: float
) -> list[StoredObject]:
    """Make these edits, by a few statements for all of them: to a server each is a round trip."""
    places, keys = _keys(edits)
    known = connection.execute(
        "SELECT kind, name, max(version) AS version FROM object_changes"
        f" WHERE (kind, name) IN ({places}) GROUP BY kind, name",
        keys,
    )
    versions = {(row["kind"], row["name"]): int(row["version"]) for row in known}
    gone = connection.execute(
        f"DELETE FROM objects WHERE (kind, name) IN ({places}) RETURNING kind, name", keys
    )
    there = {(row["kind"], row["name"]) for row in gone}
    changes, kept = [], []
    for edit in edits:
        key = edit.kind, edit.name
        action: Action = (
            "delete" if edit.document is None else "update" if key in there else "create"
        )
        change = {
            "kind": edit.kind,
            "name": edit.name,
            "version": versions.get(key, 0) + 1,
            "managed_by": edit.managed_by,
            "changed_by": by,
            "changed_at": at,
        }
        changes.append({**change, "action": action})
        if edit.document is not None:
            kept.append({**change, "document": edit.document})
    _insert(connection, "objects", kept)
    _insert(connection, "object_changes", changes)
    return [_from_row(row) for row in kept]


def _keys(edits: Sequence[Edit]) -> tuple[str, dict[str, object]]:
    """For `(kind, name) IN ({places})`."""
    values: dict[str, object] = {}
    for index, edit in enumerate(edits):
        values |= {f"kind{index}": edit.kind, f"name{index}": edit.name}
    places = ", ".join(f"(:kind{index}, :name{index})" for index in range(len(edits)))
    return f"VALUES {places}", values


def _insert(connection: Connection, table: str, rows: Sequence[Row]) -> None:
    if not rows:
        return
    columns, places = list(rows[0]), []
    values: dict[str, object] = {}
    for index, row in enumerate(rows):
        values |= {f"{column}{index}": row[column] for column in columns}
        places.append("(" + ", ".join(f":{column}{index}" for column in columns) + ")")
    told = f"INSERT INTO {table} ({', '.join(columns)}) VALUES {', '.join(places)}"
    connection.execute(told, values)
