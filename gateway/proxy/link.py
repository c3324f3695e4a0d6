# SPDX-License-Identifier: GPL-3.0-or-later
"""One byte link, plain or TLS, over an asyncio Protocol with callbacks.

It knows nothing of protocols or records. No StreamReader: a chunk costs one call.
"""

from __future__ import annotations

import asyncio
import select
import socket
import ssl
from collections.abc import Callable
from typing import Protocol as Interface
from typing import cast

from gateway.proxy.tls import Engine, TlsFailed


class Owner(Interface):
    """Who hears of a link. Calls come from the loop, never from within a call to the link."""

    def received(self, link: Link, data: bytes) -> None:
        """Plain bytes, in order."""

    def ended(self, link: Link) -> None:
        """The peer will send no more; what we write may still reach it."""

    def lost(self, link: Link, cause: str) -> None:
        """The link is gone, in both directions. Called once, also after `close` and `abort`."""

    def room(self, link: Link, free: bool) -> None:
        """False: unsent bytes pile up; True: they went out."""

    def tls_started(self, link: Link) -> None:
        """The handshake is complete."""


class Link(asyncio.Protocol):
    """One connection. Every method may be called at any time, also after the link is gone."""

    __slots__ = (
        "__weakref__",
        "_ending",
        "_farewell",
        "_finished",
        "_high",
        "_lost",
        "_on_made",
        "_paused",
        "_transport",
        "bytes_in",
        "bytes_out",
        "full",
        "lingers",
        "owner",
        "peer",
        "tls",
    )

    def __init__(
        self,
        owner: Owner | None = None,
        *,
        high: int = 256 * 1024,
        on_made: Callable[[Link], None] | None = None,
    ) -> None:
        self.owner = owner
        self.tls: Engine | None = None
        self.peer = ""
        self.full = False
        self.lingers = False
        """Closing waits for the peer's end: it is still sending, and what we had to say would be
        lost by the reset that unread bytes cause (RFC 1122, 4.2.2.13)."""
        self.bytes_in = 0
        self.bytes_out = 0
        self._high = high
        self._on_made = on_made
        self._transport: asyncio.Transport | None = None
        self._paused = 0
        self._lost = False
        self._finished = False
        """Our stream is ended: a transport raises at a write behind that."""
        self._ending = False
        """Closing, and waiting for the peer's end; what it still sends is dropped."""
        self._farewell: asyncio.TimerHandle | None = None

    # --- what asyncio calls ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transport is one by its methods, not by its class.
        made = cast(asyncio.Transport, transport)
        self._transport = made
        made.set_write_buffer_limits(high=self._high, low=self._high // 4)
        _tune(made.get_extra_info("socket"))
        peer = made.get_extra_info("peername")
        self.peer = f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else str(peer or "")
        if self._on_made is not None:
            self._on_made(self)

    def data_received(self, data: bytes) -> None:
        self.bytes_in += len(data)
        if self._lost or self._ending or self.owner is None:
            return
        if self.tls is None:
            self.owner.received(self, data)
        else:
            self._unseal(data)

    def eof_received(self) -> bool:
        if self._ending and self._transport is not None:
            self._transport.close()
        elif self.owner is not None and not self._lost:
            self.owner.ended(self)
        return True  # half-closed: what is still written may reach the peer

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        if self._farewell is not None:
            self._farewell.cancel()
            self._farewell = None
        owner, self.owner = self.owner, None
        self._transport = None
        if owner is not None:
            owner.lost(self, str(exc) if exc else "closed")

    def pause_writing(self) -> None:
        self.full = True
        if self.owner is not None:
            self.owner.room(self, False)

    def resume_writing(self) -> None:
        self.full = False
        if self.owner is not None:
            self.owner.room(self, True)

    # --- what the gateway calls ------------------------------------------------------------------

    @property
    def gone(self) -> bool:
        """Nothing that is written now would be sent."""
        transport = self._transport
        return self._lost or self._ending or transport is None or transport.is_closing()

    def write(self, data: bytes) -> None:
        """Send; never blocks. Bytes for a link that is gone, or finished, are dropped."""
        transport = self._transport
        if transport is None or self._lost or self._ending or self._finished:
            return
        if self.tls is not None:
            try:
                data = self.tls.seal(data)
            except TlsFailed:
                self.abort()
                return
        self.bytes_out += len(data)
        transport.write(data)

    def pause(self, why: int = 1) -> None:
        """Stop reading for the reason `why` (a bit)."""
        if not self._paused and not self.gone:
            assert self._transport is not None
            self._transport.pause_reading()
        self._paused |= why

    def resume(self, why: int = 1) -> None:
        """The reason `why` is over; reading goes on when no other is left."""
        if not self._paused:
            return
        self._paused &= ~why
        if not self._paused and not self.gone:
            assert self._transport is not None
            self._transport.resume_reading()

    @property
    def paused(self) -> int:
        """The reasons why this link is not read."""
        return self._paused

    def hung_up(self, *, half: bool) -> bool:
        """Ask the kernel, also while reading is paused, when no loop reports it.

        `half`: a peer that only ended its own stream counts, even behind bytes not read yet.
        """
        if self._lost or self._transport is None:
            return True
        sock = self._transport.get_extra_info("socket")
        if sock is None or sock.fileno() < 0:
            return True
        asked = select.poll()
        asked.register(sock.fileno(), select.POLLRDHUP if half else 0)
        return bool(asked.poll(0))

    def start_tls(
        self,
        context: ssl.SSLContext,
        *,
        server: bool,
        server_name: str | None = None,
        pushed_back: bytes = b"",
    ) -> None:
        """Begin TLS; `owner.tls_started` tells when it is up, `owner.lost` when it failed."""
        try:
            self.tls = Engine(context, server=server, server_name=server_name)
        except (ValueError, ssl.SSLError) as exc:
            self._fail(f"TLS: {exc}")
            return
        if pushed_back or not server:
            asyncio.get_running_loop().call_soon(self._unseal, pushed_back)

    def finish(self) -> None:
        """Send what was written and end our stream; what the peer still says is read.

        Nothing over TLS, which ends both streams at once: a peer that hears close_notify drops what
        it has yet to say (RFC 5246, 7.2.1).
        """
        transport = self._transport
        if transport is None or self.gone or self._finished or self.tls is not None:
            return
        if transport.can_write_eof():
            self._finished = True
            transport.write_eof()

    def close(self, seconds: float = 5.0) -> None:
        """Send what was written, then close; cut the link when that takes longer."""
        transport = self._transport
        if transport is None or self._lost or self._ending or transport.is_closing():
            return
        if self.tls is not None and self.tls.established and not self._finished:
            transport.write(self.tls.farewell())
        if self.lingers and transport.can_write_eof():
            self._linger(transport)
        else:
            transport.close()
        if not self._lost and self._farewell is None:
            self._farewell = asyncio.get_running_loop().call_later(seconds, self.abort)

    def _linger(self, transport: asyncio.Transport) -> None:
        self._ending = True
        if not self._finished:
            transport.write_eof()
        if self._paused:
            transport.resume_reading()

    def abort(self) -> None:
        """Cut the link now; unsent bytes are dropped."""
        if self._transport is not None:
            self._transport.abort()

    # --- TLS -------------------------------------------------------------------------------------

    def _unseal(self, data: bytes) -> None:
        engine, owner, transport = self.tls, self.owner, self._transport
        if engine is None or owner is None or transport is None:
            return
        up = engine.established
        try:
            plain = engine.feed(data) if data else (engine.handshake() and b"") or b""
        except TlsFailed as exc:
            transport.write(engine.pending())  # the alert tells the peer why
            self._fail(f"TLS: {exc}")
            return
        waiting = engine.pending()
        if waiting:
            transport.write(waiting)
        if not up and engine.established:
            owner.tls_started(self)
        if plain and self.owner is not None:
            self.owner.received(self, plain)
        if engine.ended and self.owner is not None:
            self.owner.ended(self)

    def _fail(self, cause: str) -> None:
        owner, self.owner = self.owner, None
        if self._transport is not None:
            self._transport.close()
            self._farewell = asyncio.get_running_loop().call_later(1.0, self.abort)
        if owner is not None:
            owner.lost(self, cause)


def _tune(sock: socket.socket | None) -> None:
    """Small messages at once; a dead peer is found within about two minutes."""
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
