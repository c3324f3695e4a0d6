# SPDX-License-Identifier: GPL-3.0-or-later
"""Policy documents on their way into the evidence.

DATA/journal/<sha256>.policy is written first: an object of the evidence that no leaf names would
be called a stray, so that after a kill between the object and its leaf the leaf is made again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from gateway.record import durable
from gateway.record.frames import canonical

_SUFFIX = ".policy"


def keep(folder: Path, name: str, digest: str, text: bytes) -> None:
    """Raises OSError. Blocks."""
    data = canonical({"name": name, "text": text.decode("latin-1")})
    durable.put(folder / f"{digest}{_SUFFIX}", data, folder / ".unfinished-policy", 0o600)


def kept(folder: Path) -> Iterator[tuple[str, str, bytes]]:
    """(name, SHA-256, text) of what may lack its leaf. Raises OSError."""
    for path in sorted(folder.glob(f"*{_SUFFIX}")):
        fields = json.loads(path.read_bytes())
        yield fields["name"], path.stem, fields["text"].encode("latin-1")


def forget(folder: Path) -> None:
    """Once the leaves are signed. Raises OSError."""
    for path in folder.glob(f"*{_SUFFIX}"):
        path.unlink()
