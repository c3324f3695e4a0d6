# SPDX-License-Identifier: GPL-3.0-or-later
"""People's logins in a database: under way on any node, seen once on all, confirmed by one."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

from gateway.model import PendingLogin, StoredRefresh, Use
from gateway.store.database import Connection, Database, Row, listed, one
from gateway.store.grants import SUBTREE

SECRETS = ("ticket_sha256", "outside_sha256", "code_sha256", "user_code_sha256")
_COLUMNS = ("id", "kind", "phase", "document", "expires_at", "client", *SECRETS)
MOST_ASSERTIONS = 100_000
"""Of one issuer at a time. Whoever is full refuses: to forget one would let it be used again."""
_PLACES = ", ".join(f":{name}" for name in _COLUMNS)
_CHANGED = ("phase", "document", "expires_at", *SECRETS)
_REFRESH = "grant_id, issuer, sealed, next_at, claimed_until, good_until"
_LATE = (
    "logins WHERE expires_at < :now",
    "assertions_seen WHERE good_until < :now",
    "refreshes WHERE grant_id IN"
    " (SELECT id FROM grants WHERE revoked_at IS NOT NULL OR expires_at < :now)",
)


class StoredLogins:
    """`LoginStore` (identity/login/ports.py) on any database. All raise StoreFailed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, login: PendingLogin, *, cap: int, cap_of_client: int) -> bool:
        """Keep a new login; False if so many are under way, in all or of its client."""

        def work(connection: Connection) -> bool:
            (counted,) = connection.execute(
                "SELECT count(*) AS every, coalesce(sum(CASE WHEN client = :client THEN 1 ELSE 0"
                " END), 0) AS own FROM logins",
                {"client": login.client},
            )
            if counted["every"] >= cap or counted["own"] >= cap_of_client:
                return False
            connection.execute(
                f"INSERT INTO logins ({', '.join(_COLUMNS)}) VALUES ({_PLACES})", _row(login)
            )
            return True

        return await self._database.write(work)

    async def login_by(self, column: str, secret_sha256: str) -> PendingLogin | None:
        """The login that has this secret, given as its SHA-256; `column` is one of SECRETS."""
        assert column in SECRETS
        query = f"SELECT * FROM logins WHERE {column} = :secret"

        def work(connection: Connection) -> PendingLogin | None:
            row = one(connection.execute(query, {"secret": secret_sha256}))
            return None if row is None else _login(row)

        return await self._database.read(work)

    async def move(self, login: PendingLogin, *, old: Sequence[str]) -> bool:
        """Put a login into its new phase; False if it is in none of the `old` ones any more."""
        places, named = listed("old", old)
        changes = ", ".join(f"{name} = :{name}" for name in _CHANGED)
        query = f"UPDATE logins SET {changes} WHERE id = :id AND phase IN ({places}) RETURNING id"
        row = {name: value for name, value in _row(login).items() if name in ("id", *_CHANGED)}
        return await self._database.write(
            lambda connection: bool(connection.execute(query, {**row, **named}))
        )

    async def first_use(
        self, issuer: str, assertion_sha256: str, until: float, *, most: int = MOST_ASSERTIONS
    ) -> Use:
        """Note that an assertion was used, on any node; `most`: of its issuer."""
        query = (
            "INSERT INTO assertions_seen (issuer, assertion_sha256, good_until)"
            " VALUES (:issuer, :seen, :until) ON CONFLICT DO NOTHING RETURNING issuer"
        )
        values = {"issuer": issuer, "seen": assertion_sha256, "until": until}
        known = "SELECT count(*) AS used FROM assertions_seen WHERE issuer = :issuer"
        seen = " AND assertion_sha256 = :seen"

        def work(connection: Connection) -> Use:
            of_one = {"issuer": issuer, "seen": assertion_sha256}
            (again,) = connection.execute(known + seen, of_one)
            if again["used"]:
                return "again"
            (all_of_it,) = connection.execute(known, {"issuer": issuer})
            if all_of_it["used"] >= most:
                return "full"
            return "first" if connection.execute(query, values) else "again"

        return await self._database.write(work)

    async def forget_before(self, now: float) -> None:
        """Drop logins that have expired, assertions that would be refused for their age, and
        refresh tokens of grants that are over."""

        def look(connection: Connection) -> bool:
            return any(
                connection.execute(f"SELECT 1 FROM {late} LIMIT 1", {"now": now}) for late in _LATE
            )

        def work(connection: Connection) -> None:
            for late in _LATE:
                connection.execute(f"DELETE FROM {late}", {"now": now})

        if await self._database.read(look):
            await self._database.write(work)

    # --- refreshes -------------------------------------------------------------------------------

    async def keep_refresh(self, refresh: StoredRefresh) -> None:
        """Have a root grant's login confirmed again from now on."""
        query = (
            f"INSERT INTO refreshes ({_REFRESH}) VALUES"
            " (:grant_id, :issuer, :sealed, :next_at, 0, :good_until)"
        )
        await self._database.write(lambda connection: connection.execute(query, _values(refresh)))

    async def due_refreshes(self, now: float) -> list[StoredRefresh]:
        """Those to be asked now that no node is asking, of grants that are not over."""
        query = (
            "SELECT refreshes.* FROM refreshes JOIN grants ON grants.id = grant_id"
            " WHERE next_at <= :now AND claimed_until <= :now AND revoked_at IS NULL"
            " AND expires_at > :now ORDER BY next_at LIMIT 1000"
        )
        return await self._database.read(
            lambda connection: [_refresh(row) for row in connection.execute(query, {"now": now})]
        )

    async def claim_refresh(self, refresh: StoredRefresh, now: float, until: float) -> bool:
        """Be the one node that asks, until then; False if another is, or has asked."""
        query = (
            "UPDATE refreshes SET claimed_until = :until WHERE grant_id = :grant_id"
            " AND sealed = :sealed AND next_at = :next_at AND claimed_until <= :now"
            " RETURNING grant_id"
        )
        values = {**_values(refresh), "now": now, "until": until}
        del values["issuer"], values["good_until"]
        return await self._database.write(
            lambda connection: bool(connection.execute(query, values))
        )

    async def put_refresh(self, refresh: StoredRefresh) -> None:
        """Keep what came of it, and let go of the claim; a later `good_until` ends a suspension."""
        query = (
            "UPDATE refreshes SET sealed = :sealed, next_at = :next_at, claimed_until = 0,"
            " good_until = :good_until"
            " WHERE grant_id = :grant_id"
        )
        values = _values(refresh)
        del values["issuer"]
        await self._database.write(lambda connection: connection.execute(query, values))

    async def unconfirmed(self, now: float) -> tuple[str, ...]:
        """All grants of trees whose login was not confirmed in time: suspended until it is."""
        late = "SELECT grant_id FROM refreshes WHERE good_until <= :now"
        query = (
            SUBTREE.format(tops=f"id IN ({late})")
            + " SELECT id FROM grants WHERE id IN (SELECT id FROM below)"
            " AND revoked_at IS NULL AND expires_at > :now"
        )

        def work(connection: Connection) -> tuple[str, ...]:
            # The usual second has none: no walk of trees.
            if not connection.execute(late + " LIMIT 1", {"now": now}):
                return ()
            return tuple(row["id"] for row in connection.execute(query, {"now": now}))

        return await self._database.read(work)

    async def drop_refresh(self, grant_id: str) -> None:
        """The grant is over: its refresh token is kept no longer."""
        query = "DELETE FROM refreshes WHERE grant_id = :id"
        await self._database.write(lambda connection: connection.execute(query, {"id": grant_id}))


def _row(login: PendingLogin) -> dict[str, object]:
    row: dict[str, Any] = {name: getattr(login, name) for name in _COLUMNS}
    return {**row, "document": json.dumps(dict(login.document))}


def _login(row: Row) -> PendingLogin:
    values = {name: row[name] for name in _COLUMNS}
    return PendingLogin(**{**values, "document": json.loads(row["document"])})


def _values(refresh: StoredRefresh) -> dict[str, object]:
    return {
        "grant_id": refresh.grant_id,
        "issuer": refresh.issuer,
        "sealed": base64.b64encode(refresh.sealed).decode("ascii"),
        "next_at": refresh.next_at,
        "good_until": refresh.good_until,
    }


def _refresh(row: Row) -> StoredRefresh:
    sealed = base64.b64decode(row["sealed"])
    return StoredRefresh(row["grant_id"], row["issuer"], sealed, row["next_at"], row["good_until"])
