# SPDX-License-Identifier: GPL-3.0-or-later
"""Carries closed journal files, the log and the keys to where auditors read them.

`Publisher` is what the record ships through; `folder` and `s3` are its kinds, `spool` adds the
patience, `mirror` ships the log. What the objects mean is left to the record.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol as Interface


class ShipFailed(Exception):
    """An object could not be shipped; trying again may help."""


class ShipConflict(ShipFailed):
    """Trying again cannot help: the object or the file holds other bytes than were asked for."""


class Publisher(Interface):
    """Where closed files go."""

    async def publish(self, path: Path, object_name: str, sha256: str) -> None:
        """Publish the file under its name; returns only once the stored bytes were verified.

        `object_name` is relative to the evidence root (`keys/...` relative to its parent),
        `sha256` the hex digest of the file. Safe to repeat: an equal object that is already
        there is success. Raises ShipFailed, or ShipConflict when other bytes are there.
        """
