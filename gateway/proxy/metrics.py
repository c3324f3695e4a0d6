# SPDX-License-Identifier: GPL-3.0-or-later
"""Counters of the data path for Prometheus, all named trailgate_*.

What is counted per chunk are plain integers, collected at a scrape: a counter of the client
library costs about a microsecond, with a lock.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

_SHORT = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)


class Totals:
    """Sums since the start of the process."""

    __slots__ = ("bytes_from_client", "bytes_to_client", "gate_waits", "verdicts")

    def __init__(self) -> None:
        self.bytes_from_client = 0
        self.bytes_to_client = 0
        self.gate_waits = 0
        self.verdicts: Tally[str] = Tally()


class _Scraped(Collector):
    def __init__(self, totals: Totals) -> None:
        self._totals = totals

    def collect(self) -> Iterator[CounterMetricFamily]:
        moved = CounterMetricFamily(
            "trailgate_bytes", "Bytes relayed after login.", labels=["direction"]
        )
        moved.add_metric(["from_client"], self._totals.bytes_from_client)
        moved.add_metric(["to_client"], self._totals.bytes_to_client)
        yield moved
        verdicts = CounterMetricFamily(
            "trailgate_operations", "Operations by verdict.", labels=["verdict"]
        )
        for verdict, count in sorted(self._totals.verdicts.items()):
            verdicts.add_metric([verdict], count)
        yield verdicts
        yield CounterMetricFamily(
            "trailgate_disk_gate_waits",
            "Times that bytes waited for the disk.",
            value=self._totals.gate_waits,
        )


class Metrics:
    """The proxy's metrics in one registry."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry if registry is not None else CollectorRegistry()
        self.totals = Totals()
        self.registry.register(_Scraped(self.totals))
        of = self.registry
        self.links = Gauge("trailgate_links", "Client links now.", registry=of)
        self.unauthenticated = Gauge(
            "trailgate_links_unauthenticated", "Client links before login now.", registry=of
        )
        self.sessions_open = Gauge(
            "trailgate_sessions_open", "Sessions now.", ["target"], registry=of
        )
        self.sessions = Counter("trailgate_sessions", "Sessions opened.", ["target"], registry=of)
        self.closed = Counter(
            "trailgate_sessions_closed", "Sessions ended, by reason.", ["reason"], registry=of
        )
        self.refused = Counter(
            "trailgate_refused", "Links and logins refused, by code.", ["code"], registry=of
        )
        self.abandoned = Counter(
            "trailgate_logins_abandoned", "Links whose client left before login.", registry=of
        )
        self.cancels = Counter(
            "trailgate_cancels", "Cancel requests, by what became of them.", ["result"], registry=of
        )
        self.record_failures = Counter(
            "trailgate_record_failures", "Sessions ended because the record failed.", registry=of
        )
        self.decision_seconds = Histogram(
            "trailgate_decision_seconds",
            "Decisions that were not in the cache.",
            buckets=_SHORT,
            registry=of,
        )
        self.dial_seconds = Histogram(
            "trailgate_dial_seconds", "Link and login at a target.", buckets=_SHORT, registry=of
        )
        self.gate_wait_seconds = Histogram(
            "trailgate_disk_gate_wait_seconds", "Waits for the disk.", buckets=_SHORT, registry=of
        )
