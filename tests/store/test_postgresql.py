# SPDX-License-Identifier: GPL-3.0-or-later
"""The PostgreSQL store: links that die, servers that say nothing, one writer, one clock."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest

from gateway.admin.cli.demo.postgres_server import PostgresServer
from gateway.certificates import self_made
from gateway.store import clock as clocks
from gateway.store.clock import DatabaseClock, steady
from gateway.store.database import Connection
from gateway.store.dsn import Dsn
from gateway.store.grants import StoredGrants
from gateway.store.interface import StoreFailed
from gateway.store.postgresql import ANSWER_SECONDS, LINK_SECONDS, READERS, PostgresDatabase
from tests.store.grant_samples import add, grant

pytestmark = pytest.mark.live


@pytest.fixture
async def database(dsn: Dsn) -> AsyncIterator[PostgresDatabase]:
    opened = await PostgresDatabase.open(dsn)
    yield opened
    await opened.close()
    await opened.close()


def backends(dsn: Dsn, query: str) -> list[Any]:
    with psycopg.connect(dsn.conninfo, autocommit=True) as link:
        name = link.info.dbname
        return link.execute(query, (name, link.info.backend_pid)).fetchall()


def cut_all(dsn: Dsn) -> None:
    backends(
        dsn,
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE datname = %s AND pid <> %s",
    )


async def test_links_that_died_are_made_anew_and_nobody_notices(
    database: PostgresDatabase, dsn: Dsn
) -> None:
    store = StoredGrants(database)
    for round_ in range(3):
        assert await add(store, grant(f"g{round_}")) == "added"
        found = await asyncio.gather(*(store.grant_by_id(f"g{round_}") for _ in range(16)))
        assert all(found)
        cut_all(dsn)
    assert len(await store.grants_below(None)) == 3


async def test_while_the_server_is_away_each_call_says_so_and_afterwards_all_is_well(
    database: PostgresDatabase, server: PostgresServer, dsn: Dsn
) -> None:
    store, told = StoredGrants(database), asyncio.Queue[str]()
    await add(store, grant("g1"))
    database.when_changed(told.put_nowait)
    server.halt()
    try:
        for _ in range(2):
            with pytest.raises(StoreFailed, match="check that the server runs"):
                await store.grant_by_id("g1")
            with pytest.raises(StoreFailed) as failed:
                await store.revoke("g1", "admin", "test", 20.0)
            assert server.password not in str(failed.value)
    finally:
        server.resume()
    assert await store.grant_by_id("g1") is not None
    assert await store.revoke("g1", "admin", "test", 20.0) == ("g1",)
    # The listener is back as well: it says so, or tells of the revocation.
    assert await asyncio.wait_for(told.get(), 20) in ("", "revocations")


@pytest.mark.slow
@pytest.mark.fault
async def test_a_server_that_says_nothing_keeps_nobody_waiting(
    database: PostgresDatabase, dsn: Dsn
) -> None:
    store = StoredGrants(database)
    await add(store, grant("g1"))
    # Each reader has its link now.
    await asyncio.gather(
        *(database.read(lambda one: one.execute("SELECT pg_sleep(0.2)")) for _ in range(READERS))
    )
    stopped = [
        pid
        for (pid,) in backends(
            dsn, "SELECT pid FROM pg_stat_activity WHERE datname = %s AND pid <> %s"
        )
    ]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        # The postmaster still lets new links in: the second try is answered.
        found, added = await asyncio.gather(store.grant_by_id("g1"), add(store, grant("g2")))
        assert found is not None and added == "added"
        assert time.monotonic() - began < LINK_SECONDS + ANSWER_SECONDS
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)


async def test_writers_of_all_processes_come_one_after_the_other(
    database: PostgresDatabase, dsn: Dsn
) -> None:
    other = await PostgresDatabase.open(dsn)
    inside = 0

    def work(connection: Connection) -> int:
        nonlocal inside
        inside += 1
        alone = inside
        connection.execute("SELECT pg_sleep(0.01)")
        inside -= 1
        return alone

    both = [(database, other)[number % 2].write(work) for number in range(20)]
    assert set(await asyncio.gather(*both)) == {1}
    await other.close()


async def test_a_reader_cannot_write(database: PostgresDatabase) -> None:
    with pytest.raises(StoreFailed, match="read-only"):
        await database.read(lambda connection: connection.execute("DELETE FROM grants"))


async def test_work_that_swallows_an_error_is_not_committed(database: PostgresDatabase) -> None:
    def work(connection: Connection) -> None:
        connection.execute("INSERT INTO revocations VALUES (1, 'g', 0, 'a', 'b')")
        with pytest.raises(psycopg.Error):
            connection.execute("SELECT 1 / 0")

    with pytest.raises(StoreFailed, match="went on regardless"):
        await database.write(work)
    assert await StoredGrants(database).revocations_after(0) == (0, ())


async def test_commits_are_kept_even_where_the_user_is_set_not_to(
    dsn: Dsn, server: PostgresServer
) -> None:
    server.psql("ALTER ROLE postgres SET synchronous_commit = off")
    try:
        database = await PostgresDatabase.open(dsn)
        rows = await database.write(lambda one: one.execute("SHOW synchronous_commit"))
        assert rows[0]["synchronous_commit"] == "on"
        await database.close()
    finally:
        server.psql("ALTER ROLE postgres RESET synchronous_commit")


async def test_two_that_start_together_migrate_once(dsn: Dsn) -> None:
    opened = await asyncio.gather(*(PostgresDatabase.open(dsn) for _ in range(4)))
    rows = await opened[0].read(
        lambda one: one.execute("SELECT version, count(*) AS n FROM schema_version GROUP BY 1")
    )
    assert rows and all(row["n"] == 1 for row in rows)
    for database in opened:
        await database.close()


async def test_a_newer_schema_is_refused(database: PostgresDatabase, dsn: Dsn) -> None:
    await database.write(
        lambda one: one.execute("INSERT INTO schema_version VALUES (999, 'later', 0)")
    )
    with pytest.raises(StoreFailed, match="schema 999, this trailgate knows"):
        await PostgresDatabase.open(dsn)


async def test_a_wrong_password_or_ca_is_told_without_the_password(
    server: PostgresServer, tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    other_ca = self_made(tmp_path).ca_path
    wrong = server.url().replace(server.password, "hunter2-hunter2")
    for url, said in (
        (f"{wrong}?sslmode=require", "authentication failed"),
        (f"{server.url()}?sslmode=verify-full&sslrootcert={other_ca}", "certificate verify failed"),
    ):
        with pytest.raises(StoreFailed, match=said) as failed:
            await PostgresDatabase.open(Dsn.parse(url))
        told = f"{failed.value} {caplog.text}"
        assert "hunter2" not in told and server.password not in told


# --- the clock -----------------------------------------------------------------------------------


class Answering:
    """A link to a server whose clock is wrong by a known amount."""

    def __init__(self, ahead: float, slow: float = 0.0) -> None:
        self.ahead = ahead
        self.slow = slow

    def execute(self, sql: str) -> Answering:
        assert sql == clocks.ASK
        time.sleep(self.slow)
        return self

    def fetchone(self) -> dict[str, float]:
        return {"now": time.time() + self.ahead}


def test_the_databases_clock_decides() -> None:
    clock = DatabaseClock()
    assert abs(clock() - time.time()) < 1
    clock.measure(Answering(3600.0))  # type: ignore[arg-type]
    assert abs(clock() - time.time() - 3600) < 1
    # A slow answer says little: the one before is kept.
    clock.measure(Answering(0.0, slow=clocks.SLOWEST + 0.1))  # type: ignore[arg-type]
    assert abs(clock() - time.time() - 3600) < 1
    clock.measure(Answering(-60.0))  # type: ignore[arg-type]
    assert abs(clock() - time.time() + 60) < 1
    assert steady() <= steady()


async def test_it_is_asked_before_the_first_login(database: PostgresDatabase) -> None:
    rows = await database.read(lambda one: one.execute(clocks.ASK))
    assert abs(database.now() - rows[0]["now"]) < 1


# --- the commit ----------------------------------------------------------------------------------

DYING_COMMIT = """
    CREATE TABLE tried (at float8);
    CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END';
    CREATE CONSTRAINT TRIGGER die AFTER INSERT ON tried DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION die()"""


async def test_a_link_that_breaks_at_the_commit_is_told_and_not_tried_again(
    database: PostgresDatabase,
) -> None:
    await database.write(lambda one: one.execute(DYING_COMMIT))
    tries = 0

    def work(connection: Connection) -> None:
        nonlocal tries
        tries += 1
        connection.execute("INSERT INTO tried VALUES (1)")

    with pytest.raises(StoreFailed, match="broke at the commit"):
        await database.write(work)
    assert tries == 1
    assert await add(StoredGrants(database), grant("g1")) == "added"


@pytest.mark.slow
@pytest.mark.fault
async def test_a_node_that_stops_in_a_transaction_does_not_stop_the_others(
    database: PostgresDatabase, dsn: Dsn
) -> None:
    other = await PostgresDatabase.open(dsn)
    # Its link is an old one: work on it may be tried again.
    await add(StoredGrants(database), grant("g0"))
    inside, tries = asyncio.Event(), 0
    loop = asyncio.get_running_loop()

    def work(connection: Connection) -> None:
        nonlocal tries
        tries += 1
        connection.execute("INSERT INTO revocations VALUES (99, 'g', 0, 'a', 'b')")
        if tries == 1:
            loop.call_soon_threadsafe(inside.set)
            time.sleep(4)  # longer than the server lets anybody be idle in a transaction
        connection.execute("SELECT 1")

    stopped = asyncio.ensure_future(database.write(work))
    await inside.wait()
    # What waits for the lock meanwhile gets it once the server has ended the other's transaction.
    assert await add(StoredGrants(other), grant("g1")) == "added"
    await stopped
    assert tries == 2
    assert (await StoredGrants(other).revocations_after(0))[0] == 99
    await other.close()
