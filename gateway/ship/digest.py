# SPDX-License-Identifier: GPL-3.0-or-later
"""The SHA-256 of a file at bounded memory, and the names that objects may have."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from gateway.ship import ShipConflict

_NAME = re.compile(r"(?!.*(?:^|/)\.\.?(?:/|$))[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*")


def file_digest(path: Path) -> str:
    """Hex SHA-256 of the file's bytes. Raises OSError."""
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_digest(path: Path, sha256: str) -> None:
    """Raise ShipConflict unless the file still is what its caller hashed."""
    if (found := file_digest(path)) != sha256:
        raise ShipConflict(
            f"{path}: its SHA-256 is {found}, not {sha256}: the file changed after it was closed; "
            "it is kept where it is, check the disk"
        )


def require_name(object_name: str) -> str:
    """The name itself, if it can lead nowhere but below the root. Raises ShipConflict."""
    if not _NAME.fullmatch(object_name):
        raise ShipConflict(f"{object_name!r} is no name for an object of the evidence")
    return object_name
