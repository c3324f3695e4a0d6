# SPDX-License-Identifier: GPL-3.0-or-later
"""The nouns that every part of the gateway shares. Pure data: no sockets, files or clocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any, Literal


class Level(IntEnum):
    """How durable a frame must be before the bytes it describes may move on."""

    PROCESS = 1
    """In the journal's memory map: survives the death of the process."""
    DISK = 2
    """Synced by fdatasync (shared by all sessions that wait): survives a power loss."""


class Verdict(StrEnum):
    """What policy says of one operation."""

    ALLOW = "allow"
    DENY = "deny"
    HOLD = "hold"
    WOULD_DENY = "would_deny"
    """Observed, not enforced: the operation goes on (`mode: observe`)."""

    @property
    def passes(self) -> bool:
        return self in (Verdict.ALLOW, Verdict.WOULD_DENY)


@dataclass(frozen=True, slots=True)
class Identity:
    """A person or workload. Only (issuer, subject) is ever compared; `name` is for reading."""

    issuer: str
    subject: str
    name: str = ""
    kind: str = "person"

    @property
    def label(self) -> str:
        return self.name or self.subject


@dataclass(frozen=True, slots=True)
class Hop:
    """One actor of a chain: proved by a token of its own, or asserted by its parent."""

    name: str
    proved: bool = False
    identity: Identity | None = None
    grant: str = ""
    isolation: str = "none"
    groups: tuple[str, ...] = ()
    """Of a proved actor, by its own token."""


@dataclass(frozen=True, slots=True)
class Grant:
    """Authority in force: the origin, every hop below it, and what each hop was narrowed to.

    `narrowing` holds one entry per grant on the path that carries `authorization_details` or
    `scope` (RFC 9396, RFC 8693); an operation must be covered by every entry.
    Times are seconds since the epoch by the store's clock.
    """

    id: str
    origin: Identity
    groups: tuple[str, ...] = ()
    chain: tuple[Hop, ...] = ()
    narrowing: tuple[Mapping[str, object], ...] = ()
    parent: str | None = None
    root: str = ""
    issued_at: float = 0.0
    expires_at: float = 0.0
    login: Mapping[str, object] = field(default_factory=dict)
    """For the record: iss, kid, jti, iat and the SHA-256 of the token. Never the token."""
    actor_groups: tuple[str, ...] = ()
    minted_in: str = ""
    """Where its mint is recorded: NODE/LOG/RECORD. Empty: nowhere."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Origin first, current actor last."""
        return (self.origin.label, *(hop.name for hop in self.chain))


@dataclass(frozen=True, slots=True)
class Ending:
    """How a grant, and all below it, ended before it expired. `by`: who did it, a chain's labels.

    `how` is revoked (taken back), lapsed (a lease was not renewed) or ended (whoever gave it was
    done with it, as `trailgate run` when its command is over).
    """

    how: str = "revoked"
    by: str = ""

    @property
    def told(self) -> str:
        """For the client, which had the grant."""
        if self.how == "lapsed":
            return "the grant's lease, or one above it, has lapsed: nobody renewed it"
        if self.how == "ended":
            return "the grant has ended: the command that it was made for is over"
        return "the grant was revoked" + (f" by {self.by}" if self.by else "")


LAPSED = Ending("lapsed", "gateway")


@dataclass(frozen=True, slots=True)
class StoredGrant:
    """A grant as the store keeps it. Times are seconds since the epoch, None: not set."""

    grant: Grant
    lease_until: float | None = None
    """Must be renewed by then; when read alone, the earliest lease on the path to the root."""
    ended_at: float | None = None
    """Before it expired, and so as `ending` has it."""
    ending: Ending | None = None
    good_until: float | None = None
    """The provider must have confirmed the root's login again by then; until it does, the tree is
    suspended. None: it is not asked."""
    flaw: str = ""
    """Why the grant cannot stand below its ancestors as they are kept; empty: it can."""


Use = Literal["first", "again", "full"]
"""Of something that is good once. `full`: that it was used cannot be noted, so it must not be."""


@dataclass(frozen=True, slots=True)
class PendingLogin:
    """A person's login under way, as the store keeps it. Secrets are kept as their SHA-256."""

    id: str
    kind: str
    """loopback (a command with a browser beside it) or device (a terminal without one)."""
    phase: str
    """asked, away (at the provider), proved, confirmed, denied, redeemed."""
    document: Mapping[str, Any] = field(repr=False)
    expires_at: float
    client: str
    """The network address that began it."""
    ticket_sha256: str | None = None
    """Of the browser's cookie."""
    outside_sha256: str | None = None
    """Of what the provider must send back: `state`, or the id of a SAML request."""
    code_sha256: str | None = None
    """Of what the command redeems."""
    user_code_sha256: str | None = None
    """Of what the person types."""


@dataclass(frozen=True, slots=True)
class StoredRefresh:
    """How a root grant's login is confirmed again. Times are seconds since the epoch."""

    grant_id: str
    issuer: str
    """The issuer object's name."""
    sealed: bytes = field(repr=False)
    """The provider's refresh token, as the vault sealed it."""
    next_at: float
    good_until: float


