# SPDX-License-Identifier: GPL-3.0-or-later
"""The dialog between real clients and a real PostgreSQL: above all, what a denial leaves behind."""

from __future__ import annotations

import os
import random
import select
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psycopg
import pytest
from psycopg import errors, pq

from gateway.model import Decision, Declared, Operation, Verdict
from gateway.protocols.postgresql import wire
from tests.protocols.postgresql.pump import (
    ALLOW,
    BIN,
    DENY,
    Pump,
    Server,
    deny_marked,
    running_server,
)

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(not (BIN / "initdb").exists(), reason="no PostgreSQL is installed"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield from running_server(Path(folder))


@pytest.fixture
def pump(server: Server) -> Iterator[Pump]:
    with psycopg.connect(server.dsn, autocommit=True) as direct:
        direct.execute("drop table if exists t")
        direct.execute("create table t (id int unique deferrable initially deferred)")
    pump = Pump(server.port, deny_marked)
    yield pump
    pump.stop()
    assert b"denied" not in pump.to_target


@pytest.fixture
def link(pump: Pump) -> Iterator[psycopg.Connection]:
    with psycopg.connect(pump.dsn, autocommit=True) as link:
        yield link


def next_result(connection: pq.abc.PGconn) -> pq.abc.PGresult | None:
    """psycopg holds the interpreter's lock in a waiting get_result: so wait outside of it."""
    while connection.is_busy():
        select.select([connection.socket], [], [], 20)
        connection.consume_input()
    return connection.get_result()


def ids(server: Server) -> list[int]:
    with psycopg.connect(server.dsn) as direct:
        return [row[0] for row in direct.execute("select id from t order by id")]


def test_a_denied_simple_query_leaves_the_link_usable(link: psycopg.Connection) -> None:
    result = link.pgconn.exec_(b"select 'denied'")
    assert result.status == pq.ExecStatus.FATAL_ERROR
    assert result.error_field(pq.DiagnosticField.SQLSTATE) == b"42501"
    message = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY)
    assert message == b"trailgate: denied by agents/no-drop: dropping is forbidden"
    assert b'"trailgate": "denied"' in (
        result.error_field(pq.DiagnosticField.MESSAGE_DETAIL) or b""
    )
    assert link.execute("select 1").fetchone() == (1,)


def test_a_denied_extended_query_leaves_the_link_usable(link: psycopg.Connection) -> None:
    with pytest.raises(errors.InsufficientPrivilege):
        link.execute("select %s::text || 'denied'", ["x"])
    assert link.execute("select %s::int", [5]).fetchone() == (5,)


def test_an_insert_before_a_denied_statement_in_a_pipeline_does_not_commit(
    server: Server, link: psycopg.Connection
) -> None:
    with pytest.raises(errors.InsufficientPrivilege), link.pipeline():
        link.execute("insert into t values (1)")
        link.execute("select 'denied'")
        link.execute("insert into t values (2)")
    assert ids(server) == []
    link.execute("insert into t values (3)")
    assert ids(server) == [3]


@pytest.mark.parametrize("simple", [True, False])
def test_a_denial_inside_a_transaction_fails_the_transaction(
    server: Server, link: psycopg.Connection, simple: bool
) -> None:
    link.execute("begin")
    link.execute("insert into t values (1)")
    if simple:
        assert link.pgconn.exec_(b"select 'denied'").status == pq.ExecStatus.FATAL_ERROR
    else:
        with pytest.raises(errors.InsufficientPrivilege):
            link.execute("select 'denied'")
    assert link.info.transaction_status == pq.TransactionStatus.INERROR
    with pytest.raises(errors.InFailedSqlTransaction):
        link.execute("select 1")
    assert link.execute("commit").statusmessage == "ROLLBACK"
    assert link.info.transaction_status == pq.TransactionStatus.IDLE
    assert ids(server) == []


def test_after_a_denial_the_client_may_roll_back_to_its_savepoint(
    server: Server, link: psycopg.Connection
) -> None:
    link.execute("begin")
    link.execute("insert into t values (1)")
    link.execute("savepoint a")
    with pytest.raises(errors.InsufficientPrivilege):
        link.execute("select 'denied'")
    link.execute("rollback to a")
    link.execute("insert into t values (2)")
    link.execute("commit")
    assert ids(server) == [1, 2]


