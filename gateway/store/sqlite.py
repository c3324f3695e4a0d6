# SPDX-License-Identifier: GPL-3.0-or-later
"""The store in one SQLite file: a thread that writes, a thread that reads, never the loop."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from gateway.model import Grant, StoredGrant
from gateway.store.interface import Added, StoreFailed
from gateway.store.migrate import migrate
from gateway.store.rows import COLUMNS, PLACES, from_row, to_row

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

SUBTREE = """WITH RECURSIVE below (id, depth) AS (
    SELECT id, 0 FROM grants WHERE {tops}
    UNION SELECT g.id, below.depth + 1 FROM grants g JOIN below ON g.parent = below.id)"""
ALIVE = "revoked_at IS NULL AND expires_at > :now AND (lease_until IS NULL OR lease_until > :now)"


class SqliteStore:
    """`Store` in a file. Make one with `await SqliteStore.open(path)`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._threads = {
            side: ThreadPoolExecutor(1, thread_name_prefix=f"store-{side}")
            for side in ("write", "read")
        }
        self._connections: dict[str, sqlite3.Connection] = {}

    @classmethod
    async def open(cls, path: Path | str) -> SqliteStore:
        """Open or make the file and bring its schema up to date. Raises StoreFailed."""
        store = cls(Path(path))
        try:
            for side in ("write", "read"):
                await store._on(side, lambda side=side: store._connect(side))  # type: ignore[misc]
        except BaseException:
            await store.close()
            raise
        return store

    def _connect(self, side: str) -> None:
        if side == "write":
            # Made by us, so that nobody else can read it; the WAL beside it takes the same mode.
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(self.path, isolation_level=None, timeout=5.0)
        self._connections[side] = connection
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        if side == "write":
            migrate(connection)
        else:
            connection.execute("PRAGMA query_only = ON")

    async def _on(self, side: str, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads[side], work)
        except (sqlite3.Error, OSError) as error:
            raise StoreFailed(
                f"store {self.path}: {error}; check that the folder exists, is writable by this"
                " user and has space"
            ) from error

    async def _read(self, work: Work[T]) -> T:
        return await self._on("read", lambda: work(self._connections["read"]))

    async def _write(self, work: Work[T]) -> T:
        return await self._on("write", lambda: _transaction(self._connections["write"], work))

    async def put_root(self, grant: Grant, login_sha256: str) -> StoredGrant:
        def work(connection: sqlite3.Connection) -> StoredGrant:
            connection.execute(
                f"INSERT INTO grants ({COLUMNS}) VALUES ({PLACES})"
                " ON CONFLICT (login_sha256) DO NOTHING",
                to_row(grant, None, login_sha256, None),
            )
            found = _one(connection, "login_sha256", login_sha256)
            assert found is not None
            return found

        return await self._write(work)

    async def add_grant(
        self,
        grant: Grant,
        token_sha256: str,
        *,
        lease_until: float | None,
        now: float,
        max_children: int,
    ) -> Added:
        def work(connection: sqlite3.Connection) -> Added:
            if grant.parent is not None:
                if not _path_alive(connection, grant.parent, now):
                    return "dead_parent"
                if _live_children(connection, grant.parent, now) >= max_children:
                    return "too_many_children"
            row = to_row(grant, token_sha256, None, lease_until)
            connection.execute(f"INSERT INTO grants ({COLUMNS}) VALUES ({PLACES})", row)
            return "added"

        return await self._write(work)

    async def grant_by_token(self, token_sha256: str) -> StoredGrant | None:
        return await self._read(lambda connection: _one(connection, "token_sha256", token_sha256))

    async def grant_by_login(self, login_sha256: str) -> StoredGrant | None:
        return await self._read(lambda connection: _one(connection, "login_sha256", login_sha256))

    async def grant_by_id(self, grant_id: str) -> StoredGrant | None:
        return await self._read(lambda connection: _one(connection, "id", grant_id))

    async def ancestors(self, grant_id: str) -> tuple[str, ...]:
        return await self._read(
            lambda connection: tuple(row["id"] for row in _path(connection, grant_id))
        )

    async def grants_below(self, tops: Sequence[str] | None) -> list[StoredGrant]:
        def work(connection: sqlite3.Connection) -> list[StoredGrant]:
            where = "parent IS NULL" if tops is None else f"id IN ({_places(tops)})"
            rows = connection.execute(
                SUBTREE.format(tops=where) + " SELECT grants.* FROM grants JOIN below USING (id)"
                " GROUP BY id ORDER BY max(below.depth), issued_at, id",
                tops or (),
            )
            return [from_row(row) for row in rows]

        return await self._read(work)

    async def roots_of(self, issuer: str, subject: str) -> tuple[str, ...]:
        query = "SELECT id FROM grants WHERE issuer = ? AND subject = ? AND parent IS NULL"
        return await self._read(
            lambda connection: tuple(
                row["id"] for row in connection.execute(query, (issuer, subject))
            )
        )

    async def renew_lease(self, grant_id: str, until: float, now: float) -> bool:
        def work(connection: sqlite3.Connection) -> bool:
            if not _path_alive(connection, grant_id, now):
                return False
            done = connection.execute(
                "UPDATE grants SET lease_until = ? WHERE id = ? AND lease_until IS NOT NULL",
                (until, grant_id),
            )
            return done.rowcount == 1

        return await self._write(work)

    async def revoke(self, grant_id: str, by: str, cause: str, at: float) -> tuple[str, ...]:
        return await self._write(
            lambda connection: _revoke(connection, "id = :top", {"top": grant_id}, by, cause, at)
        )

    async def revoke_lapsed(self, at: float) -> tuple[str, ...]:
        lapsed = "lease_until <= :at AND revoked_at IS NULL"
        look = f"SELECT 1 FROM grants WHERE {lapsed} LIMIT 1"
        # The usual second has nothing to write: no transaction, no sync.
        if await self._read(lambda connection: connection.execute(look, {"at": at}).fetchone()):
            return await self._write(
                lambda connection: _revoke(connection, lapsed, {}, "gateway", "lease lapsed", at)
            )
        return ()

    async def revocations_after(self, sequence: int) -> tuple[int, tuple[str, ...]]:
        query = "SELECT sequence, grant_id FROM revocations WHERE sequence > ? ORDER BY sequence"

        def work(connection: sqlite3.Connection) -> tuple[int, tuple[str, ...]]:
            rows = connection.execute(query, (sequence,)).fetchall()
            last = rows[-1]["sequence"] if rows else sequence
            return last, tuple(row["grant_id"] for row in rows)

        return await self._read(work)

    async def forget_expired(self, before: float) -> int:
        def work(connection: sqlite3.Connection) -> int:
            # A child never outlives its parent, so no row below a dropped one stays.
            connection.execute(
                "DELETE FROM revocations WHERE grant_id IN"
                " (SELECT id FROM grants WHERE expires_at < ?)",
                (before,),
            )
            return connection.execute("DELETE FROM grants WHERE expires_at < ?", (before,)).rowcount

        return await self._write(work)

    async def ping(self) -> None:
        await self._read(lambda connection: connection.execute("SELECT 1").fetchone())

    async def close(self) -> None:
        """Close both connections; what was asked before is done first. Idempotent."""
        for side, connection in list(self._connections.items()):
            await self._on(side, connection.close)
            del self._connections[side]
        for thread in self._threads.values():
            thread.shutdown(wait=False)


