# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator may set for a PostgreSQL target, beside what every target has."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PostgresOptions:
    """Options of one PostgreSQL target; the defaults suit nearly everyone."""

    text_limit: int = 16 * 1024 * 1024
    """Longest statement text in bytes; a longer one is refused with 54000."""
    scram_iterations_limit: int = 1_000_000
    """Highest PBKDF2 iteration count that a target may ask of the gateway (its CPU time)."""
    name_sessions: bool = True
    """Put the session's id in front of the application name that the target logs."""

    def __post_init__(self) -> None:
        if self.text_limit < 1024:
            raise ValueError("text_limit: at least 1024 bytes")
        if self.scram_iterations_limit < 4096:
            raise ValueError("scram_iterations_limit: at least 4096 (RFC 7677)")
