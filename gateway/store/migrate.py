# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings a SQLite file to this version's schema: numbered files, each in one transaction."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from gateway.store.interface import StoreFailed

MIGRATIONS = Path(__file__).with_name("migrations")
VERSIONS = """CREATE TABLE IF NOT EXISTS schema_version (
    version INTEGER PRIMARY KEY, name TEXT NOT NULL, applied_at REAL NOT NULL)"""


def migrate(connection: sqlite3.Connection, folder: Path = MIGRATIONS) -> int:
    """Apply what is missing, in order; return the version. `connection` must autocommit."""
    known = sorted((int(path.name[:4]), path) for path in folder.glob("[0-9]" * 4 + "_*.sql"))
    newest = known[-1][0]
    # One writer at a time: two processes that start together must not both migrate.
    connection.execute("BEGIN IMMEDIATE")
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


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("SELECT max(version) FROM schema_version").fetchone()
    return int(version or 0)


def _apply(connection: sqlite3.Connection, version: int, path: Path) -> None:
    for statement in statements(path.read_text()):
        connection.execute(statement)
    connection.execute(
        "INSERT INTO schema_version VALUES (?, ?, ?)", (version, path.name, time.time())
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
