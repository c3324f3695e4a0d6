# SPDX-License-Identifier: GPL-3.0-or-later
"""The contract that a protocol fulfils, and how the gateway finds the protocols there are.

A protocol is pure: bytes in, effects out. It never sees a socket, a clock, policy or the record.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, runtime_checkable
from typing import Protocol as Interface

from gateway.model import (
    Credential,
    Decision,
    Operation,
    Outcome,
    RecordedFrame,
    Refusal,
    Session,
    Target,
)


class WireError(Exception):
    """The peer broke its protocol, or spoke what the gateway refuses to pass on."""


# --- effects of a dialog -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ToClient:
    """Send these bytes to the client. `own`: made by the gateway, not by the target."""

    data: bytes
    own: bool = False


@dataclass(frozen=True, slots=True)
class ToTarget:
    """Send these bytes to the target. `own`: made by the gateway, not by the client."""

    data: bytes
    own: bool = False


@dataclass(frozen=True, slots=True)
class Keep:
    """Bytes of the target that answer a message of our own: recorded, not passed on."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Ask:
    """May this operation run? Answered by `decided(operation.id, ...)`, now or later.

    `again`: the same operation was allowed before, and policy may have changed since.
    """

    operation: Operation
    again: bool = False


@dataclass(frozen=True, slots=True)
class Done:
    """An operation ended. `start` and `end` are offsets in the answer stream (bytes sent to the
    client since the session opened)."""

    operation: int
    outcome: Outcome
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Settled:
    """A batch ended; `state` is the transaction state in the protocol's word (I, T or E)."""

    state: str


@dataclass(frozen=True, slots=True)
class Close:
    """End the session: both links are cut after what was sent before is flushed."""

    reason: str
    detail: str = ""


Effect = ToClient | ToTarget | Keep | Ask | Done | Settled | Close


class Dialog(Interface):
    """The conversation of one session after both logins. A plain state machine.

    At most one call is active at a time; calls are never nested.
    """

    @property
    def buffered(self) -> int:
        """Bytes of the client that wait for a decision (the relay pauses reading at 1 MiB)."""

    @property
    def at_border(self) -> bool:
        """True when the client stands at a message border, so that a last error may be sent."""

    @property
    def busy(self) -> bool:
        """True while the target owes an answer; a drain waits for False and no open transaction."""

    @property
    def state(self) -> str:
        """Transaction state as last seen: I, T or E."""

    def from_client(self, data: bytes) -> list[Effect]: ...

    def from_target(self, data: bytes) -> list[Effect]: ...

    def decided(self, operation: int, decision: Decision) -> list[Effect]: ...

    def fact(self, name: str) -> str | None:
        """A fact of this session that policy asked for, e.g. `prepared:x`; None if unknown."""

    def client_gone(self) -> list[Effect]:
        """The client's stream ended: undecided operations end as `not_run`. Without a Close, the
        dialog stays for the outcome of what runs, and closes once it is not `busy` any more."""

    def refused(self, refusal: Refusal) -> list[Effect]:
        """The gateway ends the session: the protocol's last words, if at a border, and Close."""

    def running(self) -> int:
        """The operation that the target works on now (what a cancel request may stop); 0: none."""


# --- login of the client -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StartTls:
    """Begin TLS as server on the client's link, with `pushed_back` as its first bytes.

    The bytes that asked for it have been answered by an earlier ToClient.
    """

    pushed_back: bytes = b""
    alpn: str = ""
    """The ALPN protocol that the client must have offered; '' asks for none."""


@dataclass(frozen=True, slots=True)
class Present:
    """The client presented a token. Answered by `accepted` or `refused`."""

    token: str
    user: str
    database: str
    settings: tuple[tuple[str, str], ...] = ()
    """Start-up parameters on the allow list, passed to the target."""
    labels: tuple[tuple[str, str], ...] = ()
    """What the client says of itself (application name): a claim, never used to decide."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """Not a session: a request to cancel what another session runs. `key` is the client's."""

    process: int
    key: bytes


