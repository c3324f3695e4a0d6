# SPDX-License-Identifier: GPL-3.0-or-later
"""What a gateway is made of, and the order in which it is made; app.py joins it to the world."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import gateway
from gateway.admin.api.services import SessionsView
from gateway.certificates import Certificate, self_made
from gateway.config import IssuerObject, Objects, Settings
from gateway.config.key_sets import JwksObject
from gateway.credentials.sealer import Sealer
from gateway.declare.whole import Base, documents_of, whole
from gateway.identity.assertions import AGENTS_ISSUER, AgentAssertions
from gateway.identity.authenticator import TokenAuthenticator
from gateway.identity.grants import Grants
from gateway.identity.grants import Limits as GrantLimits
from gateway.identity.login.flows import Logins
from gateway.identity.names import Names
from gateway.identity.oidc import Issuer, Issuers
from gateway.identity.signing import KeyFile, SigningKeys
from gateway.model import Level
from gateway.policy.documents import PolicySet
from gateway.protocols import discover
from gateway.proxy.analyst import Analyst
from gateway.proxy.decider import DeciderPolicy
from gateway.proxy.limits import Limits
from gateway.proxy.listener import Proxy, ProxyServices
from gateway.proxy.metrics import Metrics
from gateway.proxy.tls import server_context
from gateway.proxy.watched import Watch, WatchedPolicy
from gateway.record.backlog import Marks
from gateway.record.recipients import Recipient
from gateway.record.recorder import NodeRecorder, RecorderOptions
from gateway.store.database import Database
from gateway.store.grants import StoredGrants
from gateway.store.logins import StoredLogins
from gateway.store.objects import StoredObjects
from gateway.store.opening import opened
from gateway.store.sessions import StoredSessions
from gateway.store.used_tokens import UsedTokens
from gateway.wiring.custody import Custody, opened_vault
from gateway.wiring.directory import LiveSessions, Targets
from gateway.wiring.evidence import Evidence, RecordMetrics, Witnessed, opened_evidence, witnessed
from gateway.wiring.keeping import Keeping, retention_of
from gateway.wiring.nodes import NodeSessions
from gateway.wiring.own_files import closed_to_objects
from gateway.wiring.providers import SealedTokens, providers_of
from gateway.wiring.store_watch import watch_store
from gateway.wiring.succession import predecessor

log = logging.getLogger("trailgate")

UNCONFIRMED = "the provider does not confirm the login"
SANDBOX = Path(__file__).parents[1] / "policy" / "library" / "agent-sandbox.yaml"


@dataclass
class Parts:
    """What a gateway is made of, in the order in which it is made."""

    evidence: Evidence
    store: Database
    issuers: Issuers
    grants: Grants
    logins: Logins
    recorder: NodeRecorder
    policy: DeciderPolicy
    proxy: Proxy
    metrics: Metrics
    certificate: Certificate
    targets: Targets
    keeping: Keeping
    custody: Custody
    sealer: Sealer
    base: Base
    """What files declare."""
    agents: AgentAssertions
    signing: SigningKeys
    sessions: SessionsView
    revision: int = 0
    """Of the store's objects in force."""


@dataclass(frozen=True, slots=True)
class PolicyPlace:
    """Where policies come from: the settings, one file, or the sandbox policy, observed."""

    paths: tuple[Path, ...]
    sandbox: bool = False

    def load(self) -> PolicySet:
        """Read them. Raises PolicyError with every mistake at its place."""
        if not self.sandbox:
            return PolicySet.load(self.paths)
        documents = PolicySet.load([SANDBOX]).documents
        return PolicySet(tuple(replace(one, mode="observe") for one in documents))


def issuers_of(objects: Objects) -> list[Issuer]:
    """The trusted issuers. Raises ValueError for one that cannot be safe."""
    return [_issuer(one) for one in objects.issuers.values() if one.kind != "saml"]


def _issuer(one: IssuerObject) -> Issuer:
    claims = {
        "subject": one.claims.subject,
        "groups": one.claims.groups,
        "name": one.claims.name,
    }
    if one.claims.triggered_by is not None:
        claims["triggered_by"] = one.claims.triggered_by
    ca_path = str(one.ca_path) if one.ca_path else None
    jwks = one.jwks or JwksObject()
    return Issuer(
        one.issuer,
        one.url,
        one.audience,
        one.algorithms,
        claims,
        one.subjects,
        ca_path,
        jwks.url,
        jwks.keys,
    )


