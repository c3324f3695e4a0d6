# SPDX-License-Identifier: GPL-3.0-or-later
"""What declaring needs of the rest of the gateway."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any
from typing import Protocol as Interface

from gateway.declare.whole import Whole
from gateway.model import RecordFailed

log = logging.getLogger("trailgate")


class SecretKeeper(Interface):
    """The vault: where a secret goes that was given by value. It never gives one back here."""

    async def keep(self, credential: str, secret: str, by: str) -> int:
        """Keep a new secret of a credential; its version. Raises StoreFailed, VaultFailed."""

    async def drop(self, credential: str) -> None:
        """Forget every secret of a credential. Raises StoreFailed."""

    async def held(self, credential: str) -> bool:
        """Whether a secret of this credential is kept. Raises StoreFailed."""


class Prepared(Interface):
    """A whole set that is ready to be in force."""

    async def commit(self) -> None:
        """Put it in force on this node."""

    async def undo(self) -> None:
        """Let go of what was opened for it; what was in force stays."""


class Force(Interface):
    """What is in force on this node."""

    async def check(self, whole: Whole) -> None:
        """Whether it could be in force, as far as that can be told. Raises Rejected."""

    async def prepare(self, whole: Whole) -> Prepared:
        """Make everything ready that can fail. Raises Rejected."""


class ChangeRecord(Interface):
    """The node's record of changes."""

    async def config_changed(self, event: Mapping[str, Any], document: bytes) -> None:
        """Record a change and wait until it is on disk. Raises RecordFailed.

        `event` stands in the clear, `document` is sealed for the auditors.
        """


async def record_unknown(record: ChangeRecord, change: str) -> None:
    """Record that it is not known whether a change, recorded already, was made. Never raises
    RecordFailed, which would say that it was not."""
    try:
        await record.config_changed({"event": "config.unknown", "change": change}, b"")
    except RecordFailed as error:
        log.error("a change has no outcome in the record", extra={"cause": str(error)})
