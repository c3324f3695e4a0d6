# SPDX-License-Identifier: GPL-3.0-or-later
"""The rest of the gateway, small: a recorder, policy, identity and catalogue in memory."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from gateway.model import (
    Credential,
    Decision,
    Grant,
    Hop,
    Identity,
    Level,
    Operation,
    Refusal,
    Session,
    Target,
    Verdict,
)
from gateway.proxy.ports import RecordFailed, Refused


@dataclass
class Frame:
    kind: str
    party: str
    payload: bytes
    meta: dict[str, Any]
    operation: int


class FakeRecord:
    def __init__(self, recorder: FakeRecorder, ordinal: int, opening: Mapping[str, Any]) -> None:
        self.id = f"session{ordinal}"
        self.ordinal = ordinal
        self.opening = opening
        self.frames: list[Frame] = []
        self.closed: tuple[str, Mapping[str, Any]] | None = None
        self.bytes = 0
        self.lost = 0
        self._gaps: Callable[[], bool] = lambda: False
        self._recorder = recorder

    def append(
        self, kind: str, party: str, payload: bytes, meta: bytes = b"{}", operation: int = 0
    ) -> int:
        if self._recorder.failing:
            if not self._gaps():
                raise RecordFailed("no space left in the journal")
            self.lost += 1
            return self._recorder.position
        assert isinstance(payload, bytes) and len(payload) <= 1 << 20
        self._recorder.position += 1
        self.bytes += len(payload)
        if self._recorder.keep:
            self.frames.append(Frame(kind, party, payload, json.loads(meta), operation))
        return self._recorder.position

    def allow_gaps(self, allowed: Callable[[], bool]) -> None:
        self._gaps = allowed

    async def close(self, reason: str, summary: Mapping[str, Any]) -> None:
        assert self.closed is None, "closed twice"
        self.closed = (reason, summary)
        self._recorder.changed.set()

    def stream(self, kind: str) -> bytes:
        return b"".join(frame.payload for frame in self.frames if frame.kind == kind)

    def events(self, name: str) -> list[dict[str, Any]]:
        return [
            event
            for frame in self.frames
            for event in frame.meta.get("events", [])
            if event["ev"] == name
        ]


class FakeRecorder:
    """Frames in memory. `synced` is the position that the disk has."""

    def __init__(self) -> None:
        self.records: list[FakeRecord] = []
        self.refusals: list[Mapping[str, Any]] = []
        self.failing = False
        self.keep = True
        self.opens: asyncio.Event | None = None
        """Holds up whoever opens a record."""
        self.position = 0
        self.synced = 0
        self.waiters: list[tuple[int, Callable[[bool], None]]] = []
        self.changed = asyncio.Event()

    async def open(self, opening: Mapping[str, Any], grant: Grant) -> FakeRecord:
        await asyncio.sleep(0)
        if self.opens is not None:
            await self.opens.wait()
        if self.failing:
            raise RecordFailed("no space left in the journal")
        record = FakeRecord(self, len(self.records), opening)
        self.records.append(record)
        return record

    def refused(self, event: Mapping[str, Any]) -> None:
        self.refusals.append(event)
        self.changed.set()

    def reached(self, position: int, level: Level) -> bool:
        return level is Level.PROCESS or position <= self.synced

    def when_reached(self, position: int, level: Level, then: Callable[[bool], None]) -> None:
        self.waiters.append((position, then))
        self.changed.set()

    def sync(self, good: bool = True) -> None:
        waiters, self.waiters = self.waiters, []
        if good:
            self.synced = self.position
        for _, then in waiters:
            then(good)

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self.changed.clear()
                waiting = asyncio.ensure_future(self.changed.wait())
                await asyncio.wait({waiting}, timeout=0.02)
                waiting.cancel()


ALLOW = Decision(Verdict.ALLOW, "p", "v", "r", record=b'{"verdict":"allow"}')
DENY = Decision(Verdict.DENY, "p", "v", "r", "because", record=b'{"verdict":"deny"}')

Slow = Callable[[Operation, Callable[[str], str | None]], Awaitable[Decision]]


@dataclass
class FakePolicy:
    """Denies texts that begin with `drop`; those that begin with `slow` it decides in a task."""

    slow: Slow | None = None
    documents: list[dict[str, str]] = field(default_factory=lambda: [{"name": "p"}])
    level: Level = Level.PROCESS
    asked: list[str] = field(default_factory=list)
    gaps: bool = False

    def for_session(self, session: Session) -> FakePolicy:
        return self

    def summary(self, session: Session) -> list[dict[str, str]]:
        return self.documents

    def gaps_allowed(self, session: Session) -> bool:
        return self.gaps

    def decide_now(self, operation: Operation) -> Decision | None:
        text = operation.text or ""
        self.asked.append(text)
        if text.startswith("slow"):
            return None
        if text.startswith("drop"):
            return DENY
        return replace(ALLOW, level=Level.DISK if text.startswith("disk") else self.level)

    async def decide(self, operation: Operation, fact: Callable[[str], str | None]) -> Decision:
        assert self.slow is not None
        return await self.slow(operation, fact)


GRANT = Grant(
    "grant1",
    Identity("https://id", "00u1", "alice"),
    groups=("dba",),
    chain=(Hop("reader", True),),
    root="grant0",
    login={"iss": "https://id"},
)


@dataclass
class FakeAuthenticator:
    grants: dict[str, Grant] = field(default_factory=lambda: {"token": GRANT})
    wait: asyncio.Event | None = None

    def expire(self, seconds: float) -> None:
        """The token's grant ends in `seconds`."""
        self.grants["token"] = replace(GRANT, expires_at=time.time() + seconds)

    async def login(self, token: str) -> Grant:
        if self.wait is not None:
            await self.wait.wait()
        if token not in self.grants:
            raise Refused(Refusal("denied", "bad_token", "not a token"), f"no such token: {token}")
        return self.grants[token]


@dataclass
class FakeCatalog:
    targets: dict[str, Target]
    credentials: dict[str, Credential] = field(
        default_factory=lambda: {"app": Credential("app", "app", "trust", "s3cret")}
    )

    def target(self, name: str) -> Target | None:
        return self.targets.get(name)

    def credential(self, name: str) -> Credential | None:
        return self.credentials.get(name)
