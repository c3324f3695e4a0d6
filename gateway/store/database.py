# SPDX-License-Identifier: GPL-3.0-or-later
"""The seam between what the gateway keeps and the database that keeps it.

Each kind of state has a file beside this one (grants.py, ...) whose SQL is written once, in what
all databases here understand: named values (`:name`), RETURNING, recursive WITH; no REAL but in
migrations, no rowid, no PRAGMA.
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


Work = Callable[[Connection], T]


class Database(Interface):
    """Where state is kept. Nothing here blocks the loop; all raise StoreFailed."""

    async def read(self, work: Work[T]) -> T:
        """Run `work` on what is committed; it must not write."""

    async def write(self, work: Work[T]) -> T:
        """Run `work` in one transaction, alone among all writers of all processes.

        What it wrote is there for good once this returned; nothing of it is if it raised.
        """

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
