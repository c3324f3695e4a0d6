# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks providers every five minutes whether a login still holds; else its tree is suspended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from gateway.identity.grants import Grants
from gateway.identity.login.ports import CannotOpen, LoginStore, Vault
from gateway.identity.login.relying import Ended, RelyingParty, Unconfirmed
from gateway.model import Grant, RecordFailed, Refused, StoredRefresh
from gateway.outage import Outage

log = logging.getLogger(__name__)

EVERY = 300.0
GRACE = 60.0
"""Seconds in which a provider that does not answer is asked again before the tree is suspended."""
AGAIN = 15.0
ALONE = 60.0
"""Seconds for which one node has an asking to itself; far longer than one takes."""
AT_ONCE = 8
LOOK_EVERY = 1.0
FORGET_EVERY = 60.0

FindParty = Callable[[str], RelyingParty | None]


def _nothing_open(grants: Sequence[str]) -> None:
    """For a gateway without sessions."""


class Refresher:
    """Confirms logins on this node. `party` finds a provider by its issuer object's name."""

    def __init__(
        self,
        store: LoginStore,
        grants: Grants,
        vault: Vault,
        party: FindParty,
        *,
        every: float = EVERY,
    ) -> None:
        self._store = store
        self._grants = grants
        self._vault = vault
        self._party = party
        self.every = every
        self.on_suspended: Callable[[Sequence[str]], None] = _nothing_open
        """Told, each second, which grants may not go on until the provider confirms a login."""
        self._free = asyncio.Semaphore(AT_ONCE)

    async def keep(self, grant: Grant, issuer: str, sealed: bytes) -> None:
        """Have a new root grant's login confirmed from now on, by a sealed refresh token."""
        now = self._grants.now()
        await self._store.keep_refresh(
            StoredRefresh(grant.id, issuer, sealed, now + self.every, now + self.every + GRACE)
        )

    async def watch(self) -> None:
        """Look each second until cancelled; a store that fails is asked again."""
        forgot_at = float("-inf")
        outage = Outage(
            log, "logins cannot be confirmed", "logins are confirmed again", level=logging.INFO
        )
        while True:
            try:
                await self.look()
                if self._grants.now() - forgot_at > FORGET_EVERY:
                    forgot_at = self._grants.now()
                    await self._store.forget_before(forgot_at)
                outage.worked()
            except Exception as error:
                outage.failed(error)
            await asyncio.sleep(LOOK_EVERY)

    async def look(self) -> None:
        """Ask all that is due now; whatever is late is suspended meanwhile."""
        late = await self._store.unconfirmed(self._grants.now())
        self._grants.ledger.standing(late)
        if late:
            self.on_suspended(late)
        due = await self._store.due_refreshes(self._grants.now())
        if due:
            await asyncio.gather(*(self._confirm(one) for one in due))
            self._grants.ledger.standing(await self._store.unconfirmed(self._grants.now()))

    async def _confirm(self, one: StoredRefresh) -> None:
        async with self._free:
            now = self._grants.now()
            if not await self._store.claim_refresh(one, now, now + ALONE):
                return
            try:
                await self._ask(one)
            except Ended as ended:
                await self._end(one, f"the provider ended the login: {ended}")
            except (Unconfirmed, Refused, CannotOpen) as error:
                log.warning(
                    "login not confirmed", extra={"grant": one.grant_id, "cause": str(error)}
                )
                await self._not_confirmed(one, str(error))

    async def _not_confirmed(self, one: StoredRefresh, cause: str) -> None:
        now = self._grants.now()
        await self._store.put_refresh(replace(one, next_at=now + AGAIN))
        # The asking before this one was AGAIN earlier, by whichever node: once per suspension.
        if not one.next_at - AGAIN < one.good_until <= now:
            return
        stored = await self._grants.store.grant_by_id(one.grant_id)
        if stored is None:
            return
        try:
            await self._grants.ledger.suspended_unused(stored.grant, cause)
        except RecordFailed as error:
            log.error("a suspension is not recorded", extra={"cause": str(error)})

    async def _ask(self, one: StoredRefresh) -> None:
        """Raises Ended, Unconfirmed, Refused, CannotOpen."""
        party = self._party(one.issuer)
        if party is None:
            raise Unconfirmed(f"issuer {one.issuer} is not declared any more")
        token = (await self._vault.open(one.sealed)).decode()
        stored = await self._grants.store.grant_by_id(one.grant_id)
        if stored is None:
            return
        grant = stored.grant
        following, groups = await party.refresh(token, grant.origin.subject)
        if groups is not None and not set(grant.groups) <= set(groups):
            gone = sorted(set(grant.groups) - set(groups))
            await self._end(one, f"no longer in the groups {', '.join(gone)[:200]}: log in again")
            return
        now = self._grants.now()
        sealed = one.sealed
        if following != token:
            sealed = await self._vault.seal(following.encode())
        if one.good_until <= now and not await self._restored(grant, one.issuer):
            # Suspended still; but the provider may take its old refresh token no more.
            await self._store.put_refresh(replace(one, sealed=sealed, next_at=now + AGAIN))
            return
        await self._store.put_refresh(
            StoredRefresh(
                one.grant_id, one.issuer, sealed, now + self.every, now + self.every + GRACE
            )
        )

    async def _restored(self, grant: Grant, issuer: str) -> bool:
        """Whether it is recorded that a suspension ends."""
        try:
            await self._grants.ledger.restored(grant, issuer)
        except RecordFailed as error:
            extra = {"grant": grant.id, "cause": str(error)}
            log.error("a login stays suspended: its return is not recorded", extra=extra)
            return False
        return True

    async def _end(self, one: StoredRefresh, cause: str) -> None:
        await self._grants.revoke(one.grant_id, "provider", cause)
        await self._store.drop_refresh(one.grant_id)
