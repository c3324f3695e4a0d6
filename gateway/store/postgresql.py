# SPDX-License-Identifier: GPL-3.0-or-later
"""A database on PostgreSQL, for several nodes: threads with a link each, never the loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row

from gateway.store.clock import DatabaseClock
from gateway.store.database import NOTHING, Row, Told, Values, Work
from gateway.store.dsn import Dsn
from gateway.store.interface import StoreFailed
from gateway.store.listening import CHANNEL, Listener
from gateway.store.migrate import migrate
from gateway.store.translation import placed, schema

T = TypeVar("T")
READERS = 4
STATEMENT_SECONDS = 5.0
"""The server gives up a statement, and a wait for the other writers, after this."""
LINK_SECONDS = 8.0
"""A server that does not even give up: the link to it is dropped after this."""
ANSWER_SECONDS = 15.0
"""The longest that anybody waits here, in the queue and for a new link included."""
WRITERS = 0x7472_6761_7465
"""The advisory lock by which all nodes' writers come one after the other."""
BEGIN = f"BEGIN; SELECT pg_advisory_xact_lock({WRITERS})"
SESSION = f"""
    SET statement_timeout = '{STATEMENT_SECONDS:g}s';
    SET idle_in_transaction_session_timeout = '3s';
    SET default_transaction_isolation = 'read committed';
    SELECT set_config('synchronous_commit', 'on', false)
        WHERE current_setting('synchronous_commit') = 'off'"""
"""A node that stops inside a transaction keeps the others waiting; what is committed is kept."""
CURE = "check that the server runs, takes writes and lets this user in"


class _Raw(psycopg.Connection[Row]):
    """Gives up on a server that says nothing: a thread of ours must not wait for ever."""

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        return super().wait(gen, interval, timeout or LINK_SECONDS)


class PostgresConnection:
    """`Connection` on psycopg."""

    def __init__(self, raw: psycopg.Connection[Row]) -> None:
        self.raw = raw

    def execute(self, sql: str, values: Values = NOTHING, /) -> Sequence[Row]:
        # psycopg wants literals; here the SQL comes from this package's own files.
        if values:
            cursor = self.raw.execute(placed(sql).encode(), _plain(values))
        else:
            cursor = self.raw.execute(sql.encode())
        return cursor.fetchall() if cursor.description else []

    def notify(self, topic: str, /) -> None:
        self.execute("SELECT pg_notify(:channel, :topic)", {"channel": CHANNEL, "topic": topic})


def _plain(values: Values) -> dict[str, object]:
    """A truth is a number here as in SQLite."""
    return {
        name: int(value) if isinstance(value, bool) else value for name, value in values.items()
    }


class _Migrating(PostgresConnection):
    """Takes what is written in SQLite's types."""

    def execute(self, sql: str, values: Values = NOTHING, /) -> Sequence[Row]:
        return super().execute(schema(sql), values)


class _CommitUnknown(Exception):
    """The link broke between the commit and its answer."""


class _Link:
    """One thread's link to the server, made anew when it broke."""

    def __init__(self, open_: Callable[[], psycopg.Connection[Row]], *, writes: bool) -> None:
        self._open = open_
        self._writes = writes
        self._connection: PostgresConnection | None = None

    def run(self, work: Work[T]) -> T:
        """Do the work; once more on a new link if an old one turned out to be dead.

        Nothing counts before its commit, so the second time is as good as the first.
        """
        fresh = self._connection is None
        try:
            return self._attempt(work)
        except psycopg.Error:
            if fresh or self._connection is not None:
                raise
        return self._attempt(work)

    def _attempt(self, work: Work[T]) -> T:
        try:
            if self._connection is None:
                self._connection = self._connected()
            connection = self._connection
            return _transaction(connection, work) if self._writes else work(connection)
        except BaseException as error:
            self._drop_what_is_spoilt(error)
            raise

    def _connected(self) -> PostgresConnection:
        raw = self._open()
        if not self._writes:
            raw.execute("SET default_transaction_read_only = on")
        return PostgresConnection(raw)

    def _drop_what_is_spoilt(self, error: BaseException) -> None:
        """A link that is lost, in the middle of something, or at a server that became a standby."""
        connection = self._connection
        if connection is None:
            return
        standby = isinstance(error, psycopg.errors.ReadOnlySqlTransaction)
        if standby or connection.raw.info.transaction_status is not TransactionStatus.IDLE:
            self.close()

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.raw.close()


