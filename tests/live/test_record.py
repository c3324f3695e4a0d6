# SPDX-License-Identifier: GPL-3.0-or-later
"""What was asked and answered stands in the record, sealed, whole, and provably unchanged."""

from __future__ import annotations

import json
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from gateway.admin.cli.demo.postgres_server import PostgresServer
from gateway.protocols.postgresql import wire
from tests.live.gateway_process import Gateway, command, command_json, start

pytestmark = pytest.mark.live

SESSION_KEYS = {
    *("id", "target", "protocol", "user", "origin", "chain", "groups", "grant", "client"),
    *("labels", "gateway", "policies", "opened", "closed", "state", "reason", "operations"),
    *("denied", "held", "masked", "rows", "bytes"),
}
OPERATION_KEYS = {
    *("seq", "kind", "started", "ended", "frame", "leaf", "request", "decision", "outcome"),
    "results",
}
SECRET_TEXT = "the-patient-is-jane-doe"


@pytest.fixture
def gateway(shop: PostgresServer, tmp_path: Path) -> Iterator[Gateway]:
    running = start(tmp_path / "data", shop, database="shop")
    yield running
    if running.child.poll() is None:
        running.stop()


def only_session(gateway: Gateway) -> dict[str, Any]:
    (session,) = command_json("sessions", "list", "--data", str(gateway.data))
    return dict(session)


def replayed(gateway: Gateway, session: str) -> list[dict[str, Any]]:
    document = command_json("audit", "replay", session, "--data", str(gateway.data))
    assert document["session"]["id"] == session
    return list(document["operations"])


def test_statements_parameters_and_rows_are_replayed_as_they_were(gateway: Gateway) -> None:
    with psycopg.connect(gateway.dsn("shop", application_name="etl")) as link:
        rows = link.execute("select id, name, email from customers order by id").fetchall()
        assert link.execute("select %s::text || %s::text", ("a", "b")).fetchone() == ("ab",)
        with pytest.raises(psycopg.errors.UndefinedTable):
            link.execute("select * from nowhere")
    assert gateway.stop() == 0
    session = only_session(gateway)
    assert set(session) >= SESSION_KEYS
    assert (session["state"], session["reason"]) == ("closed", "client")
    assert (session["target"], session["protocol"]) == ("shop", "postgresql")
    operations = replayed(gateway, session["id"])
    assert all(set(one) >= OPERATION_KEYS for one in operations)
    read = next(one for one in operations if "from customers" in (one["request"]["text"] or ""))
    (result,) = read["results"]
    assert result["columns"] == ["id", "name", "email"]
    assert result["rows"] == [[str(i), name, mail] for i, name, mail in rows]
    assert read["outcome"]["tag"] == "SELECT 2"
    joined = next(one for one in operations if "||" in (one["request"]["text"] or ""))
    assert joined["request"]["parameters"] == ["a", "b"]
    failed = next(one for one in operations if "nowhere" in (one["request"]["text"] or ""))
    assert "42P01" in json.dumps(failed["outcome"]["error"])


def test_a_live_session_can_be_listed_and_read(gateway: Gateway) -> None:
    with psycopg.connect(gateway.dsn("shop"), autocommit=True) as link:
        link.execute("select 'while it lives'")
        session = only_session(gateway)
        assert (session["state"], session["closed"]) == ("open", None)
        texts = [one["request"]["text"] for one in replayed(gateway, session["id"])]
        assert "select 'while it lives'" in texts
        # The leaf that says so is signed up to a second after the session opened.
        end = time.monotonic() + 30
        while not (document := command_json("verify", str(gateway.data)))["open"]:
            assert document["ok"] and time.monotonic() < end
        assert document["ok"]


def test_payloads_are_sealed_and_open_only_with_the_auditors_key(gateway: Gateway) -> None:
    with psycopg.connect(gateway.dsn("shop"), autocommit=True) as link:
        link.execute("insert into notes (body) values (%s)", (SECRET_TEXT,))
        link.execute(f"select '{SECRET_TEXT}'")
    assert gateway.stop() == 0
    for path in gateway.data.rglob("*"):
        if path.is_file():
            assert SECRET_TEXT.encode() not in path.read_bytes(), path
            assert gateway.token.encode() not in path.read_bytes() or "clients" in path.parts, path
    data, session = str(gateway.data), only_session(gateway)["id"]
    hidden = gateway.data.parent / "identity"
    (gateway.data / "auditor" / "identity").rename(hidden)
    sealed = command("audit", "replay", session, "--data", data, "-o", "json")
    assert SECRET_TEXT not in sealed.stdout + sealed.stderr
    opened = command("audit", "replay", session, "--data", data, "--identity", str(hidden))
    assert SECRET_TEXT in opened.stdout
    assert command_json("verify", data)["content"] == "unopened"
    assert command_json("verify", data, "--identity", str(hidden))["content"] == "opened"


