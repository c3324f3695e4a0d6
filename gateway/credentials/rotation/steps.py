# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps of a rotation: make, change, prove, switch, grace, retire.

Each step is in the store before its effect begins and after it is over, so that whoever takes a
rotation up again knows what may have happened. At each moment one secret works that sessions are
signed in with: the old one until the switch, and while nobody knows which of the two the target
has, a session tries both (catalog.py).

    made       the new secret is in the vault
    changing   the target is being told; it may have been
    changed    the target has it
    proved     the target has let the gateway in with it
    switched   sessions sign in with it; the one before is in its grace
    retiring   the old account's secret is being taken away (two-user, by an administrator)
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from typing import Protocol as Interface

from gateway.credentials.ports import RotationStore
from gateway.credentials.rotation import Denied, Door, Kind, NotLetIn, Unknown, Unreached
from gateway.credentials.rotation.attempt import Attempt, Directory, Planned, Refused, planned
from gateway.credentials.vault import Vault
from gateway.model import Credential
from gateway.vault_model import Rotation, SecretMove, SecretVersion

log = logging.getLogger(__name__)

STEP_SECONDS = 30.0
RETRY_SECONDS = (2.0, 300.0)
"""After the first failure, and at most."""
PROOFS = 4
"""Failed ones, after which a change is taken back: a replica may lag behind."""

OnStep = Callable[[str, Rotation], None]
"""Told of each step once it is journalled, of `failed` and `waiting`; and, before it is
journalled, of an effect at the target: `altered`, `let in`, `withdrawn`."""


class StepRecord(Interface):
    """The node's record. Raises RecordFailed."""

    async def config_changed(self, event: Mapping[str, Any], document: bytes) -> None: ...


