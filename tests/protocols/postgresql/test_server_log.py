# SPDX-License-Identifier: GPL-3.0-or-later
"""PostgreSQL's log as it writes it: three forms, long entries, and texts that imitate a line."""

from __future__ import annotations

import csv
import io
import json
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.postgresql.server_log import (
    MOST_ENTRY,
    BadLog,
    Entry,
    Kind,
    Lines,
    Prefix,
    entries_of,
)

PREFIX = Prefix.parse("%m [%p] %c %q%u@%d %r %a ")
HEAD = "2026-11-24 12:00:00.500 UTC [77] 692449f0.4d app@shop 10.0.0.9(5000) psql "
HUGE = "select '" + "x" * (3 * MOST_ENTRY) + "'"
TEXTS = st.text(st.characters(exclude_characters="\0\r", exclude_categories=["Cs"]), max_size=80)


def read(data: bytes, prefix: Prefix = PREFIX, **more: Any) -> list[Entry]:
    return list(entries_of(Lines(io.BytesIO(data)), prefix, **more))


def stderr(message: str, severity: str = "LOG", head: str = HEAD) -> bytes:
    """As append_with_tabs writes it: a tab behind each line feed."""
    return f"{head}{severity}:  {message}".replace("\n", "\n\t").encode() + b"\n"


def csvlog(message: str, severity: str = "LOG") -> bytes:
    out = io.StringIO()
    fields = [
        *("app", "shop", "77", "10.0.0.9:5000", "692449f0.4d", "1", "SELECT"),
        *("2026-11-24 12:00:00 UTC", "3/4", "0", severity, "00000", message),
        *[""] * 8, "psql", "client backend", "", "0",
    ]  # fmt: skip
    out.write("2026-11-24 12:00:00.500 UTC,")
    csv.writer(out, lineterminator="\n").writerow(fields)
    return out.getvalue().encode()


def jsonlog(message: str, severity: str = "LOG") -> bytes:
    fields = {
        "timestamp": "2026-11-24 12:00:00.500 UTC", "user": "app", "dbname": "shop", "pid": 77,
        "remote_host": "10.0.0.9", "remote_port": 5000,
        "session_start": "2026-11-24 12:00:00 UTC", "error_severity": severity,
        "state_code": "00000", "message": message, "application_name": "psql",
        "backend_type": "client backend",
    }  # fmt: skip
    return json.dumps(fields, ensure_ascii=False).encode() + b"\n"


FORMS = {"stderr": stderr, "csvlog": csvlog, "jsonlog": jsonlog}


@pytest.mark.parametrize("form", FORMS)
@given(text=TEXTS)
def test_a_statement_is_read_as_it_was_logged(form: str, text: str) -> None:
    told = read(FORMS[form](f"statement: {text}") + FORMS[form]("statement: the next"))
    assert [(one.kind, one.text) for one in told] == [
        (Kind.STATEMENT, text),
        (Kind.STATEMENT, "the next"),
    ]
    assert {(one.pid, one.user, one.client) for one in told} == {(77, "app", "10.0.0.9:5000")}
    assert all(one.at == 1795521600.5 and one.started is not None for one in told)


@pytest.mark.parametrize("form", FORMS)
def test_an_entry_of_any_length_is_an_entry_and_kept_in_part(form: str) -> None:
    long, last = read(FORMS[form](f"statement: {HUGE}") + FORMS[form]("statement: last"))
    assert long.kind is Kind.STATEMENT and HUGE.startswith(long.text)
    assert len(long.text) <= MOST_ENTRY and (last.text, last.line) == ("last", 2)
    many = "select\n" * MOST_ENTRY
    long, last = read(FORMS[form](f"statement: {many}") + FORMS[form]("statement: last"))
    assert len(long.text) <= 2 * MOST_ENTRY and last.text == "last"


def test_a_text_cannot_pass_for_a_line_of_its_own() -> None:
    forged = stderr("statement: select 1", head=HEAD.replace("[77]", "[99]")).decode()
    (one,) = read(stderr(f"statement: select '\n{forged}'"))
    assert one.pid == 77 and "[99]" in one.text


