# SPDX-License-Identifier: GPL-3.0-or-later
"""What was declared of keeping the record, as leaves: legal holds, and how long it is kept.

DATA/journal/declared.json says what the log has; a leaf that is written twice after a kill says
the same twice.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gateway.model import RecordFailed
from gateway.record import durable
from gateway.record.frames import canonical
from gateway.record.log import NodeLog

_NAME = "declared.json"


@dataclass(frozen=True, slots=True)
class Hold:
    """A legal hold: no session that it covers may be erased. Times are as leaves have them; an
    empty one is no bound, and no targets are all."""

    name: str
    targets: tuple[str, ...] = ()
    since: str = ""
    until: str = ""

    def covers(self, target: str | None, opened: str | None, closed: str | None) -> bool:
        """Whether it covers a session; what is not known of one is taken to be covered."""
        if self.targets and target is not None and target not in self.targets:
            return False
        if self.until and opened is not None and opened > self.until:
            return False
        return not (self.since and closed is not None and closed < self.since)

    def members(self) -> dict[str, Any]:
        """Of its leaf."""
        return {
            "name": self.name,
            "targets": sorted(self.targets),
            "since": self.since,
            "until": self.until,
        }


@dataclass(frozen=True, slots=True)
class Retention:
    """How long segments and wrapped keys are kept, in days; 0: without end."""

    name: str = ""
    sessions: int = 0
    keys: int = 0


FOR_EVER = Retention()


class Declared:
    """Signs what changed. On the loop only."""

    def __init__(self, folder: Path, node_log: NodeLog) -> None:
        self._folder = folder
        self._log = node_log
        self.holds: dict[str, Hold] = {}
        self.retention = FOR_EVER

    async def put(self, holds: Mapping[str, Hold], retention: Retention) -> None:
        """Make it so. Raises RecordFailed."""
        path = self._folder / _NAME
        try:
            signed = await asyncio.to_thread(_read, path)
        except (OSError, ValueError) as error:
            raise RecordFailed(f"{path}: cannot be read: remove it, or restore it") from error
        before = signed.get("holds", {})
        after = {hold.name: hold.members() for hold in holds.values()}
        leaf = -1
        for name, members in sorted(after.items()):
            if before.get(name) != members:
                leaf = self._log.append("legal_hold", state="set", **members)
        for name, members in sorted(before.items()):
            if name not in after:
                leaf = self._log.append("legal_hold", state="lifted", **members)
        if signed.get("retention", asdict(FOR_EVER)) != asdict(retention):
            leaf = self._log.append("retention", **asdict(retention))
        # A hold is obeyed from now on, whether or not it is signed yet.
        self.holds, self.retention = dict(holds), retention
        if leaf >= 0:
            await self._log.durable(leaf)
            data = canonical({"holds": after, "retention": asdict(retention)})
            unfinished = self._folder / f".{_NAME}"
            try:
                await asyncio.to_thread(durable.put, path, data, unfinished, 0o600)
            except OSError as error:
                raise RecordFailed(durable.explain(path, error)) from error


def _read(path: Path) -> dict[str, Any]:
    try:
        fields = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    if not isinstance(fields, dict):
        raise ValueError("no object")
    return fields
