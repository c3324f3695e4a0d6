# SPDX-License-Identifier: GPL-3.0-or-later
"""Policy documents on their way into the evidence.

DATA/journal/<sha256>.policy is written first: an object of the evidence that no leaf names would
be called a stray, so that after a kill between the object and its leaf the leaf is made again.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from gateway.model import RecordFailed
from gateway.record import durable
from gateway.record.frames import canonical
from gateway.record.log import NodeLog

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


class Policies:
    """Names every document that comes into force by a leaf, once a start."""

    def __init__(self, folder: Path, evidence: Path, node_log: NodeLog) -> None:
        self._folder = folder
        self._evidence = evidence
        self._log = node_log
        self._named: set[str] = set()

    async def in_force(self, name: str, text: bytes) -> None:
        """Keep a document and name it. Raises RecordFailed."""
        digest = sha256(text).hexdigest()
        if digest in self._named:
            return
        self._named.add(digest)
        try:
            await asyncio.to_thread(keep, self._folder, name, digest, text)
        except OSError as error:
            self._named.discard(digest)
            raise RecordFailed(durable.explain(self._folder, error)) from error
        self._leaf(name, digest, text)

    def name_kept(self) -> None:
        """Leaves for what an earlier run kept and may not have named. Raises OSError."""
        for name, digest, text in kept(self._folder):
            self._leaf(name, digest, text)

    def _leaf(self, name: str, digest: str, text: bytes) -> None:
        files = [(self._evidence / "policy" / digest, text, True)]
        self._log.append("policy", files, name=name, sha256=digest)
