# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the evidence goes as the settings have it: a folder, or S3 with a mirror of the log."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.config import Settings
from gateway.config.values import Store
from gateway.record.declared import FOR_EVER, Retention
from gateway.record.places import Reach
from gateway.ship import ShipConflict, ShipFailed
from gateway.ship.folder import FolderPublisher
from gateway.ship.mirror import LogMirror
from gateway.ship.s3 import ObjectLock, S3Options, S3Publisher
from gateway.ship.spool import Spool
from gateway.ship.witness import WitnessClient, WitnessKey
from gateway.ship.witnesses import WitnessGroup

log = logging.getLogger("trailgate")

_LAST_SECONDS = 10.0
"""At the end, for the last checkpoint."""
Figures = Callable[[], Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Evidence:
    """The evidence root on this machine, and how closed journal files leave it."""

    folder: Path
    spool: Spool
    place: Path | str
    """Where it can be read: the folder, or s3://..."""
    reach: Reach = Reach()
    keys_url: str = "../keys"
    """Where README.json says that the wrapped keys lie."""
    mirror: LogMirror | None = None
    store: S3Publisher | None = None

    async def publish(self, path: Path, object_name: str, sha256: str) -> None:
        """Publish a closed journal file, however long that takes. Raises ShipConflict."""
        await self.spool.publish(path, object_name, sha256)

    def figures(self) -> Mapping[str, float]:
        mirror = self.mirror
        return {
            "ship_backlog": self.spool.backlog,
            "ship_backlog_bytes": self.spool.backlog_bytes,
            "ship_failures": self.spool.failures,
            "mirror_backlog": mirror.backlog if mirror else 0,
            "mirror_failures": mirror.failures if mirror else 0,
        }


async def _mirrored(mirror: LogMirror) -> None:
    try:
        await mirror.run()
    except ShipConflict as error:
        log.critical("the log is no longer mirrored", extra={"cause": str(error)})


@asynccontextmanager
async def opened_evidence(
    settings: Settings, retention: Retention = FOR_EVER
) -> AsyncIterator[Evidence]:
    """The evidence's place; at the end the log is mirrored a last time. Raises OSError."""
    to = settings.evidence.to
    if to is None or not to.bucket:
        folder = Path(to.url) if to else settings.data / "evidence"
        # With the data folder, what is not published yet is read as well.
        yield Evidence(folder, Spool(FolderPublisher(folder)), folder if to else settings.data)
        return
    folder = settings.data / "evidence"
    publisher = _s3(settings, to, retention)
    mirror = LogMirror(folder, publisher, folder.parent / "keys")
    mirroring = asyncio.ensure_future(_mirrored(mirror))
    try:
        given, keys_url = settings.evidence, _keys_url(settings, to)
        reach = Reach(endpoint_url=given.endpoint, region=given.region)
        yield Evidence(folder, Spool(publisher), to.url, reach, keys_url, mirror, publisher)
    finally:
        mirroring.cancel()
        await asyncio.gather(mirroring, return_exceptions=True)
        await _last_pass(mirror)
        publisher.close()


def _s3(settings: Settings, to: Store, retention: Retention) -> S3Publisher:
    given, lock = settings.evidence, None
    if given.lock is not None:
        days = retention.sessions or given.lock.days
        lock = ObjectLock(given.lock.mode, days, given.lock.keys_days)
    # Amazon's own checks what it stores against the checksum; of others nobody knows.
    read_back = given.endpoint is not None
    options = S3Options(given.endpoint, given.region, lock=lock, read_back=read_back)
    keys = given.keys.bucket if given.keys else None
    return S3Publisher(to.bucket, to.prefix, options, keys_bucket=keys)


def _keys_url(settings: Settings, to: Store) -> str:
    bucket = settings.evidence.keys.bucket if settings.evidence.keys else to.bucket
    return "s3://" + "/".join(part for part in (bucket, to.prefix, "keys") if part)


async def _last_pass(mirror: LogMirror) -> None:
    try:
        await mirror.mirror()
    except (ShipFailed, OSError) as error:
        log.error("the end of the log is not mirrored yet", extra={"cause": str(error)})


_ON_ITS_WAY = "no answer yet"


class Witnessed:
    """The witnesses as the settings have them, and whether sessions must wait for them."""

    def __init__(self, *clients: tuple[WitnessClient, float]) -> None:
        """Each with the seconds after which sessions are refused without it."""
        self._clients = clients
        self.group = WitnessGroup([client for client, _ in clients])

    def refuse(self) -> str:
        """Why no session may be opened; empty: it may."""
        for client, refuse_after in self._clients:
            silent = client.silent_seconds
            if silent > refuse_after:
                return f"no witness has cosigned for {silent:.0f} seconds: {client.cause}"
        return ""

    def missing(self, leaves: int) -> str:
        """The witnesses that have not cosigned so many leaves, and why; empty: none."""
        behind = [client for client, _ in self._clients if client.size < leaves]
        return ", ".join(f"the witness {one.shown} ({one.cause or _ON_ITS_WAY})" for one in behind)

    def figures(self) -> Mapping[str, float]:
        clients = self.group.clients
        return {
            "witness_size": min((one.size for one in clients), default=0),
            "witness_failures": sum(one.failures for one in clients),
            "witness_silent_seconds": max((one.silent_seconds for one in clients), default=0),
        }


@asynccontextmanager
async def witnessed(settings: Settings, folder: Path) -> AsyncIterator[Witnessed]:
    """Checkpoints go to the witnesses meanwhile; at the end once more. `folder`: the evidence."""
    lock, clients = threading.Lock(), list[tuple[WitnessClient, float]]()
    for given in settings.evidence.witness or ():
        key, logs = WitnessKey.parse(given.vkey), folder / "log" / settings.node
        client = WitnessClient(logs, given.url, key, lock=lock)
        clients.append((client, given.grace_seconds if given.required else math.inf))
    made = Witnessed(*clients)
    sending = asyncio.ensure_future(made.group.run()) if clients else None
    try:
        yield made
    finally:
        if sending is not None:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        await asyncio.gather(*(_last_cosignature(one) for one in made.group.clients))
        await made.group.close()


async def _last_cosignature(client: WitnessClient) -> None:
    try:
        async with asyncio.timeout(_LAST_SECONDS):
            await client.cosign()
    except (ShipFailed, OSError) as error:
        log.error("the end of the log is not witnessed", extra={"cause": str(error)})
    except TimeoutError:
        log.error("the end of the log is not witnessed", extra={"cause": "no answer in time"})


class RecordMetrics(Collector):
    """What the record and its shipping count, as trailgate_record_*, collected at a scrape."""

    def __init__(self, *sources: Figures) -> None:
        self._sources = sources

    def collect(self) -> Iterator[Metric]:
        for source in self._sources:
            for name, value in source().items():
                yield _metric(name, value)


_SUMS = (
    {"witness_failures", "erasures"}
    | {"frames", "bytes", "payload_bytes", "syncs", "sync_seconds"}
    | {
        "published",
        "publish_failures",
        "refused_not_recorded",
    }
)


def _metric(name: str, value: float) -> Metric:
    text = f"The record: {name.replace('_', ' ')}."
    if name in _SUMS:
        return CounterMetricFamily(f"trailgate_record_{name}", text, value=value)
    return GaugeMetricFamily(f"trailgate_record_{name}", text, value=value)
