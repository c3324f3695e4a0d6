# SPDX-License-Identifier: GPL-3.0-or-later
"""The SQLite store: migrations, its file, several writers, and errors that name the cure."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.identity.grant_store import GrantStore as GrantPort
from gateway.model import Grant, Hop, Identity
from gateway.store.grants import StoredGrants
from gateway.store.interface import GrantStore, StoreFailed
from gateway.store.migrate import MIGRATIONS, migrate, statements
from gateway.store.sqlite import SqliteConnection, SqliteDatabase


def grant(name: str, parent: str | None = None, expires_at: float = 100.0) -> Grant:
    identity = Identity("corp", "alice", "Alice", "person")
    return Grant(
        id=name,
        origin=identity,
        groups=("dba",),
        chain=(Hop("a", True, Identity("ci", "job", kind="workload"), name, "uid"),),
        narrowing=({"scope": ["orders"]},),
        parent=parent,
        root=parent or name,
        issued_at=1.5,
        expires_at=expires_at,
        login={"iss": "corp", "iat": 1},
        actor_groups=("ci",),
    )


async def opened(path: Path) -> tuple[SqliteDatabase, StoredGrants]:
    database = await SqliteDatabase.open(path)
    return database, StoredGrants(database)


async def add(store: StoredGrants, one: Grant, lease: float | None = None) -> str:
    return await store.add_grant(one, f"sha-{one.id}", lease_until=lease, now=10.0, max_children=64)


async def test_a_grant_comes_back_as_it_was_kept_also_after_a_restart(tmp_path: Path) -> None:
    database, store = await opened(tmp_path / "store.db")
    seam: GrantStore = store
    port: GrantPort = store
    assert seam is port
    assert await add(store, grant("g1")) == "added"
    await database.close()
    database, store = await opened(tmp_path / "store.db")
    found = await store.grant_by_token("sha-g1")
    assert found is not None and found.grant == grant("g1")
    assert await store.grant_by_token("sha-g2") is None
    await database.close()
    await database.close()


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


async def test_two_stores_on_one_file_see_each_other(tmp_path: Path) -> None:
    one_file, one = await opened(tmp_path / "store.db")
    two_file, two = await opened(tmp_path / "store.db")
    await add(one, grant("g0"))
    names = [f"g{n}" for n in range(1, 41)]
    await asyncio.gather(
        *(add(one if n % 2 else two, grant(name, "g0")) for n, name in enumerate(names))
    )
    below = await two.grants_below(("g0",))
    assert {stored.grant.id for stored in below} == {"g0", *names}
    assert await one.revoke("g0", "admin", "test", 20.0)
    sequence, revoked = await two.revocations_after(0)
    assert set(revoked) == {"g0", *names}
    assert await two.revocations_after(sequence) == (sequence, ())
    await one_file.close()
    await two_file.close()


async def test_a_write_that_fails_leaves_nothing_and_the_store_goes_on(tmp_path: Path) -> None:
    database, store = await opened(tmp_path / "store.db")
    assert await add(store, grant("g1")) == "added"
    with pytest.raises(StoreFailed, match="UNIQUE"):
        await add(store, grant("g1"))
    assert await add(store, grant("g2")) == "added"
    assert len(await store.grants_below(None)) == 2
    await database.close()


async def test_hostile_ids_are_values_not_sql(tmp_path: Path) -> None:
    database, store = await opened(tmp_path / "store.db")
    await add(store, grant("g1"))
    hostile = "x' OR '1'='1"
    assert await store.grant_by_token(hostile) is None
    assert await store.revoke(hostile, hostile, hostile, 1.0) == ()
    assert await store.grants_below((hostile,)) == []
    assert not await store.renew_lease(hostile, 1.0, 1.0)
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


def test_migrations_are_numbered_without_holes() -> None:
    numbers = sorted(int(path.name[:4]) for path in MIGRATIONS.glob("*.sql"))
    assert numbers == list(range(1, len(numbers) + 1))


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
