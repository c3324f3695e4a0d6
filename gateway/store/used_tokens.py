# SPDX-License-Identifier: GPL-3.0-or-later
"""Tokens that are good once: which ones were used, on any node."""

from __future__ import annotations

from gateway.store.database import Connection, Database

MOST = 100_000
"""Kept at a time. Whoever is full refuses: to forget one would let it be used again."""


class UsedTokens:
    """`ReplayCache` (gateway/identity/assertions.py) on any database."""

    def __init__(self, database: Database, most: int = MOST) -> None:
        self._database = database
        self._most = most

    async def use(self, token_id: str, until: float, now: float) -> bool:
        """Note that a token was used; False where it was before, or nothing more can be noted.

        `until`: when it will be refused for its age. Raises StoreFailed.
        """

        def work(connection: Connection) -> bool:
            connection.execute("DELETE FROM used_tokens WHERE until < :now", {"now": now})
            (row,) = connection.execute("SELECT count(*) AS used FROM used_tokens")
            if row["used"] >= self._most:
                return False
            return bool(
                connection.execute(
                    "INSERT INTO used_tokens (id, until) VALUES (:id, :until)"
                    " ON CONFLICT (id) DO NOTHING RETURNING id",
                    {"id": token_id, "until": until},
                )
            )

        return await self._database.write(work)
