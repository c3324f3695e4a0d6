# SPDX-License-Identifier: GPL-3.0-or-later
"""Declares objects: one order at a time, checked as a whole set, recorded, kept, put in force."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from gateway.config.documents import canonical
from gateway.credentials.master import VaultFailed
from gateway.declare.orders import Change, Order, Outcome, Rejected, Shown
from gateway.declare.plan import Plan, Step, in_vault, planned
from gateway.declare.policies import failing_tests
from gateway.declare.ports import ChangeRecord, Force, SecretKeeper, record_unknown
from gateway.declare.whole import Base, Documents, Whole, documents_of, in_the_way, whole
from gateway.store.interface import StoreFailed
from gateway.store.objects import Edit, StoredObject, StoredObjects

log = logging.getLogger("trailgate")

ATTEMPTS = 5
"""How often an order is planned anew because another node changed something meanwhile."""
POLL_EVERY = 1.0
"""Seconds between two looks at the store's revision."""
MOST_OBJECTS = 20_000


class Declarer:
    """What is declared, and the one way to change it.

    `closed`: folders whose files no object may name. Times are by `now`, seconds since the epoch.
    """

    def __init__(
        self,
        store: StoredObjects,
        base: Base,
        force: Force,
        record: ChangeRecord,
        *,
        closed: Sequence[Path] = (),
        keeper: SecretKeeper | None = None,
        revision: int = 0,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.base = base
        self.keeper = keeper
        self.revision = revision
        """Of what is in force here."""
        self.complaint = ""
        """Why what the store declares is not in force here; empty: it is."""
        self._store = store
        self._force = force
        self._record = record
        self._closed = closed
        self._now = now
        self._lock = asyncio.Lock()
        self._told = asyncio.Event()

    # --- reading ---------------------------------------------------------------------------------

    async def shown(self, kind: str | None = None, name: str | None = None) -> list[Shown]:
        """The objects of a kind and a name (None: of all), by both. Raises StoreFailed."""
        _, stored = await self._store.everything()
        # Thousands take a while, in which sessions go on.
        return await asyncio.to_thread(self._shown_of, stored, kind, name)

    def _shown_of(
        self, stored: Iterable[StoredObject], kind: str | None, name: str | None
    ) -> list[Shown]:
        def asked(one: Shown | StoredObject) -> bool:
            return kind in (None, one.kind) and name in (None, one.name)

        kept = [one for one in stored if asked(one)]
        documents = documents_of(kept)
        found = [one for one in self.base.shown() if asked(one)]
        found += [_shown(one, documents[one.kind, one.name]) for one in kept]
        return sorted(found, key=lambda one: (one.kind, one.name))

    # --- writing ---------------------------------------------------------------------------------

    async def order(self, order: Order) -> Outcome:
        """Carry out an order, or nothing of it.

        Raises Rejected, StoreFailed, VaultFailed, RecordFailed.
        """
        first: set[str] = set()
        async with self._lock:
            try:
                for _ in range(ATTEMPTS):
                    outcome = await self._attempt(order, first)
                    if outcome is not None:
                        return outcome
                raise Rejected(409, "others change the same objects all the time: try again")
            except BaseException:
                await self._forget(first)
                raise

    async def _attempt(self, order: Order, first: set[str]) -> Outcome | None:
        """`first`: credentials whose first secret is in the vault, with no document yet."""
        revision, stored = await self._store.everything()
        there = {(one.kind, one.name): one for one in stored}
        documents = await asyncio.to_thread(documents_of, stored)
        plan = await asyncio.to_thread(planned, order, there, documents, self.base.names())
        self._check_secrets(plan)
        new = await self._checked(plan, documents)
        if order.dry_run:
            await self._force.check(new)
        if order.dry_run or not plan.changing:
            return Outcome(tuple(_change(step, there) for step in plan.steps), revision)
        prepared = await self._force.prepare(new)
        try:
            await self._keep_first(order, plan, first)
            change = await self._recorded(order, plan, there)
            written = await self._written(order, plan, revision, change)
        except BaseException:
            await prepared.undo()
            raise
        if written is None:
            await prepared.undo()
            return None
        self.revision, now = written[0], {(one.kind, one.name): one for one in written[1]}
        new_ones = frozenset(first)
        first.clear()
        await prepared.commit()
        await self._keep_next(order, plan, new_ones)
        await self._forget([step.name for step in plan.changing if _leaves_vault(step)])
        _log(order, plan)
        return Outcome(tuple(_change(step, there | now) for step in plan.steps), self.revision)

    async def _checked(self, plan: Plan, there: Documents) -> Whole:
        """The whole set as it would be; `there`: as it is. Raises Rejected."""
        if len(plan.documents) > MOST_OBJECTS:
            raise Rejected(422, f"more than {MOST_OBJECTS} objects: use another gateway")
        try:
            new = await asyncio.to_thread(whole, self.base, plan.documents, self._closed)
        except Rejected as error:
            if all(step.action == "delete" for step in plan.changing):
                raise await self._in_the_way(plan, there, error) from error
            raise
        changed = {step.name for step in plan.changing if step.kind == "policy"}
        failing = [
            finding
            for document in new.policies.documents
            if document.name in changed
            for finding in await failing_tests(document)
        ]
        if failing:
            raise Rejected(422, "the policy's own tests fail: nothing was changed", failing)
        return new

    async def _in_the_way(self, plan: Plan, there: Documents, after: Rejected) -> Rejected:
        before: Sequence[Mapping[str, Any]] = ()
        try:
            await asyncio.to_thread(whole, self.base, there, self._closed)
        except Rejected as error:
            before = error.findings
        gone = [f"{step.kind} {step.name}" for step in plan.changing]
        return in_the_way(gone, after, before)

    def _check_secrets(self, plan: Plan) -> None:
        if self.keeper is None and any(step.secret is not None for step in plan.steps):
            raise Rejected(
                422,
                "this gateway has no vault, so it keeps no secret that is given by value: give "
                'it as {"from": "file:PATH"}, a file on the gateway\'s machine',
            )

    async def _keep_first(self, order: Order, plan: Plan, first: set[str]) -> None:
        """A credential's first secret is there before its document; it goes if that fails."""
        for step in plan.steps:
            if step.secret is None or self.keeper is None or step.name in first:
                continue
            if not await self.keeper.held(step.name):
                first.add(step.name)
                await self.keeper.keep(step.name, step.secret, order.author.label)

    async def _keep_next(self, order: Order, plan: Plan, first: frozenset[str]) -> None:
        """The secret that follows another waits for the document: until then the old one is in
        force, and stays so where anything fails."""
        for step in plan.steps:
            if step.secret is not None and self.keeper is not None and step.name not in first:
                await self.keeper.keep(step.name, step.secret, order.author.label)

    async def _recorded(
        self, order: Order, plan: Plan, there: Mapping[tuple[str, str], StoredObject]
    ) -> str:
        """Record what is about to change; the id of the change. Raises RecordFailed."""
        change = secrets.token_hex(8)
        events = await asyncio.to_thread(_events, order, plan, there, change)
        # Together, so that all of them wait for one sync.
        await asyncio.gather(*(self._record.config_changed(*event) for event in events))
        return change

    async def _written(
        self, order: Order, plan: Plan, revision: int, change: str
    ) -> tuple[int, tuple[StoredObject, ...]] | None:
        edits = await asyncio.to_thread(_edits, plan, order.managed_by)
        try:
            written = await self._store.write(
                edits, by=order.author.label, at=self._now(), revision=revision
            )
        except BaseException:
            # A link that broke at the commit leaves open whether it was done; `refresh` will see.
            await record_unknown(self._record, change)
            raise
        if written is None:
            event = {"event": "config.not_changed", "change": change}
            await self._record.config_changed(event, b"")
        return written

    async def _forget(self, credentials: Iterable[str]) -> None:
        """Forget secrets that no document speaks of; never raises."""
        for name in list(credentials):
            try:
                if self.keeper is not None:
                    await self.keeper.drop(name)
            except (StoreFailed, VaultFailed):
                log.exception("a secret stays in the vault", extra={"credential": name})

    # --- what others changed ---------------------------------------------------------------------

    async def reload(self, base: Base) -> Whole:
        """Put in force what files say now, with what the store says. Raises Rejected."""
        async with self._lock:
            return await self._reload(base)

    async def _reload(self, base: Base) -> Whole:
        revision, stored = await self._store.everything()
        new = await asyncio.to_thread(whole, base, documents_of(stored), self._closed)
        prepared = await self._force.prepare(new)
        try:
            await self._record_reload(base, revision)
        except BaseException:
            await prepared.undo()
            raise
        await prepared.commit()
        self.base, self.revision, self.complaint = base, revision, ""
        return new

    async def _record_reload(self, base: Base, revision: int) -> None:
        """What files say has no other record; what another node changed is in that node's."""
        documents = [one.document for one in base.shown()]
        text = canonical({"objects": documents})
        event = {
            "event": "config.reload",
            "kind": "files",
            "revision": revision,
            "files_sha256": hashlib.sha256(text.encode()).hexdigest(),
        }
        await self._record.config_changed(event, text.encode() if base is not self.base else b"")

    async def refresh(self) -> None:
        """Put in force what another node has changed since. Raises Rejected, StoreFailed."""
        if await self._store.revision() == self.revision:
            return
        async with self._lock:
            if await self._store.revision() != self.revision:
                new = await self._reload(self.base)
                log.info("objects changed elsewhere", extra={"targets": len(new.objects.targets)})

    def look_now(self) -> None:
        """Something has changed in the store."""
        self._told.set()

    async def watch(self) -> None:
        """Refresh each second until cancelled; what was in force stays where that fails."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_EVERY):
                    await self._told.wait()
            self._told.clear()
            try:
                await self.refresh()
                self.complaint = ""
            except Exception as error:
                cause = error.told() if isinstance(error, Rejected) else str(error)
                if cause != self.complaint:
                    log.error("objects not refreshed", extra={"cause": cause})
                self.complaint = cause


def _shown(one: StoredObject, document: Mapping[str, Any]) -> Shown:
    return Shown(
        one.kind, one.name, document, one.version, one.etag, one.managed_by, one.changed_by,
        one.changed_at,
    )  # fmt: skip


def _change(step: Step, there: Mapping[tuple[str, str], StoredObject]) -> Change:
    one = there.get((step.kind, step.name)) if step.action != "delete" else None
    return Change(
        step.action, step.kind, step.name, step.before, step.after, step.secret is not None,
        _shown(one, step.after or {}) if one is not None else None,
    )  # fmt: skip


def _events(
    order: Order, plan: Plan, there: Mapping[tuple[str, str], StoredObject], change: str
) -> list[tuple[dict[str, Any], bytes]]:
    """What the record is told of each object, and its new document."""
    events = []
    for step in plan.changing:
        known = there.get((step.kind, step.name))
        event = {
            "event": "config.change",
            "change": change,
            "action": step.action,
            "kind": step.kind,
            "name": step.name,
            "version": known.version if known else 0,
            "managed_by": order.managed_by,
            "by": dict(order.author.record),
            "before": _digest(step.before),
            "after": _digest(step.after),
            "secret": step.secret is not None,
        }
        document = canonical(step.after) if step.after is not None else ""
        events.append((event, document.encode()))
    return events


def _edits(plan: Plan, managed_by: str) -> list[Edit]:
    return [
        Edit(
            step.kind,
            step.name,
            canonical(step.after) if step.after is not None else None,
            managed_by,
        )
        for step in plan.changing
    ]


def _digest(document: Mapping[str, Any] | None) -> str | None:
    return hashlib.sha256(canonical(document).encode()).hexdigest() if document else None


def _leaves_vault(step: Step) -> bool:
    return step.kind == "credential" and in_vault(step.before) and not in_vault(step.after)


def _log(order: Order, plan: Plan) -> None:
    for step in plan.changing:
        log.info(
            "declared",
            extra={
                "action": step.action,
                "object": f"{step.kind} {step.name}",
                "by": order.author.label,
                "managed_by": order.managed_by,
            },
        )
