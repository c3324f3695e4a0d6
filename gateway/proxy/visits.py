# SPDX-License-Identifier: GPL-3.0-or-later
"""Links to targets on the gateway's own account: signed in as sessions are, and never recorded,
since what is said there is about credentials."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.credentials.rotation import NotLetIn, Unreached
from gateway.model import Credential, Grant, Identity, Refused, Session, Target
from gateway.protocols import ProtocolDefinition
from gateway.proxy.limits import Limits
from gateway.proxy.link import Link
from gateway.proxy.metrics import Metrics
from gateway.proxy.upstream import Inbox, SigninFailed, Upstream

ISSUER = "trailgate:gateway"


class LinkVisit:
    """`Visit` of credentials/rotation, on a link."""

    def __init__(self, link: Link, early: bytes, ended: bool, flush_seconds: float) -> None:
        self._link = link
        self._flush_seconds = flush_seconds
        self._inbox = Inbox()
        link.owner = self._inbox
        if early:
            self._inbox.received(link, early)
        if ended:
            self._inbox.ended(link)

    def send(self, data: bytes) -> None:
        self._link.write(data)

    async def receive(self) -> bytes:
        return await self._inbox.chunk()

    def leave(self) -> None:
        self._link.owner = None
        self._link.close(self._flush_seconds)


class Visits:
    """`Door` of credentials/rotation, through the same login as sessions."""

    def __init__(self, protocols: Mapping[str, ProtocolDefinition], limits: Limits) -> None:
        self._protocols = protocols
        self._limits = limits
        self._upstream = Upstream(limits, Metrics())

    async def enter(self, target: Target, credential: Credential, database: str) -> LinkVisit:
        nobody = Grant("", Identity(ISSUER, "rotation", kind="workload"))
        session = Session("rotation", 0, nobody, target, credential.user, database, "")
        definition = self._protocols[target.protocol]
        try:
            opened = await self._upstream.open(definition, session, credential, ())
        except SigninFailed as failed:
            kind = NotLetIn if failed.credential_refused else Unreached
            raise kind(str(failed)) from None
        except Refused as refused:
            raise Unreached(str(refused)) from None
        return LinkVisit(opened.link, opened.early, opened.ended, self._limits.flush_seconds)

    def forget(self) -> None:
        """Certificates are read anew at the next visit."""
        self._upstream.forget()

    def close(self) -> None:
        self._upstream.close()
