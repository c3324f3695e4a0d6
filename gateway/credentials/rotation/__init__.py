# SPDX-License-Identifier: GPL-3.0-or-later
"""The contract of a kind of rotation, and how the gateway finds the kinds there are.

A kind knows how one sort of target changes a secret. What comes before and after, and what a crash
leaves behind, is steps.py's affair, for all kinds once.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Hashable
from typing import Protocol as Interface
from typing import runtime_checkable

from gateway.model import Credential, Target


class RotationFailed(Exception):
    """Something about a rotation went wrong; the text is for people and holds no secret."""


class Unreached(RotationFailed):
    """The target is away or unfit: whether something was changed there is as it was before."""


class Unknown(RotationFailed):
    """The target fell silent after it was asked to change a secret: it may have done so."""


class NotLetIn(RotationFailed):
    """The target does not take this credential."""


class Denied(RotationFailed):
    """The target let us in and refused the change: nothing was changed."""


class Visit(Interface):
    """A link to a target that has let the gateway in."""

    def send(self, data: bytes) -> None: ...

    async def receive(self) -> bytes:
        """The next bytes. Raises ConnectionError once the target has left."""

    def leave(self) -> None:
        """End it. Idempotent."""


class Door(Interface):
    """How the gateway gets into targets on its own account (gateway/proxy/visits.py)."""

    async def enter(self, target: Target, credential: Credential, database: str) -> Visit:
        """Sign in, as a session would. Raises Unreached, NotLetIn."""


@runtime_checkable
class Kind(Interface):
    """One sort of secret. Each module of this folder may offer one as `KIND`.

    Each call is under a deadline of its caller's, and may be made again after a crash: to change a
    secret to what it is already does no harm.
    """

    name: str
    protocol: str
    """Targets of which it can be used."""
    logins: frozenset[str]
    """Login methods that it can change the secret of."""

    def place(self, target: Target) -> Hashable:
        """Equal for targets that keep one and the same secret."""

    def new_secret(self) -> str:
        """A secret that nobody can guess."""

    async def change(
        self, door: Door, target: Target, signed_in: Credential, account: str, secret: str
    ) -> None:
        """Give `account` a new secret, signed in as itself or as an administrator.

        Raises Unreached, NotLetIn, Denied: nothing was changed; Unknown.
        """

    async def prove(self, door: Door, target: Target, credential: Credential) -> None:
        """Sign in with it and leave. Raises Unreached, NotLetIn."""

    async def withdraw(
        self, door: Door, target: Target, signed_in: Credential, account: str
    ) -> None:
        """Take an account's secret away, as an administrator. Raises as `change`."""


def discover() -> dict[str, Kind]:
    """Every kind there is, by name."""
    found: dict[str, Kind] = {}
    for info in pkgutil.iter_modules(__path__):
        kind = getattr(importlib.import_module(f"{__name__}.{info.name}"), "KIND", None)
        if kind is not None:
            found[kind.name] = kind
    return found
