# SPDX-License-Identifier: GPL-3.0-or-later
"""The record of each grant: its mint or first use here, refreshes, its revocation and its end.

A grant's record is a session's without payloads and so without a key: an open frame that says what
was granted, frames of the kind `grant`, a close frame with the count of the sessions that cite it.
It is open while this node uses the grant. Whatever closed it (a restart, too many of them), the
next use opens another one, which cites the mint: in this log or in another node's.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from gateway.model import Ending, Grant, Hop, RecordFailed
from gateway.record.session_record import RecordedSession

log = logging.getLogger("trailgate.record")

MOST_OPEN = 4096
"""Records of grants that are open at a time; the one that was used longest ago is parked."""
REFRESH_SECONDS = 30.0
"""Between two frames that say that a lease was extended; those in between are counted."""
_REMEMBERED = 16384
"""Grants that ended a moment ago, so that none of them gets a new record."""
_MOST_LISTED = 200
"""Grants that a revocation lists by name."""
_TEXT = 200
_ENDINGS = {"revoked": "revoke", "lapsed": "lapse", "ended": "end"}
_UNCONFIRMED = "the provider does not confirm the login"

Start = Callable[[Mapping[str, Any]], Awaitable[RecordedSession]]


@dataclass(slots=True)
class GrantRecord:
    """A grant's record while it is open."""

    session: RecordedSession
    grant: str
    expires_at: float
    sessions: int = 0
    """That cite this record."""
    busy: int = 0
    """Sessions and children that are about to cite it: until they do, it stays open."""
    ending: tuple[str, str] | None = None
    suspended: bool = False
    """Nothing of it may begin: its provider does not confirm the login."""
    suspension_told: bool = False
    """By a frame, which waits for what is about to cite the record."""
    refreshed_at: float = float("-inf")
    refreshes: int = 0
    """Since the last frame that told of one."""


