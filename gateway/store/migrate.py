# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings a database to this version's schema: numbered files, all in one transaction."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from gateway.store.database import Connection
from gateway.store.interface import StoreFailed

MIGRATIONS = Path(__file__).with_name("migrations")
VERSIONS = """CREATE TABLE IF NOT EXISTS schema_version (
    version INTEGER PRIMARY KEY, name TEXT NOT NULL, applied_at REAL NOT NULL)"""


def migrate(connection: Connection, folder: Path = MIGRATIONS, *, begin: str = "BEGIN") -> int:
    """Apply what is missing, in order; return the version. `connection` must autocommit.

    `begin` opens a transaction that no other process can be in: two that start together must not
    both migrate.
    """
    known = sorted((int(path.name[:4]), path) for path in folder.glob("[0-9]" * 4 + "_*.sql"))
    newest = known[-1][0]
    connection.execute(begin)
    try:
        connection.execute(VERSIONS)
        at = _version(connection)
        if at > newest:
            raise StoreFailed(
                f"the store has schema {at}, this trailgate knows {newest}: "
                "start the newer version that wrote it, or restore a backup made before"
            )
        for version, path in known:
            if version > at:
                _apply(connection, version, path)
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    return newest


def _version(connection: Connection) -> int:
    (row,) = connection.execute("SELECT max(version) AS newest FROM schema_version")
    return int(row["newest"] or 0)


def _apply(connection: Connection, version: int, path: Path) -> None:
    for statement in statements(path.read_text()):
        connection.execute(statement)
    connection.execute(
        "INSERT INTO schema_version VALUES (:version, :name, :at)",
        {"version": version, "name": path.name, "at": time.time()},
    )


def statements(script: str) -> Iterator[str]:
    """Split a script; sqlite3's executescript would commit the transaction around it."""
    pending = ""
    for line in script.splitlines(keepends=True):
        pending += line
        # A comment may follow the semicolon, which complete_statement knows.
        if sqlite3.complete_statement(pending):
            yield pending
            pending = ""
    if pending.strip():
        yield pending
