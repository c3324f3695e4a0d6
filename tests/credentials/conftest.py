# SPDX-License-Identifier: GPL-3.0-or-later
"""A vault on a real SQLite file, with local master keys, and servers at the cloud's edge."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer

from gateway.credentials.master import KeyRing, LocalKey
from gateway.credentials.vault import Vault
from gateway.store.secrets import StoredSecrets
from gateway.store.sqlite import SqliteDatabase


class Clock:
    """Seconds since the epoch, moved by hand."""

    def __init__(self) -> None:
        self.at = 1_000_000.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[SqliteDatabase]:
    database = await SqliteDatabase.open(tmp_path / "state.sqlite")
    yield database
    await database.close()


@pytest.fixture
def secrets(database: SqliteDatabase) -> StoredSecrets:
    return StoredSecrets(database)


@pytest.fixture
def master() -> LocalKey:
    return LocalKey(os.urandom(32))


@pytest.fixture
def vault(secrets: StoredSecrets, master: LocalKey, clock: Clock) -> Vault:
    return Vault(secrets, KeyRing(master), now=clock)


@pytest.fixture(scope="module")
def cloud() -> Iterator[str]:
    """An endpoint that speaks AWS."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    given = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    yield f"http://{host}:{port}"
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value
    server.stop()
