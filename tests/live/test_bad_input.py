# SPDX-License-Identifier: GPL-3.0-or-later
"""Wrong tokens, targets and messages: a clear error, one log line, nobody else affected."""

from __future__ import annotations

import base64
import json
import os
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from gateway.admin.cli.demo.postgres_server import PostgresServer
from tests.live.gateway_process import Gateway, command, command_json, start

pytestmark = pytest.mark.live


def refusal(gateway: Gateway, **options: str) -> str:
    with pytest.raises(psycopg.OperationalError) as refused:
        psycopg.connect(gateway.dsn(options.pop("database", "shop"), **options))
    return str(refused.value)


def log_lines(gateway: Gateway) -> list[dict[str, object]]:
    lines = gateway.log.read_text().splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def unsigned(claims: dict[str, object]) -> str:
    parts = ({"alg": "none", "typ": "JWT"}, claims)
    dumped = (base64.urlsafe_b64encode(json.dumps(one).encode()).decode() for one in parts)
    return ".".join(one.rstrip("=") for one in dumped) + "."


@pytest.mark.parametrize(
    ("token", "said"),
    [
        ("not-a-token", "neither a gateway token nor a JWT"),
        ("tg_" + "A" * 49, "mistyped"),
        (unsigned({"iss": "https://id.example.com", "sub": "eve"}), "issuer is not trusted"),
    ],
)
def test_a_wrong_token_is_refused_and_stands_in_no_log(
    observed: Gateway, token: str, said: str
) -> None:
    before = len(log_lines(observed))
    told = refusal(observed, token=token)
    assert said in told and token not in told
    (line,) = log_lines(observed)[before:]
    assert line["message"] == "refused" and line["cause"]
    assert token not in observed.log.read_text()


def test_a_tampered_handle_is_refused(observed: Gateway) -> None:
    changed = observed.token[:10] + ("A" if observed.token[10] != "A" else "B")
    assert "28P01" in _state(observed, changed + observed.token[11:])


