# SPDX-License-Identifier: GPL-3.0-or-later
"""The settings of the process, `trailgate.yaml`; objects and policies have their own files."""

from __future__ import annotations

import math
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Self

import yaml

from gateway.config.reading import BAD, ConfigError, Mistake, Reader, Wrong, nearest, setting
from gateway.config.values import (
    Address,
    BaseUrl,
    Endpoint,
    MasterKeySource,
    StatePlace,
    Store,
    WitnessUrl,
    WitnessVkey,
)
from gateway.protocols import discover
from gateway.store.dsn import Dsn


class NodeName(str):
    """[a-z0-9-], at most 63: it is a path segment and the origin of the node's log."""

    @classmethod
    def parse(cls, text: str) -> Self:
        if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", text):
            raise Wrong(f"{text!r} is not a node's name; use a-z, 0-9 and '-', at most 63 letters")
        return cls(text)


def _hostname() -> NodeName:
    name = re.sub(r"[^a-z0-9-]+", "-", socket.gethostname().lower().partition(".")[0]).strip("-")
    return NodeName(name[:63] or "gateway")


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The certificate that listeners show. Without it a CA of DATA's own signs one."""

    cert_path: Path | None = setting(
        "PEM file with the certificate and its chain",
        example="/etc/trailgate/tls.crt",
        default=None,
    )
    key_path: Path | None = setting(
        "PEM file with the private key", example="/etc/trailgate/tls.key", default=None
    )
    names: tuple[str, ...] = setting(
        "names and addresses in a self-made certificate, besides localhost", default=()
    )


@dataclass(frozen=True, slots=True)
class WitnessSettings:
    """Who cosigns the log's checkpoints, so that its operator cannot rewrite it later."""

    url: WitnessUrl = setting(
        "where the witness is: the prefix of C2SP tlog-witness",
        example="https://witness.auditor.example",
    )
    vkey: WitnessVkey = setting(
        "its key, as `trailgate witness` prints it",
        example="witness.auditor.example+10d0e7d2+BFAF8N8eBJXwzTGyUsOL6vxS0pkk5FnFDOK3cTyPKzQx",
    )
    required: bool = setting("without it no new sessions, after the grace", default=False)
    grace_seconds: float = setting(
        "required: how long the witness may be away; more than 0", default=300.0
    )

    def __post_init__(self) -> None:
        if not 0 < self.grace_seconds <= 1_000_000:
            raise Wrong(
                f"{self.grace_seconds} is out of bounds; write more than 0", "grace_seconds"
            )


DAYS = (1, 36_500)
"""The fewest and the most that may be asked for."""


def check_days(value: int, key: str) -> None:
    """Raises Wrong."""
    if not DAYS[0] <= value <= DAYS[1]:
        raise Wrong(f"{value} days is out of bounds; write {DAYS[0]} to {DAYS[1]}", key)


@dataclass(frozen=True, slots=True)
class LockSettings:
    """S3 Object Lock, asked for with each object; the buckets must have it turned on."""

    mode: Literal["governance", "compliance"] = setting(
        "governance: some may still lift it; compliance: nobody may, root included"
    )
    days: int = setting(
        "how long no object of the evidence can be deleted; a `retention` object goes before it",
        default=400,
    )
    keys_days: int = setting(
        "how long no wrapped key can be deleted, and so no session be erased", default=7
    )

    def __post_init__(self) -> None:
        check_days(self.days, "days")
        check_days(self.keys_days, "keys_days")


@dataclass(frozen=True, slots=True)
class BacklogSettings:
    """Closed journal files that wait to be published."""

    soft_bytes: int = setting("from here on the log and a metric say so", default=1 << 30)
    hard_bytes: int = setting("from here on no new session is let in", default=8 << 30)

    def __post_init__(self) -> None:
        if not 0 < self.soft_bytes <= self.hard_bytes:
            raise Wrong("soft_bytes is 1 or more, hard_bytes no less", "soft_bytes")


class Witnesses(tuple[WitnessSettings, ...]):
    """One witness, or a list of them; each has a key of its own."""

    @classmethod
    def from_node(cls, reader: Reader, node: yaml.Node, at: str) -> Any:
        if isinstance(node, yaml.SequenceNode):
            found = reader.value(node, tuple[WitnessSettings, ...], at)
        else:
            found = reader.value(node, WitnessSettings, at)
            found = BAD if found is BAD else (found,)
        if found is BAD:
            return BAD
        if not found or len({one.vkey for one in found}) < len(found):
            cure = "write each witness once, or leave the key out"
            return reader.wrong(node, f"{at}: names no witness, or one twice", cure)
        return cls(found)


