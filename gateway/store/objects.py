# SPDX-License-Identifier: GPL-3.0-or-later
"""Declared objects in a database: their documents, and one sequence over all their changes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gateway.store.database import Connection, Database, Row, one

OBJECTS = "objects"
"""The topic of their changes."""
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
        """Make all edits in one transaction, if nobody changed anything since `revision`.

        The new revision and the objects written; None, and nothing is done, if somebody did.
        """

        def work(connection: Connection) -> tuple[int, tuple[StoredObject, ...]] | None:
            if _revision(connection) != revision:
                return None
            connection.notify(OBJECTS)
            found = [_written(connection, edit, by, at) for edit in edits]
            return _revision(connection), tuple(one for one in found if one is not None)

        return await self._database.write(work)


def _revision(connection: Connection) -> int:
    (row,) = connection.execute(REVISION)
    return int(row["revision"])


def _from_row(row: Row) -> StoredObject:
    return StoredObject(**row)


def _written(connection: Connection, edit: Edit, by: str, at: float) -> StoredObject | None:
    named = {"kind": edit.kind, "name": edit.name}
    (last,) = connection.execute(
        "SELECT coalesce(max(version), 0) AS version FROM object_changes"
        " WHERE kind = :kind AND name = :name",
        named,
    )
    there = one(
        connection.execute(
            "SELECT 1 AS one FROM objects WHERE kind = :kind AND name = :name", named
        )
    )
    action: Action = "delete" if edit.document is None else "update" if there else "create"
    values = {
        **named,
        "version": last["version"] + 1,
        "managed_by": edit.managed_by,
        "changed_by": by,
        "changed_at": at,
    }
    connection.execute("DELETE FROM objects WHERE kind = :kind AND name = :name", named)
    if edit.document is not None:
        values["document"] = edit.document
        connection.execute(
            "INSERT INTO objects (kind, name, document, version, managed_by, changed_by,"
            " changed_at) VALUES (:kind, :name, :document, :version, :managed_by, :changed_by,"
            " :changed_at)",
            values,
        )
    connection.execute(
        "INSERT INTO object_changes (kind, name, version, action, managed_by, changed_by,"
        " changed_at) VALUES (:kind, :name, :version, :action, :managed_by, :changed_by,"
        " :changed_at)",
        {**{key: value for key, value in values.items() if key != "document"}, "action": action},
    )
    return _from_row(values) if edit.document is not None else None
