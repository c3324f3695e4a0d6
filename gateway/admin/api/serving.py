# SPDX-License-Identifier: GPL-3.0-or-later
"""Serves an ASGI app inside the running loop: on TCP, with TLS, or on the admin socket."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import stat
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import cast

import uvicorn
from starlette.types import ASGIApp

from gateway.admin.api.connections import (
    HEAD_SECONDS,
    UNREAD_SECONDS,
    Connection,
    PeerConnection,
)
from gateway.admin.api.handshakes import HANDSHAKE_SECONDS, TlsDoor

BACKLOG = 256
CONNECTIONS = 512
GRACE_SECONDS = 3
UNIX_PATH_CAP = 107
"""sun_path, less its final zero."""


class ServeFailed(Exception):
    """Nothing could be served there; the text names the place and the cure."""


Tls = tuple[ssl.SSLContext, float]
"""And in how many seconds a handshake must end."""


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the gateway's own affair."""
        yield

    def connection(self) -> asyncio.Protocol:
        """For a link that was accepted elsewhere."""
        make = cast(Callable[..., asyncio.Protocol], self.config.http_protocol_class)
        return make(config=self.config, server_state=self.server_state, app_state={})


class Serving:
    """A server at work. `address` is (host, port) as bound, or the socket's path."""

    def __init__(
        self,
        server: _Server,
        bound: socket.socket,
        path: Path | None,
        tls: Tls | None,
    ) -> None:
        self._server = server
        self._path = path
        name = bound.getsockname()
        self.address: tuple[str, int] | str = str(path) if path else (name[0], name[1])
        listening = [bound] if tls is None else []
        self._task = asyncio.create_task(server.serve(sockets=listening))
        self._door = TlsDoor(bound, *tls, server.connection) if tls is not None else None

    async def started(self) -> None:
        while not self._server.started:
            if self._task.done():
                await self._task
                raise ServeFailed(f"the server on {self.address} ended at once")
            await asyncio.sleep(0.005)

    @property
    def port(self) -> int:
        assert not isinstance(self.address, str)
        return self.address[1]

    @property
    def connections(self) -> int:
        """How many are open now."""
        return len(self._server.server_state.connections)

    @property
    def handshakes(self) -> int:
        """How many are in a TLS handshake now."""
        return 0 if self._door is None else len(self._door)

    async def close(self) -> None:
        """Take no more calls; give those at work 3 seconds to end."""
        if self._door is not None:
            await self._door.close()
        self._server.should_exit = True
        await asyncio.gather(self._task, return_exceptions=True)
        if self._path is not None:
            self._path.unlink(missing_ok=True)


async def serve_api(
    app: ASGIApp,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    ssl: ssl.SSLContext | None = None,
    uds: Path | None = None,
    head_seconds: float = HEAD_SECONDS,
    unread_seconds: float = UNREAD_SECONDS,
    handshake_seconds: float = HANDSHAKE_SECONDS,
) -> Serving:
    """Serve until `close()`; returns once it listens. Raises ServeFailed.

    A client that is not done with TLS in `handshake_seconds`, sends no whole head in
    `head_seconds`, or reads nothing of its answer for `unread_seconds`, is cut off.
    """
    bound = await _bound_unix(uds) if uds is not None else _bound_tcp(host, port)
    protocol = partial(
        Connection if uds is None else PeerConnection,
        head_seconds=head_seconds,
        unread_seconds=unread_seconds,
    )
    config = uvicorn.Config(
        app,
        http=protocol,  # type: ignore[arg-type]
        log_config=None,
        access_log=False,
        interface="asgi3",
        lifespan="off",
        ws="none",
        server_header=False,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    config.load()
    serving = Serving(_Server(config), bound, uds, (ssl, handshake_seconds) if ssl else None)
    await serving.started()
    return serving


def _bound_tcp(host: str, port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.listen(BACKLOG)
    except OSError as error:
        bound.close()
        raise ServeFailed(f"cannot listen on {host}:{port}: {error.strerror}") from error
    bound.setblocking(False)
    return bound


async def _bound_unix(path: Path) -> socket.socket:
    """A socket that only this user (and root) can open: mode 0600 in a folder nobody else enters.

    It is bound under another name and renamed once its mode is right.
    """
    if len(os.fsencode(path)) + 4 > UNIX_PATH_CAP:
        raise ServeFailed(f"{path}: longer than a socket's name may be: use a shorter data folder")
    await _check_free(path)
    fresh = path.with_name(path.name + ".new")
    bound = socket.socket(socket.AF_UNIX)
    try:
        _check_folder(path.parent)
        fresh.unlink(missing_ok=True)
        bound.bind(str(fresh))
        os.chmod(fresh, 0o600)
        bound.listen(BACKLOG)
        os.rename(fresh, path)
    except OSError as error:
        bound.close()
        raise ServeFailed(f"cannot listen on {path}: {error.strerror}") from error
    except ServeFailed:
        bound.close()
        raise
    bound.setblocking(False)
    return bound


def _check_folder(folder: Path) -> None:
    found = folder.stat()
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o022:
        raise ServeFailed(f"{folder} must belong to this user and be writable by nobody else")


async def _check_free(path: Path) -> None:
    """A socket left by a dead gateway is replaced, one that answers is not."""
    try:
        _, writer = await asyncio.open_unix_connection(str(path))
    except OSError:
        return
    writer.close()
    raise ServeFailed(f"{path}: a gateway is running there already")