def names_of(objects: Objects) -> Names:
    """What agent and person objects call the identities of the trusted issuers."""
    named = [
        (one.issuer, one.subject, name)
        for name, one in objects.agents.items()
        if one.issuer is not None and one.subject is not None
    ]
    for name, person in objects.persons.items():
        named += [(one.issuer, one.subject, name) for one in person.identities]
    known = {(objects.issuers[issuer].url, subject): name for issuer, subject, name in named}
    return Names(known | {(AGENTS_ISSUER, name): name for name in keys_of_agents(objects)})


def keys_of_agents(objects: Objects) -> dict[str, list[dict[str, Any]]]:
    """Public keys of the agents that sign for themselves."""
    return {
        name: [dict(key) for key in one.key.keys]
        for name, one in objects.agents.items()
        if one.key is not None
    }


def limits_of(settings: Settings) -> Limits:
    """The data path's bounds as the settings have them."""
    given = settings.limits
    return Limits(
        connections=given.connections,
        unauthenticated=given.unauthenticated,
        handshake_seconds=given.handshake_seconds,
        dial_seconds=given.dial_seconds,
        decision_seconds=given.decision_seconds,
        level=Level[settings.evidence.durability.upper()],
    )


def certificate_of(settings: Settings) -> Certificate:
    files = settings.tls
    if files.cert_path is not None and files.key_path is not None:
        return Certificate(files.cert_path, files.key_path, None)
    hosts = [address.host for address in settings.listeners.values()]
    names = [host for host in hosts if host not in ("0.0.0.0", "::")]
    return self_made(settings.data, dict.fromkeys([*files.names, *names]))


def server_tls(certificate: Certificate, alpn: str) -> ssl.SSLContext:
    return server_context(certificate.cert_path, certificate.key_path, (alpn,))


async def record_policies(recorder: NodeRecorder, policies: PolicySet) -> None:
    """Keep every document in force beside the evidence, so that a decision's hash can be read."""
    for document in policies.documents:
        await recorder.policy_in_force(document.name, document.text.encode())


async def _recorder(
    settings: Settings, objects: Objects, evidence: Evidence, witness: Witnessed
) -> NodeRecorder:
    recipients = [Recipient.parse(one.key.value) for one in objects.recipients.values()]
    before = await predecessor(
        settings.data, evidence.folder, settings.node, evidence.store, witness.group
    )
    options = RecorderOptions(
        predecessor=before,
        data=settings.data,
        evidence=evidence.folder,
        node=settings.node,
        version=gateway.__version__,
        recipients=tuple(recipients),
        publish=evidence.publish,
        keys_url=evidence.keys_url,
        compression=settings.evidence.compression,
        refuse=witness.refuse,
        keys_elsewhere=evidence.mirror,
        unwitnessed=witness.missing,
        marks=Marks(settings.evidence.backlog.soft_bytes, settings.evidence.backlog.hard_bytes),
    )
    return await NodeRecorder.start(options)


