# SPDX-License-Identifier: GPL-3.0-or-later
"""The vault: every credential's secret in numbered versions, sealed in the store.

What may be signed in with is kept opened in memory, since each new session asks for it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from gateway.credentials.envelope import Envelope, context_of, rewrapped, seal, unseal
from gateway.credentials.master import KeyRing, VaultFailed
from gateway.credentials.ports import SecretStore
from gateway.outage import Outage
from gateway.vault_model import SealingKey, SecretMove, SecretVersion

_Wrapped = SecretVersion | SealingKey
_Replace = Callable[[str, bytes], Awaitable[bool]]
Before = Callable[[Sequence[SecretVersion]], Awaitable[None]]
"""Told, before each attempt, what is about to be added or destroyed; what it raises prevents it."""

log = logging.getLogger(__name__)

WATCH_EVERY = 1.0
GRACE_SECONDS = 900.0
"""For which a secret that was set anew goes on as a second choice: who sets it and who changes it
at the target may do so in either order."""
SECRET_CAP = 64 * 1024
ATTEMPTS = 16
REWRAP_SECONDS = 5.0
"""Of one call: a caller waits no longer, and goes on where it ended."""
_LIVE = ("current", "proved", "pending", "retired")
"""In the order in which they are tried at a target."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A secret that may be in force at the target."""

    credential: str
    version: int
    account: str
    state: str
    secret: str = field(repr=False)
    until: float | None = None
    placed: bool = False
    """The target has it, and not the current one any more."""


@dataclass(frozen=True, slots=True)
class Rewrapped:
    """What a re-wrap did. `failed`: names of what did not open."""

    master: str
    done: int
    kept: int
    """Those that were under the current master key already."""
    failed: tuple[str, ...]
    next: str | None
    """Where to go on, if there was too much for one call."""


def secret_context(credential: str, version: int, account: str) -> bytes:
    """What a secret's envelope is bound to."""
    return context_of("secret", credential, version, account)