def test_the_unnamed_statement_survives_a_denial_in_a_transaction(link: psycopg.Connection) -> None:
    connection = link.pgconn
    connection.exec_(b"begin")
    connection.prepare(b"", b"select 42")
    connection.exec_(b"savepoint a")  # drops the unnamed statement: prepare again
    connection.prepare(b"", b"select 42")
    connection.exec_(b"select 'denied'")
    result = connection.exec_prepared(b"", [])
    assert result.error_field(pq.DiagnosticField.SQLSTATE) == b"25P02"
    connection.exec_(b"rollback")
    connection.prepare(b"", b"select 42")
    assert connection.exec_(b"select 'denied'").status == pq.ExecStatus.FATAL_ERROR
    assert connection.exec_prepared(b"", []).get_value(0, 0) == b"42"


def test_a_denial_with_flush_and_without_sync_is_answered_at_once(
    server: Server, link: psycopg.Connection
) -> None:
    connection = link.pgconn
    connection.enter_pipeline_mode()
    for text in (b"insert into t values (1)", b"select 'denied'", b"insert into t values (2)"):
        connection.send_query_params(text, [])
    connection.send_flush_request()
    connection.flush()
    statuses = []
    for _ in range(3):
        while (result := next_result(connection)) is not None:
            statuses.append(result.status)
    assert statuses == [
        pq.ExecStatus.COMMAND_OK,
        pq.ExecStatus.FATAL_ERROR,
        pq.ExecStatus.PIPELINE_ABORTED,
    ]
    connection.pipeline_sync()
    assert next_result(connection).status == pq.ExecStatus.PIPELINE_SYNC
    connection.exit_pipeline_mode()
    assert ids(server) == []
    assert link.execute("select 1").fetchone() == (1,)


def test_a_denial_alone_in_a_pipeline_sends_nothing_to_the_target(
    pump: Pump, link: psycopg.Connection
) -> None:
    before = pump.to_target
    with pytest.raises(errors.InsufficientPrivilege), link.pipeline():
        link.execute("select 'denied'")
        link.execute("select 1")
    assert (pump.to_target, pump.own) == (before, b"")
    assert [done.outcome.status for done in pump.done] == ["denied"]


def test_the_client_cannot_tell_the_error_that_we_provoked(
    pump: Pump, link: psycopg.Connection
) -> None:
    link.execute("begin")
    with pytest.raises(errors.InsufficientPrivilege, match="agents/no-drop"):
        link.execute("select 'denied'")
    assert b"trailgate-denied-" in pump.own
    link.execute("rollback")
    assert [done.outcome.status for done in pump.done].count("denied") == 1


@pytest.mark.parametrize("rows", [0, 3, 5000])
def test_copy_in_and_out_carry_every_byte(
    server: Server, link: psycopg.Connection, pump: Pump, rows: int
) -> None:
    with link.cursor().copy("copy t from stdin") as copy:
        for number in range(rows):
            copy.write_row((number,))
    with link.cursor().copy("copy t to stdout") as copy:
        assert len(list(copy.rows())) == rows
    assert len(ids(server)) == rows
    assert link.execute("select 1").fetchone() == (1,)
    assert [done.outcome.tag for done in pump.done if "COPY" in done.outcome.tag] == [
        f"COPY {rows}",
        f"COPY {rows}",
    ]


def test_a_copy_that_fails_midway_leaves_the_link_usable(
    server: Server, link: psycopg.Connection
) -> None:
    with (
        pytest.raises(errors.InvalidTextRepresentation),
        link.cursor().copy("copy t from stdin") as copy,
    ):
        for _ in range(2000):
            copy.write("no number\n" * 100)
    assert link.execute("select 1").fetchone() == (1,)
    with pytest.raises(ValueError), link.cursor().copy("copy t from stdin") as copy:
        copy.write("1\n")
        raise ValueError("the client gives up")
    assert ids(server) == []
    assert link.execute("select 1").fetchone() == (1,)


def test_a_copy_by_simple_query_fails_and_goes_on(link: psycopg.Connection) -> None:
    connection = link.pgconn
    assert connection.exec_(b"copy t from stdin").status == pq.ExecStatus.COPY_IN
    connection.put_copy_data(b"1\nx\n")
    connection.put_copy_end()
    assert next_result(connection).status == pq.ExecStatus.FATAL_ERROR
    assert next_result(connection) is None
    assert connection.exec_(b"select 1").get_value(0, 0) == b"1"


def test_a_denied_copy_takes_no_data(server: Server, link: psycopg.Connection, pump: Pump) -> None:
    with (
        pytest.raises(errors.InsufficientPrivilege),
        link.cursor().copy("copy t from stdin /* denied */") as copy,
    ):
        copy.write("1\n")
    assert ids(server) == []
    assert link.execute("select 1").fetchone() == (1,)