LoginEffect = ToClient | StartTls | Present | Cancel | Close


class Greeter(Interface):
    """The client's side of a login, from the first byte to the end of authentication."""

    def receive(self, data: bytes) -> list[LoginEffect]: ...

    def tls_started(self, alpn: str | None) -> list[LoginEffect]: ...

    def refused(self, refusal: Refusal) -> list[LoginEffect]: ...

    def welcome(self, session: Session, ready: Ready, key: bytes) -> bytes:
        """What tells the client that it is in (parameters, a cancel key of our own, ready)."""

    def leftover(self) -> bytes:
        """Bytes that arrived behind the login; the dialog's first input."""


# --- login at the target -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Derive:
    """Compute PBKDF2-HMAC-SHA-256 off the loop (RFC 5802); answered by `derived(salted)`."""

    password: bytes
    salt: bytes
    iterations: int


@dataclass(frozen=True, slots=True)
class ClientTls:
    """Begin TLS as client on the target's link."""


@dataclass(frozen=True, slots=True)
class Ready:
    """The target let the gateway in."""

    process: int
    key: bytes
    """The target's real cancel key: it never reaches a client."""
    parameters: tuple[tuple[str, str], ...]
    notices: bytes = b""
    """Notices of the target during start-up, in wire form, for the client."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The target refused, or broke its protocol. `refusal` is safe to show; `cause` goes to the
    log. `relayed`: the target's own error in wire form where the client should see it as it is."""

    refusal: Refusal
    cause: str
    relayed: bytes = b""
    credential_refused: bool = False
    """The target said that it does not take this credential: another one may do."""


SigninEffect = ToTarget | Derive | ClientTls | Ready | Failed


class Signin(Interface):
    """The gateway's own login at a target."""

    def begin(self) -> list[SigninEffect]: ...

    def receive(self, data: bytes) -> list[SigninEffect]: ...

    def tls_started(self, channel_binding: bytes | None) -> list[SigninEffect]:
        """`channel_binding`: tls-server-end-point (RFC 5929) of the target's certificate."""

    def derived(self, salted: bytes) -> list[SigninEffect]: ...


# --- replay --------------------------------------------------------------------------------------


@runtime_checkable
class ProtocolDefinition(Interface):
    """One way to speak. Each package below `gateway.protocols` offers one as `PROTOCOL`."""

    name: str
    default_port: int
    listener_port: int
    language: str
    options: type

    def greeter(self, *, plain: bool, loopback: bool) -> Greeter: ...

    def signin(
        self,
        target: Target,
        credential: Credential,
        session: Session,
        settings: Iterable[tuple[str, str]],
        nonce: bytes,
    ) -> Signin: ...

    def dialog(self, session: Session, ready: Ready) -> Dialog: ...

    def cancel_request(self, ready: Ready) -> bytes:
        """The bytes that, on a new link to the target, cancel what runs on this one."""

    def replay(
        self, frames: Iterable[RecordedFrame], rows_per_piece: int | None = None
    ) -> Iterable[dict[str, Any]]:
        """Operations as `audit replay` prints them, in order. With `rows_per_piece`, a large one
        comes in several dicts of the same `seq`, so that memory stays bounded."""


def discover() -> dict[str, ProtocolDefinition]:
    """Every protocol there is, by name: each package in this folder that has a `PROTOCOL`."""
    found: dict[str, ProtocolDefinition] = {}
    for info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{info.name}")
        definition = getattr(module, "PROTOCOL", None)
        if definition is not None:
            found[definition.name] = definition
    return found


def joined(effects: Sequence[Effect], kind: type) -> bytes:
    """All bytes of one kind of effect, in order; for tests and for the relay's batches."""
    return b"".join(effect.data for effect in effects if isinstance(effect, kind))  # type: ignore[union-attr]
