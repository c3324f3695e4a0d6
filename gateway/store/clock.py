# SPDX-License-Identifier: GPL-3.0-or-later
"""The database's clock, read here: all nodes judge expiry by the same one."""

from __future__ import annotations

import sys
import time

import psycopg

from gateway.store.database import Row

ASK = "SELECT extract(epoch FROM clock_timestamp())::float8 AS now"
SLOWEST = 0.5
"""An answer that took longer says too little, in seconds; the one before is kept."""


def steady() -> float:
    """Seconds since some moment; no one can set it, and it goes on while the machine sleeps."""
    if sys.platform.startswith("linux"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class DatabaseClock:
    """Seconds since the epoch as the database counts them; this machine's until it was asked."""

    def __init__(self) -> None:
        self._ahead: float | None = None
        """Of `steady`."""

    def __call__(self) -> float:
        ahead = self._ahead
        return time.time() if ahead is None else steady() + ahead

    def measure(self, raw: psycopg.Connection[Row]) -> None:
        """Ask; the answer was right somewhere between the question and now."""
        asked = steady()
        cursor = raw.execute(ASK)
        heard = steady()
        row = cursor.fetchone()
        if row is not None and (heard - asked <= SLOWEST or self._ahead is None):
            self._ahead = row["now"] - (asked + heard) / 2
