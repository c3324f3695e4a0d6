# SPDX-License-Identifier: GPL-3.0-or-later
"""What callers may do on the gateway itself, by `access` objects."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Literal

from gateway.config import Objects
from gateway.config.objects import AccessObject
from gateway.model import Grant

Right = Literal["approve", "read_sessions", "audit", "operate", "admin"]
OF_ADMIN = frozenset(("read_sessions", "audit", "operate", "admin"))
"""What `admin` includes. It does not include `approve`: who writes the rules asks others."""


class Rights:
    """The rights that are in force now."""

    def __init__(self, objects: Callable[[], Objects]) -> None:
        self._objects = objects

    def may(self, caller: Grant | None, right: Right, target: str | None = None) -> bool:
        """Whether a caller has a right, on a target where one is named.

        None is whoever came by the admin socket. A token that was exchanged has no rights, nor
        has one that was narrowed: they belong to who logged in.
        """
        if caller is None:
            return True
        if caller.chain or caller.narrowing:
            return False
        return any(
            target is None or any(fnmatchcase(target, one) for one in access.targets)
            for access in self._giving(caller, right)
        )

    def everywhere(self, caller: Grant | None, right: Right) -> bool:
        """Whether a caller has a right on all targets: what belongs to no target needs that."""
        return self.may(caller, right) and (
            caller is None or any("*" in one.targets for one in self._giving(caller, right))
        )

    def on_credential(self, caller: Grant | None, right: Right, name: str) -> bool:
        """Whether a caller has a right on a credential: it needs it on each target that names it,
        and everywhere for one that none does."""
        targets = self._objects().targets.values()
        named = [one.name for one in targets if name in one.credentials]
        if not named:
            return self.everywhere(caller, right)
        return all(self.may(caller, right, target) for target in named)

    def _giving(self, caller: Grant, right: Right) -> list[AccessObject]:
        objects = self._objects()
        return [
            access
            for access in objects.accesses.values()
            if _gives(access, right) and _is_of(caller, access, objects)
        ]


def _gives(access: AccessObject, right: Right) -> bool:
    return right in access.may or ("admin" in access.may and right in OF_ADMIN)


def _is_of(caller: Grant, access: AccessObject, objects: Objects) -> bool:
    urls = {objects.issuers[name].url for name in access.issuers if name in objects.issuers}
    if access.issuers and caller.origin.issuer not in urls:
        return False
    return not set(access.groups).isdisjoint(caller.groups)
