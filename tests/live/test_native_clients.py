# SPDX-License-Identifier: GPL-3.0-or-later
"""`run`, `connect` and `config` with the real psql: who did what, and files that stay fresh."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.admin.cli.demo.postgres_server import PostgresServer
from tests.live.gateway_process import command, command_json
from tests.live.test_serve import Served, serving, written

pytestmark = pytest.mark.live

TRAILGATE = f"{sys.executable} -m gateway"
STORY = f"""
psql -XAtqc "select 'plan of orchestrator'"
{TRAILGATE} run --as reader --scope orders -- sh -c '
    psql -XAtqc "select name as reader_saw from customers order by id"
    {TRAILGATE} run --as helper -- psql -XAtqc "select 3 * 14 as helped"' &
{TRAILGATE} run --as writer -- sh -c '
    psql -XAtqc "insert into notes (body) values (1)"
    psql -XAtqc "select count(*) as writer_counted from customers"' &
wait
"""


@pytest.fixture
def served(shop: PostgresServer, tmp_path: Path) -> Iterator[Served]:
    with serving(tmp_path, written(tmp_path, shop)) as running:
        yield running


def environment(served: Served, **more: str) -> dict[str, str]:
    """A caller's, with nothing of libpq's in it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    url = f"https://127.0.0.1:{served.api}"
    return {**kept, "TRAILGATE_URL": url, "TRAILGATE_CA_PATH": served.ca, **more}


def called(served: Served, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gateway", *words],
        env=environment(served, **more),
        capture_output=True,
        text=True,
        timeout=120,
    )


def until(condition: Callable[[], Any], seconds: float = 40) -> None:
    """Poll; the time is only there so that a fault ends the test."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.1)


def test_a_tree_of_agents_is_replayed_with_every_statement(served: Served) -> None:
    told = called(
        served,
        *("run", "--as", "orchestrator", "--", "sh", "-c", STORY),
        TRAILGATE_TOKEN=served.token("data"),
    )
    assert told.returncode == 0, told.stderr
    assert set(told.stdout.split("\n")) >= {"plan of orchestrator", "Ada", "Grace", "42", "2"}
    assert "trailgate: denied" in told.stderr
    served.child.terminate()
    assert served.child.wait(60) == 0

    tree = command_json("sessions", "tree", "--data", str(served.data))
    assert shape(tree) == {"": {"orchestrator": {"reader": {"helper": {}}, "writer": {}}}}
    place = ("--data", str(served.data), "--identity", str(served.folder / "auditor/identity"))
    document = command_json("audit", "replay", "--tree", *place)
    chains = {one["id"]: tuple(one["chain"][1:]) for one in document["sessions"]}
    said = {
        (chains[one["session"]], one["request"]["text"], one["decision"]["verdict"])
        for one in document["operations"]
        if one["request"].get("text")
    }
    assert said == {
        (("orchestrator",), "select 'plan of orchestrator'", "allow"),
        (
            ("orchestrator", "reader"),
            "select name as reader_saw from customers order by id",
            "allow",
        ),
        (("orchestrator", "reader", "helper"), "select 3 * 14 as helped", "allow"),
        (("orchestrator", "writer"), "insert into notes (body) values (1)", "deny"),
        (
            ("orchestrator", "writer"),
            "select count(*) as writer_counted from customers",
            "allow",
        ),
    }
    text = command("audit", "replay", "--tree", *place).stdout
    for chain, statement, _ in said:
        assert " > ".join(chain) in text and statement in text
    tops = {one["chain"][0] for one in document["sessions"]}
    assert len(tops) == 1


def shape(nodes: list[dict[str, Any]], depth: int = 0) -> dict[str, Any]:
    """Names of actors, nested; the origin is this machine's user, whatever its name."""
    return {node["actor"] if depth else "": shape(node["children"], depth + 1) for node in nodes}


def test_the_agents_grants_have_ended_with_their_commands(served: Served) -> None:
    token = served.token("data")
    told = called(
        served, *("run", "--as", "orchestrator", "--", "sh", "-c", STORY), TRAILGATE_TOKEN=token
    )
    assert told.returncode == 0, told.stderr
    (top,) = command_json("grants", "tree", "--data", str(served.data))
    assert top["state"] == "live"
    below = list(top["children"])
    while below:
        one = below.pop()
        assert one["state"] == "ended"
        below += one["children"]


# --- connect -------------------------------------------------------------------------------------


