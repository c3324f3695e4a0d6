# SPDX-License-Identifier: GPL-3.0-or-later
"""A hundred rotations under pgbench through the gateway: no failed login, no broken session."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.admin.cli.demo.postgres_server import PostgresServer
from tests.live.rotation_load import rotate_under_load

ROTATIONS = int(os.environ.get("TRAILGATE_ROTATIONS", "100"))


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    with PostgresServer(tls=True, settings=["log_statement=all", "max_connections=200"]) as found:
        found.psql("CREATE DATABASE shop")
        found.psql("CREATE TABLE customers (id int PRIMARY KEY)", "shop")
        yield found


@pytest.mark.timeout(3000)
@pytest.mark.parametrize("plan", ["single", "admin", "two", "two-admin"])
def test_no_login_fails_and_no_session_breaks(
    plan: str, server: PostgresServer, tmp_path: Path
) -> None:
    load = rotate_under_load(plan, ROTATIONS, server, tmp_path)
    assert load.complaints == [] and load.logins > ROTATIONS
    refused = server.log.read_bytes().count(b"password authentication failed")
    print(f"{plan}: {ROTATIONS} rotations, {load.logins} logins, {refused} tried twice")
    assert (tmp_path / "log").read_bytes().find(b"seeded-") == -1
