# SPDX-License-Identifier: GPL-3.0-or-later
"""Grants: the authority in force, its tree, its end. Where they are kept is the store's affair."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from gateway.identity.grant_store import GrantStore
from gateway.identity.handles import handle_sha256, new_handle, token_sha256
from gateway.identity.ledger import GrantLedger, NoLedger
from gateway.identity.lineage import (
    Kin,
    is_whole_login,
    itself,
    login_below,
    new_grant_id,
    same_person,
)
from gateway.identity.oidc import Proof
from gateway.identity.own_jwt import TokenOf
from gateway.identity.refusal import refused, unrecorded
from gateway.identity.standing import standing
from gateway.model import LAPSED, Ending, Grant, Hop, Identity, RecordFailed, StoredGrant
from gateway.outage import Outage

log = logging.getLogger(__name__)

T = TypeVar("T")
OnRevoked = Callable[[Sequence[str], Ending], None]
SWEEP_EVERY = 1.0
FORGET_EVERY = 3600.0
FORGET_AFTER = 7 * 86400.0
STORE_AWAY = "the store does not answer: no login, no exchange, and no revocation is heard"
REMEMBERED = 60.0
"""Far longer than a read of the store can be under way, in seconds."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How far a tree of grants may grow."""

    actors: int = 8
    children: int = 64
    """Live ones of one grant."""
    shortest_lease: float = 5.0
    longest_lease: float = 3600.0


LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Minted:
    """A new grant and its handle, which exists nowhere else."""

    token: str
    grant: Grant
    lease_until: float | None = None
    lease_seconds: float | None = None
    """As granted, which may differ from what was asked."""

    def __repr__(self) -> str:
        return f"Minted(grant={self.grant.id!r})"


class LimitReached(Exception):
    """The tree may not grow there; the text is safe for the client."""