def _transaction(connection: sqlite3.Connection, work: Work[T]) -> T:
    connection.execute("BEGIN IMMEDIATE")
    try:
        result = work(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return result


def _places(values: Sequence[str]) -> str:
    return ", ".join("?" * len(values))


def _one(connection: sqlite3.Connection, column: str, value: str) -> StoredGrant | None:
    row = connection.execute(f"SELECT * FROM grants WHERE {column} = ?", (value,)).fetchone()
    if row is None:
        return None
    leases = [up["lease_until"] for up in _path(connection, row["id"])]
    until = min((lease for lease in leases if lease is not None), default=None)
    return replace(from_row(row), lease_until=until)


def _path(connection: sqlite3.Connection, grant_id: str) -> list[sqlite3.Row]:
    """The rows from a grant to its root."""
    path: list[sqlite3.Row] = []
    step: str | None = grant_id
    while step is not None:
        row = connection.execute(
            "SELECT id, parent, lease_until, expires_at, revoked_at FROM grants WHERE id = ?",
            (step,),
        ).fetchone()
        if row is None:
            break
        path.append(row)
        step = row["parent"]
    return path


def _path_alive(connection: sqlite3.Connection, grant_id: str, now: float) -> bool:
    path = _path(connection, grant_id)
    return bool(path) and all(
        row["revoked_at"] is None
        and row["expires_at"] > now
        and (row["lease_until"] is None or row["lease_until"] > now)
        for row in path
    )


def _live_children(connection: sqlite3.Connection, parent: str, now: float) -> int:
    query = f"SELECT count(*) FROM grants WHERE parent = :parent AND {ALIVE}"
    (count,) = connection.execute(query, {"parent": parent, "now": now}).fetchone()
    return int(count)


def _revoke(
    connection: sqlite3.Connection,
    tops: str,
    values: dict[str, str],
    by: str,
    cause: str,
    at: float,
) -> tuple[str, ...]:
    rows = connection.execute(
        SUBTREE.format(tops=tops)
        + " UPDATE grants SET revoked_at = :at, revoked_by = :by"
        + " WHERE id IN (SELECT id FROM below) AND revoked_at IS NULL RETURNING id",
        {**values, "at": at, "by": by},
    ).fetchall()
    ids = tuple(row["id"] for row in rows)
    connection.executemany(
        "INSERT INTO revocations (grant_id, at, by, cause) VALUES (?, ?, ?, ?)",
        [(revoked, at, by, cause) for revoked in ids],
    )
    return ids
