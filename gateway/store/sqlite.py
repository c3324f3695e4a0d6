# SPDX-License-Identifier: GPL-3.0-or-later
"""A database in one SQLite file: a thread that writes, a thread that reads, never the loop."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from gateway.store.database import NOTHING, Row, Told, Values, Work
from gateway.store.interface import StoreFailed
from gateway.store.migrate import migrate

T = TypeVar("T")


class SqliteConnection:
    """`Connection` on sqlite3."""

    def __init__(self, raw: sqlite3.Connection) -> None:
        self.raw = raw
        self.topics: list[str] = []
        """Notified in the transaction that is under way."""

    def execute(self, sql: str, values: Values = NOTHING, /) -> Sequence[Row]:
        return [dict(row) for row in self.raw.execute(sql, dict(values))]

    def notify(self, topic: str, /) -> None:
        self.topics.append(topic)


class SqliteDatabase:
    """`Database` in a file. Make one with `await SqliteDatabase.open(path)`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._threads = {
            side: ThreadPoolExecutor(1, thread_name_prefix=f"store-{side}")
            for side in ("write", "read")
        }
        self._connections: dict[str, SqliteConnection] = {}
        self._told: list[Told] = []

    @classmethod
    async def open(cls, path: Path | str) -> SqliteDatabase:
        """Open or make the file and bring its schema up to date. Raises StoreFailed."""
        database = cls(Path(path))
        try:
            for side in ("write", "read"):
                await database._on(side, lambda side=side: database._connect(side))  # type: ignore[misc]
        except BaseException:
            await database.close()
            raise
        return database

    def _connect(self, side: str) -> None:
        if side == "write":
            # Made by us, so that nobody else can read it; the WAL beside it takes the same mode.
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(self.path, isolation_level=None, timeout=5.0)
        connection.row_factory = sqlite3.Row
        self._connections[side] = SqliteConnection(connection)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        if side == "write":
            migrate(self._connections[side], begin="BEGIN IMMEDIATE")
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

    async def read(self, work: Work[T]) -> T:
        return await self._on("read", lambda: work(self._connections["read"]))

    async def write(self, work: Work[T]) -> T:
        def transaction() -> tuple[T, Sequence[str]]:
            return _transaction(self._connections["write"], work)

        result, topics = await self._on("write", transaction)
        for topic in dict.fromkeys(topics):
            for told in self._told:
                told(topic)
        return result

    def when_changed(self, told: Told) -> None:
        """Only of this process's own changes: a file has nobody who tells."""
        self._told.append(told)

    def now(self) -> float:
        return time.time()

    async def ping(self) -> None:
        await self.read(lambda connection: connection.execute("SELECT 1"))

    async def close(self) -> None:
        """Close both connections; what was asked before is done first. Idempotent."""
        for side, connection in list(self._connections.items()):
            await self._on(side, connection.raw.close)
            del self._connections[side]
        for thread in self._threads.values():
            thread.shutdown(wait=False)


def _transaction(connection: SqliteConnection, work: Work[T]) -> tuple[T, Sequence[str]]:
    connection.topics = []
    connection.execute("BEGIN IMMEDIATE")
    try:
        result = work(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.raw.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return result, connection.topics