def test_a_flipped_byte_in_any_file_of_the_evidence_is_found_and_named(gateway: Gateway) -> None:
    gateway.psql("select generate_series(1, 500)", "select 1", database="shop")
    assert gateway.stop() == 0
    evidence = gateway.data / "evidence"
    files = sorted(path for path in evidence.rglob("*") if path.is_file())
    assert len(files) > 5
    assert command("verify", str(evidence)).returncode == 0
    for path in files:
        good = path.read_bytes()
        for at in {0, len(good) // 2, len(good) - 1}:
            path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
            document = command_json("verify", str(evidence))
            named = " ".join(one["object"] for one in document["defects"])
            assert not document["ok"], (path, at)
            assert path.relative_to(evidence).as_posix() in named, (path, at, document)
        path.write_bytes(good)
    assert command("verify", str(evidence)).returncode == 0


def test_a_deleted_session_or_newest_part_is_missed(gateway: Gateway) -> None:
    gateway.psql("select 1", database="shop")
    assert gateway.stop() == 0
    for path in sorted((gateway.data / "evidence").rglob("*")):
        # An old checkpoint and an outgrown partial tile prove nothing that the newest does not.
        if path.is_dir() or path.parent.name == "checkpoints" or path.parent.suffix == ".p":
            continue
        away = path.with_name("away")
        path.rename(away)
        moved = gateway.data.parent / "away"
        shutil.move(away, moved)
        document = command_json("verify", str(gateway.data))
        assert not document["ok"], path
        shutil.move(moved, path)
    assert command("verify", str(gateway.data)).returncode == 0


def test_killed_and_started_again_the_record_is_whole(
    gateway: Gateway, shop: PostgresServer
) -> None:
    link = psycopg.connect(gateway.dsn("shop"), autocommit=True)
    link.execute("select 'before the kill'")
    gateway.kill()
    again = start(gateway.data, shop, database="shop")
    assert again.stop() == 0
    session = only_session(again)
    assert session["state"] == "interrupted"
    texts = [one["request"]["text"] for one in replayed(again, session["id"])]
    assert "select 'before the kill'" in texts
    assert command("verify", str(again.data)).returncode == 0


def test_a_large_answer_is_recorded_whole(gateway: Gateway) -> None:
    with psycopg.connect(gateway.dsn("shop")) as link:
        sql = "select i, repeat(md5(i::text), 8) from generate_series(1, 40000) i"
        rows = link.execute(sql).fetchall()  # type: ignore[arg-type]
    assert gateway.stop() == 0
    operations = replayed(gateway, only_session(gateway)["id"])
    (result,) = next(one["results"] for one in operations if one["request"]["text"] == sql)
    assert result["rows"] == [[str(i), text] for i, text in rows]


def test_copy_both_ways_is_recorded_whole(gateway: Gateway) -> None:
    with psycopg.connect(gateway.dsn("shop")) as link:
        link.execute("create temp table c (i int)")
        with link.cursor().copy("copy c from stdin") as copy:
            copy.write("".join(f"{n}\n" for n in range(1000)))
        with link.cursor().copy("copy c to stdout") as copy:
            assert len(b"".join(copy)) == 3890
    assert gateway.stop() == 0
    operations = replayed(gateway, only_session(gateway)["id"])
    tags = [one["outcome"]["tag"] for one in operations]
    assert tags.count("COPY 1000") == 2
    assert command("verify", str(gateway.data)).returncode == 0


def test_what_was_recorded_cannot_drive_the_auditors_terminal(gateway: Gateway) -> None:
    with psycopg.connect(gateway.dsn("shop"), autocommit=True) as link:
        link.execute(b"select E'\\x1b]0;owned\\x07' as \"\x1b[2Jcolumn\"")
    assert gateway.stop() == 0
    session = only_session(gateway)["id"]
    shown = command("audit", "replay", session, "--data", str(gateway.data))
    assert "\x1b" not in shown.stdout
    assert "\\x1b]0;owned\\x07" in shown.stdout


def test_the_tree_shows_each_actor_with_its_sessions(gateway: Gateway) -> None:
    env = gateway.environment("shop")
    run = [sys.executable, "-m", "gateway", "run", "--as"]
    command = [*run, "lead", "--", *run, "reader", "--", "psql", "-XAtc", "select 'nested'"]
    done = subprocess.run(
        command,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "nested\n", done.stderr
    assert gateway.stop() == 0
    (root,) = command_json("sessions", "tree", "--data", str(gateway.data))
    (lead,) = root["children"]
    (reader,) = lead["children"]
    assert (lead["actor"], reader["actor"]) == ("lead", "reader")
    assert not lead["sessions"] and len(reader["sessions"]) == 1
    session = only_session(gateway)
    assert session["chain"] == [session["origin"], "lead", "reader"]


def test_rows_that_nobody_described_are_recorded_with_their_columns(gateway: Gateway) -> None:
    with socket.create_connection(("127.0.0.1", gateway.port), 30) as link:
        body = b"user\0x\0database\0shop\0\0"
        link.sendall(struct.pack("!II", len(body) + 8, 196608) + body)
        secret = gateway.token.encode() + b"\0"
        link.sendall(b"p" + struct.pack("!I", len(secret) + 4) + secret)
        until_ready(link)
        link.sendall(
            wire.message(wire.PARSE, b"s\0select 7::int4 as n, 'x'::text as t\0\0\0")
            + (wire.message(wire.BIND, b"\0s\0\0\0\0\0\0\1\0\1") + wire.execute(b"")) * 2
            + wire.SYNC_MESSAGE
        )
        answered = until_ready(link)
    assert answered.count(b"D\0\0\0") == 2 and b"T\0\0\0" not in answered
    assert gateway.stop() == 0
    operations = replayed(gateway, only_session(gateway)["id"])
    results = [result for one in operations for result in one["results"]]
    assert results == [{"columns": ["n", "t"], "rows": [["7", "x"]]}] * 2


def until_ready(link: socket.socket) -> bytes:
    received = b""
    while b"Z\0\0\0\x05I" not in received:
        received += link.recv(65536)
    return received
