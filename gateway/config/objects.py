# SPDX-License-Identifier: GPL-3.0-or-later
"""The kinds of objects (targets, credentials, issuers, ...) as typed values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from gateway.config.keeping import LegalHoldObject, RetentionObject
from gateway.config.key_sets import AgentKeys, JwksObject
from gateway.config.references import Written
from gateway.config.rotating import RotationObject
from gateway.config.values import Address, ObjectName, PublicKey, Secret
from gateway.model import Credential, Target, Tls

LATER = ("webhook",)
"""Kinds that the design knows and this version does not carry out."""


@dataclass(frozen=True, slots=True)
class TlsObject:
    mode: Literal["disable", "require", "verify-full"] = "verify-full"
    ca_path: Path | None = None
    cert_path: Path | None = None
    key_path: Path | None = None
    server_name: str | None = None

    def model(self) -> Tls:
        ca, cert, key = (
            str(path) if path else None for path in (self.ca_path, self.cert_path, self.key_path)
        )
        return Tls(self.mode, ca, cert, key, self.server_name)


@dataclass(frozen=True, slots=True)
class TargetObject:
    """`target: NAME`; a protocol adds the fields of its own options."""

    target: ObjectName
    protocol: str
    address: Address
    credentials: tuple[str, ...]
    databases: tuple[str, ...] = ("*",)
    tls: TlsObject = TlsObject()
    listen: Address | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    clear: Literal["default"] = "default"
    record: Literal["delivered"] = "delivered"
    direct: bool = True
    users: Literal["credentials", "any"] = "credentials"
    plain: bool = False

    def model(self, options: object) -> Target:
        return Target(
            name=self.target,
            protocol=self.protocol,
            host=self.address.host,
            port=self.address.port,
            credentials=self.credentials,
            databases=self.databases,
            tls=self.tls.model(),
            listen=(self.listen.host, self.listen.port) if self.listen else None,
            labels=self.labels,
            users=self.users,
            plain=self.plain,
            direct=self.direct,
            options=options,
        )


@dataclass(frozen=True, slots=True)
class CredentialObject:
    """`credential: NAME`: what the gateway signs in with."""

    credential: ObjectName
    user: str
    login: Literal["scram-sha-256", "md5", "password", "certificate", "trust"] = "scram-sha-256"
    secret: Secret | None = None
    rotation: RotationObject | None = None

    def model(self) -> Credential:
        secret = self.secret.value if self.secret else ""
        plan = self.rotation.model() if self.rotation else None
        account = plan.users[0] if plan and plan.users else ""
        return Credential(self.credential, self.user, self.login, secret, account, 0, plan)


@dataclass(frozen=True, slots=True)
class ClaimsObject:
    """Which claim of a token says what."""

    subject: str = "sub"
    groups: str = "groups"
    name: str = "name"
    triggered_by: str | None = None


@dataclass(frozen=True, slots=True)
class IssuerObject:
    """`issuer: NAME`: whose tokens are taken: an OpenID or SAML provider, or a SPIFFE domain."""

    issuer: ObjectName
    url: str
    audience: str
    kind: Literal["oidc", "saml", "spiffe"] = "oidc"
    algorithms: tuple[str, ...] = ("ES256", "RS256")
    claims: ClaimsObject = ClaimsObject()
    subjects: Literal["person", "workload"] = "person"
    ca_path: Path | None = None
    jwks: JwksObject | None = None
    client_id: str = ""
    client_secret: Secret | None = None
    scopes: tuple[str, ...] = ("openid",)
    redirect: str = ""
    metadata_path: Path | None = None
    sso_url: str = ""
    certificate_path: Path | None = None
    session_seconds: float = 28800.0


@dataclass(frozen=True, slots=True)
class AgentObject:
    """`agent: NAME`: the name of a workload identity, or an agent with keys of its own."""

    agent: ObjectName
    issuer: str | None = None
    subject: str | None = None
    key: AgentKeys | None = None


@dataclass(frozen=True, slots=True)
class IdentityObject:
    issuer: str
    subject: str


@dataclass(frozen=True, slots=True)
class PersonObject:
    """`person: NAME`: the identities of one human."""

    person: ObjectName
    identities: tuple[IdentityObject, ...]


@dataclass(frozen=True, slots=True)
class RecipientObject:
    """`recipient: NAME`: a public key that session keys are wrapped to."""

    recipient: ObjectName
    key: PublicKey
    view: Literal["delivered"] = "delivered"


@dataclass(frozen=True, slots=True)
class AccessObject:
    """`access: NAME`: what members of groups may do on the gateway itself."""

    access: ObjectName
    groups: tuple[str, ...]
    may: tuple[Literal["approve", "read_sessions", "audit", "operate", "admin"], ...]
    targets: tuple[str, ...] = ("*",)
    issuers: tuple[str, ...] = ()


KINDS: dict[str, type] = {
    "target": TargetObject,
    "credential": CredentialObject,
    "issuer": IssuerObject,
    "agent": AgentObject,
    "person": PersonObject,
    "recipient": RecipientObject,
    "retention": RetentionObject,
    "legal_hold": LegalHoldObject,
    "access": AccessObject,
}


def plural(kind: str) -> str:
    """Several objects of a kind, as the API's paths and the fields of `Objects` have it."""
    if kind.endswith("y"):
        return kind[:-1] + "ies"
    return kind + ("es" if kind.endswith("s") else "s")


@dataclass(frozen=True, slots=True)
class Objects:
    """Everything declared, by name. A catalogue for the relay (ports.Catalog)."""

    targets: Mapping[str, Target] = field(default_factory=dict)
    credentials: Mapping[str, Credential] = field(default_factory=dict)
    issuers: Mapping[str, IssuerObject] = field(default_factory=dict)
    agents: Mapping[str, AgentObject] = field(default_factory=dict)
    persons: Mapping[str, PersonObject] = field(default_factory=dict)
    recipients: Mapping[str, RecipientObject] = field(default_factory=dict)
    retentions: Mapping[str, RetentionObject] = field(default_factory=dict)
    legal_holds: Mapping[str, LegalHoldObject] = field(default_factory=dict)
    accesses: Mapping[str, AccessObject] = field(default_factory=dict)
    declared: tuple[Written, ...] = field(default=(), repr=False, compare=False)
    """What stands in files, as it was read; nothing for objects made in the program."""

    def target(self, name: str) -> Target | None:
        return self.targets.get(name)

    def credential(self, name: str) -> Credential | None:
        return self.credentials.get(name)
