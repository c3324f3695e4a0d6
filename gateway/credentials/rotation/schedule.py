# SPDX-License-Identifier: GPL-3.0-or-later
"""When rotations run: on their day, on command, and again where one was left on its way.

Each node looks; a lease in the store lets one of them run a credential's rotation. A node that was
killed and comes back takes its own up at once.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Coroutine, Iterable, Set
from typing import Any

from gateway.credentials.rotation.attempt import Refused
from gateway.credentials.rotation.steps import Rotator
from gateway.model import Credential
from gateway.outage import Outage
from gateway.vault_model import Rotation, SecretVersion

log = logging.getLogger(__name__)

LOOK_EVERY = 1.0
DUE_EVERY = 5.0
LEASE_SECONDS = 200.0
"""More than all steps of one rotation take at most."""
JITTER = 0.1
"""Of `every`: credentials that were declared together are not changed together."""
AFTER_FAILURE = 3600.0
"""Seconds until one that failed is tried again by itself."""
SETTLE_SECONDS = 10.0
PAUSE_SECONDS = 0.1
END_ATTEMPTS = 4
_GRACE = ("switched", "retiring")


class Schedule:
    """Runs rotations in the background of one node."""

    def __init__(
        self, rotator: Rotator, declared: Callable[[], Iterable[Credential]], holder: str
    ) -> None:
        self._rotator = rotator
        self._store = rotator.store
        self._declared = declared
        self._holder = holder
        self._running: dict[str, asyncio.Task[None]] = {}
        self._not_before: dict[str, float] = {}
        self._look_at = 0.0

    # --- on command ------------------------------------------------------------------------------

    async def request(
        self, name: str, by: str, *, max_age: float | None = None, force: bool = False
    ) -> tuple[bool, Rotation | None]:
        """Begin a rotation, unless the secret is younger than `max_age` seconds or one is on its
        way already; whether one began, and the latest. Raises Refused, StoreFailed, VaultFailed."""
        self._rotator.planned(name)
        latest = next(iter(await self._store.rotations(name)), None)
        under_way = latest if latest is not None and latest.ended_at is None else None
        if under_way is not None and under_way.step not in _GRACE:
            self._take(under_way)
            return False, under_way
        if max_age is not None and not force:
            current = await self._current(name)
            if current is not None and self._rotator.vault.now() - _age_from(current) < max_age:
                return False, latest
        if under_way is not None:
            await self._end_grace(under_way, force)
        rotation = await self._rotator.begin(name, by, "command")
        self._take(rotation)
        return True, rotation

    async def _end_grace(self, rotation: Rotation, force: bool) -> None:
        """What the last rotation still has to do is done now. Raises Refused."""
        name = rotation.credential
        if not force:
            raise Refused(
                f"credential {name}: the secret before is still in its grace; wait, or end it with "
                "--force"
            )
        for _ in range(END_ATTEMPTS):
            await self._idle(name, SETTLE_SECONDS)
            left = await self._store.rotations(name, under_way=True)
            if not left:
                return
            detail = left[0].detail
            self._run(name, self._finish(name))
        raise Refused(f"credential {name}: its last rotation cannot end: {detail or 'try again'}")

    async def _finish(self, name: str) -> None:
        """End what is in its grace, under the lease."""
        if await self._leased(name):
            for one in await self._store.rotations(name, under_way=True):
                hasten = one.step == "switched"
                await (self._rotator.hasten if hasten else self._rotator.run)(one)

    async def _idle(self, name: str, seconds: float) -> None:
        """Wait until this node does nothing about a credential, or so many seconds."""
        task = self._running.get(name)
        if task is not None:
            await asyncio.wait([task], timeout=seconds)

    async def settled(self, rotation: Rotation, seconds: float) -> Rotation:
        """The rotation once it went on as far as it can for now, or after so many seconds."""
        end = time.monotonic() + seconds
        while True:
            await self._idle(rotation.credential, max(0.0, end - time.monotonic()))
            found = await self._store.rotations(rotation.credential)
            rotation = next((one for one in found if one.id == rotation.id), rotation)
            stands = rotation.ended_at or rotation.step in _GRACE or rotation.retry_at
            if stands or time.monotonic() >= end:
                return rotation
            self._take(rotation)
            await asyncio.sleep(PAUSE_SECONDS)  # another node may have it

    async def rotations(self, name: str) -> list[Rotation]:
        """Of one credential, newest first."""
        return await self._store.rotations(name)

    # --- in the background -----------------------------------------------------------------------

    async def watch(self) -> None:
        """Look each second until cancelled; what runs then is left for the next start."""
        over = "rotations are looked at again"
        outage = Outage(log, "rotations cannot be looked at", over, level=logging.INFO)
        try:
            while True:
                try:
                    await self.look()
                    outage.worked()
                except Exception as error:
                    outage.failed(error)
                await asyncio.sleep(LOOK_EVERY)
        finally:
            running = list(self._running.values())
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def look(self) -> None:
        """Take on what is on its way and may go on; begin what is due."""
        under_way = await self._store.rotations(under_way=True)
        now = self._rotator.vault.now()
        for rotation in under_way:
            wait = rotation.until if rotation.step == "switched" else None
            if max(rotation.retry_at or 0.0, wait or 0.0) <= now:
                self._take(rotation)
        if now >= self._look_at:
            self._look_at = now + DUE_EVERY
            await self._begin_due({one.credential for one in under_way} | self._running.keys(), now)

    async def _begin_due(self, busy: Set[str], now: float) -> None:
        versions = await self._rotator.vault.versions()
        current = {one.credential: one for one in versions if one.state == "current"}
        for declared in list(self._declared()):
            name, plan = declared.name, declared.rotation
            if plan is None or plan.every_seconds is None or name in busy:
                continue
            if name not in current:
                # Its age is counted from the day on which the vault has it.
                await self._rotator.adopt(declared)
            elif now >= max(_due_at(name, current[name], plan.every_seconds), self._free_at(name)):
                if not await self._failed_lately(name, now):
                    self._run(name, self._begin(name))

    def _free_at(self, name: str) -> float:
        """Not sooner: it could not begin a moment ago."""
        return self._not_before.get(name, 0.0)

    async def _failed_lately(self, name: str, now: float) -> bool:
        latest = next(iter(await self._store.rotations(name)), None)
        if latest is None or latest.outcome != "failed":
            return False
        return (latest.ended_at or now) + AFTER_FAILURE > now

    async def _current(self, name: str) -> SecretVersion | None:
        versions = await self._rotator.vault.versions(name)
        return next((one for one in versions if one.state == "current"), None)

    async def _begin(self, name: str) -> None:
        if await self._leased(name):
            await self._rotator.run(await self._rotator.begin(name, "schedule", "schedule"))

    async def _go_on(self, rotation: Rotation) -> None:
        if await self._leased(rotation.credential):
            # Read again under the lease: another node may have taken it further.
            for one in await self._store.rotations(rotation.credential, under_way=True):
                await self._rotator.run(one)

    async def _leased(self, name: str) -> bool:
        return await self._store.lease(f"rotation {name}", self._holder, LEASE_SECONDS)

    def _take(self, rotation: Rotation) -> None:
        self._run(rotation.credential, self._go_on(rotation))

    def _run(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """One at a time for each credential."""
        if name in self._running:
            work.close()
            return
        task = asyncio.get_running_loop().create_task(self._worked(name, work))
        self._running[name] = task

    async def _worked(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
            await self._store.give_back(f"rotation {name}", self._holder)
        except Refused as error:
            self._not_before[name] = self._rotator.vault.now() + AFTER_FAILURE
            log.error("a rotation cannot begin", extra={"credential": name, "cause": str(error)})
        except Exception:
            log.exception("a rotation stands; it is taken up again", extra={"credential": name})
        finally:
            self._running.pop(name, None)


def _due_at(name: str, current: SecretVersion, every_seconds: float) -> float:
    """The same on every node; spread over a tenth of `every`."""
    spread = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") / 2**32
    return _age_from(current) + every_seconds * (1 + JITTER * spread)


def _age_from(version: SecretVersion) -> float:
    return version.current_at or version.made_at
