# SPDX-License-Identifier: GPL-3.0-or-later
"""What is open on which node, so that each can show all and end any."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from gateway.store.database import Connection, Database

SESSIONS = "sessions"
"""The topic under which an end is asked for."""
SILENT_SECONDS = 10.0
"""A node that has said nothing for so long is gone, and its sessions with it."""
FORGET_SECONDS = 86400.0
SHOWN = 20_000
"""Sessions of other nodes that are shown at most."""


class StoredSessions:
    """One node's view of the sessions of all. All raise StoreFailed."""

    def __init__(self, database: Database, node: str) -> None:
        self._database = database
        self._node = node

    async def start(self) -> None:
        """Nothing of an earlier life of this node is open."""
        own = {"node": self._node}
        await self._database.write(
            lambda one: one.execute("DELETE FROM open_sessions WHERE node = :node", own)
        )

    async def keep(
        self, documents: Mapping[str, Mapping[str, Any]], closed: Collection[str]
    ) -> None:
        """Say that this node is there, what it has open or changed, and what has closed."""
        now = self._database.now()

        def work(connection: Connection) -> None:
            seen = {"node": self._node, "now": now}
            connection.execute(
                "INSERT INTO nodes (node, seen_at) VALUES (:node, :now)"
                " ON CONFLICT (node) DO UPDATE SET seen_at = excluded.seen_at",
                seen,
            )
            for session_id, document in documents.items():
                connection.execute(
                    "INSERT INTO open_sessions (id, node, document)"
                    " VALUES (:id, :node, :document)"
                    " ON CONFLICT (id) DO UPDATE SET document = excluded.document",
                    {"id": session_id, "node": self._node, "document": json.dumps(document)},
                )
            for session_id in closed:
                connection.execute("DELETE FROM open_sessions WHERE id = :id", {"id": session_id})
            _forget(connection, now - FORGET_SECONDS)

        await self._database.write(work)

    async def elsewhere(self) -> list[dict[str, Any]]:
        """The documents of the sessions of all other nodes that are there."""
        values = {"node": self._node, "since": self._database.now() - SILENT_SECONDS, "most": SHOWN}

        def work(connection: Connection) -> list[dict[str, Any]]:
            rows = connection.execute(
                "SELECT document FROM open_sessions JOIN nodes ON nodes.node = open_sessions.node"
                " WHERE open_sessions.node <> :node AND seen_at > :since ORDER BY id LIMIT :most",
                values,
            )
            return [json.loads(row["document"]) for row in rows]

        return await self._database.read(work)

    async def ask_to_end(self, session_id: str, reason: str) -> bool:
        """Have another node end a session; False if none is known to have it."""

        def work(connection: Connection) -> bool:
            found = connection.execute(
                "UPDATE open_sessions SET ending = :reason WHERE id = :id AND node <> :node"
                " RETURNING id",
                {"id": session_id, "reason": reason, "node": self._node},
            )
            if found:
                connection.notify(SESSIONS)
            return bool(found)

        return await self._database.write(work)

    async def asked_to_end(self) -> Sequence[tuple[str, str]]:
        """This node's sessions that another was asked to end, each with the reason."""
        query = "SELECT id, ending FROM open_sessions WHERE node = :node AND ending IS NOT NULL"
        return await self._database.read(
            lambda one: [
                (row["id"], row["ending"]) for row in one.execute(query, {"node": self._node})
            ]
        )


def _forget(connection: Connection, before: float) -> None:
    """Nodes that are gone for good, with what they left open."""
    gone = {"before": before}
    connection.execute(
        "DELETE FROM open_sessions WHERE node IN (SELECT node FROM nodes WHERE seen_at < :before)",
        gone,
    )
    connection.execute("DELETE FROM nodes WHERE seen_at < :before", gone)