class Grants:
    """Mints, finds, narrows and revokes grants. Raises Refused where authority is not in force."""

    def __init__(
        self,
        store: GrantStore,
        *,
        limits: Limits = LIMITS,
        now: Callable[[], float] = time.time,
        on_revoked: OnRevoked | None = None,
        ledger: GrantLedger | None = None,
    ) -> None:
        self.store = store
        self.ledger = ledger or NoLedger()
        self.limits = limits
        self.now = now
        self.kin: Kin = itself
        self.on_revoked = on_revoked
        """Told the ids of grants as soon as they end, and how; perhaps of one twice."""
        self.last_seen = float("-inf")
        """Monotonic time at which the store last answered the watch."""
        self._sequence = 0
        self._look = asyncio.Event()
        self._announced: set[str] = set()
        self._ended: dict[str, tuple[float, Ending]] = {}
        self._keeping: set[asyncio.Task[Any]] = set()
        self._logins: dict[str, asyncio.Task[StoredGrant]] = {}

    async def start(self) -> None:
        """Before the doors open: end what lapsed meanwhile, and learn where revocations stand."""
        await self.store.revoke_lapsed(self.now())
        self._sequence, _ = await self.store.revocations_after(0)
        self.last_seen = time.monotonic()

    async def login_root(self, proof: Proof) -> Grant:
        """The one root grant of a verified outside token, however often it logs in."""
        stored = await self.store.grant_by_login(proof.token_sha256)
        if stored is None:
            stored = await self._first_login(proof)
        return self.in_force(stored)

    async def _first_login(self, proof: Proof) -> StoredGrant:
        """Links that bring the same new token at once share one grant, and its record."""
        known = proof.token_sha256
        task = self._logins.get(known)
        if task is None:
            task = self._task(self._keep_root(proof))
            self._logins[known] = task
            task.add_done_callback(lambda _: self._logins.pop(known))
        return await asyncio.shield(task)

    async def _keep_root(self, proof: Proof) -> StoredGrant:
        root = self._root(proof.identity, proof.groups, proof.expires_at, proof.login)
        root = await self._recorded(root, None, None)
        kept = "the store did not keep it"
        try:
            stored = await self.store.put_root(root, proof.token_sha256)
            kept = "" if stored.grant.id == root.id else "another node was first"
        finally:
            if kept:
                self.ledger.not_kept(root.id, kept)
        return stored

    def _task(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run to its end, whatever becomes of the caller: record and store must agree."""
        task = asyncio.get_running_loop().create_task(work)
        self._keeping.add(task)
        task.add_done_callback(self._keeping.discard)
        return task

    async def _recorded(
        self, grant: Grant, parent: Grant | None, lease_until: float | None
    ) -> Grant:
        """The grant, recorded. Raises Refused: what is not recorded is not given."""
        try:
            return replace(grant, minted_in=await self.ledger.mint(grant, parent, lease_until))
        except RecordFailed as error:
            raise unrecorded(error) from error

    async def mint_root(
        self,
        identity: Identity,
        groups: Sequence[str],
        lifetime: float,
        *,
        login: Mapping[str, object] | None = None,
        narrowing: Mapping[str, object] | None = None,
        token_of: TokenOf | None = None,
    ) -> Minted:
        """A root grant with a token of ours, for someone the caller of this vouches for."""
        expires_at = self.now() + lifetime
        grant = self._root(identity, tuple(groups), expires_at, login or {})
        grant = replace(grant, narrowing=() if narrowing is None else (narrowing,))
        token = token_of(grant) if token_of else new_handle()
        if login is None:
            own = {"iss": identity.issuer, "token_sha256": token_sha256(token)}
            grant = replace(grant, login=own)
        return await self._add(token, grant, None, None)

    def _root(
        self,
        identity: Identity,
        groups: tuple[str, ...],
        expires_at: float,
        login: Mapping[str, object],
    ) -> Grant:
        grant_id = new_grant_id()
        return Grant(
            id=grant_id,
            origin=identity,
            groups=groups,
            root=grant_id,
            issued_at=self.now(),
            expires_at=expires_at,
            login=login,
        )

    async def mint_child(
        self,
        parent: Grant,
        hop: Hop,
        *,
        narrowing: Mapping[str, object] | None = None,
        expires_at: float | None = None,
        lease: float | None = None,
        actor_groups: Sequence[str] = (),
        actor_login: Mapping[str, object] | None = None,
        token_of: TokenOf | None = None,
    ) -> Minted:
        """One hop further down: never more than the parent may, never for longer.

        Raises LimitReached (depth, fan-out), Refused when the parent is no longer in force.
        """
        if len(parent.chain) >= self.limits.actors:
            raise LimitReached(f"the chain has {self.limits.actors} actors, no more are allowed")
        grant_id = new_grant_id()
        grant = Grant(
            id=grant_id,
            origin=parent.origin,
            groups=parent.groups,
            chain=(*parent.chain, replace(hop, grant=grant_id, groups=tuple(actor_groups))),
            narrowing=parent.narrowing if narrowing is None else (*parent.narrowing, narrowing),
            parent=parent.id,
            root=parent.root,
            issued_at=self.now(),
            expires_at=min(parent.expires_at, expires_at or parent.expires_at),
            login=login_below(parent, grant_id, actor_login),
            actor_groups=tuple(actor_groups),
        )
        token = token_of(grant) if token_of else new_handle()
        return await self._add(token, grant, parent, lease)

    async def _add(
        self, token: str, grant: Grant, parent: Grant | None, lease: float | None
    ) -> Minted:
        return await asyncio.shield(self._task(self._keep(token, grant, parent, lease)))

    async def _keep(
        self, token: str, grant: Grant, parent: Grant | None, lease: float | None
    ) -> Minted:
        now = self.now()
        granted = None if lease is None else self.bounded_lease(lease)
        until = None if granted is None else now + granted
        grant = await self._recorded(grant, parent, until)
        added = ""
        try:
            added = await self.store.add_grant(
                grant,
                token_sha256(token),
                lease_until=until,
                now=now,
                max_children=self.limits.children,
            )
        finally:
            if added != "added":
                self.ledger.not_kept(grant.id, added or "the store did not keep it")
        if added == "dead_parent":
            raise refused("the parent's grant is no longer in force", code="revoked")
        if added == "too_many_children":
            raise LimitReached(f"the grant has {self.limits.children} live children already")
        log.info("grant minted", extra={"grant": grant.id, "parent": grant.parent})
        return Minted(token, grant, until, granted)

    def bounded_lease(self, lease: float) -> float:
        return min(max(lease, self.limits.shortest_lease), self.limits.longest_lease)

    async def by_own_jwt(self, token: str) -> Grant | None:
        """The grant of a JWT that we made: it is known by its SHA-256, as a handle is.

        None: it is nobody's that we know. Raises Refused for one that is not in force.
        """
        stored = await self.store.grant_by_token(token_sha256(token))
        return None if stored is None else self.in_force(stored)

    async def by_handle(self, handle: str) -> Grant:
        """The grant of a gateway token. Raises Refused."""
        stored = await self.store.grant_by_token(handle_sha256(handle))
        if stored is None:
            raise refused("the gateway token is not known here", "no grant has this handle")
        return self.in_force(stored)

    def in_force(self, stored: StoredGrant) -> Grant:
        """The grant, if it is authority at this moment. Raises Refused."""
        if stored.ending is None and stored.grant.id in self._ended:
            # Ended, and announced, while this row was on its way from the store.
            stored = replace(stored, ending=self._ended[stored.grant.id][1])
        return standing(stored, self.now())

    async def governs(self, caller: Grant, grant_id: str, *, itself: bool = False) -> bool:
        """True if `caller` stands above that grant: its ancestor, or its origin's whole login."""
        if grant_id == caller.id:
            return itself
        if caller.id in await self.store.ancestors(grant_id):
            return True
        if not is_whole_login(caller):
            return False
        stored = await self.store.grant_by_id(grant_id)
        return stored is not None and same_person(stored.grant.origin, caller.origin, self.kin)

    async def renew_lease(self, grant_id: str, lease: float, by: str = "") -> float | None:
        """Move a lease that still holds; its new end, None when there is none to move.

        Raises Refused where that cannot be recorded.
        """
        now = self.now()
        until = now + self.bounded_lease(lease)
        stored = await self.store.grant_by_id(grant_id)
        if stored is None or not await self.store.renew_lease(grant_id, until, now):
            return None
        try:
            await self.ledger.refreshed(stored.grant, until, by)
        except RecordFailed as error:
            raise unrecorded(error) from error
        return until

    async def revoke(
        self, grant_id: str, by: str, cause: str, how: str = "revoked"
    ) -> tuple[str, ...]:
        """End a grant and all below it, as `Ending` has it; the ids that were in force."""
        ending = Ending(how, by)
        ids = await self.store.revoke(grant_id, by, cause, self.now(), how)
        recorded = self._announce(ids, cause, ending)
        if grant_id in ids and grant_id not in recorded:
            await self._record_ended(grant_id, ids, ending, cause)
        return ids

    async def _record_ended(
        self, grant_id: str, ids: Sequence[str], ending: Ending, cause: str
    ) -> None:
        """Of a grant that is not in use here. What has ended stays so, recorded or not."""
        stored = await self.store.grant_by_id(grant_id)
        if stored is None:
            return
        try:
            await self.ledger.ended_unused(stored.grant, ids, ending, cause)
        except RecordFailed as error:
            log.error("the end of a grant is not recorded", extra={"cause": str(error)})

    async def visible(self, caller: Grant | None) -> list[StoredGrant]:
        """What a caller may see, parents first: its own subtree, with its whole login those of all
        its person's logins; None (an admin) sees all."""
        if caller is None:
            return await self.store.grants_below(None)
        if not is_whole_login(caller):
            return await self.store.grants_below((caller.id,))
        roots: list[str] = []
        for issuer, subject in self.kin(caller.origin):
            roots += await self.store.roots_of(issuer, subject)
        return await self.store.grants_below(roots)

    async def sweep(self) -> None:
        """End what lapsed, and announce what any process has ended since the last time."""
        lapsed = await self.store.revoke_lapsed(self.now())
        self._announce(lapsed, "lease lapsed", LAPSED)
        self._sequence, told = await self.store.revocations_after(self._sequence)
        elsewhere: dict[Ending, list[str]] = {}
        for ended, ending in told:
            if ended not in self._announced:
                elsewhere.setdefault(ending, []).append(ended)
        for ending, ids in elsewhere.items():
            self._announce(ids, "on another node", ending)
        self.ledger.sweep(self.now())
        self._announced.difference_update(ended for ended, _ in told)
        self.last_seen = time.monotonic()

    def _announce(self, ids: Sequence[str], cause: str, ending: Ending) -> Collection[str]:
        """Tell sessions and the record; which grants have a record that is open here."""
        if not ids:
            return ()
        self._announced.update(ids)
        now = time.monotonic()
        kept = {one: end for one, end in self._ended.items() if now - end[0] < REMEMBERED}
        self._ended = kept | dict.fromkeys(ids, (now, ending))
        extra = {"grants": list(ids), "how": ending.how, "by": ending.by, "cause": cause}
        log.info("grants ended", extra=extra)
        if self.on_revoked is not None:
            self.on_revoked(ids, ending)
        return self.ledger.ended(ids, ending, cause)

    async def watch(self) -> None:
        """Sweep each second until cancelled; a store that fails is asked again."""
        forgot_at = float("-inf")
        outage = Outage(log, STORE_AWAY, "the store answers: revocations are heard again")
        while True:
            try:
                await self.sweep()
                if time.monotonic() - forgot_at > FORGET_EVERY:
                    await self.store.forget_expired(self.now() - FORGET_AFTER)
                    forgot_at = time.monotonic()
                outage.worked()
            except Exception as error:
                outage.failed(error)
            await self._pause()

    async def _pause(self) -> None:
        try:
            await asyncio.wait_for(self._look.wait(), SWEEP_EVERY)
        except TimeoutError:
            return  # nothing was said meanwhile: look all the same
        self._look.clear()

    def look_now(self) -> None:
        """Something may have been revoked elsewhere: the watch need not wait for its second."""
        self._look.set()
