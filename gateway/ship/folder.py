# SPDX-License-Identifier: GPL-3.0-or-later
"""Publishes into a folder: link or copy, sync, rename, read back. No retries (spool has them)."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

from gateway.ship import ShipConflict, ShipFailed
from gateway.ship.digest import file_digest, require_digest, require_name

_UNFINISHED = ".shipping-"


class FolderPublisher:
    """The evidence root is a folder, on this disk or a mounted one."""

    def __init__(self, evidence: Path) -> None:
        self._evidence = evidence

    async def publish(self, path: Path, object_name: str, sha256: str) -> None:
        """As Publisher. Cancelling leaves at worst an unfinished file, which a repeat removes."""
        target = self._place(require_name(object_name))
        try:
            await asyncio.to_thread(_publish, path, target, sha256)
        except OSError as error:
            raise ShipFailed(f"{target}: {error.strerror or error}") from error

    def _place(self, name: str) -> Path:
        # Keys lie beside the evidence, never in it: a copy of the evidence alone opens nothing.
        return (self._evidence.parent if name.startswith("keys/") else self._evidence) / name


def _publish(path: Path, target: Path, sha256: str) -> None:
    if not _already_there(target, sha256):
        require_digest(path, sha256)
        target.parent.mkdir(parents=True, exist_ok=True)
        _put(path, target)
    # Read back what lies there now, whoever put it there.
    if (found := file_digest(target)) != sha256:
        raise ShipFailed(f"{target}: reads back with SHA-256 {found}, not {sha256}: bad disk?")


def _already_there(target: Path, sha256: str) -> bool:
    try:
        found = file_digest(target)
    except FileNotFoundError:
        return False
    if found != sha256:
        raise ShipConflict(
            f"{target}: is there already with other bytes (SHA-256 {found}); evidence is never "
            "overwritten: move that file away and find out who wrote it"
        )
    return True


def _put(path: Path, target: Path) -> None:
    unfinished = target.with_name(_UNFINISHED + target.name)
    unfinished.unlink(missing_ok=True)
    try:
        os.link(path, unfinished)
    except OSError:
        # Another file system, or one without links.
        shutil.copyfile(path, unfinished)
    _sync(unfinished)
    os.rename(unfinished, target)
    # The same inode twice makes rename a no-op that leaves both names.
    unfinished.unlink(missing_ok=True)
    _sync(target.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
