# SPDX-License-Identifier: GPL-3.0-or-later
"""The FIFO gate in front of a link: bytes pass once their frames are as durable as asked.

It keeps order and counts what waits; what to do when the record fails is its owner's matter.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable

from gateway.model import Level
from gateway.proxy.link import Link
from gateway.proxy.metrics import Metrics
from gateway.proxy.ports import Recorder

log = logging.getLogger("trailgate.proxy")


class Gate:
    """What is written to one link. `held` bytes wait; `on_change` hears how many."""

    __slots__ = (
        "_closing",
        "_failed",
        "_finishing",
        "_flush_seconds",
        "_holds",
        "_link",
        "_metrics",
        "_on_change",
        "_on_failure",
        "_queue",
        "_recorder",
        "_since",
        "_waiting",
        "held",
    )

    def __init__(
        self,
        link: Link,
        recorder: Recorder,
        metrics: Metrics,
        *,
        on_change: Callable[[int], None],
        on_failure: Callable[[], None],
    ) -> None:
        self._link = link
        self._recorder = recorder
        self._metrics = metrics
        self._on_change = on_change
        self._on_failure = on_failure
        self._queue: deque[tuple[bytes, int, Level]] = deque()
        self._holds = 0
        self._waiting = False
        self._closing = False
        self._failed = False
        self._finishing = False
        self._flush_seconds = 5.0
        self._since = 0.0
        self.held = 0

    def send(self, data: bytes, position: int, level: Level) -> None:
        """Pass `data` on once everything up to `position` is at `level`, in order."""
        if self._failed:
            return
        if level is Level.PROCESS and not self._queue and not self._holds:
            # An append is at PROCESS when it returns: the common case asks nobody.
            self._link.write(data)
            return
        self._queue.append((data, position, level))
        self.held += len(data)
        self._on_change(self.held)
        self._advance()

    def hold(self) -> None:
        """Let nothing pass until `release`; calls nest."""
        self._holds += 1

    def release(self) -> None:
        """End one `hold`, unless `close` has ended all."""
        self._holds = max(0, self._holds - 1)
        self._advance()

    def close(self, seconds: float) -> None:
        """Close the link once what waits has passed."""
        self._closing = True
        self._flush_seconds = seconds
        self._holds = 0
        self._advance()

    def finish(self) -> None:
        """End our stream, and keep reading, once what waits has passed."""
        self._finishing = True
        self._advance()

    def cut(self) -> None:
        """Drop what waits, and let nothing pass any more."""
        self._failed = True
        self._queue.clear()
        self.held = 0

    def _advance(self) -> None:
        try:
            self._pass_on()
        except Exception as exc:
            # Whether what waits is in the record is not known: nothing moves on.
            log.error("a gate failed", exc_info=exc)
            self.cut()
            self._on_failure()

    def _pass_on(self) -> None:
        queue = self._queue
        changed = False
        while queue and not self._holds and not self._waiting:
            data, position, level = queue[0]
            if level is not Level.PROCESS and not self._recorder.reached(position, level):
                self._wait(position, level)
                break
            queue.popleft()
            self.held -= len(data)
            changed = True
            self._link.write(data)
        if changed:
            self._on_change(self.held)
        if queue:
            return
        if self._closing:
            self._link.close(self._flush_seconds)
        elif self._finishing and not self._holds:
            self._link.finish()

    def _wait(self, position: int, level: Level) -> None:
        self._waiting = True
        self._since = time.monotonic()
        self._metrics.totals.gate_waits += 1
        self._recorder.when_reached(position, level, self._reached)

    def _reached(self, good: bool) -> None:
        self._waiting = False
        self._metrics.gate_wait_seconds.observe(time.monotonic() - self._since)
        if self._failed:
            return
        if good:
            self._advance()
            return
        self.cut()
        self._on_failure()
