# SPDX-License-Identifier: GPL-3.0-or-later
"""What other nodes ask to end is heard again after the store was away, or answered nonsense."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import pytest

from gateway.store.interface import StoreFailed
from gateway.store.sessions import StoredSessions
from gateway.wiring.directory import LiveSessions
from gateway.wiring.nodes import NodeSessions


class Own:
    """No session is open here; `ended` are those that were asked for."""

    node = "gw1"

    def __init__(self) -> None:
        self.ended: list[str] = []

    def views(self) -> Mapping[str, Callable[[], Any]]:
        return {}

    async def kill_session(self, session_id: str, reason: str) -> bool:
        self.ended.append(session_id)
        return True


class Store:
    """Fails first, in the ways given; then one session is to end."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)

    async def asked_to_end(self) -> Sequence[tuple[str, str]]:
        if self.failures:
            raise self.failures.pop(0)
        return [("s1", "operator")]

    async def keep(self, documents: object, closed: object) -> None:
        return None


@pytest.mark.parametrize("failure", [StoreFailed("away: start it"), ValueError("nonsense")])
async def test_a_watch_outlives_any_failure(
    failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    own = Own()
    sessions = NodeSessions(cast(LiveSessions, own), cast(StoredSessions, Store(failure, failure)))
    with caplog.at_level(logging.WARNING, "trailgate"):
        watch = asyncio.create_task(sessions.watch())
        while not own.ended:
            sessions.look_now()
            await asyncio.sleep(0.01)
        watch.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watch
    told = [one.getMessage() for one in caplog.records]
    assert told == [
        "sessions are not told to other nodes",
        "sessions are told to other nodes again",
    ]
