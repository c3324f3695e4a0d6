# SPDX-License-Identifier: GPL-3.0-or-later
"""Replay of what real clients did at a real server, through the dialog that is recorded."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest

from gateway.model import Decision, Operation, RecordedFrame
from gateway.protocols import Ask, Close, Done, Effect, Keep, Settled, ToClient, ToTarget
from gateway.protocols.postgresql.dialog import PostgresDialog
from gateway.protocols.postgresql.replay import replay
from gateway.protocols.postgresql.values import decoded

from .pump import BIN, Pump, Server, deny_marked, running_server

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(not (BIN / "initdb").exists(), reason="no PostgreSQL server is installed"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    yield from running_server(Path(tempfile.mkdtemp(prefix="tgreplay")))


class RecordingPump(Pump):
    """A pump that also keeps the frames that the relay would have recorded."""

    def __init__(self, server_port: int) -> None:
        super().__init__(server_port, deny_marked)
        self.frames: list[RecordedFrame] = []
        self._at = {"request": 0, "answer": 0}

    def keep(self, kind: str, payload: bytes, *events: dict[str, Any]) -> None:
        meta: dict[str, Any] = {"events": list(events)}
        if kind in self._at:
            meta["at"] = self._at[kind]
            self._at[kind] += len(payload)
        number = len(self.frames) + 1
        self.frames.append(RecordedFrame(number, kind, "own", number * 1000, meta, payload, number))

    def _relay(self, client: socket.socket, target: socket.socket, dialog: PostgresDialog) -> None:
        import select

        while True:
            readable, _, _ = select.select([client, target], [], [])
            effects: list[Effect] = []
            if target in readable:
                data = target.recv(65536)
                effects += dialog.from_target(data) if data else [Close("target")]
            if client in readable:
                data = client.recv(65536)
                self.keep("request", data)
                effects += dialog.from_client(data) if data else dialog.client_gone()
            words = b""
            while effects:
                effect = effects.pop(0)
                if isinstance(effect, ToClient):
                    self.keep("answer", effect.data)
                    words += effect.data
                elif isinstance(effect, ToTarget):
                    target.sendall(effect.data)
                elif isinstance(effect, Close):
                    client.sendall(words)
                    return
                elif isinstance(effect, Keep):
                    self.keep("kept", effect.data)
                else:
                    effects += self._event(effect, dialog)
            client.sendall(words)

    def _event(self, effect: Ask | Done | Settled, dialog: PostgresDialog) -> list[Effect]:
        if isinstance(effect, Settled):
            self.keep("event", b"", {"ev": "settled", "state": effect.state})
            return []
        if isinstance(effect, Done):
            outcome = asdict(effect.outcome)
            self.keep(
                "event",
                b"",
                {"ev": "done", "op": effect.operation, "start": effect.start, "end": effect.end}
                | outcome,
            )
            return []
        operation = effect.operation
        decision = self.rule(operation)
        self.keep("event", b"", asked(operation, decision))
        return dialog.decided(operation.id, decision)


def asked(operation: Operation, decision: Decision) -> dict[str, Any]:
    return {
        "ev": "ask",
        "op": operation.id,
        "kind": operation.kind,
        "start": operation.start,
        "end": operation.end,
        "name": operation.name,
        "prepared_by": operation.prepared_by,
        "decision": {"verdict": decision.verdict.value, "clear": {"text": "CLEAR"}},
    }


@pytest.fixture
def pump(server: Server) -> Iterator[RecordingPump]:
    pump = RecordingPump(server.port)
    yield pump
    pump.stop()


def told(pump: RecordingPump) -> list[dict[str, Any]]:
    pump.stop()
    assert pump.frames
    return list(replay(pump.frames))


def results(printed: list[dict[str, Any]], text: str) -> list[Any]:
    return [o["results"] for o in printed if text in str(o["request"]["text"])]


def test_a_session_of_psycopg_is_told(pump: RecordingPump) -> None:
    with psycopg.connect(pump.dsn, autocommit=True) as connection:
        connection.execute("create temp table t(a int, b text, c bytea)")
        connection.execute("insert into t values (%s, %s, %s)", (1, "x\u00e9", b"\0\xff"))
        with connection.cursor().copy("copy t from stdin") as copy:
            copy.write_row((2, "two", None))
        connection.execute("select a, b, c from t order by a", prepare=True)
        connection.execute("select a, b, c from t order by a", prepare=True, binary=True)
        with pytest.raises(psycopg.errors.DivisionByZero):
            connection.execute("select 1/0")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("select 'denied'")
        with connection.cursor().copy("copy t to stdout") as copy:
            assert b"".join(copy)
        with connection.pipeline(), connection.cursor() as cursor:
            for number in range(5):
                cursor.execute("select %s::int * 10", (number,))
    printed = told(pump)
    rows = [["1", "x\u00e9", {"base64": "AP8="}], ["2", "two", None]]
    expected = [{"columns": ["a", "b", "c"], "rows": rows}]
    assert results(printed, "order by a") == [expected, expected]
    assert results(printed, "copy t from") == [
        [{"copy": {"direction": "in", "bytes": 9, "text": "2\ttwo\t\\N\n"}}]
    ]
    assert "two" in results(printed, "copy t to")[0][0]["copy"]["text"]
    (inserted,) = [o for o in printed if "insert" in o["request"]["text"]]
    assert inserted["outcome"]["tag"] == "INSERT 0 1"
    assert inserted["request"]["parameters"][1:] == ["x\u00e9", {"base64": "AP8="}]
    (failed,) = [o for o in printed if "1/0" in o["request"]["text"]]
    assert failed["outcome"]["error"]["sqlstate"] == "22012"
    (denied,) = [o for o in printed if "denied" in o["request"]["text"]]
    assert denied["decision"]["verdict"] == "deny"
    assert denied["outcome"]["error"]["sqlstate"] == "42501"
    assert [r[0]["rows"] for r in results(printed, "* 10")] == [[[str(n * 10)]] for n in range(5)]


async def test_a_session_of_asyncpg_is_told(pump: RecordingPump) -> None:
    connection = await asyncpg.connect(
        host="127.0.0.1", port=pump.port, user="postgres", database="postgres", ssl=False
    )
    for number in (1, 2):
        await connection.fetch("select $1::int as n, $2::text[] as t", number, ["a", "b c"])
    statement = await connection.prepare("select 'never run'")
    assert statement is not None
    async with connection.transaction():
        cursor = await connection.cursor("select generate_series(1, 5) as g")
        assert len(await cursor.fetch(2)) == 2
        assert len(await cursor.fetch(10)) == 3
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.fetch("select 'denied' where $1", True)
    with pytest.raises(asyncpg.UniqueViolationError):
        await connection.execute(
            "create temp table u(a int unique deferrable initially deferred);"
            "insert into u values (1), (1)"
        )
    await connection.close()
    import asyncio

    printed = await asyncio.to_thread(told, pump)
    runs = [o for o in printed if "::text[]" in o["request"]["text"]]
    assert [o["kind"] for o in runs] == ["execute", "execute"]
    assert [o["request"]["parameters"] for o in runs] == [
        ["1", '{a,"b c"}'],
        ["2", '{a,"b c"}'],
    ]
    assert [o["results"] for o in runs] == [
        [{"columns": ["n", "t"], "rows": [[str(n), '{a,"b c"}']]}] for n in (1, 2)
    ]
    series = [r[0]["rows"] for r in results(printed, "generate_series")]
    assert series == [[["1"], ["2"]], [["3"], ["4"], ["5"]]]
    assert printed[-1]["request"]["text"] == "select 'never run'"
    assert printed[-1]["kind"] == "prepare"
    (denied,) = [o for o in printed if "denied" in o["request"]["text"]]
    assert (denied["kind"], denied["outcome"]["error"]["sqlstate"]) == ("prepare", "42501")
    (late,) = [o for o in printed if "deferrable" in o["request"]["text"]]
    assert late["outcome"]["error"]["sqlstate"] == "23505"


VALUES = [
    "true, false, null::bool",
    "0::int2, -32768::int2, 2147483647, -9223372036854775808::int8, 4294967295::oid",
    "0::float8, -0.0::float8, 1e15::float8, 1e14::float8, 1e-5::float8, 0.0001::float8, "
    "0.1::float8, 123456.789::float8, 'NaN'::float8, '-inf'::float8, 5e-324::float8, "
    "1.7976931348623157e308::float8, 100::float8, 0.3::float8 + 0.1, 2.5e20::float8",
    "0::float4, 1e6::float4, 100000::float4, 0.1::float4, 3.4e38::float4, 1e-45::float4, "
    "'inf'::float4, 16777216::float4, 1.17549435e-38::float4, -2.5::float4",
    "0::numeric, 1.50::numeric(10,2), -0.00001::numeric, 1e20::numeric, 12345.6789::numeric, "
    "'NaN'::numeric, 'inf'::numeric, 1e-20::numeric, 100000000::numeric, 0.00::numeric(5,2), "
    "123456789012345678901234567890.123456789::numeric, 10000::numeric, 0.12345::numeric",
    "'h\u00e9'::text, ''::text, 'v'::varchar, 'n'::name, 'c'::char(3), 'x'::\"char\"",
    "'2024-02-29'::date, 'infinity'::date, '1999-12-31'::date, '0001-01-01'::date",
    "'2024-02-29 12:34:56.789'::timestamp, '1999-12-31 23:59:59.999999'::timestamp, "
    "'-infinity'::timestamp, '2024-01-01'::timestamp, '12:00'::time",
    "'2024-02-29 12:34:56+02'::timestamptz, 'infinity'::timestamptz",
    "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid, '{\"a\": 1}'::json, '{\"a\":1}'::jsonb",
    "'{}'::int[], '{1,null,3}'::int[], '{{1,2},{3,4}}'::int8[], '[0:1]={5,6}'::int[]",
    "array['a b', 'null', '', 'q\"\\', 'x,y', null]::text[], array[true, false], "
    "array[1.5, 2]::numeric[], array['2024-01-01'::date], array['\\x00ff'::bytea]",
    "array['2024-02-29 12:34:56'::timestamp], array['{\"a\": 1}'::jsonb], "
    "array['a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid]",
]


@pytest.mark.parametrize("values", VALUES)
def test_binary_values_are_told_as_the_server_writes_them(server: Server, values: str) -> None:
    with psycopg.connect(server.dsn) as connection:
        connection.execute("set timezone = 'UTC'")
        raw = connection.pgconn
        query = f"select {values}".encode()
        text = raw.exec_params(query, [], result_format=0)
        binary = raw.exec_params(query, [], result_format=1)
        for column in range(text.nfields):
            oid = text.ftype(column)
            expected = decoded(text.get_value(0, column), oid, 0)
            assert decoded(binary.get_value(0, column), oid, 1) == expected, (oid, column)