def _transaction(connection: PostgresConnection, work: Work[T]) -> T:
    raw = connection.raw
    raw.execute(BEGIN)
    try:
        result = work(connection)
        if raw.info.transaction_status is not TransactionStatus.INTRANS:
            raise psycopg.InternalError("a statement failed, and its work went on regardless")
    except BaseException:
        if not raw.closed:
            raw.execute("ROLLBACK")
        raise
    try:
        raw.execute("COMMIT")
    except psycopg.OperationalError as error:
        raise _CommitUnknown from error
    return result


class PostgresDatabase:
    """`Database` on a server. Make one with `await PostgresDatabase.open(dsn)`."""

    def __init__(self, dsn: Dsn) -> None:
        self.dsn = dsn
        self.now = DatabaseClock()
        self._threads = {
            "write": ThreadPoolExecutor(1, thread_name_prefix="store-write"),
            "read": ThreadPoolExecutor(READERS, thread_name_prefix="store-read"),
        }
        self._own = threading.local()
        self._links: list[_Link] = []
        self._listener: Listener | None = None

    @classmethod
    async def open(cls, dsn: Dsn) -> PostgresDatabase:
        """Reach the server, bring the schema up to date, listen. Raises StoreFailed."""
        database = cls(dsn)
        try:
            await database._on("write", database._migrate)
        except BaseException:
            await database.close()
            raise
        database._listener = Listener(database._connect, database.now)
        return database

    def _migrate(self) -> None:
        with self._connect() as raw:
            migrate(_Migrating(raw), begin=BEGIN)

    def _connect(self) -> psycopg.Connection[Row]:
        raw = _Raw.connect(
            self.dsn.conninfo,
            autocommit=True,
            row_factory=dict_row,
            # A statement prepared before another node migrated would fail behind it.
            prepare_threshold=None,
        )
        try:
            raw.execute(SESSION)
            self.now.measure(raw)
        except BaseException:
            raw.close()
            raise
        return raw

    def _link(self, side: str) -> _Link:
        link: _Link | None = getattr(self._own, "link", None)
        if link is None:
            link = self._own.link = _Link(self._connect, writes=side == "write")
            self._links.append(link)
        return link

    async def _on(self, side: str, work: Callable[[], T]) -> T:
        try:
            doing = asyncio.get_running_loop().run_in_executor(self._threads[side], work)
            return await asyncio.wait_for(doing, ANSWER_SECONDS)
        except TimeoutError as error:
            raise self._failed(f"no answer in {ANSWER_SECONDS:g} s") from error
        except _CommitUnknown as error:
            cause = "the link broke at the commit, and nobody can say whether it counts"
            raise self._failed(cause) from error
        except psycopg.Error as error:
            raise self._failed(error.diag.message_primary or str(error)) from error

    def _failed(self, cause: str) -> StoreFailed:
        return StoreFailed(f"store {self.dsn.shown}: {' '.join(cause.split())}; {CURE}")

    async def read(self, work: Work[T]) -> T:
        return await self._on("read", lambda: self._link("read").run(work))

    async def write(self, work: Work[T]) -> T:
        return await self._on("write", lambda: self._link("write").run(work))

    async def ping(self) -> None:
        await self.read(lambda connection: connection.execute("SELECT 1"))

    def when_changed(self, told: Told) -> None:
        if self._listener is not None:
            self._listener.tell(told)

    async def close(self) -> None:
        """Close every link; what was asked before is done first. Idempotent."""
        if self._listener is not None:
            await self._listener.close()
        for threads in self._threads.values():
            await asyncio.to_thread(threads.shutdown)
        while self._links:
            self._links.pop().close()