def test_connect_opens_a_target_by_its_name(served: Served) -> None:
    token = served.token("data")
    words = ("-XAtc", "select count(*) from customers")
    told = called(served, "connect", "orders", *words, TRAILGATE_TOKEN=token)
    assert (told.returncode, told.stdout) == (0, "2\n"), told.stderr
    # The client's own code, and the refusal in its own words.
    refused = called(
        served, "connect", "orders", "-Xc", "drop table customers", TRAILGATE_TOKEN=token
    )
    assert refused.returncode == 1 and "trailgate: denied" in refused.stderr
    unknown = called(served, "connect", "nothing", TRAILGATE_TOKEN=token)
    assert unknown.returncode == 125 and "is one of: orders" in unknown.stderr
    assert called(served, "connect", TRAILGATE_TOKEN=token).returncode == 125
    missing = called(served, "connect", "orders", TRAILGATE_TOKEN=token, PATH="/nonexistent")
    assert missing.returncode == 127 and "psql: not found" in missing.stderr
    assert token not in missing.stderr + unknown.stderr


def test_connect_by_the_data_folder_leaves_no_grant_behind(served: Served) -> None:
    data = ("--group", "data", "--data", str(served.data))
    told = called(served, "connect", *data, "orders", "-XAtc", "select 1")
    assert (told.returncode, told.stdout) == (0, "1\n"), told.stderr
    grants = command_json("grants", "list", "--data", str(served.data))
    assert [one["state"] for one in grants] == ["ended"]


# --- config --------------------------------------------------------------------------------------


def psql(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """By nothing but the service file."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return subprocess.run(
        ["psql", *words],
        env={**kept, "PGSERVICEFILE": str(folder / "pg_service.conf")},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_config_writes_files_by_which_psql_finds_targets_by_name(
    served: Served, tmp_path: Path
) -> None:
    folder, token = tmp_path / "clients", served.token("data")
    told = called(served, "config", "pg", "--dir", str(folder), "-o", "json", TRAILGATE_TOKEN=token)
    assert told.returncode == 0, told.stderr
    document = json.loads(told.stdout)
    assert document["targets"] == ["orders"]
    assert document["commands"] == ["psql service=orders"]
    assert document["env"] == {"PGSERVICEFILE": str(folder / "pg_service.conf")}
    assert token not in told.stdout + told.stderr
    assert token not in (folder / "pg_service.conf").read_text()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for path in document["files"]:
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert "sslmode=verify-full" in (folder / "pg_service.conf").read_text()
    answer = psql(folder, "service=orders", "-XAtc", "select count(*) from customers")
    assert answer.stdout == "2\n", answer.stderr
    shown = called(served, "config", "pg", "--dir", str(folder), TRAILGATE_TOKEN=token)
    assert shown.stdout.splitlines() == [
        f"export PGSERVICEFILE={folder / 'pg_service.conf'}",
        "psql service=orders",
    ]


def test_without_a_token_it_says_what_to_do(served: Served, tmp_path: Path) -> None:
    told = called(served, "config", "pg", "--dir", str(tmp_path / "clients"))
    assert told.returncode == 2 and "TRAILGATE_TOKEN" in told.stderr
    assert not (tmp_path / "clients").exists()
    wrong = called(served, "config", "pg", TRAILGATE_TOKEN="tg_" + "A" * 49)
    assert wrong.returncode == 1 and "Traceback" not in wrong.stderr


@pytest.mark.slow
def test_config_keeps_its_files_fresh(served: Served, tmp_path: Path) -> None:
    folder, path = tmp_path / "clients", tmp_path / "token"
    path.write_text(served.token("data"))
    child = subprocess.Popen(
        [sys.executable, "-m", "gateway", "config", "pg", "--dir", str(folder), "--renew"],
        env=environment(served, TRAILGATE_TOKEN_FILE=str(path)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until(lambda: (folder / "pgpass").is_file())
        first = (folder / "pgpass").read_text()
        (top,) = command_json("grants", "list", "--data", str(served.data))
        command("grants", "revoke", top["grant"], "--data", str(served.data))
        assert "revoked" in psql(folder, "service=orders", "-XAtc", "select 1").stderr
        fresh = served.token("data")
        path.write_text(fresh)
        until(lambda: fresh in (folder / "pgpass").read_text())
        assert (folder / "pgpass").read_text() != first
        assert psql(folder, "service=orders", "-XAtc", "select 1").stdout == "1\n"
        child.send_signal(signal.SIGTERM)
        assert child.wait(30) == 0
    finally:
        child.kill()
        child.communicate()