@dataclass(frozen=True, slots=True)
class EvidenceSettings:
    """Where the record goes, and how sure each frame must be before bytes move on."""

    to: Store | None = setting(
        "where closed journal files are published; default: DATA/evidence",
        example="s3://trailgate-evidence/prod",
        default=None,
    )
    keys: Store | None = setting(
        "where wrapped session keys go; on S3 a bucket of their own; default: DATA/keys",
        example="s3://trailgate-keys/prod",
        default=None,
    )
    region: str | None = setting("S3: region", example="eu-central-1", default=None)
    endpoint: Endpoint | None = setting(
        "S3: another endpoint, for MinIO and the like",
        example="https://minio.example:9000",
        default=None,
    )
    durability: Literal["process", "disk"] = setting(
        "process: survives the process; disk: synced, survives a power loss", default="process"
    )
    compression: Literal["lz4", "zstd", "none"] = setting(
        "of payloads, before sealing", default="lz4"
    )
    lock: LockSettings | None = setting(
        "S3: Object Lock of what is published; default: the bucket's own", default=None
    )
    backlog: BacklogSettings = setting("what may wait to be published", default=BacklogSettings())
    witness: Witnesses | None = setting(
        "who cosigns the log, one or a list; default: nobody", default=None
    )


@dataclass(frozen=True, slots=True)
class MasterKeySettings:
    """What wraps the keys of the vault: secrets of targets, and what the gateway seals itself."""

    key: MasterKeySource | None = setting(
        "file:PATH, systemd-credential:NAME, aws-kms:KEY or vault-transit:NAME; default: "
        "file:DATA/master.key",
        example="systemd-credential:master",
        default=None,
    )
    previous: tuple[MasterKeySource, ...] = setting(
        "older keys, which open until `trailgate credentials rewrap` is done", default=()
    )
    region: str | None = setting("aws-kms: region", example="eu-central-1", default=None)
    endpoint: Endpoint | None = setting(
        "aws-kms: another endpoint", example="https://kms.example:8443", default=None
    )
    url: WitnessUrl | None = setting(
        "vault-transit: Vault's address", example="https://vault.example:8200", default=None
    )
    token_path: Path | None = setting(
        "vault-transit: a file with its token, read again for each call",
        example="/run/trailgate/vault-token",
        default=None,
    )
    mount: str = setting("vault-transit: where the engine is mounted", default="transit")
    namespace: str | None = setting("vault-transit: namespace", example="infra", default=None)
    ca_path: Path | None = setting(
        "vault-transit: CAs to trust, in PEM", example="/etc/trailgate/vault-ca.pem", default=None
    )

    def __post_init__(self) -> None:
        kinds = {one.kind for one in (self.key, *self.previous) if one is not None}
        if "vault-transit" in kinds and (self.url is None or self.token_path is None):
            raise Wrong("vault-transit needs url and token_path; add them", "key")


MAY_BE_NOTHING = {"drain_seconds", "store_grace_seconds"}
LARGEST = 1_000_000


