# SPDX-License-Identifier: GPL-3.0-or-later
"""Grants in a database, and who was revoked when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gateway.model import LAPSED, Ending, Grant, StoredGrant
from gateway.store.database import Connection, Database, Row, Values, listed, one
from gateway.store.interface import Added, Ended, StoreFailed
from gateway.store.lineage import MOST_STEPS, flaw
from gateway.store.rows import COLUMNS, PLACES, ending_of, from_row, to_row

SUBTREE = """WITH RECURSIVE below (id, depth) AS (
    SELECT id, 0 FROM grants WHERE {tops}
    UNION SELECT g.id, below.depth + 1 FROM grants g JOIN below ON g.parent = below.id
    WHERE below.depth < 64)"""
REVOCATIONS = "revocations"
"""The topic under which each is notified."""
ALIVE = "revoked_at IS NULL AND expires_at > :now AND (lease_until IS NULL OR lease_until > :now)"


class StoredGrants:
    """`GrantStore` (interface.py) on any database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put_root(self, grant: Grant, login_sha256: str) -> StoredGrant:
        def work(connection: Connection) -> StoredGrant:
            connection.execute(
                f"INSERT INTO grants ({COLUMNS}) VALUES ({PLACES})"
                " ON CONFLICT (login_sha256) DO NOTHING",
                to_row(grant, None, login_sha256, None),
            )
            found = _one(connection, "login_sha256", login_sha256)
            assert found is not None
            return found

        return await self._database.write(work)

    async def add_grant(
        self,
        grant: Grant,
        token_sha256: str,
        *,
        lease_until: float | None,
        now: float,
        max_children: int,
    ) -> Added:
        def work(connection: Connection) -> Added:
            if grant.parent is not None:
                if not _path_alive(connection, grant.parent, now):
                    return "dead_parent"
                if _live_children(connection, grant.parent, now) >= max_children:
                    return "too_many_children"
            row = to_row(grant, token_sha256, None, lease_until)
            connection.execute(f"INSERT INTO grants ({COLUMNS}) VALUES ({PLACES})", row)
            return "added"

        return await self._database.write(work)

    async def grant_by_token(self, token_sha256: str) -> StoredGrant | None:
        return await self._database.read(
            lambda connection: _one(connection, "token_sha256", token_sha256)
        )

    async def grant_by_login(self, login_sha256: str) -> StoredGrant | None:
        return await self._database.read(
            lambda connection: _one(connection, "login_sha256", login_sha256)
        )

    async def grant_by_id(self, grant_id: str) -> StoredGrant | None:
        return await self._database.read(lambda connection: _one(connection, "id", grant_id))

    async def ancestors(self, grant_id: str) -> tuple[str, ...]:
        return await self._database.read(
            lambda connection: tuple(row["id"] for row in _path(connection, grant_id))
        )

    async def grants_below(self, tops: Sequence[str] | None) -> list[StoredGrant]:
        def work(connection: Connection) -> list[StoredGrant]:
            places, named = listed("top", tops or ())
            where = "parent IS NULL" if tops is None else f"id IN ({places})"
            rows = connection.execute(
                SUBTREE.format(tops=where) + ", deepest (id, depth) AS"
                " (SELECT id, max(depth) FROM below GROUP BY id)"
                " SELECT grants.* FROM grants JOIN deepest ON grants.id = deepest.id"
                " ORDER BY deepest.depth, issued_at, grants.id",
                named,
            )
            return [from_row(row) for row in rows]

        return await self._database.read(work)

    async def roots_of(self, issuer: str, subject: str) -> tuple[str, ...]:
        query = (
            "SELECT id FROM grants WHERE issuer = :issuer AND subject = :subject"
            " AND parent IS NULL ORDER BY id"
        )
        values = {"issuer": issuer, "subject": subject}
        return await self._database.read(
            lambda connection: tuple(row["id"] for row in connection.execute(query, values))
        )

    async def renew_lease(self, grant_id: str, until: float, now: float) -> bool:
        def work(connection: Connection) -> bool:
            if not _path_alive(connection, grant_id, now):
                return False
            moved = connection.execute(
                "UPDATE grants SET lease_until = :until WHERE id = :id"
                " AND lease_until IS NOT NULL RETURNING id",
                {"until": until, "id": grant_id},
            )
            return bool(moved)

        return await self._database.write(work)

    async def revoke(
        self, grant_id: str, by: str, cause: str, at: float, how: str = "revoked"
    ) -> tuple[str, ...]:
        ending, top = Ending(how, by), {"top": grant_id}
        return await self._database.write(
            lambda connection: _end(connection, "id = :top", top, ending, cause, at)
        )

    async def revoke_lapsed(self, at: float) -> tuple[str, ...]:
        lapsed = "lease_until <= :at AND revoked_at IS NULL"
        look = f"SELECT 1 FROM grants WHERE {lapsed} LIMIT 1"
        # The usual second has nothing to write: no transaction, no sync.
        if await self._database.read(lambda connection: connection.execute(look, {"at": at})):
            return await self._database.write(
                lambda connection: _end(connection, lapsed, {}, LAPSED, "lease lapsed", at)
            )
        return ()

    async def revocations_after(self, sequence: int) -> tuple[int, tuple[Ended, ...]]:
        query = (
            "SELECT sequence, grant_id, revoked_at, revoked_by, ended_as FROM revocations"
            " LEFT JOIN grants ON grants.id = grant_id WHERE sequence > :after ORDER BY sequence"
        )

        def work(connection: Connection) -> tuple[int, tuple[Ended, ...]]:
            rows = connection.execute(query, {"after": sequence})
            last = rows[-1]["sequence"] if rows else sequence
            return last, tuple((row["grant_id"], ending_of(row) or Ending()) for row in rows)

        return await self._database.read(work)

    async def forget_expired(self, before: float) -> int:
        def work(connection: Connection) -> int:
            # A child never outlives its parent, so no row below a dropped one stays.
            connection.execute(
                "DELETE FROM revocations WHERE grant_id IN"
                " (SELECT id FROM grants WHERE expires_at < :before)",
                {"before": before},
            )
            return len(
                connection.execute(
                    "DELETE FROM grants WHERE expires_at < :before RETURNING id", {"before": before}
                )
            )

        return await self._database.write(work)


