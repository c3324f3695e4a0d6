# SPDX-License-Identifier: GPL-3.0-or-later
"""A real PostgreSQL server for live tests: one for the run, SCRAM, TLS offered."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.admin.cli.demo.postgres_server import NoServer, PostgresServer


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresServer]:
    """A server of the run's own. Its superuser's password is random: `server.url(database)`."""
    try:
        server = PostgresServer(tls=True, settings=["log_statement=all", "max_connections=200"])
    except NoServer as missing:
        pytest.skip(str(missing))
    with server:
        yield server