class GrantRecords:
    """All grants in use here. On the loop only. `log_name`: NODE/LOG, where they are recorded.

    `start` opens a record, `on_disk` returns once what was written so far survives a power loss.
    """

    def __init__(
        self,
        log_name: str,
        start: Start,
        on_disk: Callable[[], Awaitable[None]],
        *,
        most: int = MOST_OPEN,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._log_name = log_name
        self._start = start
        self._on_disk = on_disk
        self._most = most
        self._now = now
        self._open: OrderedDict[str, GrantRecord] = OrderedDict()
        self._resuming: dict[str, asyncio.Task[GrantRecord]] = {}
        self._ended: OrderedDict[str, None] = OrderedDict()

    @property
    def open_count(self) -> int:
        return len(self._open)

    # --- mint and use ----------------------------------------------------------------------------

    async def mint(self, grant: Grant, parent: Grant | None, lease_until: float | None) -> str:
        """Record a new grant; where that is recorded, once it is on disk. Raises RecordFailed.

        Until then nobody may have its token.
        """
        if parent is None:
            record = await self._opened(grant, "mint", None, lease_until)
        else:
            async with self._held(parent) as above:
                record = await self._opened(grant, "mint", above, lease_until)
        return f"{self._log_name}/{record.session.id}"

    @asynccontextmanager
    async def citing(self, grant: Grant) -> AsyncIterator[str]:
        """The id of the grant's record, for a session that opens meanwhile: it is counted, unless
        an exception says that it did not open. Raises RecordFailed."""
        async with self._held(grant) as record:
            yield record.session.id
            record.sessions += 1

    @asynccontextmanager
    async def _held(self, grant: Grant) -> AsyncIterator[GrantRecord]:
        record = await self._in_use(grant)
        record.busy += 1
        try:
            yield record
        finally:
            record.busy -= 1
            if not record.busy and record.ending is not None:
                self._close(record, *record.ending)
            elif not record.busy:
                self._tell_standing(record)

    async def _in_use(self, grant: Grant) -> GrantRecord:
        while True:
            if grant.id in self._ended:
                raise RecordFailed(f"grant {grant.id} has ended: nothing can be recorded of it")
            record = self._open.get(grant.id)
            if record is not None and record.suspended:
                raise RecordFailed(f"grant {grant.id} is suspended: nothing of it may begin")
            if record is not None:
                self._open.move_to_end(grant.id)
                return record
            task = self._resuming.get(grant.id)
            if task is None:
                task = asyncio.get_running_loop().create_task(self._opened(grant, "resume"))
                self._resuming[grant.id] = task
                task.add_done_callback(partial(self._resumed, grant.id))
            await asyncio.shield(task)

    def _resumed(self, grant_id: str, task: asyncio.Task[GrantRecord]) -> None:
        del self._resuming[grant_id]

    async def _opened(
        self,
        grant: Grant,
        event: str,
        parent: GrantRecord | None = None,
        lease_until: float | None = None,
    ) -> GrantRecord:
        session = await self._start(_opening(grant, event, parent, lease_until, self._now()))
        record = GrantRecord(session, grant.id, grant.expires_at)
        self._open[grant.id] = record
        self._park()
        await self._on_disk()
        return record

    def _park(self) -> None:
        """Close what was used longest ago; what is about to be cited stays."""
        surplus = len(self._open) - self._most
        if surplus <= 0:
            return
        idle = [one for one in self._open.values() if not one.busy][:surplus]
        for record in idle:
            self._close(record, "parked", "another grant needed its place")

    # --- what becomes of it ----------------------------------------------------------------------

    def not_kept(self, grant_id: str, cause: str) -> None:
        """A mint that came to nothing: nobody was given its token."""
        self._end(grant_id, "not_kept", cause)

    async def refreshed(self, grant: Grant, until: float, by: str) -> None:
        """A lease was extended. Rate-bounded. Raises RecordFailed."""
        async with self._held(grant) as record:
            record.refreshes += 1
            now = time.monotonic()
            if now - record.refreshed_at < REFRESH_SECONDS:
                return
            told, record.refreshes, record.refreshed_at = record.refreshes, 0, now
            event = {"event": "refresh", "lease_until": _rfc3339(until), "refreshes": told}
            record.session.append("grant", "own", b"", _dump({**event, "by": by[:_TEXT]}))

    def ended(self, grants: Sequence[str], ending: Ending, cause: str) -> Collection[str]:
        """These have ended: their records say how, and end; which ones had one. Never raises."""
        told = [self._open[one] for one in grants if one in self._open]
        listed = {"count": len(grants), "grants": list(grants[:_MOST_LISTED])}
        for place, record in enumerate(told):
            event = {"event": _ENDINGS[ending.how], "by": ending.by[:_TEXT], "cause": cause[:_TEXT]}
            try:
                record.session.append(
                    "grant", "own", b"", _dump({**event, **({} if place else listed)})
                )
            except RecordFailed as error:
                # The close frame has room of its own, and says the same in short.
                log.error("the end of a grant has no frame", extra={"cause": str(error)})
        for one in grants:
            self._end(one, ending.how, f"{cause[:_TEXT]} ({ending.by[:_TEXT]})")
        return {record.grant for record in told}

    async def ended_unused(
        self, grant: Grant, grants: Sequence[str], ending: Ending, cause: str
    ) -> None:
        """The same of a grant that has no open record here. Raises RecordFailed."""
        if grant.id not in self._open:
            await self._opened(grant, "resume")
        self._ended.pop(grant.id, None)
        self.ended((grant.id, *(one for one in grants if one != grant.id)), ending, cause)

    def standing(self, suspended: Collection[str]) -> None:
        """These grants, and no others, are suspended: the open records of those for which that is
        new say so, and nothing of them begins. Never raises."""
        late = set(suspended)
        for record in list(self._open.values()):
            if (record.grant in late) != record.suspended:
                record.suspended = not record.suspended
                self._tell_standing(record)

    def _tell_standing(self, record: GrantRecord, cause: str = _UNCONFIRMED) -> None:
        if record.busy or record.suspended == record.suspension_told:
            return
        told = {"event": "suspend", "cause": cause[:_TEXT]}
        event = told if record.suspended else {"event": "restore"}
        try:
            record.session.append("grant", "own", b"", _dump(event))
            record.suspension_told = record.suspended
        except RecordFailed as error:
            log.error("a suspension has no frame", extra={"cause": str(error)})

    async def suspended_unused(self, grant: Grant, cause: str) -> None:
        """A root grant is suspended, whether or not it has a record here. Raises RecordFailed."""
        record = self._open.get(grant.id)
        if record is None:
            record = await self._opened(grant, "resume")
        record.suspended = True
        self._tell_standing(record, cause)

    async def restored(self, grant: Grant, by: str) -> None:
        """A suspended root grant is about to be authority again; returns once that is on disk.
        Raises RecordFailed: then it must not be."""
        record = self._open.get(grant.id)
        if record is None:
            record = await self._opened(grant, "resume")
        record.session.append("grant", "own", b"", _dump({"event": "restore", "by": by[:_TEXT]}))
        record.suspended = record.suspension_told = False
        await self._on_disk()

    def sweep(self, now: float) -> None:
        """End the records of grants that expired by `now`, the store's time. Never raises."""
        for record in [one for one in self._open.values() if one.expires_at <= now]:
            self._end(record.grant, "expired", "")

    def close_all(self) -> None:
        """The gateway ends; the grants may go on. Never raises."""
        for record in list(self._open.values()):
            self._close(record, "drain", "the gateway ended")

    def _end(self, grant_id: str, reason: str, detail: str) -> None:
        self._ended[grant_id] = None
        while len(self._ended) > _REMEMBERED:
            self._ended.popitem(last=False)
        record = self._open.get(grant_id)
        if record is None or record.ending is not None:
            return
        record.ending = (reason, detail)
        if not record.busy:
            self._close(record, reason, detail)

    def _close(self, record: GrantRecord, reason: str, detail: str) -> None:
        if self._open.get(record.grant) is record:
            del self._open[record.grant]
        summary = {"detail": detail, "sessions": record.sessions, "refreshes": record.refreshes}
        try:
            record.session.close_now(reason, summary)
        except RecordFailed as error:
            # The next start closes it as interrupted.
            log.error("a grant's record could not be closed", extra={"cause": str(error)})


def _opening(
    grant: Grant, event: str, parent: GrantRecord | None, lease_until: float | None, now: float
) -> dict[str, Any]:
    """The metadata of the open frame; the recorder adds `session`, `ordinal` and `gateway`."""
    origin = grant.origin
    return {
        "record": "grant",
        "event": event,
        "grant": grant.id,
        "root_grant": grant.root,
        "parent": _parent(grant, parent),
        "minted": _minted(grant.minted_in) if event == "resume" else None,
        "origin": {
            "issuer": origin.issuer,
            "subject": origin.subject,
            "name": origin.name,
            "kind": origin.kind,
        },
        "groups": list(grant.groups),
        "actor_groups": list(grant.actor_groups),
        "chain": [_hop(hop) for hop in grant.chain],
        "labels_chain": list(grant.labels),
        "narrowing": [dict(entry) for entry in grant.narrowing],
        "isolation": grant.chain[-1].isolation if grant.chain else "none",
        "login": dict(grant.login),
        "issued": _rfc3339(grant.issued_at),
        "expires": _rfc3339(grant.expires_at),
        "lease_until": None if lease_until is None else _rfc3339(lease_until),
        "opened": _rfc3339(now),
    }


def _parent(grant: Grant, above: GrantRecord | None) -> dict[str, Any] | None:
    """The parent's grant; a mint also names its record, which is in the same log."""
    if grant.parent is None:
        return None
    return {"grant": grant.parent, "record": above.session.id if above else None}


def _minted(place: str) -> dict[str, Any]:
    """Where the mint is recorded; nulls for a grant that no log tells of."""
    name, _, record = place.rpartition("/")
    return {"log": name or None, "record": record or None}


def _hop(hop: Hop) -> dict[str, Any]:
    known = hop.identity
    return {
        "name": hop.name,
        "proved": hop.proved,
        "issuer": known.issuer if known else "",
        "subject": known.subject if known else "",
        "grant": hop.grant,
        "isolation": hop.isolation,
    }


def _rfc3339(at: float) -> str:
    moment = datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds")
    return moment.replace("+00:00", "Z")


def _dump(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()
