# SPDX-License-Identifier: GPL-3.0-or-later
"""What `doctor` reaches for over the network: targets (with the gateway's own login), issuers."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime

from gateway.admin.cli._checks import NOTE, OK, WRONG, Finding
from gateway.config import IssuerObject, Objects
from gateway.identity.jwks import IssuerKeys
from gateway.model import Grant, Identity, Refused, Session, Target
from gateway.protocols import discover
from gateway.proxy.limits import Limits
from gateway.proxy.metrics import Metrics
from gateway.proxy.upstream import Upstream
from gateway.wiring.providers import saml_provider

AT_ONCE = 16
_REACH_CURE = "check address, firewall, tls and the credential; the target's log says more"


async def reach(objects: Objects) -> list[Finding]:
    """Every target by each of its credentials, and every issuer's discovery document."""
    # The answer is in the findings; the same in the log would be said twice.
    logging.getLogger("gateway.identity.jwks").setLevel(logging.CRITICAL)
    upstream, free = Upstream(Limits(), Metrics()), asyncio.Semaphore(AT_ONCE)

    async def target(one: Target, credential: str) -> Finding:
        async with free:
            return await _target(upstream, objects, one, credential)

    async def issuer(one: IssuerObject) -> Finding:
        async with free:
            return await _issuer(one)

    try:
        pairs = [(one, name) for one in objects.targets.values() for name in one.credentials]
        return await asyncio.gather(
            *(target(*pair) for pair in pairs),
            *(issuer(one) for one in objects.issuers.values()),
        )
    finally:
        upstream.close()


async def _target(upstream: Upstream, objects: Objects, target: Target, name: str) -> Finding:
    """Dial, TLS and login, as for a client's session; nothing is asked there."""
    subject = f"{target.name} as {name}"
    definition, credential = discover().get(target.protocol), objects.credential(name)
    if definition is None or credential is None:
        return Finding("targets", subject, WRONG, "its protocol or credential is not there")
    kept = not credential.secret and credential.login not in ("trust", "certificate")
    if kept or credential.rotation is not None:
        detail = "its secret is in the vault, which only the gateway opens"
        return Finding("targets", subject, NOTE, detail, "trailgate credentials list")
    database = next((one for one in target.databases if one != "*"), credential.user)
    grant = Grant("doctor", Identity("trailgate:doctor", "doctor"))
    session = Session("", 0, grant, target, credential.user, database, "doctor")
    try:
        opened = await upstream.open(definition, session, credential, ())
    except Refused as error:
        return Finding("targets", subject, WRONG, str(error), _REACH_CURE)
    opened.link.owner = None
    opened.link.abort()
    tls = "without TLS" if target.tls.mode == "disable" else f"TLS {target.tls.mode}"
    return Finding("targets", subject, OK, f"{target.host}:{target.port} let us in, {tls}")


def _saml_issuer(one: IssuerObject) -> Finding:
    """Nothing is asked of a SAML provider: what it signs with was given, and may have run out."""
    try:
        provider = saml_provider(one)
    except (OSError, ValueError) as error:
        return Finding("issuers", one.issuer, WRONG, str(error), "get its metadata again")
    ends = max(certificate.not_valid_after_utc for certificate in provider.certificates)
    if ends <= datetime.now(UTC):
        said = f"its last certificate expired on {ends:%Y-%m-%d}"
        return Finding("issuers", one.issuer, WRONG, said, "get its metadata again")
    return Finding("issuers", one.issuer, OK, f"signs with certificates until {ends:%Y-%m-%d}")


async def _issuer(one: IssuerObject) -> Finding:
    if one.kind == "saml":
        return _saml_issuer(one)
    try:
        keys = IssuerKeys(one.url, ca_path=str(one.ca_path) if one.ca_path else None)
        await keys.candidates(None, one.algorithms[0] if one.algorithms else "")
    except (Refused, ValueError) as error:
        cure = f"open {one.url}/.well-known/openid-configuration from this machine; check ca_path"
        return Finding("issuers", one.issuer, WRONG, str(error), cure)
    await keys.close()
    return Finding("issuers", one.issuer, OK, "its discovery document and keys were read")
