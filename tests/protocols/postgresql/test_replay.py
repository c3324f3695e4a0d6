# SPDX-License-Identifier: GPL-3.0-or-later
"""From recorded frames to printed operations, at every way that a session can go."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.model import RecordedFrame
from gateway.protocols.postgresql import wire
from gateway.protocols.postgresql.replay import replay
from tests.examples import examples

from .recorded import (
    BOUND,
    PARSED,
    READY,
    SYNC,
    Record,
    bind,
    columns,
    complete,
    copy_data,
    describe,
    execute,
    parse,
    query,
    recut,
    row,
)

IDLE = {"ev": "settled", "state": "I"}
INT, TEXT, BYTEA = 23, 25, 17


def told(record: Record, rows_per_piece: int | None = None) -> list[dict[str, Any]]:
    """What replay prints; the same whatever frames the streams were cut into."""
    printed = list(replay(record.frames, rows_per_piece))
    if rows_per_piece is None:
        for size in (1, 7):
            assert list(replay(recut(record.frames, size))) == printed
    assert [operation["seq"] for operation in printed if operation.get("part", 1) == 1] == list(
        range(1, 1 + len({operation["seq"] for operation in printed}))
    )
    return printed


def texts(printed: list[dict[str, Any]]) -> list[Any]:
    return [operation["request"]["text"] for operation in printed]


def test_a_query_is_told_with_its_decision_outcome_and_rows() -> None:
    record = Record()
    answer = columns(("a", INT, 0), ("b", BYTEA, 0)) + row(b"1", b"\\x00ff") + row(None, None)
    record.simple("select a, b", answer + complete("SELECT 2"), tag="SELECT 2", rows=2)
    assert told(record) == [
        {
            "seq": 1,
            "kind": "query",
            "started": "2026-09-21T14:13:20.123457Z",
            "ended": "2026-09-21T14:13:20.123458Z",
            "frame": 1,
            "leaf": 101,
            "request": {"text": "select a, b", "parameters": []},
            "decision": {
                "verdict": "allow",
                "policy": "p",
                "version": "v1",
                "rule": "r",
                "reason": "",
                "masks": [],
                "approval": None,
            },
            "outcome": {
                "tag": "SELECT 2",
                "rows": 2,
                "bytes": len(answer + complete("SELECT 2")),
                "error": None,
            },
            "results": [{"columns": ["a", "b"], "rows": [["1", {"base64": "AP8="}], [None, None]]}],
        }
    ]


def test_each_statement_of_a_string_has_its_own_result() -> None:
    record = Record()
    answer = columns(("a", INT, 0)) + row(b"1") + complete("SELECT 1") + complete("INSERT 0 1")
    answer += columns(("b", INT, 0)) + complete("SELECT 0")
    record.simple("select 1; insert; select", answer, tag="SELECT 0")
    (operation,) = told(record)
    assert operation["results"] == [
        {"columns": ["a"], "rows": [["1"]]},
        {"columns": ["b"], "rows": []},
    ]


def extended(record: Record, name: str = "s") -> int:
    """Parse and Describe in a batch; returns the number of the prepare."""
    message = parse(name, "select $1::int + $2")
    start = record.asked
    ask = record.ask("prepare", start, start + len(message), name=name)
    record.request(message + describe("S", name) + SYNC, ask)
    types = wire.message(wire.PARAMETER_DESCRIPTION, struct.pack("!H2I", 2, INT, BYTEA))
    begin = record.answered
    record.answer(
        PARSED + types + columns(("sum", INT, 0)) + READY,
        record.done(ask["op"], begin, begin + len(PARSED)),
        IDLE,
    )
    return ask["op"]


def run(
    record: Record, prepare: int, *rows: bytes, rows_limit: int = 0, **done: Any
) -> dict[str, Any]:
    """Bind, Execute, Sync with binary results and no Describe, as asyncpg does it."""
    message = bind("", "s", (struct.pack("!i", 41), b"\x01\x02"), (1,), (1,))
    start = record.asked
    ask = record.ask("execute", start, start + len(message), prepared_by=prepare, name="s")
    record.request(message + execute("", rows_limit) + SYNC, ask)
    end = wire.message(wire.PORTAL_SUSPENDED) if rows_limit else complete(f"SELECT {len(rows)}")
    answer = BOUND + b"".join(rows) + end
    begin = record.answered
    record.answer(
        answer + READY,
        record.done(
            ask["op"], begin, begin + len(answer), tag=f"SELECT {len(rows)}", rows=len(rows), **done
        ),
        IDLE,
    )
    return ask


def test_executes_are_told_with_the_text_that_was_prepared_and_the_prepare_is_not() -> None:
    record = Record()
    prepare = extended(record)
    run(record, prepare, row(struct.pack("!i", 42)))
    run(record, prepare)
    printed = told(record)
    assert [operation["kind"] for operation in printed] == ["execute", "execute"]
    assert texts(printed) == ["select $1::int + $2"] * 2
    assert printed[0]["request"]["parameters"] == ["41", {"base64": "AQI="}]
    assert printed[0]["results"] == [{"columns": ["sum"], "rows": [["42"]]}]
    assert printed[1]["results"] == [{"columns": ["sum"], "rows": []}]


def test_a_prepare_that_never_ran_is_told_at_the_end() -> None:
    record = Record()
    extended(record)
    record.simple("select 1", complete("SELECT 0"))
    assert texts(told(record)) == ["select 1", "select $1::int + $2"]


def test_a_prepare_that_its_next_one_replaces_is_told_then() -> None:
    record = Record()
    extended(record, "")
    extended(record, "")
    record.simple("select 1", complete("SELECT 0"))
    assert [o["kind"] for o in told(record)] == ["prepare", "query", "prepare"]


@pytest.mark.parametrize(("status", "state"), [("denied", "42501"), ("error", "42601")])
def test_a_prepare_that_was_denied_or_failed_is_told(status: str, state: str) -> None:
    record = Record()
    message = parse("", "drop table x")
    ask = record.ask("prepare", 0, len(message), verdict="deny" if status == "denied" else "allow")
    record.request(message + bind("", "") + execute() + SYNC, ask)
    error = wire.error_response(state, "no", detail="d")
    record.answer(
        error + READY, record.done(ask["op"], 0, len(error), status=status, sqlstate=state), IDLE
    )
    record.simple("select 1", columns(("a", INT, 0)) + row(b"7") + complete("SELECT 1"))
    denied, after = told(record)
    assert denied["request"]["text"] == "drop table x"
    assert denied["outcome"]["tag"] is None
    assert denied["outcome"]["error"] == {
        "sqlstate": state,
        "message": "no",
        "severity": "ERROR",
        "detail": "d",
        "hint": None,
    }
    assert after["results"][0]["rows"] == [["7"]]


def test_a_denied_query_keeps_its_text_and_shows_the_refusal() -> None:
    record = Record()
    error = wire.error_response("42501", "trailgate: denied by p/r: no")
    record.simple("drop table x", error, status="denied", sqlstate="42501")
    record.frames[0].meta["events"][0]["decision"]["verdict"] = "deny"
    (operation,) = told(record)
    assert operation["request"]["text"] == "drop table x"
    assert operation["decision"]["verdict"] == "deny"
    assert operation["outcome"]["error"]["message"] == "trailgate: denied by p/r: no"


def test_a_pipeline_that_fails_in_its_middle_tells_what_did_not_run() -> None:
    record = Record()
    messages = [parse("a", "one"), parse("b", "two"), parse("c", "three")]
    asks, at = [], 0
    for message in messages:
        asks.append(record.ask("prepare", at, at + len(message)))
        at += len(message)
    record.request(b"".join(messages) + SYNC, *asks)
    error = wire.error_response("42601", "syntax")
    first, second = len(PARSED), len(PARSED + error)
    record.answer(
        PARSED + error + READY,
        record.done(1, 0, first),
        record.done(2, first, second, status="error", sqlstate="42601"),
        record.done(3, second, second, status="not_run"),
        IDLE,
    )
    printed = told(record)
    assert texts(printed) == ["two", "three", "one"]
    assert printed[0]["outcome"]["error"]["sqlstate"] == "42601"
    assert printed[1]["outcome"] == {"tag": None, "rows": None, "bytes": 0, "error": None}


def test_pipelined_executes_keep_their_own_columns_and_rows() -> None:
    record = Record()
    parts, asks, at = [], [], 0
    for name in ("x", "y"):
        for kind, message in (
            ("prepare", parse("", f"select {name}")),
            ("", describe("S")),
            ("execute", bind("", "", (), (), (1,))),
            ("", execute()),
        ):
            if kind:
                by = asks[-1]["op"] if kind == "execute" else 0
                asks.append(record.ask(kind, at, at + len(message), prepared_by=by))
            parts.append(message)
            at += len(message)
    record.request(b"".join(parts) + SYNC, *asks)
    no_types = wire.message(wire.PARAMETER_DESCRIPTION, b"\0\0")
    head = PARSED + no_types
    first = head + columns(("x", 16, 0)) + BOUND + row(b"\x01") + complete("SELECT 1")
    second = head + columns(("y", TEXT, 0)) + BOUND + row(b"hi") + complete("SELECT 1")
    both = len(first + second)
    record.answer(
        first + second + READY,
        record.done(1, 0, len(PARSED)),
        record.done(2, len(PARSED), len(first)),
        record.done(3, len(first), len(first + PARSED)),
        record.done(4, len(first + PARSED), both),
        IDLE,
    )
    printed = told(record)
    assert texts(printed) == ["select x", "select y"]
    assert [o["results"] for o in printed] == [
        [{"columns": ["x"], "rows": [["t"]]}],
        [{"columns": ["y"], "rows": [["hi"]]}],
    ]


def test_a_portal_that_is_suspended_tells_each_run_with_its_rows() -> None:
    record = Record()
    prepare = extended(record)
    ask = run(record, prepare, row(struct.pack("!i", 1)), rows_limit=1, status="suspended")
    for again in (True, False):
        message, start = execute("", 1), record.asked
        more = record.ask("execute", start, start + len(message), prepared_by=prepare)
        more["op"] = ask["op"] if again else more["op"]
        record.request(message + SYNC, more)
        answer, begin = row(struct.pack("!i", 2)) + complete("SELECT 1"), record.answered
        record.answer(
            answer + READY, record.done(more["op"], begin, begin + len(answer), rows=1), IDLE
        )
    printed = told(record)
    assert [o["results"][0]["rows"] for o in printed] == [[["1"]], [["2"]], [["2"]]]
    assert [o["request"]["parameters"][0] for o in printed] == ["41"] * 3


def test_a_failure_at_sync_changes_the_outcome_that_was_good() -> None:
    record = Record()
    message, bound = parse("", "insert"), bind("", "")
    asks = [
        record.ask("prepare", 0, len(message)),
        record.ask("execute", len(message), len(message + bound), prepared_by=1),
    ]
    record.request(message + bound + execute() + SYNC, *asks)
    good = PARSED + BOUND + complete("INSERT 0 1")
    record.answer(
        good,
        record.done(1, 0, len(PARSED)),
        record.done(2, len(PARSED), len(good), tag="INSERT 0 1", rows=1),
    )
    error = wire.error_response("23505", "deferred")
    record.answer(
        error + READY,
        record.done(2, len(PARSED), len(good + error), status="error", sqlstate="23505"),
        IDLE,
    )
    (operation,) = told(record)
    assert operation["outcome"]["error"]["message"] == "deferred"
    assert operation["outcome"]["tag"] is None


def test_copy_in_and_out_are_told_with_their_data() -> None:
    record = Record()
    message = query("copy t from stdin; copy u from stdin")
    ask = record.ask("query", 0, len(message))
    record.request(message, ask)
    begin = wire.message(wire.COPY_IN_RESPONSE, b"\0\0\1\0\0")
    record.answer(begin)
    done = wire.message(wire.COPY_DONE)
    record.request(copy_data(b"1\n") + copy_data(b"2\n") + done)
    record.answer(complete("COPY 2") + begin)
    record.request(copy_data(b"\xff\0") + done)
    record.answer(
        complete("COPY 1") + READY, record.done(1, 0, record.answered + len(complete("COPY 1")))
    )
    out = wire.message(wire.COPY_OUT_RESPONSE, b"\0\0\1\0\0") + copy_data(b"x\n") + done
    record.simple("copy t to stdout", out + complete("COPY 1"), tag="COPY 1")
    came, went = told(record)
    assert came["results"] == [
        {"copy": {"direction": "in", "bytes": 4, "text": "1\n2\n"}},
        {"copy": {"direction": "in", "bytes": 2, "base64": "/wA="}},
    ]
    assert went["results"] == [{"copy": {"direction": "out", "bytes": 2, "text": "x\n"}}]


def test_a_sync_that_a_copy_ignored_does_not_shift_later_answers() -> None:
    record = Record()
    message, bound = parse("", "copy t from stdin"), bind("", "")
    asks = [
        record.ask("prepare", 0, len(message)),
        record.ask("execute", len(message), len(message + bound), prepared_by=1),
    ]
    record.request(message + bound + execute() + SYNC, *asks)
    record.answer(PARSED + BOUND + wire.message(wire.COPY_IN_RESPONSE, b"\0\0\0"))
    record.request(copy_data(b"1\n") + wire.message(wire.COPY_DONE) + SYNC)
    ended = record.answered + len(complete("COPY 1"))
    record.answer(
        complete("COPY 1") + READY,
        record.done(1, 0, len(PARSED)),
        record.done(2, len(PARSED), ended, tag="COPY 1"),
        IDLE,
    )
    prepare = extended(record)
    run(record, prepare, row(struct.pack("!i", 9)))
    copied, after = told(record)
    assert copied["results"] == [{"copy": {"direction": "in", "bytes": 2, "text": "1\n"}}]
    assert after["results"] == [{"columns": ["sum"], "rows": [["9"]]}]


def test_a_session_cut_in_the_middle_tells_what_is_known_and_null() -> None:
    record = Record()
    message = query("select slow")
    record.request(message, record.ask("query", 0, len(message)))
    record.answer(columns(("a", INT, 0)) + row(b"1") + row(b"2")[:4])
    (operation,) = told(record)
    assert operation["ended"] is None
    assert operation["outcome"] == {"tag": None, "rows": None, "bytes": None, "error": None}
    assert operation["results"] == [{"columns": ["a"], "rows": [["1"]]}]


def test_sealed_payloads_leave_text_and_results_out_and_keep_the_rest() -> None:
    record = Record()
    record.simple("select 1", columns(("a", INT, 0)) + row(b"1") + complete("SELECT 1"), tag="T")
    error = wire.error_response("42703", "secret text")
    record.simple("select x", error, status="error", sqlstate="42703")
    record.frames = [replace(frame, payload=None) for frame in record.frames]
    first, second = list(replay(record.frames))
    assert first["request"] == {"text": None, "parameters": None, "clear": "CLEAR ?"}
    assert (first["results"], first["outcome"]["tag"]) == ([], "T")
    assert second["outcome"]["error"]["sqlstate"] == "42703"
    assert second["outcome"]["error"]["message"] is None


def test_a_held_operation_is_told_once_with_its_last_decision() -> None:
    record = Record()
    message = query("delete")
    ask = record.ask("query", 0, len(message), verdict="hold")
    record.request(message, ask)
    allowed = {**ask["decision"], "verdict": "allow", "approval": {"id": "a1", "by": "bob"}}
    record.event({**ask, "decision": allowed})
    end = complete("DELETE 1")
    record.answer(end + READY, record.done(1, 0, len(end), tag="DELETE 1", rows=1), IDLE)
    (operation,) = told(record)
    assert operation["decision"]["verdict"] == "allow"
    assert operation["decision"]["approval"] == {"id": "a1", "by": "bob"}
    assert operation["frame"] == 1


def test_text_is_read_in_the_clients_encoding() -> None:
    record = Record()
    record.simple("set client_encoding", wire.parameter_status("client_encoding", "LATIN1"))
    message = wire.message(wire.QUERY, b"select '\xe9'\0")
    start, begin = record.asked, record.answered
    record.request(message, record.ask("query", start, start + len(message)))
    answer = columns(("a", TEXT, 0)) + row(b"\xe9") + complete("SELECT 1")
    record.answer(answer + READY, record.done(2, begin, begin + len(answer)), IDLE)
    assert told(record)[1]["request"]["text"] == "select '\u00e9'"
    assert told(record)[1]["results"][0]["rows"] == [["\u00e9"]]


def test_a_row_in_no_text_is_base64() -> None:
    record = Record()
    answer = columns(("a", TEXT, 0)) + row(b"\xff\xfe") + complete("SELECT 1")
    record.simple("select", answer)
    assert told(record)[0]["results"][0]["rows"] == [[{"base64": "//4="}]]


def long_answer(rows: int) -> Record:
    record = Record()
    message = query("select many")
    record.request(message, record.ask("query", 0, len(message)))
    record.answer(columns(("n", INT, 0)))
    for number in range(0, rows, 100):
        record.answer(b"".join(row(b"%d" % n) for n in range(number, min(number + 100, rows))))
    end = complete(f"SELECT {rows}")
    done = record.done(1, 0, record.answered + len(end), tag=f"SELECT {rows}", rows=rows)
    record.answer(end + READY, done, IDLE)
    record.simple("select 1", complete("SELECT 0"))
    return record


def test_a_long_answer_comes_in_numbered_pieces() -> None:
    printed = told(long_answer(250), 40)
    pieces = [operation for operation in printed if operation["seq"] == 1]
    assert [piece["part"] for piece in pieces] == [1, 2, 3, 4, 5, 6, 7]
    assert all(piece["ended"] is None for piece in pieces[:-1])
    assert pieces[-1]["outcome"]["rows"] == 250
    rows = [one[0] for piece in pieces for result in piece["results"] for one in result["rows"]]
    assert rows == [str(number) for number in range(250)]
    assert all(len(result["rows"]) <= 40 for piece in pieces for result in piece["results"])
    assert "part" not in printed[-1]


def test_pieces_come_before_the_answer_has_ended() -> None:
    taken = 0

    def watched(frames: list[RecordedFrame]) -> Iterator[RecordedFrame]:
        nonlocal taken
        for frame in frames:
            taken += 1
            yield frame

    record = long_answer(5000)
    first = next(iter(replay(watched(record.frames), 100)))
    assert len(first["results"][0]["rows"]) == 100
    assert taken < 6


def test_a_copy_of_any_size_comes_in_pieces() -> None:
    record = Record()
    message = query("copy t from stdin")
    record.request(message, record.ask("query", 0, len(message)))
    record.answer(wire.message(wire.COPY_IN_RESPONSE, b"\0\0\0"))
    for _ in range(40):
        record.request(copy_data(b"x" * 99_999 + b"\n"))
    record.request(wire.message(wire.COPY_DONE))
    end = complete("COPY 40")
    record.answer(end + READY, record.done(1, 0, record.answered + len(end)), IDLE)
    printed = told(record, 1000)
    sizes = [piece["results"][0]["copy"]["bytes"] for piece in printed if piece["results"]]
    assert len(sizes) >= 3
    assert max(sizes) < 1_300_000
    assert sum(sizes) == 4_000_000


def a_session() -> Record:
    record = Record()
    prepare = extended(record)
    run(record, prepare, row(struct.pack("!i", 42)))
    record.simple("select 1", columns(("a", INT, 0)) + row(b"1") + complete("SELECT 1"))
    return record


SESSION = a_session().frames


@settings(max_examples=examples(200), deadline=None)
@given(
    st.integers(0, len(SESSION) - 1),
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), min_size=1, max_size=5),
)
def test_mutated_payloads_never_break_a_replay(which: int, changes: list[tuple[int, int]]) -> None:
    frames = list(SESSION)
    payload = bytearray(frames[which].payload or b"")
    for at, value in changes:
        if at < len(payload):
            payload[at] = value
    frames[which] = replace(frames[which], payload=bytes(payload))
    printed = list(replay(frames))
    assert {operation["kind"] for operation in printed} <= {"prepare", "execute", "query"}
    assert sum(operation["kind"] == "query" for operation in printed) == 1


@given(st.integers(0, len(SESSION)))
def test_a_record_cut_anywhere_is_told_up_to_there(count: int) -> None:
    printed = list(replay(SESSION[:count]))
    assert len(printed) <= 3
