# SPDX-License-Identifier: GPL-3.0-or-later
"""What is in force on this node: objects, policies, issuers and the targets' own listeners."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from gateway.declare.orders import Rejected
from gateway.declare.whole import Whole
from gateway.identity.oidc import Issuer
from gateway.model import Target
from gateway.proxy.listener import Listener, ListenSpec, Proxy
from gateway.wiring.parts import Parts, issuers_of, keys_of_agents, names_of, record_policies
from gateway.wiring.providers import Providers, providers_of

log = logging.getLogger("trailgate")


@dataclass
class Doors:
    """The targets' own listeners. `bound` is kept true: a target's name to its address."""

    proxy: Proxy
    bound: dict[str, tuple[str, int]]
    open: dict[str, Listener] = field(default_factory=dict)

    async def prepare(self, targets: Iterable[Target]) -> NewDoors:
        """Open what is missing; links to it are refused until `swap`. Raises Rejected."""
        new = NewDoors(self)
        try:
            for target in targets:
                if target.listen is not None:
                    await self._prepare(new, target)
        except BaseException:
            new.undo()
            raise
        return new

    async def _prepare(self, new: NewDoors, target: Target) -> None:
        assert target.listen is not None
        host, port = target.listen
        spec = ListenSpec(target.protocol, host, port, target.name)
        listener = self._reusable(target.name, (host, port))
        if listener is None:
            try:
                listener = await self.proxy.open_listener(spec)
            except OSError as error:
                raise Rejected(
                    409,
                    f"cannot listen on {host}:{port} for {target.name}: "
                    f"{error.strerror or error}; choose another port",
                ) from error
            new.opened.append(listener)
        new.wanted[target.name] = listener, spec

    def _reusable(self, target: str, asked: tuple[str, int]) -> Listener | None:
        """One that listens there already, whichever target it was for."""
        if not asked[1]:
            own = self.open.get(target)
            return own if own is not None and own.asked == asked else None
        return next((one for one in self.open.values() if one.asked == asked), None)


@dataclass
class NewDoors:
    """Listeners as they are to be."""

    doors: Doors
    wanted: dict[str, tuple[Listener, ListenSpec]] = field(default_factory=dict)
    opened: list[Listener] = field(default_factory=list)

    def swap(self) -> None:
        """Hand over those that stay, close those that nobody needs."""
        doors = self.doors
        needed = [listener for listener, _ in self.wanted.values()]
        for name, listener in doors.open.items():
            doors.bound.pop(name, None)
            if listener not in needed:
                doors.proxy.close_listener(listener)
        for name, (listener, spec) in self.wanted.items():
            listener.spec = spec
            doors.bound[name] = listener.address
        doors.open = {name: listener for name, (listener, _) in self.wanted.items()}

    def undo(self) -> None:
        for listener in self.opened:
            self.doors.proxy.close_listener(listener)


@dataclass
class InForce:
    """`declare.ports.Force` on the parts of a gateway."""

    parts: Parts
    doors: Doors

    async def check(self, whole: Whole) -> None:
        await self._logins(whole)

    async def _logins(self, whole: Whole) -> tuple[list[Issuer], Providers]:
        try:
            issuers = issuers_of(whole.objects)
            return issuers, await asyncio.to_thread(providers_of, whole.objects, issuers)
        except (ValueError, OSError) as error:
            raise Rejected(422, f"an issuer cannot be trusted: {error}") from error

    async def prepare(self, whole: Whole) -> Ready:
        """Make everything ready that can fail. Raises Rejected, RecordFailed."""
        issuers, providers = await self._logins(whole)
        await record_policies(self.parts.recorder, whole.policies)
        doors = await self.doors.prepare(whole.objects.targets.values())
        return Ready(self.parts, whole, issuers, providers, doors)


@dataclass
class Ready:
    """`declare.ports.Prepared`."""

    parts: Parts
    whole: Whole
    issuers: Sequence[Issuer]
    providers: Providers
    doors: NewDoors

    async def commit(self) -> None:
        """Holds first: nothing is erased meanwhile that must stay. Then all of it at once."""
        parts, objects = self.parts, self.whole.objects
        await parts.keeping.declare(objects)
        if dict(objects.recipients) != dict(parts.targets.objects.recipients):
            log.warning("recipients changed: they are used from the next start on")
        parts.targets.objects = objects
        parts.policy.swap(self.whole.policies)
        catalog = parts.custody.put_in_force(objects)
        parts.proxy.swap(catalog=catalog, policy=parts.proxy.policy)
        self.doors.swap()
        parts.agents.replace(keys_of_agents(objects))
        await parts.issuers.replace(self.issuers, names_of(objects))
        parts.logins.replace(*self.providers)

    async def undo(self) -> None:
        self.doors.undo()
