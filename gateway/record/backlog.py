# SPDX-License-Identifier: GPL-3.0-or-later
"""Closed journal files that wait to be published, between a soft mark and a hard one.

At the soft mark an operator is told; at the hard one nothing new is let in, and no further journal
file is begun: what is open ends, with the room that was kept for that.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

log = logging.getLogger("trailgate.record")

_MIB = 1 << 20
FINE, SOFT, HARD = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Marks:
    """In bytes."""

    soft: int = 1 << 30
    hard: int = 8 << 30


class Backlog:
    """Counts what waits, and says once when a mark is passed, either way."""

    def __init__(self, marks: Marks, clock: Callable[[], float] = time.monotonic) -> None:
        self._marks = marks
        self._clock = clock
        self._waiting: dict[int, tuple[int, float]] = {}
        self.bytes = 0
        self.level = FINE

    @property
    def files(self) -> int:
        return len(self._waiting)

    @property
    def oldest_seconds(self) -> float:
        """Since the file that waits longest was closed; 0 when none waits."""
        if not self._waiting:
            return 0.0
        return max(0.0, self._clock() - min(since for _, since in self._waiting.values()))

    def add(self, number: int, size: int, age_seconds: float = 0.0) -> None:
        """Journal file `number` waits; it was closed `age_seconds` ago."""
        self._waiting[number] = size, self._clock() - age_seconds
        self.bytes += size
        self._weigh()

    def remove(self, number: int) -> None:
        """It was published."""
        self.bytes -= self._waiting.pop(number)[0]
        self._weigh()

    def refuse(self) -> str:
        """Why nothing more may be recorded; empty: it may."""
        if self.level < HARD:
            return ""
        return (
            f"{self.bytes // _MIB} MiB of the record wait to be published, and the hard mark is "
            f"{self._marks.hard // _MIB}: see why evidence does not leave this machine"
        )

    def figures(self) -> Mapping[str, float]:
        """For /metrics."""
        return {
            "journal_files_waiting": self.files,
            "journal_bytes_waiting": self.bytes,
            "journal_oldest_waiting_seconds": self.oldest_seconds,
            "backlog_level": self.level,
        }

    def _weigh(self) -> None:
        marks, before = self._marks, self.level
        self.level = SOFT if self.bytes >= marks.soft else FINE
        self.level = HARD if self.bytes >= marks.hard else self.level
        if self.level == before:
            return
        say = log.critical if self.level == HARD else log.error if self.level else log.info
        said = {
            HARD: "what waits to be published is at the hard mark: nothing new is recorded",
            SOFT: "what waits to be published is at the soft mark",
            FINE: "what waits to be published is below its marks again",
        }
        say(said[self.level], extra={"bytes": self.bytes, "files": self.files})
