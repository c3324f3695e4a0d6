# SPDX-License-Identifier: GPL-3.0-or-later
"""The SQLite store: migrations, its file, and errors that name the cure."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.store.grants import StoredGrants
from gateway.store.interface import StoreFailed
from gateway.store.migrate import migrate, statements
from gateway.store.sqlite import SqliteConnection, SqliteDatabase
from tests.store.grant_samples import add, grant


async def opened(path: Path) -> tuple[SqliteDatabase, StoredGrants]:
    database = await SqliteDatabase.open(path)
    return database, StoredGrants(database)


async def test_only_this_user_can_read_the_file(tmp_path: Path) -> None:
    database, store = await opened(tmp_path / "store.db")
    await add(store, grant("g1"))
    modes = [stat.S_IMODE((tmp_path / n).stat().st_mode) for n in ("store.db", "store.db-wal")]
    assert modes == [0o600, 0o600]
    await database.close()


async def test_a_commit_is_synced_and_readers_are_not_kept_waiting(tmp_path: Path) -> None:
    database, store = await opened(tmp_path / "store.db")
    names = ("journal_mode", "synchronous", "foreign_keys")
    for side in ("write", "read"):
        connection = database._connections[side]

        def settings(connection: SqliteConnection = connection) -> list[object]:
            return [connection.execute(f"PRAGMA {name}")[0][name] for name in names]

        assert await database._on(side, settings) == ["wal", 2, 1]
    await database.close()


@pytest.mark.parametrize("place", ["nowhere/store.db", "."])
async def test_a_store_that_cannot_be_opened_says_where_and_what_to_do(
    place: str, tmp_path: Path
) -> None:
    with pytest.raises(StoreFailed, match="check that the folder exists"):
        await SqliteDatabase.open(tmp_path / place)


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(StoreFailed, match="not a database"):
        await SqliteDatabase.open(tmp_path / "store.db")


async def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    await (await SqliteDatabase.open(path)).close()
    with sqlite3.connect(path) as connection:
        connection.execute("INSERT INTO schema_version VALUES (999, 'later', 0)")
    connection.close()
    with pytest.raises(StoreFailed, match="schema 999, this trailgate knows "):
        await SqliteDatabase.open(path)


def test_a_migration_that_fails_is_undone_whole_and_tried_again(tmp_path: Path) -> None:
    folder = tmp_path / "migrations"
    folder.mkdir()
    (folder / "0001_first.sql").write_text("CREATE TABLE one (x); -- a comment; with more\n")
    raw = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    raw.row_factory = sqlite3.Row
    connection = SqliteConnection(raw)
    assert migrate(connection, folder) == 1
    second = folder / "0002_second.sql"
    second.write_text("CREATE TABLE two (x);\nINSERT INTO nowhere VALUES (1);\n")
    with pytest.raises(sqlite3.OperationalError):
        migrate(connection, folder)
    tables = {row["name"] for row in connection.execute("SELECT name FROM sqlite_master")}
    assert "one" in tables and "two" not in tables
    second.write_text("CREATE TABLE two (x);\n")
    assert migrate(connection, folder) == migrate(connection, folder) == 2
    raw.close()


def test_statements_split_at_semicolons_outside_text() -> None:
    script = "INSERT INTO t VALUES ('a;b');\n-- why;\nSELECT 1;\n"
    assert [part.strip() for part in statements(script)] == [
        "INSERT INTO t VALUES ('a;b');",
        "-- why;\nSELECT 1;",
    ]


def test_what_was_answered_survives_kill_9(tmp_path: Path) -> None:
    script = f"""
import asyncio, os, signal, sys
sys.path.insert(0, {str(Path.cwd())!r})
from gateway.store.grants import StoredGrants
from gateway.store.sqlite import SqliteDatabase
from gateway.model import Grant, Identity
async def main():
    store = StoredGrants(await SqliteDatabase.open({str(tmp_path / "store.db")!r}))
    for n in range(20):
        one = Grant(f"g{{n}}", Identity("corp", "a"), root=f"g{{n}}", expires_at=100.0)
        await store.add_grant(one, f"s{{n}}", lease_until=None, now=1.0, max_children=1)
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    assert subprocess.run([sys.executable, "-c", script]).returncode == -9

    async def count() -> int:
        database, store = await opened(tmp_path / "store.db")
        found = len(await store.grants_below(None))
        await database.close()
        return found

    assert asyncio.run(count()) == 20
