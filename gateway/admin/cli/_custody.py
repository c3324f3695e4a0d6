# SPDX-License-Identifier: GPL-3.0-or-later
"""What `doctor` looks at in the vault: that its master key is there, and lies apart."""

from __future__ import annotations

import os
from pathlib import Path

from gateway.admin.cli._checks import NOTE, OK, UNKNOWN, WRONG, Finding
from gateway.config import Settings
from gateway.credentials.master import VaultFailed
from gateway.wiring.custody import master_key_of


async def check_master_key(settings: Settings) -> Finding:
    """Whether the master key wraps and unwraps, and whether a thief of the disk has it too."""
    source = settings.master_key_source
    if source.kind == "systemd-credential" and "CREDENTIALS_DIRECTORY" not in os.environ:
        detail = "is passed to the service only, so it cannot be seen from here"
        return Finding("master_key", source, NOTE, detail, "the service's log says if it failed")
    if source.kind == "file" and settings.master_key.key is None and not _there(source.name):
        return Finding("master_key", source, NOTE, "is made at the first start")
    try:
        key = master_key_of(settings, source)
        await key.start()
        await key.close()
    except VaultFailed as error:
        told, _, cure = str(error).partition("; ")
        state = WRONG if source.kind == "file" else UNKNOWN
        return Finding("master_key", source, state, told, cure)
    store = settings.store_place
    if source.kind == "file" and isinstance(store, Path) and _same_disk(Path(source.name), store):
        detail = "lies on the disk of the store: whoever takes that disk has the secrets too"
        cure = "use a systemd credential that a TPM seals, aws-kms or vault-transit"
        return Finding("master_key", source, NOTE, detail, cure)
    return Finding("master_key", source, OK, "wraps and unwraps")


def _there(path: str) -> bool:
    return Path(path).exists()


def _same_disk(key: Path, store: Path) -> bool:
    """By the file systems' devices; of a store that is not there yet, its nearest folder's."""
    there = store
    while not there.exists() and there != there.parent:
        there = there.parent
    return key.stat().st_dev == there.stat().st_dev