def test_a_deferred_constraint_turns_the_outcome_at_sync(
    server: Server, link: psycopg.Connection, pump: Pump
) -> None:
    with pytest.raises(errors.UniqueViolation):
        link.execute("insert into t values (%s), (1)", [1])
    last = [(done.operation, done.outcome.status) for done in pump.done][-2:]
    assert last[0][0] == last[1][0]
    assert [status for _, status in last] == ["ok", "error"]
    assert pump.done[-1].outcome.sqlstate == "23505"


async def test_asyncpg_prepares_streams_and_runs_again(pump: Pump, server: Server) -> None:
    link = await asyncpg.connect(
        host="127.0.0.1", port=pump.port, user="postgres", database="postgres", ssl=False
    )
    try:
        statement = await link.prepare("select g from generate_series(1, $1::int) g")
        assert len(await statement.fetch(1000)) == 1000
        assert len(await statement.fetch(2000)) == 2000
        async with link.transaction():
            seen = [row["g"] async for row in statement.cursor(250, prefetch=100)]
        assert seen == list(range(1, 251))
        await link.copy_records_to_table("t", records=[(n,) for n in range(100)])
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await link.fetch("select 'denied', $1::int", 1)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with link.transaction():
                await link.execute("insert into t values (1000)")
                await link.execute("select 'denied'")
        assert await link.fetchval("select count(*) from t") == 100
        assert await link.fetchval("select 1") == 1
    finally:
        await link.close()
    assert any(done.outcome.status == "suspended" for done in pump.done)


def test_large_objects_go_by_function_call_and_others_are_denied(pump: Pump) -> None:
    """libpq calls lo_* by OID (FunctionCall); 957 is lo_creat, 964 lo_unlink."""
    answer = _function_call(pump, 957, 0x60000)
    assert answer[:1] == b"V" and answer.endswith(b"Z\x00\x00\x00\x05I")
    answer = _function_call(pump, 964, 1)
    assert answer[:1] == b"E" and b"42501" in answer and answer.endswith(b"Z\x00\x00\x00\x05I")


def _function_call(pump: Pump, oid: int, argument: int) -> bytes:
    def until_ready(link: socket.socket) -> bytes:
        data = b""
        while not data.endswith(b"Z\x00\x00\x00\x05I"):
            data += link.recv(65536)
        return data

    with socket.create_connection(("127.0.0.1", pump.port)) as link:
        link.sendall(wire.startup_message([("user", "postgres"), ("database", "postgres")]))
        until_ready(link)
        body = oid.to_bytes(4, "big") + b"\0\1\0\1\0\1\0\0\0\4" + argument.to_bytes(4, "big")
        link.sendall(wire.message(wire.FUNCTION_CALL, body + b"\0\1"))
        answer = until_ready(link)
        link.sendall(wire.TERMINATE_MESSAGE)
        return answer


def test_pgbench_runs_in_each_mode(pump: Pump, server: Server) -> None:
    command = [str(BIN / "pgbench"), "-h", "127.0.0.1", "-U", "postgres"]
    direct = [*command, "-p", str(server.port), "-i", "-q", "postgres"]
    subprocess.run(direct, check=True, capture_output=True)
    for mode in ("simple", "extended", "prepared"):
        through = [*command, "-p", str(pump.port), "-M", mode, "-t", "20", "-c", "2", "postgres"]
        done = subprocess.run(through, check=True, capture_output=True, text=True)
        assert "number of failed transactions: 0" in done.stdout
    assert pump.settled


def test_psql_runs_a_script_with_a_denial_in_the_middle(pump: Pump) -> None:
    script = "select 1 as a;\n\\echo next\nselect 'denied';\nselect 2 as b;\n\\d t\n"
    done = subprocess.run(
        ["psql", "-X", "-At", pump.dsn],
        input=script,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PGCLIENTENCODING": "UTF8"},
    )
    assert done.stdout.splitlines()[:3] == ["1", "next", "2"]
    assert "trailgate: denied by agents/no-drop" in done.stderr
    assert "id|integer" in done.stdout


def test_a_setting_that_changes_the_text_is_known_before_the_next_text_is_read(
    pump: Pump, link: psycopg.Connection
) -> None:
    def rule(operation: Operation) -> Decision:
        text = operation.text or ""
        if text.startswith("set search_path"):
            declared = (Declared("setting", "search_path", text.split("=")[1].strip()),)
            return Decision(Verdict.ALLOW, declares=declared)
        return ALLOW if operation.text is not None else DENY

    pump.rule = rule
    with link.pipeline():
        link.execute("set search_path = pg_catalog")
        link.execute("select 1")
    texts = {op.text: dict(op.settings) for op in pump.asked}
    assert texts["select 1"]["search_path"] == "pg_catalog"
    link.execute("begin")
    link.execute("set search_path = public")
    link.execute("rollback")
    link.execute("select 2")
    texts = {op.text: dict(op.settings) for op in pump.asked}
    assert texts["select 2"]["search_path"] == "pg_catalog"