class Rotator:
    """Begins rotations and takes them on, step by step. One caller at a time per credential."""

    def __init__(
        self,
        vault: Vault,
        store: RotationStore,
        directory: Directory,
        door: Door,
        kinds: Mapping[str, Kind],
        record: StepRecord,
        *,
        on_step: OnStep | None = None,
    ) -> None:
        self.vault = vault
        self.store = store
        self._directory = directory
        self._door = door
        self._kinds = kinds
        self._record = record
        self._on_step = on_step
        self._after: Mapping[str, Callable[[Rotation], Awaitable[Rotation]]] = {
            "made": self._made,
            "changing": self._changing,
            "changed": self._changed,
            "proved": self._proved,
            "switched": self._switched,
            "retiring": self._retiring,
        }

    # --- the beginning ---------------------------------------------------------------------------

    def planned(self, name: str) -> Planned:
        """What is declared of a credential's rotation. Raises Refused."""
        return planned(self._directory, self._kinds, name)

    async def begin(self, name: str, by: str, cause: str) -> Rotation:
        """A new secret, made here and not at the target yet. Raises Refused, if it cannot be, or
        another is under way."""
        plan = self.planned(name)
        await self.adopt(plan.declared)
        versions = await self.vault.versions(name)
        current = next((one for one in versions if one.state == "current"), None)
        account = plan.turn(current)
        self._check_way_in(plan, versions, account)
        now = self.vault.now()
        secret = plan.kind.new_secret()
        added = await self.vault.sealed(versions, name, account, secret, by, "pending")
        rotation = Rotation(
            id="r_" + secrets.token_hex(10),
            credential=name,
            kind=plan.plan.kind,
            mode=plan.plan.mode,
            account=account,
            version=added.version,
            previous=current.version if current else 0,
            step="made",
            cause=cause,
            by=by,
            begun_at=now,
            step_at=now,
        )
        if not await self.store.advance(rotation, "", added):
            raise Refused(f"credential {name}: another rotation or change came first; try again")
        await self._told(rotation)
        return rotation

    async def adopt(self, declared: Credential) -> None:
        """Take a secret that only a file holds into the vault: the next one has no file."""
        if not declared.secret or await self.vault.held(declared.name):
            return
        await self.vault.keep(declared.name, declared.secret, "its object", declared.account)

    def _check_way_in(self, plan: Planned, versions: Sequence[SecretVersion], account: str) -> None:
        """Someone must be able to sign in to change it. Raises Refused."""
        if not plan.plan.by and plan.latest(versions, account) is None:
            name, who = plan.declared.name, account or plan.declared.user
            raise Refused(
                f"credential {name}: no secret of {who} is known to change it with; name an "
                f"administrator's credential in rotation.by, or set one: trailgate credentials set "
                f"{name} --account {who}"
            )

    # --- the way ---------------------------------------------------------------------------------

    async def run(self, rotation: Rotation) -> Rotation:
        """Take it on until its grace begins, it ends, or it must be tried again later. Raises
        StoreFailed, VaultFailed, RecordFailed: then it stands where it stood."""
        while rotation.ended_at is None:
            if rotation.step == "switched" and (rotation.until or 0.0) > self.vault.now():
                return rotation
            try:
                async with asyncio.timeout(STEP_SECONDS):
                    rotation = await self._after[rotation.step](rotation)
            except (Unreached, Unknown, NotLetIn) as error:
                return await self._later(rotation, str(error))
            except Refused as error:
                # What is declared may have changed meanwhile; what the target has, has not.
                over = rotation.step == "made" or not await self._live(rotation)
                return await (self._failed if over else self._later)(rotation, str(error))
            except Denied as error:
                return await self._failed(rotation, str(error))
            except TimeoutError:
                return await self._later(rotation, f"no answer within {STEP_SECONDS:.0f} s")
        return rotation

    async def _write(
        self,
        rotation: Rotation,
        step: str,
        moves: Sequence[SecretMove] = (),
        **more: Any,
    ) -> Rotation:
        """Journal a step that was reached."""
        now = self.vault.now()
        further = replace(
            rotation, step=step, step_at=now, attempts=0, retry_at=None, detail="", **more
        )
        if not await self.store.advance(further, rotation.step, None, moves):
            raise Unreached("another node, or a change of the secret, came in between")
        await self._told(further)
        return further

    async def _told(self, rotation: Rotation, event: str = "") -> None:
        """To sessions, to the record, the log, and whoever watches."""
        await self.vault.refresh()
        step = event or (rotation.outcome if rotation.ended_at else rotation.step)
        fields = {
            "credential": rotation.credential,
            "rotation": rotation.id,
            "step": step,
            "version": rotation.version,
            "previous": rotation.previous,
            "account": rotation.account,
            "cause": rotation.cause,
            "by": rotation.by,
            **({"detail": rotation.detail} if rotation.detail else {}),
        }
        event_of_record = {"event": "rotation", "kind": "credential", **fields}
        await self._record.config_changed(event_of_record, b"")
        level = logging.ERROR if step in ("failed", "waiting") else logging.INFO
        log.log(level, "rotation", extra=fields)
        self._seen(step, rotation)

    def _seen(self, event: str, rotation: Rotation) -> None:
        if self._on_step is not None:
            self._on_step(event, rotation)

    async def _made(self, rotation: Rotation) -> Rotation:
        return await self._write(rotation, "changing")

    async def _attempt(self, rotation: Rotation) -> Attempt:
        plan = self.planned(rotation.credential)
        versions = await self.vault.versions(rotation.credential)
        return Attempt(rotation, plan, versions, self.vault, self._directory, self._door)

    async def _changing(self, rotation: Rotation) -> Rotation:
        await (await self._attempt(rotation)).change()
        self._seen("altered", rotation)
        # One user has one secret: from now on it is this one.
        placed = replace(self._move(rotation, ("pending",), "pending"), placed=True)
        moves = [placed] if rotation.mode == "single-user" else []
        return await self._write(rotation, "changed", moves)

    async def _changed(self, rotation: Rotation) -> Rotation:
        attempt = await self._attempt(rotation)
        try:
            await attempt.prove()
        except NotLetIn as error:
            if rotation.attempts + 1 < PROOFS:
                raise
            await attempt.take_back()
            raise Denied(f"{error}; it was taken back") from None
        self._seen("let in", rotation)
        return await self._write(rotation, "proved", [self._move(rotation, ("pending",), "proved")])

    async def _proved(self, rotation: Rotation) -> Rotation:
        plan = self.planned(rotation.credential)
        now, two = self.vault.now(), rotation.mode == "two-user"
        until = now + plan.plan.grace_seconds
        moves = []
        for one in await self.vault.versions(rotation.credential):
            key = (one.credential, one.version)
            if one.state == "current":
                # With two users the other one's secret stays good, and makes its next one.
                rest = None if two else until
                moves.append(SecretMove(*key, ("current",), "retired", now, rest))
            elif two and one.state == "retired" and plan.is_of(one, rotation.account):
                moves.append(SecretMove(*key, ("retired",), "revoked", now))
        moves.append(self._move(rotation, ("proved",), "current"))
        return await self._write(rotation, "switched", moves, until=until)

    async def _switched(self, rotation: Rotation) -> Rotation:
        """The grace is over."""
        plan = self.planned(rotation.credential).plan
        if rotation.mode == "two-user" and plan.by and rotation.previous:
            return await self._write(rotation, "retiring")
        return await self._end(rotation)

    async def _retiring(self, rotation: Rotation) -> Rotation:
        await (await self._attempt(rotation)).withdraw()
        self._seen("withdrawn", rotation)
        return await self._end(rotation)

    # --- the end ---------------------------------------------------------------------------------

    async def _end(self, rotation: Rotation) -> Rotation:
        """What it took the place of is destroyed, but for what makes the next one."""
        now = self.vault.now()
        rests = rotation.mode == "two-user" and rotation.step == "switched"
        moves = []
        if rotation.previous and not rests:
            # The vault may have destroyed it already.
            before = ("retired", "revoked")
            moves = [SecretMove(rotation.credential, rotation.previous, before, "revoked", now)]
        return await self._write(rotation, rotation.step, moves, ended_at=now, outcome="done")

    async def _failed(self, rotation: Rotation, cause: str) -> Rotation:
        """It ends; what was in force stays."""
        now = self.vault.now()
        ended = replace(rotation, ended_at=now, outcome="failed", detail=cause, retry_at=None)
        moves = []
        if await self._live(rotation, "pending", "proved"):
            # What the resting account has by now is needed to change it the next time.
            changed = rotation.step in ("changed", "proved")
            to = "retired" if changed and rotation.mode == "two-user" else "revoked"
            moves = [self._move(rotation, ("pending", "proved"), to)]
        if await self.store.advance(ended, rotation.step, None, moves):
            await self._told(ended)
        return ended

    async def _live(self, rotation: Rotation, *states: str) -> bool:
        """Whether its secret is still there, in one of these states if any are named."""
        versions = await self.vault.versions(rotation.credential)
        own = next(one for one in versions if one.version == rotation.version)
        return bool(own.sealed) and (not states or own.state in states)

    async def _later(self, rotation: Rotation, cause: str) -> Rotation:
        """It stays where it is, and is tried again."""
        first, most = RETRY_SECONDS
        wait = min(first * 2**rotation.attempts, most)
        waiting = replace(
            rotation,
            attempts=rotation.attempts + 1,
            retry_at=self.vault.now() + wait,
            detail=cause,
        )
        if await self.store.advance(waiting, rotation.step):
            await self._told(waiting, "waiting")
        return waiting

    async def hasten(self, rotation: Rotation) -> Rotation:
        """End its grace now."""
        ended = replace(rotation, until=self.vault.now())
        if not await self.store.advance(ended, "switched"):
            raise Refused(f"credential {rotation.credential}: it has just gone on; try again")
        return await self.run(ended)

    def _move(self, rotation: Rotation, before: tuple[str, ...], to: str) -> SecretMove:
        return SecretMove(rotation.credential, rotation.version, before, to, self.vault.now())