class Vault:
    """Keeps, gives and forgets secrets. All but `secrets` raise VaultFailed or StoreFailed."""

    def __init__(
        self, store: SecretStore, ring: KeyRing, *, now: Callable[[], float] = time.time
    ) -> None:
        self.store = store
        self.ring = ring
        self.now = now
        self._opened: Mapping[tuple[str, int], Kept] = {}
        self._by_name: Mapping[str, Sequence[Kept]] = {}
        self.broken: Mapping[str, str] = {}
        """What does not open, and why, by credential."""
        self._seen = -1
        self._refreshing = asyncio.Lock()
        self._told = asyncio.Event()

    async def start(self) -> None:
        """Before the doors open. One secret that does not open closes its own targets only; if
        none does, the master key is not the one that the store was written with."""
        await self.refresh()
        if self.broken and not self._opened:
            raise VaultFailed(next(iter(self.broken.values())))

    def secrets(self, credential: str) -> Sequence[Kept]:
        """What a target may be signed in with: the current one first, then those that a rotation
        or a change under way may have put in its place."""
        now = self.now()
        kept = self._by_name.get(credential, ())
        return [one for one in kept if one.until is None or one.until > now]

    async def refresh(self) -> None:
        """Learn what any node changed."""
        async with self._refreshing:
            changes = await self.store.changes()
            if changes == self._seen:
                return
            live = [one for one in await self.store.versions() if _usable(one)]
            opened, broken = dict[tuple[str, int], Kept](), dict[str, str]()
            for version in live:
                try:
                    opened[version.credential, version.version] = await self._kept(version)
                except VaultFailed as error:
                    broken[version.credential] = str(error)
            self._put_in_force(opened, broken)
            self._seen = -1 if broken else changes

    def _put_in_force(
        self, opened: Mapping[tuple[str, int], Kept], broken: Mapping[str, str]
    ) -> None:
        by_name: dict[str, list[Kept]] = {}
        for one in opened.values():
            by_name.setdefault(one.credential, []).append(one)
        for kept in by_name.values():
            kept.sort(key=_order)
        for name, cause in broken.items():
            if self.broken.get(name) != cause:
                log.error("a secret does not open", extra={"credential": name, "cause": cause})
        self._opened, self._by_name, self.broken = opened, by_name, broken

    async def _kept(self, version: SecretVersion) -> Kept:
        known = self._opened.get((version.credential, version.version))
        secret = known.secret if known else await self.open(version)
        return Kept(
            version.credential,
            version.version,
            version.account,
            version.state,
            secret,
            version.until if version.state == "retired" else None,
            version.placed_at is not None,
        )

    async def open(self, version: SecretVersion) -> str:
        """The secret of a stored version."""
        context = secret_context(version.credential, version.version, version.account)
        envelope = Envelope(version.master, version.wrapped, version.sealed)
        try:
            return (await unseal(self.ring, context, envelope)).decode("utf-8", "surrogateescape")
        except VaultFailed as error:
            raise VaultFailed(
                f"credential {version.credential}, version {version.version}: {error}"
            ) from None

    def look_now(self) -> None:
        """Something has changed in the store."""
        self._told.set()

    async def watch(self) -> None:
        """Look for changes each second until cancelled; a store that fails is asked again."""
        over = "secrets are watched again"
        outage = Outage(log, "secrets cannot be watched", over, level=logging.INFO)
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(WATCH_EVERY):
                    await self._told.wait()
            self._told.clear()
            try:
                await self.refresh()
                await self.sweep()
                outage.worked()
            except Exception as error:
                outage.failed(error)  # those known stay in force

    # --- changes ---------------------------------------------------------------------------------

    async def keep(
        self,
        credential: str,
        secret: str,
        by: str,
        account: str = "",
        before: Before | None = None,
    ) -> int:
        """Put a secret in force; the version before it stays a second choice for a while."""
        _check(secret)
        for _ in range(ATTEMPTS):
            versions = await self.store.versions(credential)
            current = next((one for one in versions if one.state == "current"), None)
            account = account or (current.account if current else "")
            moves = [_to_retired(current, self.now(), GRACE_SECONDS)] if current else []
            added = await self.sealed(versions, credential, account, secret, by, "current")
            if before is not None:
                await before([added])
            if await self.store.apply(added, moves):
                await self.refresh()
                _log(added, "a secret was set", by)
                return added.version
        raise VaultFailed(
            f"credential {credential}: it is changed by others all the time; try again"
        )

    async def add(
        self,
        credential: str,
        account: str,
        secret: str,
        by: str,
        state: str,
        before: Before | None = None,
    ) -> SecretVersion:
        """A version that is not in force: `pending`, or `retired` for an account that rests."""
        _check(secret)
        for _ in range(ATTEMPTS):
            versions = await self.store.versions(credential)
            added = await self.sealed(versions, credential, account, secret, by, state)
            if before is not None:
                await before([added])
            if await self.store.apply(added):
                await self.refresh()
                return added
        raise VaultFailed(
            f"credential {credential}: it is changed by others all the time; try again"
        )

    async def sealed(
        self,
        versions: Sequence[SecretVersion],
        credential: str,
        account: str,
        secret: str,
        by: str,
        state: str,
    ) -> SecretVersion:
        """The next version, not stored yet."""
        number, now = max((one.version for one in versions), default=0) + 1, self.now()
        context = secret_context(credential, number, account)
        envelope = await seal(self.ring, context, _bytes(secret))
        return SecretVersion(
            credential,
            number,
            account,
            state,
            by,
            now,
            current_at=now if state == "current" else None,
            retired_at=now if state == "retired" else None,
            master=envelope.master,
            wrapped=envelope.wrapped,
            sealed=envelope.sealed,
        )

    async def drop(self, credential: str, by: str = "", before: Before | None = None) -> None:
        """Forget every secret of a credential, for good."""
        for _ in range(ATTEMPTS):
            live = [one for one in await self.store.versions(credential) if one.state in _LIVE]
            moves = [_revoked(one, self.now()) for one in live]
            if moves and before is not None:
                await before(live)
            if not moves or await self.store.apply(None, moves):
                await self.refresh()
                if moves:
                    log.info("secrets were dropped", extra={"credential": credential, "by": by})
                return
        raise VaultFailed(
            f"credential {credential}: it is changed by others all the time; try again"
        )

    async def held(self, credential: str) -> bool:
        """Whether a secret is in force."""
        return any(one.state == "current" for one in await self.store.versions(credential))

    async def versions(self, credential: str | None = None) -> list[SecretVersion]:
        """The history of one credential or of all, oldest first."""
        return await self.store.versions(credential)

    async def sweep(self) -> None:
        """Destroy what is retired, and whose grace is over. An account that rests (`until` is
        None) keeps its secret: it signs in with it to make the next."""
        now = self.now()
        over = [one for one in self._opened.values() if one.until is not None and one.until <= now]
        for one in over:
            move = SecretMove(one.credential, one.version, ("retired",), "revoked", now)
            if await self.store.apply(None, [move]):
                log.info(
                    "a retired secret was revoked",
                    extra={"credential": one.credential, "version": one.version},
                )
        if over:
            await self.refresh()

    async def rewrap(self, everything: bool = False, after: str = "") -> Rewrapped:
        """Wrap data keys under the current master key, in the order of their names; again after a
        crash goes on.

        `everything`: also what is under it already, for a new version of a key in KMS or Vault.
        """
        done, kept, failed = 0, 0, list[str]()
        end, last = time.monotonic() + REWRAP_SECONDS, after
        for name, context, one, replace in await self._wrapped():
            if name <= after:
                continue
            if time.monotonic() > end:
                return Rewrapped(self.ring.current.id, done, kept, tuple(failed), last)
            last = name
            if one.master == self.ring.current.id and not everything:
                kept += 1
                continue
            try:
                master, wrapped = await rewrapped(self.ring, context, one.master, one.wrapped)
            except VaultFailed as error:
                log.error("a key was not wrapped anew", extra={"of": name, "cause": str(error)})
                failed.append(name)
                continue
            # False: it was changed, and so wrapped by the current key, or destroyed meanwhile.
            await replace(master, wrapped)
            done += 1
        log.info("keys were wrapped anew", extra={"master": self.ring.current.id, "count": done})
        return Rewrapped(self.ring.current.id, done, kept, tuple(failed), None)

    async def _wrapped(self) -> list[tuple[str, bytes, _Wrapped, _Replace]]:
        """Everything that a master key wraps: its name, its context, itself, what replaces it."""
        found: list[tuple[str, bytes, _Wrapped, _Replace]] = []
        for version in await self.store.versions():
            if version.wrapped:
                name = f"{version.credential}, version {version.version:06}"
                context = secret_context(version.credential, version.version, version.account)
                found.append((name, context, version, partial(self.store.rewrap, version)))
        for key in await self.store.sealing_keys():
            name = f"{key.purpose}, key {key.number:06}"
            context = key_context(key.purpose, key.number)
            found.append((name, context, key, partial(self.store.rewrap_sealing_key, key)))
        return sorted(found, key=lambda each: each[0])


