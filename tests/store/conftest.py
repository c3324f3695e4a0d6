# SPDX-License-Identifier: GPL-3.0-or-later
"""Both databases, so that each test of what is kept runs on each of them."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway.admin.cli.demo.postgres_server import NoServer, PostgresServer
from gateway.store.database import Database
from gateway.store.dsn import Dsn
from gateway.store.opening import opened

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def server() -> Iterator[PostgresServer]:
    """A PostgreSQL server of the run's own, with TLS."""
    try:
        found = PostgresServer(tls=True, settings=["max_connections=200"])
    except NoServer as missing:
        pytest.skip(str(missing))
    with found:
        yield found


@pytest.fixture
def dsn(server: PostgresServer) -> Dsn:
    """A new, empty database there."""
    name = f"store_{next(_numbers)}"
    server.psql(f"CREATE DATABASE {name}")
    return Dsn.parse(f"{server.url(name)}?sslmode=verify-full&sslrootcert={server.ca_path}")


@dataclass
class Place:
    """Where one test's state is; each `open` is another process to it."""

    at: Path | Dsn
    open_ones: list[Database] = field(default_factory=list)

    async def open(self) -> Database:
        database = await opened(self.at)
        self.open_ones.append(database)
        return database


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.live)])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    sqlite = request.param == "sqlite"
    found = Place(tmp_path / "store.db" if sqlite else request.getfixturevalue("dsn"))
    yield found
    for database in found.open_ones:
        await database.close()
