# SPDX-License-Identifier: GPL-3.0-or-later
"""What one relay joins, and what it counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gateway.protocols import Dialog
from gateway.proxy.limits import Limits
from gateway.proxy.link import Link
from gateway.proxy.metrics import Metrics
from gateway.proxy.ports import Recorder, SessionPolicy, SessionRecord


@dataclass(slots=True)
class Counters:
    """What a session did so far; bytes as seen after login, in clear text."""

    operations: int = 0
    denied: int = 0
    rows: int = 0
    bytes_from_client: int = 0
    bytes_to_client: int = 0


@dataclass(frozen=True, slots=True)
class Joined:
    """What a relay joins. `on_end` hears the reason and detail of the end, once."""

    dialog: Dialog
    policy: SessionPolicy
    record: SessionRecord
    recorder: Recorder
    client: Link
    target: Link
    limits: Limits
    metrics: Metrics
    on_end: Callable[[str, str], None]
