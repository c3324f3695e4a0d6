# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of cancel keys: what a client holds, and which session it means.

The target's real key never reaches a client. What a cancel request does is the session's matter.
"""

from __future__ import annotations

import secrets
from typing import Generic, TypeVar

T = TypeVar("T")

KEY_BYTES = 4
"""PostgreSQL 3.0 has room for 32 bits; the process id is the target's own (clients match it)."""


class Cancels(Generic[T]):
    """Keys in use. Two targets may give the same process id: the key tells them apart."""

    def __init__(self) -> None:
        self._sessions: dict[tuple[int, bytes], T] = {}

    def issue(self, process: int, session: T) -> bytes:
        """A fresh random key for `session`, unique beside its process id."""
        while True:
            key = secrets.token_bytes(KEY_BYTES)
            if (process, key) not in self._sessions:
                self._sessions[process, key] = session
                return key

    def find(self, process: int, key: bytes) -> T | None:
        """The session that holds this key."""
        return self._sessions.get((process, key))

    def drop(self, process: int, key: bytes) -> None:
        """The session is over."""
        self._sessions.pop((process, key), None)