@pytest.mark.parametrize(
    ("message", "severity", "kind"),
    [
        ("execute <unnamed>: select 1", "LOG", Kind.STATEMENT),
        ("execute fetch from S_1/c: select 1", "LOG", Kind.STATEMENT),
        ("duration: 0.123 ms  statement: select 1", "LOG", Kind.STATEMENT),
        ("duration: 0.123 ms  bind p1: select 1", "LOG", Kind.STATEMENT),
        ('fastpath function call: "int4pl" (OID 177)', "LOG", Kind.STATEMENT),
        ("received replication command: IDENTIFY_SYSTEM", "LOG", Kind.STATEMENT),
        ("connection authorized: user=app database=shop", "LOG", Kind.LOGIN),
        ("replication connection authorized: user=app", "LOG", Kind.LOGIN),
        ("connection received: host=10.0.0.9 port=5000", "LOG", Kind.RECEIVED),
        ('password authentication failed for user "app"', "FATAL", Kind.REFUSED),
        ('database "x" does not exist', "FATAL", Kind.REFUSED),
        ("terminating connection due to administrator command", "FATAL", Kind.OTHER),
        ("disconnection: session time: 0:00:01.000 user=app", "LOG", Kind.GONE),
        ("checkpoint starting: time", "LOG", Kind.OTHER),
        ("statement: select 1", "NOTICE", Kind.OTHER),
    ],
)
def test_what_messages_tell(message: str, severity: str, kind: Kind) -> None:
    assert [one.kind for one in read(stderr(message, severity))] == [kind]


def test_an_error_tells_its_statement() -> None:
    failed = stderr("syntax error", "ERROR") + stderr("selct", "STATEMENT")
    assert [one.kind for one in read(failed)] == [Kind.OTHER, Kind.STATEMENT]


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ("%m [%p] ", "2026-11-24 12:00:00.500 UTC [77] "),
        ("%t:%5p:", "2026-11-24 12:00:00 UTC:   77:"),
        ("%n %c ", "1795521600.500 692449f0.4d "),
        ("%m %-6p|%q%u|%%|", "2026-11-24 12:00:00.500 UTC 77    |app|%|"),
        ("%m %p %s %l %e %b %v %x %i %h ",
         "2026-11-24 12:00:00.500 UTC 77 2026-11-24 12:00:00 UTC 3 00000 client backend 3/4 0 "
         "SELECT 10.0.0.9 "),
    ],
)  # fmt: skip
def test_prefixes(setting: str, line: str) -> None:
    (one,) = read(stderr("statement: x", head=line), Prefix.parse(setting))
    assert (one.pid, one.kind, int(one.at)) == (77, Kind.STATEMENT, 1795521600)


def test_a_line_of_no_session_stops_at_q() -> None:
    (one,) = read(stderr("checkpoint starting: time", head=HEAD[: HEAD.index("app@")]))
    assert one.user is None and not one.of_client


@pytest.mark.parametrize("setting", ["", "%u", "%m %u", "[%p]", "%m %p %y"])
def test_a_prefix_that_tells_too_little_is_refused(setting: str) -> None:
    with pytest.raises(BadLog):
        Prefix.parse(setting)


def test_time_zones() -> None:
    def at(stamp: str, zone: str | None = None) -> float:
        line = HEAD.replace("2026-11-24 12:00:00.500 UTC", stamp)
        (one,) = read(stderr("statement: x", head=line), zone=ZoneInfo(zone) if zone else None)
        return one.at

    assert at("2026-11-24 13:00:00.500 +01") == at("2026-11-24 12:00:00.500 GMT") == 1795521600.5
    assert at("2026-11-24 13:00:00.500 CET", "Europe/Berlin") == 1795521600.5
    # The hour that a clock shows twice.
    summer, winter = (at(f"2026-10-25 02:30:00.000 {z}", "Europe/Berlin") for z in ("CEST", "CET"))
    assert winter - summer == 3600
    with pytest.raises(BadLog, match="--timezone"):
        at("2026-11-24 13:00:00.500 CET")
    with pytest.raises(BadLog, match="another one"):
        at("2026-11-24 13:00:00.500 PST", "Europe/Berlin")


def test_what_is_no_entry_is_counted() -> None:
    noise: list[int] = []
    told = read(b"cp: cannot stat\n" + stderr("statement: x") + b"sh: no\n", noise=noise.append)
    assert [one.line for one in told] == [2] and noise == [1, 3]
