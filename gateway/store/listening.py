# SPDX-License-Identifier: GPL-3.0-or-later
"""Hears what other nodes committed (LISTEN), on a thread and a link of its own."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg

from gateway.store.clock import DatabaseClock
from gateway.store.database import ANYTHING, Row, Told

log = logging.getLogger(__name__)

CHANNEL = "trailgate"
CLOCK_EVERY = 2.0
RETRY_EVERY = 1.0


def hang_up(raw: psycopg.Connection[Row]) -> None:
    """End a link on which another thread waits: that thread hears of it at once."""
    if not raw.closed:
        with socket.socket(fileno=os.dup(raw.fileno())) as link:
            link.shutdown(socket.SHUT_RDWR)


class Listener:
    """Tells topics on the loop, until closed. What it misses, the watchers' own polls find."""

    def __init__(
        self, connect: Callable[[], psycopg.Connection[Row]], clock: DatabaseClock
    ) -> None:
        self._connect = connect
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._told: list[Told] = []
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._raw: psycopg.Connection[Row] | None = None
        self._thread = threading.Thread(target=self._run, name="store-listen", daemon=True)
        self._thread.start()

    def tell(self, told: Told) -> None:
        self._told.append(told)

    async def close(self) -> None:
        """End at once, or leave the thread to its deadlines."""
        self._ended.set()
        with self._lock:
            if self._raw is not None:
                hang_up(self._raw)
        await asyncio.to_thread(self._thread.join, CLOCK_EVERY)

    def _run(self) -> None:
        failing = False
        while not self._ended.is_set():
            try:
                with self._connect() as raw:
                    raw.execute(f"LISTEN {CHANNEL}")
                    failing = False
                    # Nobody listened until now.
                    self._say(ANYTHING)
                    with self._hanging_up(raw):
                        self._hear(raw)
            except psycopg.Error as error:
                if not failing and not self._ended.is_set():
                    cause = error.diag.message_primary or str(error)
                    log.warning("the store's news are not heard", extra={"cause": cause})
                failing = True
                self._ended.wait(RETRY_EVERY)

    @contextmanager
    def _hanging_up(self, raw: psycopg.Connection[Row]) -> Iterator[None]:
        """`close` may end the link that is waited on."""
        with self._lock:
            self._raw = raw
        try:
            yield
        finally:
            with self._lock:
                self._raw = None

    def _hear(self, raw: psycopg.Connection[Row]) -> None:
        while not self._ended.is_set():
            for heard in raw.notifies(timeout=CLOCK_EVERY):
                self._say(heard.payload)
                if self._ended.is_set():
                    return
            # Also asks whether the server is still there.
            self._clock.measure(raw)

    def _say(self, topic: str) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._tell_all, topic)

    def _tell_all(self, topic: str) -> None:
        for told in self._told:
            told(topic)