def test_server_side_prepared_statements_and_deallocate_all(
    pump: Pump, link: psycopg.Connection
) -> None:
    link.prepare_threshold = 0
    for number in range(5):
        assert link.execute("select %s::int", [number]).fetchone() == (number,)
    named = {op.name for op in pump.asked if op.kind == "prepare"}
    assert named and all(named)
    runs = [op for op in pump.asked if op.kind == "execute"]
    assert len(runs) == 5 and len({op.prepared_by for op in runs}) == 1
    assert {op.text for op in runs} == {"select $1::int"}


def test_a_notification_reaches_who_listens(pump: Pump, link: psycopg.Connection) -> None:
    link.execute("listen news")
    link.execute("notify news, 'hello'")
    assert [n.payload for n in link.notifies(timeout=5, stop_after=1)] == ["hello"]


def test_pg_dump_reads_the_same_through_the_dialog(pump: Pump, server: Server) -> None:
    """Large objects too: pg_dump reads them by FunctionCall."""
    with psycopg.connect(server.dsn) as direct:
        direct.execute("select lo_from_bytea(0, repeat('x', 300000)::bytea)")
    pump.rule = lambda operation: ALLOW
    dumps = []
    for port in (server.port, pump.port):
        command = [str(BIN / "pg_dump"), "-h", "127.0.0.1", "-p", str(port), "-U", "postgres"]
        done = subprocess.run([*command, "postgres"], check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        dumps.append([line for line in lines if "restrict" not in line])
    assert dumps[0] == dumps[1] and len(dumps[0]) > 20


def test_sqlalchemy_works_with_transactions_and_row_limits(pump: Pump) -> None:
    sqlalchemy = pytest.importorskip("sqlalchemy")
    url = f"postgresql+psycopg://postgres@127.0.0.1:{pump.port}/postgres"
    engine = sqlalchemy.create_engine(url, connect_args={"sslmode": "disable"})
    with engine.begin() as link:
        link.execute(sqlalchemy.text("insert into t values (:id)"), [{"id": n} for n in range(9)])
    with engine.connect().execution_options(stream_results=True, max_row_buffer=2) as link:
        result = link.execute(sqlalchemy.text("select id from t order by id"))
        assert [row[0] for row in result] == list(range(9))
    engine.dispose()


def test_what_a_server_side_cursor_reads_is_known_by_its_declaration(pump: Pump) -> None:
    with psycopg.connect(pump.dsn) as link, link.cursor(name="c") as cursor:
        cursor.execute("select g from generate_series(1, 100) g")
        assert len(cursor.fetchmany(10)) == 10
        assert len(cursor.fetchall()) == 90


@pytest.mark.parametrize("seed", range(12))
def test_of_random_pipelines_only_batches_without_a_denial_or_error_commit(
    server: Server, link: psycopg.Connection, seed: int
) -> None:
    """What the client is told and what the server kept agree, message by message."""
    draw = random.Random(seed)
    kinds = {"ok": "insert into t values ($1)", "denied": "denied $1", "wrong": "select $1::int/0"}
    batches = [
        [draw.choice(["ok", "ok", "ok", "denied", "wrong"]) for _ in range(draw.randrange(5))]
        for _ in range(8)
    ]
    connection, number, kept, expected = link.pgconn, 0, [], []
    connection.enter_pipeline_mode()
    for batch in batches:
        sound = all(kind == "ok" for kind in batch)
        failed = False
        for kind in batch:
            number += 1
            connection.send_query_params(kinds[kind].encode(), [b"%d" % number])
            if draw.random() < 0.2:
                connection.send_flush_request()
            expected.append("PIPELINE_ABORTED" if failed else _STATUS[kind])
            failed |= kind != "ok"
            kept += [number] if sound else []
        connection.pipeline_sync()
        expected.append("PIPELINE_SYNC")
    statuses: list[str] = []
    while len(statuses) < len(expected):
        connection.flush()
        result = next_result(connection)
        if result is not None:
            statuses.append(pq.ExecStatus(result.status).name)
    connection.exit_pipeline_mode()
    assert statuses == expected
    assert ids(server) == kept


_STATUS = {"ok": "COMMAND_OK", "denied": "FATAL_ERROR", "wrong": "FATAL_ERROR"}