def _state(gateway: Gateway, token: str) -> str:
    done = subprocess.run(
        ["psql", "-XAt", "-v", "VERBOSITY=verbose", "-c", "select 1"],
        env={**gateway.environment("shop", token), "PGSSLMODE": "disable"},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode != 0
    return "28P01" if "28P01" in done.stderr or "token" in done.stderr else done.stderr


def test_an_unknown_database_is_told_in_the_servers_own_words(observed: Gateway) -> None:
    assert 'database "nowhere" does not exist' in refusal(observed, database="nowhere")


def test_an_invalid_startup_option_gets_the_targets_own_error(observed: Gateway) -> None:
    assert "work_mem" in refusal(observed, options="-c work_mem=lots")


# --- messages ------------------------------------------------------------------------------------


@pytest.fixture
def link(observed: Gateway) -> Iterator[socket.socket]:
    """A session by hand, logged in and ready."""
    with socket.create_connection(("127.0.0.1", observed.port), 30) as made:
        body = b"user\0x\0database\0shop\0\0"
        made.sendall(struct.pack("!II", len(body) + 8, 196608) + body)
        assert made.recv(64)[:1] == b"R"
        secret = observed.token.encode() + b"\0"
        made.sendall(b"p" + struct.pack("!I", len(secret) + 4) + secret)
        received = b""
        while b"Z\0\0\0\x05I" not in received:
            received += made.recv(4096)
        yield made


def last_words(link: socket.socket) -> bytes:
    received = b""
    while piece := link.recv(4096):
        received += piece
    return received


@pytest.mark.parametrize(
    "garbage",
    [
        b"\0\0\0\0\0",
        b"Q\0\0\0\x03",
        b"Q\xff\xff\xff\xff",
        b"~\0\0\0\x04",
        b"GET / HTTP/1.1\r\n\r\n",
        b"p\0\0\0\x04",
        b"R\0\0\0\x08\0\0\0\0",
    ],
    ids=repr,
)
def test_garbage_ends_that_session_with_a_clear_reason(
    observed: Gateway, link: socket.socket, garbage: bytes
) -> None:
    link.sendall(garbage)
    told = last_words(link)
    assert told[:1] == b"E" and b"trailgate: " in told, told
    assert observed.psql("select 1", database="shop").stdout == "1\n"


def test_a_statement_over_the_cap_is_refused_before_it_is_held(link: socket.socket) -> None:
    link.sendall(b"Q" + struct.pack("!I", 17 << 20))
    try:
        link.sendall(b"x" * (1 << 20))
    except OSError:
        return  # it was cut while we were still sending
    assert b"54000" in last_words(link)


def test_a_client_that_leaves_in_mid_message_ends_only_its_session(
    observed: Gateway, link: socket.socket
) -> None:
    link.sendall(b"Q\0\0\1\0select")
    link.close()
    assert observed.psql("select 1", database="shop").stdout == "1\n"


@pytest.mark.parametrize("sent", [b"", b"\0\0", b"\0\0\0\x08\x04\xd2\x16\x2f", b"\x16\x03\x01"])
def test_stalled_and_half_logins_hold_up_nobody(observed: Gateway, sent: bytes) -> None:
    stalled = [socket.create_connection(("127.0.0.1", observed.port)) for _ in range(100)]
    for one in stalled:
        one.sendall(sent)
    began = time.monotonic()
    assert observed.psql("select 1", database="shop").stdout == "1\n"
    assert time.monotonic() - began < 5
    for one in stalled:
        one.close()


# --- targets -------------------------------------------------------------------------------------


def test_a_target_that_goes_down_is_told_as_such(tmp_path: Path) -> None:
    with PostgresServer() as server:
        gateway = start(tmp_path / "data", server, database="postgres")
        with psycopg.connect(gateway.dsn("postgres"), autocommit=True) as link:
            link.execute("select 1")
            server.stop()
            with pytest.raises(psycopg.OperationalError):
                link.execute("select 1")
        told = refusal(gateway, database="postgres")
        assert "trailgate: target postgres cannot be reached" in told
        line = next(one for one in reversed(log_lines(gateway)) if one["message"] == "refused")
        assert str(server.port) in str(line["cause"])
        assert gateway.stop() == 0
    assert command("verify", str(gateway.data)).returncode == 0


def test_try_says_why_it_cannot_start(shop: PostgresServer, tmp_path: Path) -> None:
    base = f"postgresql://postgres@127.0.0.1:{shop.port}"
    cases = {
        f"{base}/shop": ("for a password", "PGPASSWORD"),
        "postgresql://x@127.0.0.1:1/db": ("refused", "psql"),
        "mysql://x@127.0.0.1/db": ("mysql", "postgresql://"),
        f"{base}/shop?sslmode=maybe": ("sslmode", "disable"),
    }
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
    for number, (url, parts) in enumerate(cases.items()):
        done = command("try", url, "--data", str(tmp_path / str(number)), **clean)
        assert done.returncode == 2, url
        assert all(part in done.stderr for part in parts), done.stderr
        assert "Traceback" not in done.stderr
    wrong = f"postgresql://postgres:wrong@127.0.0.1:{shop.port}/shop"
    done = command("try", wrong, "--data", str(tmp_path / "wrong"))
    assert done.returncode == 2 and "password authentication failed" in done.stderr
    assert "wrong@" not in done.stderr


# --- the record ----------------------------------------------------------------------------------


def test_a_data_folder_that_cannot_be_used_is_named(shop: PostgresServer, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    url = shop.url("shop")
    done = command("try", url, "--data", str(file / "below"))
    assert done.returncode == 2 and str(file) in done.stderr and "Traceback" not in done.stderr


def test_two_gateways_on_one_folder_are_refused(observed: Gateway, shop: PostgresServer) -> None:
    done = command("try", shop.url("shop"), "--data", str(observed.data))
    assert done.returncode == 2
    assert f"process {observed.child.pid}" in done.stderr
    assert observed.psql("select 1", database="shop").stdout == "1\n"


@pytest.mark.fault
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_full_disk_stops_sessions_and_loses_nothing(shop: PostgresServer, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200m", "tmpfs", str(disk)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a tmpfs here: {mounted.stderr.decode().strip()}")
    try:
        gateway = start(disk / "data", shop, database="shop")
        size = (
            "select (select string_agg(md5(random()::text || i || j), '') "
            "from generate_series(1, 3000) j) from generate_series(1, 500) i"
        )
        with pytest.raises(psycopg.Error), psycopg.connect(gateway.dsn("shop")) as link:
            for _ in range(50):
                link.execute(size.encode())
        assert "record" in gateway.log.read_text()
        gateway.stop()
        document = command_json("verify", str(disk / "data"))
        assert not document["defects"], document
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
