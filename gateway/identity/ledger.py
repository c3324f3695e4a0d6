# SPDX-License-Identifier: GPL-3.0-or-later
"""What grants need of the record: each mint, refresh, revocation and end is told to it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol as Interface

from gateway.model import Ending, Grant


class GrantLedger(Interface):
    """The record of grants (gateway/record/grants.py)."""

    async def mint(self, grant: Grant, parent: Grant | None, lease_until: float | None) -> str:
        """Record a new grant; where that is recorded, once it is on disk. Raises RecordFailed."""

    def not_kept(self, grant_id: str, cause: str) -> None:
        """A mint that came to nothing. Never raises."""

    async def refreshed(self, grant: Grant, until: float, by: str) -> None:
        """A lease was extended. Raises RecordFailed."""

    def ended(self, grants: Sequence[str], ending: Ending, cause: str) -> Collection[str]:
        """These have ended; which of them have a record that is open here. Never raises."""

    async def ended_unused(
        self, grant: Grant, grants: Sequence[str], ending: Ending, cause: str
    ) -> None:
        """The same of a grant that has no open record here. Raises RecordFailed."""

    def standing(self, suspended: Collection[str]) -> None:
        """These grants, and no others, are suspended now. Never raises."""

    async def suspended_unused(self, grant: Grant, cause: str) -> None:
        """A root grant is suspended, also where it has no open record here. Raises RecordFailed."""

    async def restored(self, grant: Grant, by: str) -> None:
        """A suspended root grant is about to be authority again. Raises RecordFailed."""

    def sweep(self, now: float) -> None:
        """End the records of grants that have expired. Never raises."""


class NoLedger:
    """For whoever keeps grants without a record: tools and tests, never a gateway."""

    async def mint(self, grant: Grant, parent: Grant | None, lease_until: float | None) -> str:
        return ""

    def not_kept(self, grant_id: str, cause: str) -> None:
        return None

    async def refreshed(self, grant: Grant, until: float, by: str) -> None:
        return None

    def ended(self, grants: Sequence[str], ending: Ending, cause: str) -> Collection[str]:
        return grants

    async def ended_unused(
        self, grant: Grant, grants: Sequence[str], ending: Ending, cause: str
    ) -> None:
        return None

    def sweep(self, now: float) -> None:
        return None

    def standing(self, suspended: Collection[str]) -> None:
        return None

    async def suspended_unused(self, grant: Grant, cause: str) -> None:
        return None

    async def restored(self, grant: Grant, by: str) -> None:
        return None
