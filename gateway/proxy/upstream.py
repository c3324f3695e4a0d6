# SPDX-License-Identifier: GPL-3.0-or-later
"""Links to targets: dial, TLS, and the gateway's own login, each under one deadline.

What is said during the login is never recorded: it carries the gateway's credential.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import ssl
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from gateway.model import Credential, Refusal, Session, Target, Tls
from gateway.protocols import (
    ClientTls,
    Derive,
    Failed,
    ProtocolDefinition,
    Ready,
    Signin,
    SigninEffect,
    ToTarget,
    WireError,
)
from gateway.proxy.limits import Limits
from gateway.proxy.link import Link
from gateway.proxy.metrics import Metrics
from gateway.proxy.ports import Refused, Renewed
from gateway.proxy.tls import channel_binding, client_context

_MOST_SECRETS = 4
"""Beside the first: logins that a target may count against the account, for one session."""
_NONCE_BYTES = 18
_SALTED_KEYS = 1024
_INBOX_BYTES = 1 << 20
"""What a target may send ahead of us during a login; a protocol's own cap is lower."""


class SigninFailed(Refused):
    """The target did not let the gateway in. `relayed`: its own words, for the client."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(failed.refusal, failed.cause)
        self.relayed = failed.relayed
        self.credential_refused = failed.credential_refused


class SaltedKeys:
    """PBKDF2-HMAC-SHA-256 off the loop, with a bounded cache.

    The cache is keyed by a digest of the password under a key of this process, and by salt and
    count: what it holds is as secret as a verifier, and leaves the process as little.
    """

    def __init__(self, size: int = _SALTED_KEYS) -> None:
        self._size = size
        self._known: OrderedDict[tuple[bytes, bytes, int], bytes] = OrderedDict()
        self._key = secrets.token_bytes(32)
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="pbkdf2")

    async def derive(self, wanted: Derive) -> bytes:
        """The salted password of RFC 5802."""
        name = hashlib.blake2b(wanted.password, key=self._key).digest()
        key = (name, wanted.salt, wanted.iterations)
        known = self._known.get(key)
        if known is not None:
            self._known.move_to_end(key)
            return known
        loop = asyncio.get_running_loop()
        salted = await loop.run_in_executor(
            self._threads,
            hashlib.pbkdf2_hmac,
            "sha256",
            wanted.password,
            wanted.salt,
            wanted.iterations,
        )
        self._known[key] = salted
        while len(self._known) > self._size:
            self._known.popitem(last=False)
        return salted

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


class Inbox:
    """Owns a link while somebody awaits its chunks, one at a time: logins, not the data path."""

    def __init__(self) -> None:
        self._chunks: asyncio.Queue[bytes | str] = asyncio.Queue()
        self._bytes = 0
        self._up = asyncio.Event()
        self._over = ""

    def received(self, link: Link, data: bytes) -> None:
        self._bytes += len(data)
        if self._bytes > _INBOX_BYTES:
            self._end("it sends more than a login takes")
            link.abort()
        elif not self._over:
            self._chunks.put_nowait(data)

    def ended(self, link: Link) -> None:
        self._end("it closed the link")

    def lost(self, link: Link, cause: str) -> None:
        self._end(cause)

    def room(self, link: Link, free: bool) -> None:
        """A login is small: nothing to hold back."""

    def tls_started(self, link: Link) -> None:
        self._up.set()

    def _end(self, cause: str) -> None:
        if not self._over:
            self._over = cause
            self._chunks.put_nowait(cause)
        self._up.set()

    async def chunk(self) -> bytes:
        """The next bytes. Raises ConnectionError when the peer has left."""
        got = await self._chunks.get()
        if isinstance(got, str):
            self._chunks.put_nowait(got)
            raise ConnectionError(got)
        self._bytes -= len(got)
        return got

    @property
    def empty(self) -> bool:
        """Every byte that came was awaited."""
        return not self._bytes

    async def started(self) -> None:
        """Wait for TLS. Raises ConnectionError when the handshake failed."""
        await self._up.wait()
        if self._over:
            raise ConnectionError(self._over)

    def rest(self) -> tuple[bytes, bool]:
        """What nobody has awaited, and whether the peer has left."""
        chunks = [self._chunks.get_nowait() for _ in range(self._chunks.qsize())]
        return b"".join(chunk for chunk in chunks if isinstance(chunk, bytes)), bool(self._over)

    async def end(self) -> None:
        """Wait until the peer has left."""
        while not self._over:
            got = await self._chunks.get()
            self._bytes -= len(got) if isinstance(got, bytes) else 0


@dataclass(frozen=True, slots=True)
class Opened:
    """A link on which the target has let the gateway in."""

    link: Link
    ready: Ready
    early: bytes
    """What the target sent behind its login."""
    ended: bool
    """It has left since."""


class Upstream:
    """Dials targets for every session of a proxy."""

    def __init__(self, limits: Limits, metrics: Metrics, renewed: Renewed | None = None) -> None:
        self._limits = limits
        self._metrics = metrics
        self._renewed = renewed
        self._keys = SaltedKeys()
        self._contexts: dict[tuple[object, ...], ssl.SSLContext] = {}

    async def open(
        self,
        definition: ProtocolDefinition,
        session: Session,
        credential: Credential,
        settings: Iterable[tuple[str, str]],
    ) -> Opened:
        """A link on which the target has let the gateway in. Raises Refused.

        A target that does not take the credential is asked again with what else may be in force:
        a rotation changes a secret there a moment before or after it does so here.
        """
        given, tried = tuple(settings), [credential]
        others: list[Credential] = []
        while True:
            try:
                return await self._open(definition, session, tried[-1], given)
            except SigninFailed as refused:
                if not refused.credential_refused or len(tried) > _MOST_SECRETS:
                    raise
                others = others or await self._others(credential, tried)
                if not others:
                    raise
                tried.append(others.pop(0))

    async def _others(
        self, credential: Credential, tried: Sequence[Credential]
    ) -> list[Credential]:
        """What else may be in force, asked anew each time: it may have changed meanwhile."""
        if self._renewed is None:
            return []
        known = {(one.signs_in_as, one.secret) for one in tried}
        found = await self._renewed(credential)
        return [one for one in found if (one.signs_in_as, one.secret) not in known]

    async def _open(
        self,
        definition: ProtocolDefinition,
        session: Session,
        credential: Credential,
        settings: Iterable[tuple[str, str]],
    ) -> Opened:
        target, started = session.target, time.monotonic()
        nonce = secrets.token_bytes(_NONCE_BYTES)
        signin = definition.signin(target, credential, session, settings, nonce)
        link: Link | None = None
        try:
            async with asyncio.timeout(self._limits.dial_seconds):
                link, inbox = await self._dial(target)
                ready = await self._sign_in(signin, link, inbox, target)
        except TimeoutError:
            _drop(link)
            raise _unreachable(target, session, "no answer in time") from None
        except (OSError, ValueError, WireError) as exc:
            _drop(link)
            raise _unreachable(target, session, str(exc) or type(exc).__name__) from exc
        except BaseException:
            _drop(link)
            raise
        self._metrics.dial_seconds.observe(time.monotonic() - started)
        return Opened(link, ready, *inbox.rest())

    async def cancel(
        self,
        definition: ProtocolDefinition,
        session: Session,
        credential: Credential,
        request: bytes,
        still: Callable[[], bool],
    ) -> None:
        """Send a cancel request on a link of its own and wait for its end. Raises OSError.

        Over TLS where the target speaks it, as libpq 17 does. `still` is asked once the link
        stands: what was to be cancelled may have ended meanwhile.
        """
        target = session.target
        link: Link | None = None
        try:
            async with asyncio.timeout(self._limits.dial_seconds):
                link, inbox = await self._dial(target)
                if target.tls.mode != "disable":
                    nonce = secrets.token_bytes(_NONCE_BYTES)
                    signin = definition.signin(target, credential, session, (), nonce)
                    await self._until_tls(signin, link, inbox, target)
                if still():
                    link.write(request)
                    await inbox.end()
        finally:
            _drop(link)

    def forget(self) -> None:
        """Certificates and keys are read anew at the next dial."""
        self._contexts.clear()

    def close(self) -> None:
        """Stop the threads that derive keys."""
        self._keys.close()

    # --- one login -------------------------------------------------------------------------------

    async def _dial(self, target: Target) -> tuple[Link, Inbox]:
        inbox, high = Inbox(), self._limits.buffer_bytes
        loop = asyncio.get_running_loop()
        _, link = await loop.create_connection(
            lambda: Link(inbox, high=high), target.host, target.port
        )
        return link, inbox

    async def _sign_in(self, signin: Signin, link: Link, inbox: Inbox, target: Target) -> Ready:
        effects = signin.begin()
        while True:
            later: list[SigninEffect] = []
            for effect in effects:
                if isinstance(effect, ToTarget):
                    link.write(effect.data)
                elif isinstance(effect, ClientTls):
                    binding = await self._start_tls(link, inbox, target)
                    later += signin.tls_started(binding)
                elif isinstance(effect, Derive):
                    later += signin.derived(await self._keys.derive(effect))
                elif isinstance(effect, Failed):
                    raise SigninFailed(effect)
                else:
                    return effect
            effects = later or signin.receive(await inbox.chunk())

    async def _until_tls(self, signin: Signin, link: Link, inbox: Inbox, target: Target) -> None:
        effects = signin.begin()
        while True:
            for effect in effects:
                if isinstance(effect, ToTarget):
                    link.write(effect.data)
                elif isinstance(effect, ClientTls):
                    await self._start_tls(link, inbox, target)
                    return
                elif isinstance(effect, Failed):
                    raise ConnectionError(effect.cause)
            effects = signin.receive(await inbox.chunk())

    async def _start_tls(self, link: Link, inbox: Inbox, target: Target) -> bytes | None:
        context = self._context(target.tls)
        if not inbox.empty:
            # A chunk of its own behind the agreement to TLS: sent in the clear, by whom nobody
            # knows, and it would be read as protected (CVE-2021-23222).
            raise ConnectionError("bytes in the clear behind its agreement to TLS")
        link.start_tls(context, server=False, server_name=target.tls.server_name or target.host)
        await inbox.started()
        return channel_binding(link.tls.peer_certificate) if link.tls else None

    def _context(self, tls: Tls) -> ssl.SSLContext:
        """One context for each setting and state of its files; building one reads them."""
        paths = (tls.ca_path, tls.cert_path, tls.key_path)
        key = (tls, *(os.stat(path).st_mtime_ns if path else 0 for path in paths))
        if key not in self._contexts:
            self._contexts[key] = client_context(tls)
        return self._contexts[key]


def _drop(link: Link | None) -> None:
    if link is not None:
        link.owner = None
        link.abort()


def _unreachable(target: Target, session: Session, cause: str) -> Refused:
    refusal = Refusal(
        "unavailable",
        "target",
        f"target {target.name} cannot be reached",
        session=session.id,
        hint="The gateway's log has the cause under this session's id.",
    )
    return Refused(refusal, f"target {target.name} ({target.host}:{target.port}): {cause}")
