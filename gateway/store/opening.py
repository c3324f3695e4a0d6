# SPDX-License-Identifier: GPL-3.0-or-later
"""Which database it is."""

from __future__ import annotations

from pathlib import Path

from gateway.store.database import Database
from gateway.store.dsn import Dsn
from gateway.store.postgresql import PostgresDatabase
from gateway.store.sqlite import SqliteDatabase


async def opened(place: Path | Dsn) -> Database:
    """A file of this node's own, or a server that several nodes share. Raises StoreFailed."""
    if isinstance(place, Dsn):
        return await PostgresDatabase.open(place)
    return await SqliteDatabase.open(place)
