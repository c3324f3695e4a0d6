# SPDX-License-Identifier: GPL-3.0-or-later
"""Native clients: what each needs to reach a target through the gateway. One file a protocol.

Each module here has a `CLIENT` (`NativeClient`); `run`, `connect` and `config` find it by its
protocol, and know nothing else of any.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from typing import Protocol as Interface

from gateway.admin.cli.output import Failed

Target = Mapping[str, Any]
"""As GET /api/v1/self lists it: name, protocol, host, port, database, user, tls."""


@dataclass(frozen=True, slots=True)
class Access:
    """What a client gets in by, and the folder of its files, which is its user's alone."""

    token: str
    folder: Path
    ca_path: str | None
    """None: the gateway's certificate is of a CA that the system knows."""

    def __repr__(self) -> str:
        return f"Access({self.folder})"


class NativeClient(Interface):
    """How the usual client of one protocol is set up."""

    protocol: str
    name: str
    """As `trailgate config` calls it."""
    program: str
    """What `connect` runs."""
    never_inherited: tuple[str, ...]
    """Variables that hold authority, or that lead around the gateway."""
    place: tuple[str, ...]
    """Variables that are kept only while they name one of the gateway's targets."""

    def is_at(self, env: Mapping[str, str], target: Target) -> bool:
        """Whether the variables of `place` name this target."""

    def environment(
        self, targets: Sequence[Target], chosen: Target | None, access: Access
    ) -> dict[str, str]:
        """Variables for the target chosen; files for all of `targets` are written."""

    def configure(self, targets: Sequence[Target], access: Access) -> Configuration:
        """Files by which the client finds each target by its name."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """What `trailgate config` writes; every file is its owner's alone."""

    files: Mapping[str, str]
    """Name to text."""
    environment: Mapping[str, str]
    usage: Sequence[str]
    """A command line for each target; none holds a token."""


@cache
def clients() -> Mapping[str, NativeClient]:
    """By protocol."""
    modules = [importlib.import_module(f"{__name__}.{one.name}") for one in _found()]
    return {module.CLIENT.protocol: module.CLIENT for module in modules}


def _found() -> list[pkgutil.ModuleInfo]:
    return sorted(pkgutil.iter_modules(__path__), key=lambda one: one.name)


def named(targets: Sequence[Target], name: str) -> Target:
    """The target of that name. Raises Failed."""
    for target in targets:
        if target["name"] == name:
            return target
    known = ", ".join(sorted(str(target["name"]) for target in targets)) or "none"
    raise Failed(f"this token may use no target {name!r}", f"the target is one of: {known}")