def key_context(purpose: str, number: int) -> bytes:
    """What a sealing key's wrap is bound to."""
    return context_of("sealing key", purpose, number)


def _order(one: Kept) -> tuple[bool, int, int]:
    """What the target has comes first: a login that it refuses may be counted there."""
    rotated = one.placed and one.state in ("pending", "proved")
    return not rotated, _LIVE.index(one.state), -one.version


def _usable(version: SecretVersion) -> bool:
    """Retired without an end: an account that rests, not tried at logins."""
    resting = version.state == "retired" and version.until is None
    return version.state in _LIVE and not resting


def _check(secret: str) -> None:
    try:
        fits = 0 < len(_bytes(secret)) <= SECRET_CAP and "\0" not in secret
    except UnicodeEncodeError:
        fits = False
    if not fits:
        raise VaultFailed(f"a secret is 1 to {SECRET_CAP} bytes of UTF-8 without a zero byte")


def _bytes(secret: str) -> bytes:
    return secret.encode("utf-8", "surrogateescape")


def _to_retired(version: SecretVersion, now: float, grace: float) -> SecretMove:
    return SecretMove(
        version.credential, version.version, ("current",), "retired", now, now + grace
    )


def _revoked(version: SecretVersion, now: float) -> SecretMove:
    return SecretMove(version.credential, version.version, (version.state,), "revoked", now)


def _log(version: SecretVersion, message: str, by: str) -> None:
    extra = {"credential": version.credential, "version": version.version, "by": by}
    log.info(message, extra=extra)