def _one(connection: Connection, column: str, value: str) -> StoredGrant | None:
    row = one(connection.execute(f"SELECT * FROM grants WHERE {column} = :value", {"value": value}))
    if row is None:
        return None
    path = _path(connection, row["id"], "grants.*")
    leases = [up["lease_until"] for up in path if up["lease_until"] is not None]
    until, wrong = min(leases, default=None), flaw(path)
    try:
        known = from_row(row)
    except (ValueError, TypeError, KeyError) as error:
        raise StoreFailed(f"grant {row['id']} is damaged in the store: revoke it") from error
    return replace(known, lease_until=until, good_until=path[-1]["good_until"], flaw=wrong)


_STEPS = "id, parent, lease_until, expires_at, revoked_at"
_UPWARDS = """WITH RECURSIVE up (step, depth) AS (
    SELECT id, 1 FROM grants WHERE id = :id
    UNION ALL SELECT parent, depth + 1 FROM grants JOIN up ON id = step
    WHERE parent IS NOT NULL AND depth < :most)"""


def _path(connection: Connection, grant_id: str, columns: str = _STEPS) -> list[Row]:
    """The rows from a grant to its root; a cycle, which no mint makes, is followed once.

    In one statement: to a server, each step would be a round trip.
    """
    rows = connection.execute(
        f"{_UPWARDS} SELECT {columns}, good_until FROM up JOIN grants ON id = step"
        " LEFT JOIN refreshes ON refreshes.grant_id = grants.id ORDER BY depth",
        {"id": grant_id, "most": MOST_STEPS},
    )
    return list({row["id"]: row for row in rows}.values())


def _path_alive(connection: Connection, grant_id: str, now: float) -> bool:
    path = _path(connection, grant_id)
    return bool(path) and all(
        row["revoked_at"] is None
        and row["expires_at"] > now
        and (row["lease_until"] is None or row["lease_until"] > now)
        and (row["good_until"] is None or row["good_until"] > now)
        for row in path
    )


def _live_children(connection: Connection, parent: str, now: float) -> int:
    query = f"SELECT count(*) AS children FROM grants WHERE parent = :parent AND {ALIVE}"
    (row,) = connection.execute(query, {"parent": parent, "now": now})
    return int(row["children"])


def _end(
    connection: Connection,
    tops: str,
    values: Values,
    ending: Ending,
    cause: str,
    at: float,
) -> tuple[str, ...]:
    rows = connection.execute(
        SUBTREE.format(tops=tops)
        + " UPDATE grants SET revoked_at = :at, revoked_by = :by, ended_as = :how"
        + " WHERE id IN (SELECT id FROM below) AND revoked_at IS NULL RETURNING id",
        {**values, "at": at, "by": ending.by, "how": ending.how},
    )
    ids = tuple(row["id"] for row in rows)
    for revoked in ids:
        connection.execute(
            "INSERT INTO revocations (grant_id, at, by, cause) VALUES (:id, :at, :by, :cause)",
            {"id": revoked, "at": at, "by": ending.by, "cause": cause},
        )
    if ids:
        connection.notify(REVOCATIONS)
    return ids
