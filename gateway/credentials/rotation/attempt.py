# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rotation does at its targets: it asks first what is so already, since whoever did this
before may have been killed at any point of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from typing import Protocol as Interface

from gateway.credentials.catalog import with_secret
from gateway.credentials.rotation import Denied, Door, Kind, NotLetIn, RotationFailed, Unreached
from gateway.credentials.vault import Kept, Vault
from gateway.model import Credential, RotationPlan, Target
from gateway.vault_model import Rotation, SecretVersion


class Refused(RotationFailed):
    """A rotation that cannot be: what is declared or kept does not allow it."""


class Directory(Interface):
    """What is declared at the moment."""

    def declared(self, name: str) -> Credential | None:
        """As its object says."""

    def credential(self, name: str) -> Credential | None:
        """With the secret that sessions sign in with."""

    def targets_of(self, credential: str) -> Sequence[Target]:
        """The targets that name it."""


@dataclass(frozen=True, slots=True)
class Planned:
    """What a rotation is made with."""

    declared: Credential
    plan: RotationPlan
    kind: Kind
    places: Sequence[Target]
    """One target for each place that keeps a secret of its own."""

    def is_of(self, version: SecretVersion, account: str) -> bool:
        """Whether a version is an account's; empty: the credential's own."""
        own = self.declared.account
        return (version.account or own) == (account or own)

    def latest(self, versions: Sequence[SecretVersion], account: str) -> SecretVersion | None:
        """The newest secret that an account may have at the target: never one only made."""
        known = [
            one
            for one in versions
            if self.is_of(one, account) and one.sealed and one.state in ("current", "retired")
        ]
        return max(known, key=lambda one: one.version, default=None)

    def turn(self, current: SecretVersion | None) -> str:
        """The account whose secret is made next."""
        users = self.plan.users
        if not users:
            return current.account if current else ""
        return users[1] if current and (current.account or users[0]) == users[0] else users[0]


def planned(directory: Directory, kinds: Mapping[str, Kind], name: str) -> Planned:
    """Raises Refused."""
    declared = directory.declared(name)
    if declared is None:
        raise Refused(f"no credential {name} is declared")
    plan = declared.rotation
    if plan is None:
        raise Refused(f"credential {name} has no rotation; add rotation: {{kind: ...}} to it")
    if plan.by and directory.declared(plan.by) is None:
        raise Refused(f"credential {name}: rotation.by names {plan.by}, which is not declared")
    kind = kinds[plan.kind]
    places: dict[Any, Target] = {}
    for target in directory.targets_of(name):
        if target.protocol == kind.protocol and plan.target in ("", target.name):
            places.setdefault(kind.place(target), target)
    if not places:
        raise Refused(f"credential {name}: no {kind.protocol} target names it")
    return Planned(declared, plan, kind, tuple(places.values()))


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of one step."""

    rotation: Rotation
    planned: Planned
    versions: Sequence[SecretVersion]
    vault: Vault
    directory: Directory
    door: Door

    async def change(self) -> None:
        """Give every place the new secret. Denied: nothing was changed at all."""
        new = await self._credential(self.rotation.version)
        for target in self.planned.places:
            try:
                await self._give(target, await self._signed_in(), new)
            except (NotLetIn, Denied) as error:
                await self._refused(target, new, error)

    async def _give(self, target: Target, signed_in: Credential, new: Credential) -> None:
        kind = self.planned.kind
        await kind.change(self.door, target, signed_in, new.signs_in_as, new.secret)

    async def _refused(self, target: Target, new: Credential, error: RotationFailed) -> None:
        """Return if an attempt before this one did it, after which the old secret is refused."""
        if await self._lets_in(target, new):
            return
        if isinstance(error, NotLetIn) and not await self._old_works():
            raise Unreached(f"{error}; it takes neither the secret before nor the new one")
        if any([await self._lets_in(one, new) for one in self.planned.places]):
            raise Unreached(f"{error}; elsewhere it is changed already")
        raise Denied(str(error))

    async def prove(self) -> None:
        """Sign in with the new secret everywhere. Raises NotLetIn, Unreached."""
        new = await self._credential(self.rotation.version)
        for target in self.planned.places:
            await self.planned.kind.prove(self.door, target, new)

    async def take_back(self) -> None:
        """A secret that does not prove good must not stay. With two users the other goes on."""
        if self.rotation.mode == "two-user":
            return
        if not self.planned.plan.by or not self.rotation.previous:
            raise Unreached(
                "it was changed and does not let us in, and there is no rotation.by that could "
                "take it back"
            )
        old = await self._credential(self.rotation.previous)
        for target in self.planned.places:
            await self._give(target, await self._signed_in(), old)

    async def withdraw(self) -> None:
        """Take the secret of the account away that was used before."""
        old = next(one for one in self.versions if one.version == self.rotation.previous)
        if self.planned.is_of(old, self.rotation.account):
            return
        account = old.account or self.planned.declared.account
        for target in self.planned.places:
            signed_in = await self._signed_in()
            await self.planned.kind.withdraw(self.door, target, signed_in, account)

    async def _lets_in(self, target: Target, credential: Credential) -> bool:
        try:
            await self.planned.kind.prove(self.door, target, credential)
        except NotLetIn:
            return False
        return True

    async def _old_works(self) -> bool:
        """Whether what sessions sign in with until the switch is good at every place."""
        if not self.rotation.previous:
            return True
        old = await self._credential(self.rotation.previous)
        return all([await self._lets_in(one, old) for one in self.planned.places])

    async def _signed_in(self) -> Credential:
        """Whoever changes the secret. Raises Refused."""
        by, rotation = self.planned.plan.by, self.rotation
        if by:
            found = self.directory.credential(by)
            if found is None:
                raise Refused(f"rotation.by names {by}, which is not declared")
            return found
        others = [one for one in self.versions if one.version != rotation.version]
        latest = self.planned.latest(others, rotation.account)
        if latest is None:
            raise Refused(f"no secret of {rotation.account} is known to change it with")
        return await self._credential(latest.version)

    async def _credential(self, number: int) -> Credential:
        """The credential with the secret of one version."""
        version = next(one for one in self.versions if one.version == number)
        if not version.sealed:
            raise Refused(f"version {number} was dropped meanwhile")
        secret = await self.vault.open(version)
        kept = Kept(version.credential, number, version.account, version.state, secret)
        return with_secret(self.planned.declared, kept)