async def made(
    settings: Settings,
    objects: Objects,
    place: PolicyPlace,
    stack: AsyncExitStack,
    watch: Watch | None = None,
    without: Collection[tuple[str, str]] = (),
) -> Parts:
    """Make every part; `stack` ends them in the opposite order. Raises what each of them does."""
    policies = place.load()
    certificate = certificate_of(settings)
    store = await opened(settings.store_place)
    stack.push_async_callback(store.close)
    base = Base(objects, policies)
    revision, objects, policies = await _everything(settings, base, store, without)
    vault, sealer = await stack.enter_async_context(opened_vault(settings, store))
    custody = Custody(vault, objects)
    retention = retention_of(objects)
    evidence = await stack.enter_async_context(opened_evidence(settings, retention))
    issuers = Issuers(issuers_of(objects), names=names_of(objects))
    stack.push_async_callback(issuers.close)
    witness = await stack.enter_async_context(witnessed(settings, evidence.folder))
    recorder = await _recorder(settings, objects, evidence, witness)
    stack.push_async_callback(recorder.stop)
    keeping = Keeping(recorder, evidence.place, evidence.reach, settings.node)
    await keeping.declare(objects)
    await record_policies(recorder, policies)
    analyst = Analyst()
    await analyst.start()
    stack.push_async_callback(analyst.close)
    grants = _grants(settings, store, recorder)
    agents = AgentAssertions(keys_of_agents(objects), UsedTokens(store), now=store.now)
    signing = await SigningKeys.open(KeyFile(settings.data / "signing-keys"))
    policy, metrics = DeciderPolicy(policies, analyst), Metrics()
    metrics.registry.register(RecordMetrics(recorder.figures, evidence.figures, witness.figures))
    services = ProxyServices(
        catalog=custody.catalog,
        authenticator=TokenAuthenticator(issuers, grants),
        recorder=recorder,
        policy=WatchedPolicy(policy, watch) if watch else policy,
        protocols=discover(),
        limits=limits_of(settings),
        node=settings.node,
        server_tls=server_tls(certificate, "postgresql"),
        metrics=metrics,
        now=store.now,
        renewed=custody.renewed,
    )
    proxy = Proxy(services)
    grants.on_revoked = lambda ids, ending: _end_sessions(proxy, ids, ending.told)
    logins = _logins(StoredLogins(store), grants, issuers, sealer, objects, proxy)
    await grants.start()
    _hear(store, grants.look_now, vault.look_now)
    await stack.enter_async_context(background(vault.watch()))
    sessions = await _sessions(settings, proxy, store, stack)
    watches = grants.watch(), watch_store(grants, proxy, settings.limits.store_grace_seconds)
    others = recorder.keeping.expiry.run(), signing.watch(_not_rotated), logins.refresher.watch()
    await stack.enter_async_context(background(*watches, *others))
    stack.push_async_callback(proxy.drain, settings.limits.drain_seconds)
    return Parts(
        evidence,
        store,
        issuers,
        grants,
        logins,
        recorder,
        policy,
        proxy,
        metrics,
        certificate,
        Targets(objects, tls=True, public_host=urlsplit(settings.url).hostname or ""),
        keeping,
        custody,
        sealer,
        base,
        agents,
        signing,
        sessions,
        revision,
    )


def _grants(settings: Settings, store: Database, recorder: NodeRecorder) -> Grants:
    limits = GrantLimits(actors=settings.limits.chain_depth, children=settings.limits.children)
    return Grants(StoredGrants(store), limits=limits, now=store.now, ledger=recorder.grants)


def _hear(store: Database, *watchers: Callable[[], None]) -> None:
    """Whatever a process changed, let each look: what is nothing to it costs it a short read."""

    def look(topic: str) -> None:
        for one in watchers:
            one()

    store.when_changed(look)


async def _sessions(
    settings: Settings, proxy: Proxy, store: Database, stack: AsyncExitStack
) -> SessionsView:
    """This node's; where nodes share a database, those of all."""
    own = LiveSessions(proxy, settings.node)
    if isinstance(settings.store_place, Path):
        return own
    stored = StoredSessions(store, settings.node)
    await stored.start()
    everywhere = NodeSessions(own, stored)
    _hear(store, everywhere.look_now)
    await stack.enter_async_context(background(everywhere.watch()))
    return everywhere


async def _everything(
    settings: Settings, base: Base, store: Database, without: Collection[tuple[str, str]]
) -> tuple[int, Objects, PolicySet]:
    """Files and store together, less what is to go. Raises Rejected."""
    revision, stored = await StoredObjects(store).everything()
    kept = {key: one for key, one in documents_of(stored).items() if key not in without}
    found = await asyncio.to_thread(whole, base, kept, closed_to_objects(settings))
    return revision, found.objects, found.policies


def _not_rotated(cause: str) -> None:
    log.error("signing keys are not rotated", extra={"cause": cause})


def _end_sessions(proxy: Proxy, grants: Sequence[str], cause: str) -> None:
    proxy.kill_grants(frozenset(grants), cause)


def _logins(
    store: StoredLogins,
    grants: Grants,
    issuers: Issuers,
    sealer: Sealer,
    objects: Objects,
    proxy: Proxy,
) -> Logins:
    """People log in at what is declared, and one person's logins know each other."""
    grants.kin = lambda who: issuers.names.kin(who.issuer, who.subject)
    logins = Logins(store, grants, issuers, SealedTokens(sealer))
    logins.refresher.on_suspended = lambda ids: _end_sessions(proxy, ids, UNCONFIRMED)
    logins.replace(*providers_of(objects, issuers_of(objects)))
    return logins


@asynccontextmanager
async def background(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run `work` meanwhile; it is cancelled at the end."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
