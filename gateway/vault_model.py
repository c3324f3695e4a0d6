# SPDX-License-Identifier: GPL-3.0-or-later
"""The nouns of the vault, as the store keeps them. Pure data: no sockets, files or clocks."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class SecretVersion:
    """One version of a credential's secret as the store keeps it: sealed, with its history.

    `state`: pending, proved, current, retired, revoked. Times are seconds since the epoch, None:
    not yet. `wrapped` and `sealed` are empty once it is revoked.
    """

    credential: str
    version: int
    account: str
    """The user at the target that it is of."""
    state: str
    made_by: str
    made_at: float
    proved_at: float | None = None
    current_at: float | None = None
    retired_at: float | None = None
    revoked_at: float | None = None
    until: float | None = None
    """Retired: may be signed in with until then, should the target refuse the current one."""
    placed_at: float | None = None
    """Since then the target has it in the place of the current one."""
    master: str = ""
    wrapped: bytes = field(default=b"", repr=False)
    sealed: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class SecretMove:
    """A version goes on to another state, from one of `before`; `until` as in SecretVersion."""

    credential: str
    version: int
    before: tuple[str, ...]
    to: str
    at: float
    until: float | None = None
    placed: bool = False
    """The target has it now in the place of the current one."""


@dataclass(frozen=True, slots=True)
class Rotation:
    """A rotation as the store keeps it: how far one secret has come on its way.

    `step`: the last one that was reached (credentials/rotation/steps.py). Times are seconds since
    the epoch.
    """

    id: str
    credential: str
    kind: str
    mode: str
    account: str
    """The user at the target whose secret is made."""
    version: int
    previous: int
    """The version in whose place it comes; 0: there is none."""
    step: str
    cause: str
    """`schedule` or `command`."""
    by: str
    begun_at: float
    step_at: float
    attempts: int = 0
    """At the present step, that failed."""
    retry_at: float | None = None
    until: float | None = None
    """The end of the grace, once switched."""
    ended_at: float | None = None
    outcome: str = ""
    """`done` or `failed`, once ended."""
    detail: str = ""
    """Why the last attempt failed."""


@dataclass(frozen=True, slots=True)
class SealingKey:
    """A wrapped key that seals what the gateway keeps for itself, for one purpose."""

    purpose: str
    number: int
    master: str
    wrapped: bytes = field(repr=False)
