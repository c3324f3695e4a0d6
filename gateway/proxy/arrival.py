# SPDX-License-Identifier: GPL-3.0-or-later
"""One accepted link until it is a session, a cancel request, or refused.

Callbacks until a token is presented, then one task. Every failure is one log line, one counted
event of the record, and one metric; none of them holds the token.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Iterable
from typing import Any

from gateway.model import Refusal
from gateway.protocols import (
    Cancel,
    Close,
    Greeter,
    LoginEffect,
    Present,
    ProtocolDefinition,
    StartTls,
    ToClient,
    WireError,
)
from gateway.proxy.admission import admit
from gateway.proxy.faults import traced
from gateway.proxy.link import Link
from gateway.proxy.ports import Refused
from gateway.proxy.services import ListenSpec
from gateway.proxy.session import House, Live
from gateway.proxy.upstream import SigninFailed

log = logging.getLogger("trailgate.proxy")

_GREETER_CODES = frozenset({"no_tls", "bad_token", "protocol", "not_supported", "too_large"})


class Arrival:
    """Owns the link of a client until the relay does. `on_known` hears the end of its anonymity."""

    def __init__(
        self,
        house: House,
        spec: ListenSpec,
        definition: ProtocolDefinition,
        greeter: Greeter,
        link: Link,
        on_known: Callable[[Arrival], None],
    ) -> None:
        self._house = house
        self._spec = spec
        self._definition = definition
        self._greeter = greeter
        self._link = link
        self._on_known = on_known
        self._alpn = ""
        self._token = ""
        self._present: Present | None = None
        self._live: Live | None = None
        self._task: asyncio.Task[None] | None = None
        self._over = False
        self._deadline: asyncio.TimerHandle | None = asyncio.get_running_loop().call_later(
            house.services.limits.handshake_seconds, self._late
        )
        link.owner = self

    # --- what the link tells ---------------------------------------------------------------------

    def received(self, link: Link, data: bytes) -> None:
        if not self._over:
            self._run(lambda: self._greeter.receive(data))

    def tls_started(self, link: Link) -> None:
        if self._over:
            return
        selected = link.tls.alpn if link.tls else None
        if self._alpn and selected != self._alpn:
            # Another protocol's client was led here (ALPACA): nothing of it is interpreted.
            self.cut("protocol", f"TLS without the ALPN protocol {self._alpn!r}")
            return
        self._run(lambda: self._greeter.tls_started(selected))

    def ended(self, link: Link) -> None:
        if not self._over:
            self._abandoned()
            link.abort()

    def lost(self, link: Link, cause: str) -> None:
        if self._over:
            return
        if cause.startswith("TLS:"):
            self._finish()
            self._report(Refusal("denied", "protocol", "the TLS handshake failed"), cause)
        else:
            self._abandoned()

    def room(self, link: Link, free: bool) -> None:
        """A login is small: nothing to hold back."""

    # --- the greeter's effects -------------------------------------------------------------------

    def _run(self, call: Callable[[], Iterable[LoginEffect]]) -> None:
        try:
            for effect in call():
                self._perform(effect)
                if self._over and not isinstance(effect, ToClient):
                    return
        except WireError as exc:
            self.refuse(Refusal("denied", "protocol", str(exc)), str(exc))
        except Exception as exc:
            log.error("a greeter failed", extra={"client": self._link.peer, **traced(exc)})
            self.cut("internal", f"internal error ({type(exc).__name__})")

    def _perform(self, effect: LoginEffect) -> None:
        if isinstance(effect, ToClient):
            self._link.write(effect.data)
        elif isinstance(effect, StartTls):
            self._start_tls(effect)
        elif isinstance(effect, Present):
            self._present, self._token = effect, effect.token
            self._task = self._house.background(self._enter(effect))
        elif isinstance(effect, Cancel):
            self._cancel(effect)
        elif isinstance(effect, Close):
            self._closed_by_greeter(effect)

    def _start_tls(self, effect: StartTls) -> None:
        context: ssl.SSLContext | None = self._house.services.server_tls
        if context is None:
            self.cut("no_tls", "the gateway has no certificate for this listener")
            return
        self._alpn = effect.alpn
        self._link.start_tls(context, server=True, pushed_back=effect.pushed_back)

    def _closed_by_greeter(self, effect: Close) -> None:
        if effect.reason == "client":
            self._abandoned()
        else:
            known = effect.detail if effect.detail in _GREETER_CODES else "denied"
            code = "protocol" if effect.reason == "protocol" else known
            self._finish()
            self._report(Refusal("denied", code, effect.detail), effect.detail)
        self._link.close(self._house.services.limits.flush_seconds)

    # --- the ways on -----------------------------------------------------------------------------

    async def _enter(self, present: Present) -> None:
        services = self._house.services
        try:
            grant = await services.authenticator.login(present.token)
            admission = admit(
                services.catalog, services.policy, self._spec, present, grant, self._link.peer
            )
            self._known()
            self._live = Live(self._house, self._definition, admission, present)
            await self._live.open(self._link, self._greeter)
            self._over = True
        except SigninFailed as exc:
            self.refuse(exc.refusal, str(exc), exc.relayed)
        except Refused as exc:
            self.refuse(exc.refusal, str(exc))
        except Exception as exc:
            log.error("a login failed", extra={"client": self._link.peer, **traced(exc)})
            self.refuse(Refusal("unavailable", "internal", "internal error"), type(exc).__name__)

    def _cancel(self, effect: Cancel) -> None:
        """No answer either way; the link is closed once the target's own is."""
        house = self._house
        self._over = True
        self._known()
        live = house.cancels.find(effect.process, effect.key)
        if live is None:
            house.services.metrics.cancels.labels("unknown").inc()
            self._link.close(1.0)
            return
        house.background(self._pass_on(live))

    async def _pass_on(self, live: Live) -> None:
        metrics = self._house.services.metrics
        if not self._house.cancel_slots:
            metrics.cancels.labels("refused").inc()
            self._link.abort()
            return
        self._house.cancel_slots -= 1
        try:
            passed = await live.cancel()
            metrics.cancels.labels("passed" if passed else "idle").inc()
        finally:
            self._house.cancel_slots += 1
            self._link.close(1.0)

    # --- the ways out ----------------------------------------------------------------------------

    def refuse(self, refusal: Refusal, cause: str, relayed: bytes = b"") -> None:
        """Tell the client in its protocol's words, once, and close."""
        if self._over:
            return
        self._finish()
        self._report(refusal, cause)
        if self._link.tls is not None and not self._link.tls.established:
            self._link.abort()  # words in the clear would only break the handshake
            return
        try:
            effects = self._greeter.refused(refusal)
        except Exception as exc:
            log.error(
                "a greeter could not refuse", extra={"client": self._link.peer, **traced(exc)}
            )
            effects = []
        words = b"".join(one.data for one in effects if isinstance(one, ToClient))
        if relayed or words:
            self._link.write(relayed or words)
            self._link.lingers = refusal.code in ("protocol", "too_large")
        self._link.close(self._house.services.limits.flush_seconds)

    def cut(self, code: str, cause: str) -> None:
        """End the link without a word."""
        if not self._over:
            self._finish()
            self._report(Refusal("denied", code, cause), cause)
            self._link.abort()

    def _late(self) -> None:
        seconds = self._house.services.limits.handshake_seconds
        text = f"the login was not complete within {seconds:g} s"
        self.refuse(Refusal("unavailable", "protocol", text), text)

    def _abandoned(self) -> None:
        """The client left before it was in: psql does so to ask for a password. Not a failure."""
        self._finish()
        self._house.services.metrics.abandoned.inc()
        log.debug("a client left before login", extra={"client": self._link.peer})

    def _known(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
            self._on_known(self)

    def _finish(self) -> None:
        self._over = True
        self._known()
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()

    def _report(self, refusal: Refusal, cause: str) -> None:
        services, present = self._house.services, self._present
        event: dict[str, Any] = {
            "code": refusal.code,
            "reason": refusal.reason,
            "cause": cause,
            "client": self._link.peer,
            "protocol": self._spec.protocol,
            "listener": self._spec.target or "",
            "user": present.user if present else "",
            "database": present.database if present else "",
        }
        if self._token:
            # A client may have put it in another field too. Before the cut: half a token is secret.
            event = {name: text.replace(self._token, "[token]") for name, text in event.items()}
        event["cause"] = event["cause"][:500]
        session = refusal.session or (self._live.session.id if self._live else "")
        services.metrics.refused.labels(refusal.code).inc()
        log.warning("refused", extra={**event, "session": session})
        if session:
            return
        try:
            services.recorder.refused(event)
        except Exception as exc:
            log.error("a refusal is not in the record", extra=traced(exc))
