# SPDX-License-Identifier: GPL-3.0-or-later
"""What `app` hands to the proxy, and what the proxy tells of its sessions."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from gateway.model import Session
from gateway.protocols import ProtocolDefinition
from gateway.proxy.limits import Limits
from gateway.proxy.metrics import Metrics
from gateway.proxy.ports import Authenticator, Catalog, Policy, Recorder, Renewed


@dataclass
class ProxyServices:
    """Everything that a session needs of the rest of the gateway."""

    catalog: Catalog
    authenticator: Authenticator
    recorder: Recorder
    policy: Policy
    protocols: Mapping[str, ProtocolDefinition]
    limits: Limits = field(default_factory=Limits)
    node: str = "gateway"
    server_tls: ssl.SSLContext | None = None
    metrics: Metrics = field(default_factory=Metrics)
    now: Callable[[], float] = time.time
    """Seconds since the epoch by the clock that grants expire by."""
    renewed: Renewed | None = None


@dataclass(frozen=True, slots=True)
class ListenSpec:
    """One listener. With `target` it is that target's own, and the database field keeps the
    target's meaning; without, the database field names the target."""

    protocol: str
    host: str
    port: int
    target: str | None = None
    plain: bool = False
    """Take links without TLS; only ever on a loopback address. A target of its own may ask too."""


@dataclass(frozen=True, slots=True)
class SessionView:
    """A live session as it stands."""

    session: Session
    state: str
    """`opening` or `open`."""
    operations: int
    denied: int
    rows: int
    bytes_from_client: int
    bytes_to_client: int
    policies: tuple[Mapping[str, str], ...] = ()
