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
        objects = self._objects()
        return any(
            _gives(access, right, target) and _is_of(caller, access, objects)
            for access in objects.accesses.values()
        )


def _gives(access: AccessObject, right: Right, target: str | None) -> bool:
    given = right in access.may or ("admin" in access.may and right in OF_ADMIN)
    return given and (target is None or any(fnmatchcase(target, one) for one in access.targets))


def _is_of(caller: Grant, access: AccessObject, objects: Objects) -> bool:
    urls = {objects.issuers[name].url for name in access.issuers if name in objects.issuers}
    if access.issuers and caller.origin.issuer not in urls:
        return False
    return not set(access.groups).isdisjoint(caller.groups)
