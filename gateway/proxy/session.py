# SPDX-License-Identifier: GPL-3.0-or-later
"""One session from admission to its closed record, and the registry of those that live.

Record before dial, dial before welcome; whatever happens, an opened record is closed.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from gateway.model import Refusal, Session
from gateway.protocols import Greeter, Present, ProtocolDefinition
from gateway.proxy.admission import Admission, opening
from gateway.proxy.cancels import Cancels
from gateway.proxy.joined import Counters, Joined
from gateway.proxy.link import Link
from gateway.proxy.ports import RecordFailed, Refused, SessionRecord
from gateway.proxy.relay import Relay
from gateway.proxy.services import ProxyServices, SessionView
from gateway.proxy.upstream import Opened, Upstream

log = logging.getLogger("trailgate.proxy")

CLOSE_REASONS = frozenset(
    {"client", "target", "killed", "revoked", "expired", "drain", "protocol", "record"}
    | {"target_unreachable"}
)
_KINDS = {"expired": "expired", "drain": "unavailable"}


class House:
    """What all sessions of a proxy share."""

    def __init__(self, services: ProxyServices) -> None:
        self.services = services
        self.upstream = Upstream(services.limits, services.metrics, services.renewed)
        self.cancels: Cancels[Live] = Cancels()
        self.live: dict[str, Live] = {}
        self.opening: set[Live] = set()
        self.changed = asyncio.Event()
        """Set whenever something ended."""
        self.cancel_slots = services.limits.cancels
        self._tasks: set[asyncio.Task[Any]] = set()

    def background(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run `work` to its end, whatever becomes of its caller."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        self.changed.set()

    def everyone(self) -> list[Live]:
        """Sessions that are open or about to be."""
        return [*self.opening, *self.live.values()]

    @property
    def busy(self) -> bool:
        """Something has not ended yet."""
        return bool(self.opening or self.live or self._tasks)


class Live:
    """One session."""

    def __init__(
        self,
        house: House,
        definition: ProtocolDefinition,
        admission: Admission,
        present: Present,
    ) -> None:
        self.session: Session = admission.session
        self.relay: Relay | None = None
        self._house = house
        self._definition = definition
        self._admission = admission
        self._settings = present.settings
        self._record: SessionRecord | None = None
        self._opened: Opened | None = None
        self._key = b""
        self._expiry: asyncio.TimerHandle | None = None
        self._task = asyncio.current_task()
        self._killed: tuple[str, str] | None = None
        self._cancelling = False
        self._closed = False

    # --- opening ---------------------------------------------------------------------------------

    async def open(self, client: Link, greeter: Greeter) -> None:
        """Open the record, dial, sign in, welcome, relay. Raises Refused; may be cancelled."""
        house = self._house
        house.opening.add(self)
        try:
            self._record = await self._open_record()
            session = replace(self.session, id=self._record.id, ordinal=self._record.ordinal)
            self.session = session
            if house.services.policy.gaps_allowed(session):
                # Asked again at each gap: policies may change meanwhile.
                self._record.allow_gaps(lambda: house.services.policy.gaps_allowed(session))
            self._opened = await house.upstream.open(
                self._definition, session, self._admission.credential, self._settings
            )
            self._join(client, greeter, self._opened)
        except asyncio.CancelledError:
            if self._killed is None:
                self._close_record("client", "left while the session was opened")
                raise
            code, text = self._killed
            self._close_record(code, text)
            raise Refused(self._refusal(code, text)) from None
        except Refused as exc:
            self._close_record(self._failure(exc.refusal), str(exc))
            raise
        except BaseException as exc:
            self._abandon(f"internal error ({type(exc).__name__})")
            raise
        finally:
            house.opening.discard(self)

    def _abandon(self, detail: str) -> None:
        """What was opened so far is closed: the link to the target, the relay, the record."""
        if self._opened is not None:
            self._opened.link.owner = None
            self._opened.link.abort()
        if self.relay is not None:
            self.relay.end("protocol", detail)
        self._close_record("protocol", detail)

    async def _open_record(self) -> SessionRecord:
        """Not to be cancelled half way: a record that was opened must be closed."""
        services = self._house.services
        meta = opening(self._admission, self._definition.name, services.node)
        task = self._house.background(services.recorder.open(meta, self.session.grant))
        try:
            async with asyncio.timeout(services.limits.dial_seconds):
                return await asyncio.shield(task)
        except asyncio.CancelledError:
            self._house.background(self._close_late(task))
            raise
        except (RecordFailed, TimeoutError) as exc:
            if not task.done():
                self._house.background(self._close_late(task))
            services.metrics.record_failures.inc()
            raise Refused(
                Refusal("unavailable", "record", "the record cannot be written"),
                str(exc) or "the record did not open in time",
            ) from exc

    async def _close_late(self, task: asyncio.Task[SessionRecord]) -> None:
        try:
            self._record = await task
        except RecordFailed:
            return  # nothing was opened
        code, text = self._killed or ("client", "left while the record was opened")
        self._close_record(code, text)

    def _join(self, client: Link, greeter: Greeter, opened: Opened) -> None:
        house, session = self._house, self.session
        services = house.services
        assert self._record is not None
        opened.link.owner = None
        self.relay = relay = Relay(
            Joined(
                dialog=self._definition.dialog(session, opened.ready),
                policy=services.policy.for_session(session),
                record=self._record,
                recorder=services.recorder,
                client=client,
                target=opened.link,
                limits=services.limits,
                metrics=services.metrics,
                on_end=self._ended,
            )
        )
        house.live[session.id] = self
        services.metrics.sessions_open.labels(session.target.name).inc()
        services.metrics.sessions.labels(session.target.name).inc()
        if not relay.note(_backend(opened)):
            return
        self._key = house.cancels.issue(opened.ready.process, self)
        client.write(greeter.welcome(session, opened.ready, self._key))
        self._log("session opened")
        self._expire_later()
        relay.start(greeter.leftover(), opened.early)
        if opened.ended and not relay.over:
            relay.ended(opened.link)

    def _expire_later(self) -> None:
        expires = self.session.grant.expires_at
        if expires > 0:
            self._expiry = asyncio.get_running_loop().call_later(
                max(0.0, expires - self._house.services.now()),
                self.kill,
                "expired",
                "the grant has expired",
            )

    # --- while it lives --------------------------------------------------------------------------

    def kill(self, code: str, text: str) -> bool:
        """End it now with `code` (killed, revoked, expired, drain); what runs is cancelled."""
        relay = self.relay
        if relay is None:
            if self._task is None or self._killed is not None:
                return False
            self._killed = (code, text)
            return self._task.cancel()
        if relay.over:
            return False
        running = relay.dialog.running()
        if running and relay.note(_cancel_event(running), running):
            self._house.background(self._cancel_at_target(lambda: True))
        relay.refuse(self._refusal(code, text), code, text)
        return True

    def _refusal(self, code: str, text: str) -> Refusal:
        return Refusal(_KINDS.get(code, "denied"), code, text, session=self.session.id)

    async def cancel(self) -> bool:
        """Pass a cancel request on, if an operation runs. Nothing else passes until it is done."""
        relay = self.relay
        if relay is None or relay.over or self._cancelling:
            return False
        running = relay.dialog.running()
        if not running:
            return False

        def still() -> bool:
            if relay.over or relay.dialog.running() != running:
                return False
            return relay.note(_cancel_event(running), running)

        self._cancelling = True
        relay.hold()
        try:
            await self._cancel_at_target(still)
        finally:
            self._cancelling = False
            relay.release()
        return True

    async def _cancel_at_target(self, still: Callable[[], bool]) -> None:
        assert self._opened is not None
        request = self._definition.cancel_request(self._opened.ready)
        if not request:
            return
        try:
            await self._house.upstream.cancel(
                self._definition, self.session, self._admission.credential, request, still
            )
        except (OSError, TimeoutError, ValueError) as exc:
            self._log(
                "a cancel request did not reach the target", level=logging.WARNING, cause=str(exc)
            )

    def view(self) -> SessionView:
        """How it stands."""
        counters = self.relay.counters if self.relay else Counters()
        return SessionView(
            session=self.session,
            state="open" if self.relay else "opening",
            operations=counters.operations,
            denied=counters.denied,
            rows=counters.rows,
            bytes_from_client=counters.bytes_from_client,
            bytes_to_client=counters.bytes_to_client,
            policies=self._admission.policies,
        )

    # --- its end ---------------------------------------------------------------------------------

    def _ended(self, reason: str, detail: str) -> None:
        house, session = self._house, self.session
        house.live.pop(session.id, None)
        if self._expiry is not None:
            self._expiry.cancel()
        if self._opened is not None:
            house.cancels.drop(self._opened.ready.process, self._key)
        house.services.metrics.sessions_open.labels(session.target.name).dec()
        self._close_record(reason, detail)

    def _close_record(self, reason: str, detail: str) -> None:
        if self._record is None or self._closed:
            return
        self._closed = True
        if reason not in CLOSE_REASONS:
            detail, reason = f"{reason}: {detail}", "protocol"
        if reason == "target":
            detail = detail.partition(":")[0]  # behind it may stand the target's own error text
        counters = self.relay.counters if self.relay else Counters()
        summary = {
            "detail": detail[:500],
            "operations": counters.operations,
            "denied": counters.denied,
            "rows": counters.rows,
            "bytes": counters.bytes_from_client + counters.bytes_to_client,
        }
        self._house.services.metrics.closed.labels(reason).inc()
        self._house.background(self._write_close(self._record, reason, summary))

    async def _write_close(
        self, record: SessionRecord, reason: str, summary: dict[str, Any]
    ) -> None:
        try:
            await record.close(reason, summary)
        except Exception as exc:
            # Recovery closes it as `interrupted` at the next start.
            self._log("a record could not be closed", level=logging.ERROR, cause=str(exc))
        self._log("session ended", reason=reason, **summary)

    def _failure(self, refusal: Refusal) -> str:
        return refusal.code if refusal.code in CLOSE_REASONS - {"target"} else "target_unreachable"

    def _log(self, message: str, *, level: int = logging.INFO, **fields: Any) -> None:
        session = self.session
        known = {
            "session": session.id,
            "target": session.target.name,
            "origin": session.grant.origin.label,
            "chain": list(session.grant.labels),
            "grant": session.grant.id,
            "client": session.client,
        }
        log.log(level, message, extra={**known, **fields})


def _cancel_event(operation: int) -> bytes:
    return b'{"ev":"cancel","op":%d}' % operation


def _backend(opened: Opened) -> bytes:
    event = {
        "ev": "backend",
        "pid": opened.ready.process,
        "parameters": dict(opened.ready.parameters),
    }
    return json.dumps(event, separators=(",", ":")).encode()
