# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects (targets, credentials, issuers, ...) from YAML to typed values."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from gateway.config.reading import BAD, ConfigError, Mistake, Reader, key_of, nearest
from gateway.config.references import Written, check_doubles, check_references
from gateway.config.values import Address, ObjectName, PublicKey, Secret
from gateway.model import Credential, Target, Tls
from gateway.protocols import ProtocolDefinition, discover

LATER = ("access", "webhook", "retention", "legal_hold")
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

    def model(self) -> Credential:
        secret = self.secret.value if self.secret else ""
        return Credential(self.credential, self.user, self.login, secret)


@dataclass(frozen=True, slots=True)
class ClaimsObject:
    """Which claim of a token says what."""

    subject: str = "sub"
    groups: str = "groups"
    name: str = "name"


@dataclass(frozen=True, slots=True)
class IssuerObject:
    """`issuer: NAME`: an OpenID provider whose tokens are taken."""

    issuer: ObjectName
    url: str
    audience: str
    kind: Literal["oidc"] = "oidc"
    algorithms: tuple[str, ...] = ("ES256", "RS256")
    claims: ClaimsObject = ClaimsObject()
    subjects: Literal["person", "workload"] = "person"
    ca_path: Path | None = None


@dataclass(frozen=True, slots=True)
class AgentObject:
    """`agent: NAME`: the name of a workload identity."""

    agent: ObjectName
    issuer: str
    subject: str


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


KINDS: dict[str, type] = {
    "target": TargetObject,
    "credential": CredentialObject,
    "issuer": IssuerObject,
    "agent": AgentObject,
    "person": PersonObject,
    "recipient": RecipientObject,
}


@dataclass(frozen=True, slots=True)
class Objects:
    """Everything declared, by name. A catalogue for the relay (ports.Catalog)."""

    targets: Mapping[str, Target] = field(default_factory=dict)
    credentials: Mapping[str, Credential] = field(default_factory=dict)
    issuers: Mapping[str, IssuerObject] = field(default_factory=dict)
    agents: Mapping[str, AgentObject] = field(default_factory=dict)
    persons: Mapping[str, PersonObject] = field(default_factory=dict)
    recipients: Mapping[str, RecipientObject] = field(default_factory=dict)

    def target(self, name: str) -> Target | None:
        return self.targets.get(name)

    def credential(self, name: str) -> Credential | None:
        return self.credentials.get(name)


def load_objects(paths: Iterable[Path]) -> tuple[Objects, tuple[Mistake, ...]]:
    """Read files, and the *.yaml of folders. Raises ConfigError with every mistake in them."""
    readers = [Reader(path) for path in yaml_files(paths)]
    written = [one for reader in readers for one in _read(reader)]
    check_doubles(written)
    check_references(written, KINDS)
    mistakes = [mistake for reader in readers for mistake in reader.mistakes]
    if mistakes:
        raise ConfigError(mistakes)
    return _gathered(written), tuple(note for reader in readers for note in reader.warnings)


def yaml_files(paths: Iterable[Path]) -> list[Path]:
    """The files named, and those directly in the folders named, in order of their names."""
    return [
        file
        for path in paths
        for file in (
            sorted((*path.glob("*.yaml"), *path.glob("*.yml"))) if path.is_dir() else [path]
        )
    ]


def _read(reader: Reader) -> list[Written]:
    objects = [_object(reader, node) for node in reader.documents() if node.tag[-5:] != ":null"]
    return [one for one in objects if one is not None]


def _object(reader: Reader, node: yaml.Node) -> Written | None:
    pairs = reader.pairs(node, "object")
    if not pairs:
        return None
    kind, (key_node, name_node) = next(iter(pairs.items()))
    if kind in LATER:
        reader.wrong(key_node, f"{kind}: not in this version", "remove the object")
        return None
    if kind not in KINDS:
        cure = nearest(kind, KINDS) + "; the first key is the object's kind"
        reader.wrong(key_node, f"{kind!r} is no kind of object", cure)
        return None
    at = f"{kind} {getattr(name_node, 'value', '')}"
    options = _options(reader, pairs, at) if kind == "target" else None
    value = reader.fields(pairs, KINDS[kind], at)
    if value is BAD or options is BAD:
        return None
    return Written(kind, getattr(value, kind), value, options, reader, node)


def _options(reader: Reader, pairs: dict[str, tuple[yaml.Node, yaml.Node]], at: str) -> Any:
    """Take a protocol's own options out of a target's pairs; the protocol's types check them."""
    protocols = discover()
    _, node = pairs.get("protocol", (None, None))
    if node is None:
        return None
    definition = protocols.get(str(node.value))
    if definition is None:
        return reader.wrong(
            node,
            f"{at}.protocol: {node.value!r} is no protocol here",
            nearest(str(node.value), protocols),
        )
    fixed = {key_of(item) for item in dataclasses.fields(TargetObject)}
    own = _own_keys(definition) - fixed
    taken = {key: pairs.pop(key) for key in list(pairs) if key in own}
    return reader.fields(taken, definition.options, at)


def _own_keys(definition: ProtocolDefinition) -> set[str]:
    if not dataclasses.is_dataclass(definition.options):
        return set()
    return {key_of(item) for item in dataclasses.fields(definition.options)}


def _gathered(written: list[Written]) -> Objects:
    by_kind: dict[str, dict[str, Any]] = {kind: {} for kind in KINDS}
    for one in written:
        value = one.value
        if one.kind == "target":
            value = one.value.model(one.options)
        elif one.kind == "credential":
            value = one.value.model()
        by_kind[one.kind][one.name] = value
    return Objects(**{f"{kind}s": found for kind, found in by_kind.items()})
