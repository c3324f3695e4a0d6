# SPDX-License-Identifier: GPL-3.0-or-later
"""The proxy as `app` sees it: listeners with their caps, live sessions, kill, drain and reload.

What happens on a link is left to arrival.py, session.py and relay.py.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import ssl
from collections.abc import Callable, Collection, Mapping
from typing import cast

from gateway.model import Grant, Identity, Refusal, Refused, Session, Target
from gateway.protocols import ProtocolDefinition
from gateway.proxy.arrival import Arrival
from gateway.proxy.faults import traced
from gateway.proxy.link import Link
from gateway.proxy.ports import Catalog, Policy
from gateway.proxy.services import ListenSpec, ProxyServices, SessionView
from gateway.proxy.session import House

__all__ = ["ListenSpec", "Proxy", "ProxyServices", "SessionView"]

log = logging.getLogger("trailgate.proxy")

_BACKLOG = 1024


class Proxy:
    """All listeners of one process and the sessions behind them."""

    def __init__(self, services: ProxyServices) -> None:
        self._services = services
        self._house = House(services)
        self._listeners: dict[Listener, None] = {}
        self._unknown: dict[Arrival, None] = {}
        """Links before their login, oldest first."""
        self._links = 0
        self._draining = False

    async def listen(self, spec: ListenSpec) -> tuple[str, int]:
        """Open a listener; its real address. Raises as `open_listener` does."""
        return (await self.open_listener(spec)).address

    async def open_listener(self, spec: ListenSpec) -> Listener:
        """Open a listener. Raises OSError, or KeyError for a protocol there is not."""
        protocols, high = self._services.protocols, self._services.limits.buffer_bytes
        loopback = _is_loopback(spec.host)
        listener = Listener(spec)

        def accepted() -> Link:
            now = listener.spec
            return CountedLink(self, now, protocols[now.protocol], loopback, high)

        assert protocols[spec.protocol]
        loop = asyncio.get_running_loop()
        server = await loop.create_server(accepted, spec.host, spec.port, backlog=_BACKLOG)
        listener.opened(server)
        self._listeners[listener] = None
        return listener

    def close_listener(self, listener: Listener) -> None:
        """Accept no more links there; those that are in stay."""
        listener.close()
        self._listeners.pop(listener, None)

    # --- one link --------------------------------------------------------------------------------

    def greet(
        self, link: Link, spec: ListenSpec, definition: ProtocolDefinition, loopback: bool
    ) -> None:
        """A link was accepted."""
        services = self._services
        target = services.catalog.target(spec.target) if spec.target else None
        plain = spec.plain or (target is not None and target.plain)
        greeter = definition.greeter(plain=plain, loopback=loopback)
        arrival = Arrival(self._house, spec, definition, greeter, link, self._known)
        self._unknown[arrival] = None
        services.metrics.unauthenticated.set(len(self._unknown))
        if self._draining:
            arrival.refuse(_unavailable("drain", "the gateway is shutting down"), "draining")
        elif self._links > services.limits.connections:
            arrival.refuse(_unavailable("capacity", "too many connections"), "connections cap")
        elif len(self._unknown) > services.limits.unauthenticated:
            # The oldest gives way: whoever stalls must not shut the door for others.
            oldest = next(iter(self._unknown))
            oldest.refuse(_unavailable("capacity", "too many logins"), "unauthenticated cap")

    def enter(self) -> None:
        """A link is there, whatever becomes of it."""
        self._links += 1
        self._services.metrics.links.set(self._links)

    def leave(self) -> None:
        """A link is gone."""
        self._links -= 1
        self._house.changed.set()
        self._services.metrics.links.set(self._links)

    def _known(self, arrival: Arrival) -> None:
        self._unknown.pop(arrival, None)
        self._services.metrics.unauthenticated.set(len(self._unknown))

    # --- what app asks ---------------------------------------------------------------------------

    @property
    def policy(self) -> Policy:
        """What new sessions are decided by."""
        return self._services.policy

    def live(self) -> list[SessionView]:
        """Sessions that are open or about to be, with their counters."""
        return [live.view() for live in self._house.everyone()]

    def views(self) -> Mapping[str, Callable[[], SessionView]]:
        """The same by id, for whoever wants a few of many."""
        return {one.session.id: one.view for one in self._house.everyone() if one.session.id}

    def kill_grants(self, grants: Collection[str], reason: str) -> int:
        """End every session of these grants as revoked, `reason` says how; how many there were."""
        return sum(
            live.kill("revoked", reason)
            for live in self._house.everyone()
            if live.session.grant.id in grants
        )

    def note(self, event: bytes) -> int:
        """Record an event without bytes in every open session; in how many."""
        relays = [live.relay for live in self._house.live.values() if live.relay is not None]
        return sum(relay.note(event) for relay in relays if not relay.over)

    def kill_session(self, session_id: str, reason: str) -> bool:
        """End one session; False when there is none such."""
        for live in self._house.everyone():
            if live.session.id == session_id:
                return live.kill("killed", reason)
        return False

    def swap(
        self,
        *,
        catalog: Catalog | None = None,
        policy: Policy | None = None,
        server_tls: ssl.SSLContext | None = None,
    ) -> None:
        """Use new settings for new sessions, and new policies for new decisions of all."""
        services = self._services
        services.catalog = services.catalog if catalog is None else catalog
        services.server_tls = services.server_tls if server_tls is None else server_tls
        self._house.upstream.forget()
        if policy is None:
            return
        services.policy = policy
        for live in self._house.live.values():
            if live.relay is not None:
                live.relay.questions.policy = policy.for_session(live.session)

    async def reach(self, target: Target) -> int:
        """Sign in at a target with its first credential, and leave; the target's process id.

        Raises Refused.
        """
        services = self._services
        credential = services.catalog.credential(target.credentials[0])
        if credential is None:
            raise Refused(_unavailable("target", f"target {target.name} has no credential"))
        database = next((name for name in target.databases if name != "*"), credential.user)
        nobody = Grant("", Identity("", ""))
        session = Session("reach", 0, nobody, target, credential.user, database, "")
        definition = services.protocols[target.protocol]
        opened = await self._house.upstream.open(definition, session, credential, ())
        opened.link.owner = None
        opened.link.close(services.limits.flush_seconds)
        return opened.ready.process

    async def drain(self, seconds: float) -> None:
        """Stop accepting; let each session end at a quiet point, and the rest after `seconds`."""
        self._draining = True
        for listener in self._listeners:
            listener.close()
        for arrival in list(self._unknown):
            arrival.refuse(_unavailable("drain", "the gateway is shutting down"), "draining")
        house = self._house
        for live in list(house.opening):
            live.kill("drain", "the gateway is shutting down")
        for live in list(house.live.values()):
            if live.relay is not None:
                live.relay.drain()
        await self._until_empty(seconds)
        for live in house.everyone():
            live.kill("drain", "the gateway is shutting down")
        await self._until_empty(self._services.limits.flush_seconds)
        house.upstream.close()

    async def _until_empty(self, seconds: float) -> None:
        house = self._house
        try:
            async with asyncio.timeout(seconds):
                while house.busy or self._links:
                    house.changed.clear()
                    await house.changed.wait()
        except TimeoutError:
            log.info("not everyone left in time", extra={"sessions": len(house.everyone())})


class Listener:
    """An open listener. Whoever sets `spec` hands it over: it is for links from then on."""

    def __init__(self, spec: ListenSpec) -> None:
        self.spec = spec
        self.asked = spec.host, spec.port
        self.address = "", 0
        """As it is bound."""
        self._server: asyncio.Server | None = None

    def opened(self, server: asyncio.Server) -> None:
        host, port = server.sockets[0].getsockname()[:2]
        self._server, self.address = server, (str(host), int(port))

    def close(self) -> None:
        if self._server is not None:
            self._server.close()


class CountedLink(Link):
    """A client's link, counted from accept to its end."""

    __slots__ = ("_definition", "_loopback", "_proxy", "_spec")

    def __init__(
        self,
        proxy: Proxy,
        spec: ListenSpec,
        definition: ProtocolDefinition,
        loopback: bool,
        high: int,
    ) -> None:
        super().__init__(high=high)
        self._proxy, self._spec = proxy, spec
        self._definition, self._loopback = definition, loopback

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._proxy.enter()
        try:
            super().connection_made(transport)
            self._proxy.greet(self, self._spec, self._definition, self._loopback)
        except Exception as exc:
            # Without an owner it would stay for ever: no deadline is set yet.
            log.error("a link could not be greeted", extra=traced(exc))
            cast(asyncio.Transport, transport).abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._proxy.leave()
        super().connection_lost(exc)


def _unavailable(code: str, reason: str) -> Refusal:
    return Refusal("unavailable", code, reason)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
