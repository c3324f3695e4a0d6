# SPDX-License-Identifier: GPL-3.0-or-later
"""Tokens that are good once: which ones were used, on any node."""

from __future__ import annotations

from gateway.model import Use
from gateway.store.database import Connection, Database

MOST = 100_000
"""Kept at a time. Whoever is full refuses: to forget one would let it be used again."""
MOST_OF_ONE = 10_000
"""Of them one agent's, so that none takes the room of all: 1000 a minute at the longest life."""


class UsedTokens:
    """`ReplayCache` (gateway/identity/assertions.py) on any database."""

    def __init__(
        self, database: Database, most: int = MOST, most_of_one: int = MOST_OF_ONE
    ) -> None:
        self._database = database
        self._most = most
        self._most_of_one = most_of_one

    async def use(self, owner: str, token_id: str, until: float, now: float) -> Use:
        """Note that `owner` used a token. Raises StoreFailed.

        `until`: when it will be refused for its age.
        """
        values = {"id": token_id, "owner": owner}

        def work(connection: Connection) -> Use:
            connection.execute("DELETE FROM used_tokens WHERE until < :now", {"now": now})
            if connection.execute("SELECT 1 FROM used_tokens WHERE id = :id", {"id": token_id}):
                return "again"
            (row,) = connection.execute(
                "SELECT count(*) AS used, coalesce(sum(CASE WHEN owner = :owner THEN 1 ELSE 0 END),"
                " 0) AS own FROM used_tokens",
                {"owner": owner},
            )
            if row["used"] >= self._most or row["own"] >= self._most_of_one:
                return "full"
            noted = connection.execute(
                "INSERT INTO used_tokens (id, until, owner) VALUES (:id, :until, :owner)"
                " ON CONFLICT (id) DO NOTHING RETURNING id",
                {**values, "until": until},
            )
            return "first" if noted else "again"

        return await self._database.write(work)
