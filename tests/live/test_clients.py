# SPDX-License-Identifier: GPL-3.0-or-later
"""Native clients work through the gateway unchanged."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import asyncpg
import psycopg
import pytest
import sqlalchemy
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from gateway.admin.cli.demo.postgres_server import PostgresServer
from tests.live.gateway_process import Gateway

pytestmark = pytest.mark.live


def run(gateway: Gateway, *command: str, database: str = "shop", **more: object) -> str:
    env = {**gateway.environment(database), "PGSSLMODE": "verify-full"}
    env["PGSSLROOTCERT"] = gateway.ready["ca"]
    done = subprocess.run(
        command,
        env=env,
        capture_output=True,
        text=True,
        timeout=100,
        **more,  # type: ignore[call-overload]
    )
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


def test_the_printed_command_line_works_as_it_stands(observed: Gateway) -> None:
    command = f"{observed.target['command']} -XAtc 'select 6 * 7'"
    env = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
    done = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, env=env, timeout=60
    )
    assert (done.stdout, done.stderr) == ("42\n", "")
    assert observed.token not in observed.target["command"]


def test_psql_reads_writes_describes_and_copies(observed: Gateway, tmp_path: Path) -> None:
    path = tmp_path / "copied"
    out = run(
        observed,
        *("psql", "-XAt", "-v", "ON_ERROR_STOP=1"),
        *("-c", "create table psql_t (i int, t text)"),
        *("-c", r"\d psql_t"),
        *("-c", "insert into psql_t select i, 'row ' || i from generate_series(1, 1000) i"),
        *("-c", rf"\copy psql_t to '{path}'"),
        *("-c", rf"\copy psql_t from '{path}'"),
        *("-c", "select count(*), sum(i) from psql_t"),
        *("-c", "drop table psql_t"),
    )
    assert "i|integer" in out
    assert out.splitlines()[-2] == "2000|1001000"
    assert len(path.read_text().splitlines()) == 1000


def test_psql_is_told_of_notifications_and_notices(observed: Gateway) -> None:
    done = observed.psql(
        "listen news",
        "notify news, 'good'",
        "do $$ begin raise notice 'noted'; end $$",
        database="shop",
    )
    assert 'notification "news" with payload "good"' in done.stdout
    assert "NOTICE:  noted" in done.stderr


def test_ctrl_c_cancels_the_running_query_only(observed: Gateway) -> None:
    env = {**observed.environment("shop"), "PGSSLMODE": "disable"}
    child = subprocess.Popen(
        ["psql", "-XAt", "-c", "select pg_sleep(60)", "-c", "select 'still here'"],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with psycopg.connect(observed.dsn("shop")) as other:
        other_pid = other.info.backend_pid
        _await_sleep(other)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=30)
        assert "canceling statement due to user request" in err
        assert other.execute("select pg_backend_pid()").fetchone() == (other_pid,)


def _await_sleep(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    query = "select count(*) from pg_stat_activity where query like 'select pg_sleep(60%'"
    for _ in range(200):
        if connection.execute(query).fetchone() == (1,):
            connection.rollback()
            return
        connection.rollback()
        time.sleep(0.05)
    raise AssertionError("the query did not start")


def test_a_client_never_sees_the_targets_cancel_key(
    observed: Gateway, shop: PostgresServer
) -> None:
    with psycopg.connect(observed.dsn("shop")) as connection:
        pid = connection.info.backend_pid
        assert connection.execute("select pg_backend_pid()").fetchone() == (pid,)
        # Cancelling by the key that the client holds works only through the gateway.
        connection.cancel_safe(timeout=10)
        assert connection.execute("select 1").fetchone() == (1,)


def test_psycopg_pipelines_prepares_copies_and_scrolls(observed: Gateway) -> None:
    with psycopg.connect(observed.dsn("shop"), prepare_threshold=1) as connection:
        with connection.pipeline():
            found = [connection.execute("select %s::int + 1", (n,)) for n in range(50)]
        assert [cursor.fetchone() for cursor in found] == [(n + 1,) for n in range(50)]
        connection.execute("create temp table t (i int, b bytea)")
        with connection.cursor().copy("copy t from stdin (format binary)") as copy:
            copy.set_types(["int4", "bytea"])
            for n in range(2000):
                copy.write_row((n, bytes([n % 256]) * 10))
        with connection.cursor(name="scroll", scrollable=True) as cursor:
            cursor.execute("select i from t order by i")
            assert cursor.fetchmany(3) == [(0,), (1,), (2,)]
            cursor.scroll(1997, "absolute")
            assert cursor.fetchall() == [(1997,), (1998,), (1999,)]
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute("insert into customers values (1, 'again', null)")


def test_psycopg_two_phase_and_savepoints(observed: Gateway) -> None:
    with psycopg.connect(observed.dsn("shop")) as connection:
        with connection.transaction():
            connection.execute("insert into notes (body) values ('kept')")
            with pytest.raises(ZeroDivisionError), connection.transaction():
                connection.execute("insert into notes (body) values ('undone')")
                raise ZeroDivisionError
        found = connection.execute("select body from notes where body in ('kept', 'undone')")
        assert found.fetchall() == [("kept",)]


def test_large_objects_are_written_and_read(observed: Gateway) -> None:
    with psycopg.connect(observed.dsn("shop")) as connection:
        with connection.transaction():
            row = connection.execute("select lo_from_bytea(0, %s)", (b"x" * 100_000,)).fetchone()
            assert row is not None
            got = connection.execute("select lo_get(%s)", row).fetchone()
            assert got == (b"x" * 100_000,)
            connection.execute("select lo_unlink(%s)", row)


async def test_asyncpg_prepares_copies_listens_and_streams(observed: Gateway) -> None:
    connection = await asyncpg.connect(
        host="127.0.0.1",
        port=observed.port,
        user="anyone",
        password=observed.token,
        database="shop",
        ssl="disable",
    )
    try:
        statement = await connection.prepare("select $1::int * 2, $2::text")
        for n in range(20):
            assert tuple(await statement.fetchrow(n, f"t{n}")) == (2 * n, f"t{n}")
        async with connection.transaction():
            cursor = await connection.cursor("select generate_series(1, 100)")
            assert len(await cursor.fetch(30)) == 30
        heard: asyncio.Queue[str] = asyncio.Queue()
        await connection.add_listener("news", lambda *args: heard.put_nowait(args[3]))
        await connection.execute("notify news, 'hello'")
        assert await asyncio.wait_for(heard.get(), 10) == "hello"
        await connection.execute("create temp table a (i int)")
        await connection.copy_records_to_table("a", records=[(n,) for n in range(5000)])
        assert await connection.fetchval("select sum(i) from a") == 12497500
    finally:
        await connection.close()


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "orm_items"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


def test_sqlalchemy_makes_reflects_and_queries(observed: Gateway) -> None:
    url = f"postgresql+psycopg://me:{observed.token}@127.0.0.1:{observed.port}/shop"
    engine = sqlalchemy.create_engine(url)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all(Item(name=f"item {n}") for n in range(100))
        session.commit()
        assert session.query(Item).filter(Item.name.like("item 1%")).count() == 11
    assert "orm_items" in sqlalchemy.inspect(engine).get_table_names()
    Base.metadata.drop_all(engine)
    engine.dispose()


@pytest.mark.parametrize("mode", ["simple", "extended", "prepared"])
def test_pgbench_runs_in_every_mode(observed: Gateway, shop: PostgresServer, mode: str) -> None:
    pgbench = shutil.which("pgbench") or shop.binaries.path("pgbench")
    if not Path(pgbench).exists():
        pytest.skip("no pgbench: install postgresql-contrib")
    shop.psql("DROP DATABASE IF EXISTS bench_db")
    shop.psql("CREATE DATABASE bench_db")
    run(observed, pgbench, "-i", "-q", database="bench_db")
    out = run(observed, pgbench, "-n", "-c4", "-t50", "-M", mode, database="bench_db")
    assert "number of failed transactions: 0" in out


def test_a_dump_restored_through_the_gateway_is_identical(
    observed: Gateway, shop: PostgresServer, tmp_path: Path
) -> None:
    shop.psql("CREATE DATABASE source")
    shop.psql(
        "create schema s; create type s.mood as enum ('ok', 'sad');"
        "create table s.t (i serial primary key, m s.mood, b bytea, j jsonb, a int[]);"
        "insert into s.t (m, b, j, a) select 'ok', decode(md5(i::text), 'hex'),"
        " jsonb_build_object('i', i), array[i, i + 1] from generate_series(1, 5000) i;"
        "create view s.v as select m, count(*) from s.t group by m;"
        "create function s.f(int) returns int language sql as 'select $1 + 1';"
        "select lo_from_bytea(0, 'large'::bytea)",
        "source",
    )
    shop.psql("CREATE DATABASE restored")
    dumped = tmp_path / "dump"
    run(observed, "pg_dump", "-Fc", "-f", str(dumped), database="source")
    run(observed, "pg_restore", "-d", "restored", str(dumped), database="restored")
    before, after = (run(observed, "pg_dump", database=name) for name in ("source", "restored"))
    assert _plain(before) == _plain(after)
    assert "COPY s.t" in before


def _plain(dump: str) -> list[str]:
    """Newer pg_dumps put a random key around what psql must not interpret."""
    return [
        line for line in dump.splitlines() if not line.startswith((r"\restrict", r"\unrestrict"))
    ]


def test_startup_options_that_clients_send_are_in_force(observed: Gateway) -> None:
    options = "-c statement_timeout=12345 -c search_path=pg_catalog"
    dsn = observed.dsn("shop", options=options, application_name="mine")
    with psycopg.connect(dsn) as connection:
        assert connection.execute("show statement_timeout").fetchone() == ("12345ms",)
        assert connection.execute("show search_path").fetchone() == ("pg_catalog",)
        assert connection.info.parameter_status("application_name") == "mine"


def test_replication_and_gss_are_refused_in_the_protocols_words(observed: Gateway) -> None:
    with pytest.raises(psycopg.OperationalError, match="replication"):
        psycopg.connect(observed.dsn("shop", replication="database"))
    # gssencmode=prefer falls back by itself; a client that insists is told so by its own library.
    with psycopg.connect(observed.dsn("shop", gssencmode="disable")) as connection:
        assert connection.execute("select 1").fetchone() == (1,)
