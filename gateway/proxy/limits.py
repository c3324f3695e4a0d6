# SPDX-License-Identifier: GPL-3.0-or-later
"""Every bound of the data path in one place; `config` fills it from the settings file."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.model import Level


@dataclass(frozen=True, slots=True)
class Limits:
    """Counts are links, sizes are bytes, times are seconds."""

    connections: int = 10_000
    """Links of clients at once, logged in or not."""
    unauthenticated: int = 2_000
    """Links before their login is done; at the cap the oldest gives way to the newest."""
    handshake_seconds: float = 10.0
    """From accept to the end of authentication, TLS included."""
    dial_seconds: float = 10.0
    """From the first SYN to the end of the gateway's login at the target."""
    decision_seconds: float = 15.0
    """After this a missing decision is a denial."""
    linger_seconds: float = 30.0
    """How long the outcome of what still runs is awaited after its client has left."""
    linger_bytes: int = 1 << 20
    """How much of an answer is still recorded for a client that has left."""
    flush_seconds: float = 5.0
    """How long the last bytes may take before a link is cut."""
    cancels: int = 64
    """Cancel requests that are passed on at once."""
    held_bytes: int = 1 << 20
    """What a client may send ahead of a decision before its link is no longer read."""
    buffer_bytes: int = 256 * 1024
    """Unsent bytes of one link above which its peer is no longer read."""
    level: Level = Level.PROCESS
    """How durable every frame is before relay; a rule may ask for more."""
