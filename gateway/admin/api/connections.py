# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP connections that no client can keep for nothing: the server has only so many."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from gateway.admin.api.framing import StrictHttp
from gateway.identity.login.throttle import network_of

PEER = "uid"
"""On a socket a client's address is `uid:NUMBER`, the user that the kernel says it is, and its
process."""
HEAD_SECONDS = 10.0
"""In which a request's head must have come, from the connection's first moment."""
UNREAD_SECONDS = 30.0
"""For which an answer may wait for its client to read on."""
OF_ONE_NETWORK = 128
"""Connections of one address at once: a quarter of all."""
_PEER_CREDENTIALS = struct.Struct("iII")
"""struct ucred: pid, uid, gid."""


class Connection(H11Protocol):
    """HTTP within time and bounds. uvicorn itself waits for a head, and for a reader, without an
    end, and refuses calls once there are too many links, however idle they are."""

    def __init__(
        self, *given: Any, head_seconds: float, unread_seconds: float, **named: Any
    ) -> None:
        super().__init__(*given, **named)
        self.conn = StrictHttp()
        self._head_seconds, self._unread_seconds = head_seconds, unread_seconds
        self._head: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self._is_one_too_many():
            transport.abort()
            return
        self._await_head()
        self._make_room()

    def _make_room(self) -> None:
        """Of too many links one that asks for nothing ends, the longest idle first."""
        cap = self.limit_concurrency
        if cap is None or len(self.connections) < cap:
            return
        idle = [one for one in self._all() if one._head]
        longest = min(idle, key=lambda one: one._head.when() if one._head else 0.0)
        longest.transport.abort()
        self.connections.discard(longest)

    def _is_one_too_many(self) -> bool:
        mine = self._network()
        return sum(one._network() == mine for one in self._all()) > OF_ONE_NETWORK

    def _all(self) -> list[Connection]:
        return [one for one in self.connections if isinstance(one, Connection)]

    def _network(self) -> str:
        return network_of(self.client[0]) if self.client else ""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._await_head()

    def _await_head(self) -> None:
        """A timer runs while a head is awaited: each whole one makes a new `cycle`."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._head = _stop(self._head)
        elif self._head is None:
            self._head = self.loop.call_later(self._head_seconds, self.transport.abort)

    def pause_writing(self) -> None:
        super().pause_writing()
        _stop(self._unread)
        self._unread = self.loop.call_later(self._unread_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._unread = _stop(self._unread)

    def connection_lost(self, exc: Exception | None) -> None:
        self._head, self._unread = _stop(self._head), _stop(self._unread)
        super().connection_lost(exc)


class PeerConnection(Connection):
    """HTTP on a unix socket, which knows who is at the other end (SO_PEERCRED)."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        given = transport.get_extra_info("socket").getsockopt(
            socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size
        )
        pid, uid, _ = _PEER_CREDENTIALS.unpack(given)
        self.client = (f"{PEER}:{uid}", pid)

    def _is_one_too_many(self) -> bool:
        """They are all of this user, or of root."""
        return False


def _stop(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    """What is left of it: nothing."""
    if timer is not None:
        timer.cancel()
    return None
