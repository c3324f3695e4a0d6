# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts operations to policy: at once where the answer is cached, else in a task.

Fails closed: whatever policy raises, and a decision that does not come in time, is a denial.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace

from gateway.model import Decision, Operation, Verdict
from gateway.protocols import Ask
from gateway.proxy.faults import traced
from gateway.proxy.limits import Limits
from gateway.proxy.metrics import Metrics
from gateway.proxy.ports import SessionPolicy
from gateway.proxy.turn import decision_record

log = logging.getLogger("trailgate.proxy")


class Questions:
    """The operations of one session that wait for a decision."""

    __slots__ = ("_limits", "_metrics", "_session", "_waiting", "policy")

    def __init__(
        self, policy: SessionPolicy, limits: Limits, metrics: Metrics, session: str
    ) -> None:
        self.policy = policy
        """As it stands; a reload puts another one here."""
        self._limits = limits
        self._metrics = metrics
        self._session = session
        self._waiting: dict[int, tuple[Operation, asyncio.Task[None]]] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def at_once(self, operation: Operation) -> Decision | None:
        """The decision, if it takes no waiting."""
        try:
            return self.policy.decide_now(operation)
        except Exception as exc:
            return self._failed(exc)

    def later(
        self,
        ask: Ask,
        fact: Callable[[str], str | None],
        then: Callable[[Ask, Decision], None],
    ) -> None:
        """Decide in a task and call `then`, unless `drop` comes first."""
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._decide(ask, fact, then))
        self._waiting[ask.operation.id] = (ask.operation, task)

    def drop(self) -> list[Operation]:
        """Decide nothing any more; what was undecided."""
        undecided = []
        for operation, task in self._waiting.values():
            task.cancel()
            undecided.append(operation)
        self._waiting.clear()
        return undecided

    async def _decide(
        self,
        ask: Ask,
        fact: Callable[[str], str | None],
        then: Callable[[Ask, Decision], None],
    ) -> None:
        started = time.monotonic()
        try:
            async with asyncio.timeout(self._limits.decision_seconds):
                decision = await self.policy.decide(ask.operation, fact)
        except asyncio.CancelledError as exc:
            if ask.operation.id not in self._waiting:
                raise  # by `drop`, or by the end of the loop
            decision = self._failed(exc)  # something that policy awaited was cancelled
        except Exception as exc:
            decision = self._failed(exc)
        self._metrics.decision_seconds.observe(time.monotonic() - started)
        if self._waiting.pop(ask.operation.id, None) is not None:
            then(ask, decision)

    def _failed(self, exc: BaseException) -> Decision:
        cause = "no decision in time" if isinstance(exc, TimeoutError) else type(exc).__name__
        log.error(
            "policy could not decide",
            extra={"session": self._session, "cause": cause, **traced(exc)},
        )
        denial = Decision(Verdict.DENY, reason=f"policy could not decide ({cause})")
        return replace(denial, record=decision_record(denial))
