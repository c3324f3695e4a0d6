# SPDX-License-Identifier: GPL-3.0-or-later
"""A real PostgreSQL server, and gateways as processes in front of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.admin.cli.demo.postgres_server import NoServer, PostgresServer
from tests.live.gateway_process import Gateway, start

POLICY = """\
policy: shop
description: Everything but schema changes and unfiltered writes.
match: {targets: [shop]}
rules:
  - id: data
    allow: {sql: {kinds: [read, write, session], functions: ["*", "*.*"]}}
  - id: no-schema-change
    deny: {sql: {kinds: [schema]}}
    reason: The schema changes elsewhere.
  - id: no-unfiltered-write
    deny: {sql: {unfiltered_write: true}}
"""


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresServer]:
    """A server of the run's own. Its superuser's password is random: `server.url(database)`."""
    try:
        server = PostgresServer(tls=True, settings=["log_statement=all", "max_connections=200"])
    except NoServer as missing:
        pytest.skip(str(missing))
    with server:
        yield server


@pytest.fixture(scope="session")
def shop(postgresql: PostgresServer) -> PostgresServer:
    """The same server, with a database `shop`."""
    postgresql.psql("CREATE DATABASE shop")
    postgresql.psql(
        "CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL, email text);"
        "INSERT INTO customers VALUES (1, 'Ada', 'ada@example.com'), (2, 'Grace', NULL);"
        "CREATE TABLE notes (id serial PRIMARY KEY, body text)",
        "shop",
    )
    return postgresql


@pytest.fixture(scope="session")
def observed(shop: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """`trailgate try` without a policy: all passes, all is recorded."""
    gateway = start(tmp_path_factory.mktemp("observed") / "data", shop, database="shop")
    yield gateway
    assert gateway.stop() == 0


@pytest.fixture(scope="session")
def guarded(shop: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """`trailgate try --policy`: what the policy does not allow is refused."""
    folder: Path = tmp_path_factory.mktemp("guarded")
    policy = folder / "shop.yaml"
    policy.write_text(POLICY)
    gateway = start(folder / "data", shop, "--policy", str(policy), database="shop")
    yield gateway
    assert gateway.stop() == 0
