# SPDX-License-Identifier: GPL-3.0-or-later
"""Who read what through a gateway stands in the node's own record, whatever was read how often."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from gateway.admin.cli.demo.postgres_server import PostgresServer
from tests.live.gateway_process import Gateway, command, command_json, start

pytestmark = pytest.mark.live


@pytest.fixture
def gateway(shop: PostgresServer, tmp_path: Path) -> Iterator[Gateway]:
    running = start(tmp_path / "data", shop, database="shop")
    yield running
    if running.child.poll() is None:
        running.stop()


def events(gateway: Gateway) -> list[dict[str, Any]]:
    done = command("audit", "export", "--format", "jsonl", "--data", str(gateway.data))
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    return [one for one in told if one["type"] == "event"]


def test_reads_are_recorded_with_who_and_what(gateway: Gateway) -> None:
    with psycopg.connect(gateway.dsn("shop"), autocommit=True) as link:
        link.execute("select 1")
        seen = command(
            "sessions", "list", "-o", "json", "--target", "shop",
            TRAILGATE_URL=gateway.ready["admin_url"], TRAILGATE_TOKEN=gateway.token,
        )  # fmt: skip
        assert len(json.loads(seen.stdout)) == 1, seen.stderr
        session = json.loads(seen.stdout)[0]["id"]
        assert command_json("sessions", "show", session, "--data", str(gateway.data))["id"]
        assert command("grants", "tree", "--data", str(gateway.data)).returncode == 0
    assert gateway.stop() == 0
    reads = [one for one in events(gateway) if one["event"] == "read"]
    by_token = next(one for one in reads if "chain" in one["by"])
    assert (by_token["what"], by_token["seen"]) == ("sessions", 1)
    assert by_token["by"]["grant"] and by_token["from"] == "127.0.0.1"
    by_socket = [one for one in reads if one["by"].get("uid") == os.geteuid()]
    assert {one["what"] for one in by_socket} == {"sessions", "grants"}
    assert gateway.token not in json.dumps(reads)
    assert command_json("verify", str(gateway.data))["ok"]


def test_a_flood_of_reads_is_counted(gateway: Gateway) -> None:
    """Nobody can fill the record by reading; how often it was is told all the same."""
    url = gateway.ready["admin_url"] + "/api/v1/sessions"
    headers = {"authorization": f"Bearer {gateway.token}"}
    with httpx.Client(headers=headers) as client:
        for _ in range(900):
            assert client.get(url).status_code == 200
    assert gateway.stop() == 0
    found = events(gateway)
    reads = sum(one["event"] == "read" for one in found)
    counted = sum(one["count"] for one in found if one["event"] == "not_recorded")
    assert reads + counted == 900 and counted > 0


def test_a_login_of_the_gateways_own_is_recorded(gateway: Gateway) -> None:
    assert gateway.stop() == 0
    (reached,) = [one for one in events(gateway) if one["event"] == "reached"]
    assert reached["target"] == "shop" and reached["pid"] > 0
