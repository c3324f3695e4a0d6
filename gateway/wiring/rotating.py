# SPDX-License-Identifier: GPL-3.0-or-later
"""Rotations of the secrets in the vault, with their metrics."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from prometheus_client import CollectorRegistry, Counter

from gateway.config import Settings
from gateway.credentials.rotation import discover
from gateway.credentials.rotation.schedule import Schedule
from gateway.credentials.rotation.steps import OnStep, Rotator
from gateway.model import Credential, Target
from gateway.protocols import discover as protocols
from gateway.proxy.visits import Visits
from gateway.store.rotations import StoredRotations
from gateway.vault_model import Rotation
from gateway.wiring.custody import Custody
from gateway.wiring.parts import Parts, limits_of


class RotationMetrics:
    """What rotations came to, since the start of the process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.ended = Counter(
            "trailgate_rotations", "Rotations ended, by result.", ["result"], registry=registry
        )
        self.retries = Counter(
            "trailgate_rotation_retries", "Steps that must be tried again.", registry=registry
        )
        for result in ("done", "failed"):
            self.ended.labels(result)

    def count(self, event: str, rotation: Rotation) -> None:
        """As OnStep."""
        if event in ("done", "failed"):
            self.ended.labels(event).inc()
        elif event == "waiting":
            self.retries.inc()


class Declared:
    """`Directory` of credentials/rotation on what is in force."""

    def __init__(self, custody: Custody) -> None:
        self._custody = custody

    def declared(self, name: str) -> Credential | None:
        return self._custody.declared(name)

    def credential(self, name: str) -> Credential | None:
        return self._custody.catalog.credential(name)

    def targets_of(self, credential: str) -> Sequence[Target]:
        targets = self._custody.objects.targets.values()
        return [one for one in targets if credential in one.credentials]


@asynccontextmanager
async def rotations(
    parts: Parts, settings: Settings, on_step: OnStep | None = None
) -> AsyncIterator[Schedule]:
    """Rotations run meanwhile; what is on its way at the end is taken up at the next start."""
    custody, limits = parts.custody, limits_of(settings)
    metrics, visits = RotationMetrics(parts.metrics.registry), Visits(protocols(), limits)

    def told(event: str, rotation: Rotation) -> None:
        metrics.count(event, rotation)
        if on_step is not None:
            on_step(event, rotation)

    rotator = Rotator(
        custody.vault,
        StoredRotations(parts.store),
        Declared(custody),
        visits,
        discover(),
        parts.recorder.changes,
        on_step=told,
    )
    schedule = Schedule(rotator, lambda: custody.objects.credentials.values(), settings.node)
    custody.schedule, custody.record = schedule, parts.recorder.changes
    watching = asyncio.ensure_future(schedule.watch())
    try:
        yield schedule
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        visits.close()
