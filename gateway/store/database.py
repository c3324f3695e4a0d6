# SPDX-License-Identifier: GPL-3.0-or-later
"""The seam between what the gateway keeps and the database that keeps it.

Each kind of state has a file beside this one (grants.py, ...) whose SQL is written once, in what
all databases here understand: named values (`:name`), RETURNING, ON CONFLICT, recursive WITH; no
rowid, no PRAGMA. Migrations are written in SQLite's types: TEXT, INTEGER, REAL, BLOB, and `INTEGER
PRIMARY KEY AUTOINCREMENT`; a truth is an INTEGER, 0 or 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar
from typing import Protocol as Interface

T = TypeVar("T")
Row = Mapping[str, Any]
Values = Mapping[str, object]
NOTHING: Values = MappingProxyType({})


class Connection(Interface):
    """A connection inside one piece of work, on a thread of the database's own."""

    def execute(self, sql: str, values: Values = NOTHING, /) -> Sequence[Row]:
        """Run one statement; the rows that it gives, none where it gives none."""

    def notify(self, topic: str, /) -> None:
        """Once this is committed, tell every process that what `topic` names has changed."""


Work = Callable[[Connection], T]
"""May be run twice, on a new connection, where an old one was lost before it could commit."""
Told = Callable[[str], None]
ANYTHING = ""
"""The topic of what was not heard in detail: look at everything."""


class Database(Interface):
    """Where state is kept. Nothing here blocks the loop; all raise StoreFailed."""

    async def read(self, work: Work[T]) -> T:
        """Run `work` on what is committed; it must not write."""

    async def write(self, work: Work[T]) -> T:
        """Run `work` in one transaction, alone among all writers of all processes.

        What it wrote is there for good once this returned; nothing of it is if it raised, unless
        the link to a server broke at the commit itself: StoreFailed says so.
        """

    def when_changed(self, told: Told) -> None:
        """Call `told` on the loop with each topic that a process notified.

        Some may be missed, or told twice: whoever needs every change looks each second as well.
        """

    def now(self) -> float:
        """Seconds since the epoch by the clock that all processes of this database share."""

    async def ping(self) -> None:
        """Return if the database answers."""

    async def close(self) -> None:
        """Let go of it; what was asked before is done first. Idempotent."""


def one(rows: Sequence[Row]) -> Row | None:
    """The only row; None where there is none."""
    return rows[0] if rows else None


def listed(prefix: str, values: Sequence[object]) -> tuple[str, dict[str, object]]:
    """For `IN ({places})`: the places of a list, and their values by name."""
    named = {f"{prefix}{index}": value for index, value in enumerate(values)}
    return ", ".join(f":{name}" for name in named) or "NULL", named
