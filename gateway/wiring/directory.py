# SPDX-License-Identifier: GPL-3.0-or-later
"""Live sessions and targets, as the documents that the API shows."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from gateway.config import Objects
from gateway.model import Grant, Target
from gateway.proxy.listener import Proxy, SessionView


@dataclass
class LiveSessions:
    """The proxy's sessions as `sessions list` prints them."""

    proxy: Proxy
    node: str

    async def live(self, *, own: bool = False) -> Sequence[Mapping[str, Any]]:
        return [live_document(view, self.node) for view in self.proxy.live()]

    async def kill_session(self, session_id: str, reason: str) -> bool:
        return self.proxy.kill_session(session_id, reason)

    def views(self) -> Mapping[str, Callable[[], SessionView]]:
        """By id, for whoever wants a few of many."""
        return self.proxy.views()


def live_document(view: SessionView, node: str) -> dict[str, Any]:
    """An open session; what is known only at its end is null."""
    session, grant = view.session, view.session.grant
    opened = datetime.fromtimestamp(session.opened_at, UTC)
    return {
        "id": session.id,
        "target": session.target.name,
        "protocol": session.target.protocol,
        "user": session.user,
        "origin": grant.origin.label,
        "chain": list(grant.labels),
        "groups": list(grant.groups),
        "grant": grant.id,
        "client": session.client,
        "labels": dict(session.labels),
        "gateway": node,
        "policies": [dict(one) for one in view.policies],
        "opened": opened.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "closed": None,
        "state": "open",
        "reason": None,
        "operations": view.operations,
        "denied": view.denied,
        "held": 0,
        "masked": 0,
        "rows": view.rows,
        "bytes": view.bytes_from_client + view.bytes_to_client,
    }


EVERY_ADDRESS = ("0.0.0.0", "::")


@dataclass
class Targets:
    """Where clients find each target. `bound` maps a target's name, or a protocol's for the
    listener that all its targets share, to the address that is listened on."""

    objects: Objects
    tls: bool
    public_host: str = ""
    """The name that clients reach this host by; empty: its own name."""
    bound: dict[str, tuple[str, int]] = field(default_factory=dict)

    def reachable(self, grant: Grant | None) -> Sequence[Mapping[str, Any]]:
        """Targets that are listened for; `scope` of a grant narrows them."""
        found = (self._document(one) for one in self.objects.targets.values() if _named(grant, one))
        return [document for document in found if document is not None]

    def _document(self, target: Target) -> dict[str, Any] | None:
        own = target.name in self.bound and target.listen is not None
        address = self.bound.get(target.name if own else f"protocol:{target.protocol}")
        if address is None:
            return None
        credential = self.objects.credential(target.credentials[0]) if target.credentials else None
        database = next((name for name in target.databases if name != "*"), "")
        return {
            "name": target.name,
            "protocol": target.protocol,
            "host": self._host(address[0], own),
            "port": address[1],
            "database": database if own else target.name,
            "user": credential.user if credential else "",
            "own_listener": own,
            "tls": self.tls,
        }

    def _host(self, listened_on: str, own: bool) -> str:
        if listened_on in EVERY_ADDRESS:
            return self.public_host or socket.getfqdn()
        return listened_on if own else self.public_host or listened_on


def _named(grant: Grant | None, target: Target) -> bool:
    for entry in grant.narrowing if grant else ():
        scope = entry.get("scope")
        if isinstance(scope, list) and target.name not in scope:
            return False
    return grant is None or target.direct or bool(grant.chain)