def _bounds(name: str) -> str:
    return f"write {'0' if name in MAY_BE_NOTHING else 'more than 0'}, at most {LARGEST}"


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """Caps and deadlines; seconds and counts."""

    drain_seconds: float = setting("SIGTERM: how long sessions may finish", default=30.0)
    connections: int = setting("links at once, logged in or not", default=10_000)
    unauthenticated: int = setting("links at once that have not logged in", default=2_000)
    handshake_seconds: float = setting("a login must end within this", default=10.0)
    dial_seconds: float = setting("a target must let us in within this", default=10.0)
    decision_seconds: float = setting("after this a missing decision is a denial", default=15.0)
    store_grace_seconds: float = setting(
        "how long live sessions go on while the store is away; 0: not at all", default=60.0
    )
    chain_depth: int = setting("actors below an origin", default=8)
    children: int = setting("live children of one grant", default=64)

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            least = 0 if item.name in MAY_BE_NOTHING else math.ulp(0.0)
            if not least <= value <= LARGEST:
                raise Wrong(f"{value} is out of bounds; {_bounds(item.name)}", item.name)


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that `trailgate.yaml` says, checked, with defaults in place."""

    data: Path = setting("journal, evidence, state and the admin socket")
    node: NodeName = setting(
        "this gateway's name in the record; default: the host's",
        example="gw1",
        default_factory=_hostname,
    )
    listeners: Mapping[str, Address] = setting(
        "where clients come in: a protocol's name, or https for the API",
        default_factory=dict,
    )
    url: BaseUrl = setting(
        "how clients reach the https listener from outside",
        example="https://gateway.example:8443",
        default=BaseUrl(""),
    )
    tls: TlsFiles = setting("the certificate of listeners", default=TlsFiles())
    store: StatePlace | None = setting(
        "grants and objects: a SQLite file, or a PostgreSQL URI for several nodes;"
        " default: DATA/state.sqlite",
        example="postgresql://trailgate@db.example/trailgate",
        default=None,
    )
    evidence: EvidenceSettings = setting("the record", default=EvidenceSettings())
    master_key: MasterKeySettings = setting(
        "what the vault's keys are wrapped by", default=MasterKeySettings()
    )
    limits: LimitSettings = setting("caps and deadlines", default=LimitSettings())
    objects: tuple[Path, ...] = setting("files or folders with objects", default=())
    policies: tuple[Path, ...] = setting("files or folders with policies", default=())
    log_level: Literal["debug", "info", "warning", "error"] = setting(
        "how much is logged: debug, info, warning or error", default="info"
    )
    file: Path | None = field(default=None, init=False)

    @property
    def store_place(self) -> Path | Dsn:
        return self.store.place if self.store else self.data / "state.sqlite"

    @property
    def master_key_source(self) -> MasterKeySource:
        default = MasterKeySource(f"file:{self.data / 'master.key'}")
        return self.master_key.key or default

    @property
    def https(self) -> Address | None:
        return self.listeners.get("https")


def load_settings(path: Path, text: str | None = None) -> tuple[Settings, tuple[Mistake, ...]]:
    """Read settings and their warnings. Raises ConfigError with every mistake at its place."""
    reader = Reader(path, text)
    nodes = reader.documents()
    if not reader.mistakes and len(nodes) != 1:
        reader.wrong(nodes[1] if nodes else None, "settings are one YAML document", "write one")
    settings = reader.value(nodes[0], Settings, "") if nodes else BAD
    if nodes:
        _check_listeners(reader, nodes[0])
    if isinstance(settings, Settings):
        _check_tls(reader, settings, nodes[0])
        _check_evidence(reader, settings, nodes[0])
    if reader.mistakes or not isinstance(settings, Settings):
        raise ConfigError(reader.mistakes)
    object.__setattr__(settings, "file", path.absolute())  # frozen for everybody else
    return settings, tuple(reader.warnings)


def _check_listeners(reader: Reader, root: yaml.Node) -> None:
    known = {*discover(), "https"}
    if isinstance(root, yaml.MappingNode):
        for key, node in root.value:
            if getattr(key, "value", None) == "listeners" and isinstance(node, yaml.MappingNode):
                for name, _ in node.value:
                    if isinstance(name, yaml.ScalarNode) and name.value not in known:
                        reader.wrong(
                            name,
                            f"listeners: {name.value!r} is no protocol",
                            nearest(name.value, known),
                        )


def _check_evidence(reader: Reader, settings: Settings, root: yaml.Node) -> None:
    """Both folders, or both S3 with one prefix: an auditor finds one by the other."""
    to, keys = settings.evidence.to, settings.evidence.keys
    if settings.evidence.lock is not None and (to is None or not to.bucket):
        cure = "remove lock, or write to: s3://BUCKET/PREFIX"
        reader.wrong(root, "evidence: `lock` is for S3; a folder has no Object Lock", cure)
    if keys is None:
        return
    if to is None or bool(to.bucket) != bool(keys.bucket) or to.prefix != keys.prefix:
        cure = "write keys: s3://KEYS-BUCKET/PREFIX with the prefix of `to`"
        reader.wrong(root, "evidence: `to` and `keys` do not fit each other", cure)
    elif not keys.bucket:
        reader.wrong(
            root,
            "evidence: `keys` is for S3; in a folder they lie beside the evidence",
            "remove keys",
        )


def _check_tls(reader: Reader, settings: Settings, root: yaml.Node) -> None:
    files = settings.tls
    if (files.cert_path is None) != (files.key_path is None):
        reader.wrong(root, "tls: cert_path and key_path belong together", "give both or neither")
    for path in (files.cert_path, files.key_path):
        if path is not None and not path.is_file():
            reader.wrong(root, f"tls: {path} is not a file", "name a PEM file")
