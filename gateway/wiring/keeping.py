# SPDX-License-Identifier: GPL-3.0-or-later
"""Erasing a session's key, and the legal holds that forbid it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateway.config import Objects
from gateway.record.declared import FOR_EVER, Hold, Retention
from gateway.record.erasing import EraseRefused
from gateway.record.places import Reach, Unreadable
from gateway.record.reader import Evidence
from gateway.record.recorder import NodeRecorder

WAIT_SECONDS = 10.0
"""For an erasure to be complete, before its caller hears that it is pending."""


class Keeping:
    """What the API and the wiring do with a recorder's keys."""

    def __init__(
        self, recorder: NodeRecorder, place: Path | str, reach: Reach, node: str = ""
    ) -> None:
        self._recorder = recorder
        self._node = node
        self._place = place
        self._reach = reach
        recorder.keeping.erasures.held = self.hold_of

    async def declare(self, objects: Objects) -> None:
        """Put holds and retention in force, as leaves. Raises RecordFailed."""
        holds = {name: one.declared() for name, one in objects.legal_holds.items()}
        await self._recorder.keeping.put_in_force(holds, retention_of(objects))

    async def hold_of(self, session: str) -> str:
        """The hold that covers a session; empty: none. Raises EraseRefused when nobody can say."""
        holds = self._recorder.keeping.declared.holds
        if not holds:
            return ""
        try:
            found = await asyncio.to_thread(self._read, session)
        except Unreadable as error:
            raise EraseRefused(f"whether a legal hold covers it cannot be told: {error}") from error
        return next((name for name, hold in holds.items() if _covers(hold, found)), "")

    def _read(self, session: str) -> Mapping[str, Any]:
        return Evidence(self._place, reach=self._reach, running=True).session(session).document

    async def erase(self, session: str) -> Mapping[str, Any]:
        """Erase a session's key; `state` is `erased`, or `pending` with the cause.

        Raises EraseRefused, RecordFailed.
        """
        try:
            found = await asyncio.to_thread(self._read, session)
        except Unreadable as error:
            raise EraseRefused(f"it cannot be found in the record: {error}") from error
        if found["gateway"] != self._node:
            # Nodes may share keys/, but each signs for its own sessions only.
            raise EraseRefused(f"it was recorded by the node {found['gateway']}: erase it there")
        erasures = self._recorder.keeping.erasures
        await erasures.erase(session)
        cause = await erasures.wait(session, WAIT_SECONDS)
        return {"session": session, "state": "pending" if cause else "erased", "cause": cause}


def _covers(hold: Hold, document: Mapping[str, Any]) -> bool:
    return hold.covers(document["target"], document["opened"], document["closed"])


def retention_of(objects: Objects) -> Retention:
    """The one period that is declared; none: the record is kept without end."""
    for one in objects.retentions.values():
        return one.declared()
    return FOR_EVER