@dataclass(frozen=True, slots=True)
class Tls:
    """How the gateway speaks TLS to a target. `mode` is `disable`, `require` or `verify-full`."""

    mode: str = "verify-full"
    ca_path: str | None = None
    cert_path: str | None = None
    key_path: str | None = None
    server_name: str | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """What stands behind the gateway."""

    name: str
    protocol: str
    host: str
    port: int
    credentials: tuple[str, ...] = ()
    databases: tuple[str, ...] = ()
    """Default first; `*` means any."""
    tls: Tls = Tls()
    listen: tuple[str, int] | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    users: str = "credentials"
    plain: bool = False
    direct: bool = True
    options: object = None
    """The protocol's own typed options."""


@dataclass(frozen=True, slots=True)
class RotationPlan:
    """How a credential's secret is changed. `mode` is `single-user` or `two-user`."""

    kind: str
    mode: str = "single-user"
    users: tuple[str, ...] = ()
    """The two accounts that take turns."""
    by: str = ""
    """The credential of an administrator; empty: each account changes its own."""
    target: str = ""
    """Where it is changed; empty: at every target that names the credential."""
    every_seconds: float | None = None
    grace_seconds: float = 900.0


@dataclass(frozen=True, slots=True)
class Credential:
    """What the gateway signs in with. `secret` never leaves the process except to the target."""

    name: str
    user: str
    """What clients type."""
    login: str = "scram-sha-256"
    secret: str = field(default="", repr=False)
    account: str = ""
    """The user at the target where it is another one; see `signs_in_as`."""
    version: int = 0
    """The vault's version of the secret; 0: it does not come from there."""
    rotation: RotationPlan | None = None

    @property
    def signs_in_as(self) -> str:
        return self.account or self.user


@dataclass(frozen=True, slots=True)
class Session:
    """One grant on one target."""

    id: str
    ordinal: int
    grant: Grant
    target: Target
    user: str
    database: str
    client: str
    labels: Mapping[str, str] = field(default_factory=dict)
    opened_at: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """One thing that a client asks for; compared by identity, never by text.

    `start` and `end` are offsets in the session's client stream (bytes since the session opened).
    `settings` are the tracked session settings that change what `text` means.
    """

    id: int
    kind: str
    """query, prepare, execute, function_call, ... : the protocol's word."""
    language: str
    text: str | None
    start: int
    end: int
    settings: tuple[tuple[str, str], ...] = ()
    name: str = ""
    """Prepared statement's or portal's name, where there is one."""
    prepared_by: int = 0
    """The operation that prepared this text; 0 when none did."""
    parameters: int = 0
    undecodable: str = ""
    """Why `text` is None."""


@dataclass(frozen=True, slots=True)
class Declared:
    """What an operation does to its session's names, should it succeed.

    `kind`: prepare (name, text), deallocate (name or '' for all), cursor (name, text),
    close_cursor, setting (name, text=value or '' when unknown), role, discard.
    """

    kind: str
    name: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer of policy to one operation, made ready for the record once and cached."""

    verdict: Verdict
    policy: str = ""
    version: str = ""
    """SHA-256 of the policy document."""
    rule: str = ""
    reason: str = ""
    level: Level = Level.PROCESS
    declares: tuple[Declared, ...] = ()
    record: bytes = b"{}"
    """JSON object for the record: verdict, policy, version, rule, reason, masks and `clear`."""


@dataclass(frozen=True, slots=True)
class Need:
    """Policy cannot decide yet: the names of the facts that it lacks, e.g. `prepared:x`."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an operation ended. `status`: ok, error, suspended, not_run, denied, unknown."""

    status: str
    tag: str = ""
    rows: int = 0
    sqlstate: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refusal, before a protocol puts it in its own words. `kind` is `denied`, `pending`,
    `expired` or `unavailable`; `code` is the protocol-neutral cause:

    denied, no_tls, bad_token, wrong_user, unknown_target, record, target, capacity, drain,
    killed, revoked, expired, cancelled, too_large, protocol, not_supported, internal.
    """

    kind: str
    code: str
    reason: str
    policy: str = ""
    rule: str = ""
    session: str = ""
    operation: int = 0
    hint: str = ""
    approval: str = ""
    expires: str = ""
    url: str = ""


class StoreFailed(Exception):
    """The store cannot be opened, read or written; the text names the place and the cure."""


class RecordFailed(Exception):
    """The record cannot be written: nothing may move on."""


class Refused(Exception):
    """Someone may not come in; carries what to tell the client. Its text is for the log."""

    def __init__(self, refusal: Refusal, cause: str = "") -> None:
        super().__init__(cause or refusal.reason)
        self.refusal = refusal


@dataclass(frozen=True, slots=True)
class RecordedFrame:
    """What replay sees of a frame: its metadata, decoded, and its opened payload (None: sealed)."""

    sequence: int
    kind: str
    party: str
    wall_ns: int
    meta: Mapping[str, Any]
    payload: bytes | None
    leaf: int | None = None
