# SPDX-License-Identifier: GPL-3.0-or-later
"""Work that is tried each second and fails for a while: one line at each end of that."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from gateway.model import StoreFailed

REPEAT_SECONDS = 300.0
"""Between two lines while it goes on."""


class Outage:
    """Counts failures in a row. `failing` and `over` are what the log says, at `level`.

    A store that is away names its place and cure, so it is told without a traceback; whatever
    nobody foresaw is an error with its traceback, once per kind and outage.
    """

    def __init__(
        self,
        log: logging.Logger,
        failing: str,
        over: str,
        *,
        level: int = logging.WARNING,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._failing = failing
        self._over = over
        self._level = level
        self._now = now
        self._since: float | None = None
        self._told_at = 0.0
        self._failures = 0
        self._unforeseen: set[type[Exception]] = set()

    def failed(self, error: Exception) -> None:
        """It failed once more."""
        now, first = self._now(), self._since is None
        self._since = now if self._since is None else self._since
        self._failures += 1
        if not isinstance(error, StoreFailed) and type(error) not in self._unforeseen:
            self._unforeseen.add(type(error))
            self._log.error(self._failing, extra={"cause": str(error)}, exc_info=error)
        elif first or now - self._told_at >= REPEAT_SECONDS:
            extra = {"cause": str(error), "seconds": round(now - self._since)}
            self._log.log(self._level, self._failing, extra=extra)
        else:
            return
        self._told_at = now

    def worked(self) -> None:
        """It was done."""
        if self._since is None:
            return
        extra = {"seconds": round(self._now() - self._since), "failures": self._failures}
        self._log.log(self._level, self._over, extra=extra)
        self._since, self._failures = None, 0
        self._unforeseen.clear()
