# SPDX-License-Identifier: GPL-3.0-or-later
"""The one relay: performs the effects of a dialog, for every protocol.

Each chunk is one turn: decide, record, then send. What a session is (its grant, its place in the
registry, its cancel key) is left to session.py.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from gateway.model import Decision, Level, Operation, Refusal, Verdict
from gateway.protocols import (
    Ask,
    Close,
    Dialog,
    Done,
    Effect,
    Keep,
    Settled,
    ToClient,
    ToTarget,
    WireError,
)
from gateway.proxy.gate import Gate
from gateway.proxy.limits import Limits
from gateway.proxy.link import Link
from gateway.proxy.metrics import Metrics
from gateway.proxy.ports import Recorder, RecordFailed, SessionPolicy, SessionRecord
from gateway.proxy.turn import (
    Streams,
    Turn,
    ask_event,
    denied_record,
    done_event,
    settled_event,
)

log = logging.getLogger("trailgate.proxy")

# Why a link is not read.
PEER_FULL, GATE_FULL, ASKING = 1, 2, 4

_WATCH_SECONDS = 0.5


@dataclass(slots=True)
class Counters:
    """What a session did so far; bytes as seen after login, in clear text."""

    operations: int = 0
    denied: int = 0
    rows: int = 0
    bytes_from_client: int = 0
    bytes_to_client: int = 0


@dataclass(frozen=True, slots=True)
class Joined:
    """What a relay joins. `on_end` hears the reason and detail of the end, once."""

    dialog: Dialog
    policy: SessionPolicy
    record: SessionRecord
    recorder: Recorder
    client: Link
    target: Link
    limits: Limits
    metrics: Metrics
    on_end: Callable[[str, str], None]


class Relay:
    """One session between two links that are both logged in."""

    def __init__(self, joined: Joined) -> None:
        self.dialog = joined.dialog
        self.policy = joined.policy
        self.counters = Counters()
        self.over = False
        self._id = joined.record.id
        self._client = joined.client
        self._target = joined.target
        self._limits = joined.limits
        self._metrics = joined.metrics
        self._totals = joined.metrics.totals
        self._on_end = joined.on_end
        self._streams = Streams(joined.record)
        self._level = joined.limits.level
        self._raised: set[int] = set()
        self._deciding: dict[int, tuple[Operation, asyncio.Task[None]]] = {}
        self._left = False
        self._seen_when_left = 0
        self._draining = False
        self._border = True
        """The client stands at a message border, by what was really sent to it."""
        self._timer: asyncio.TimerHandle | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._links = 2
        self._to_client = self._gate(joined, joined.client)
        self._to_target = self._gate(joined, joined.target)

    def _gate(self, joined: Joined, link: Link) -> Gate:
        other = joined.target if link is joined.client else joined.client

        def changed() -> None:
            gate = self._to_client if link is self._client else self._to_target
            self._press(other, GATE_FULL, gate.held > self._limits.buffer_bytes)

        def failed() -> None:
            self._record_failed(RecordFailed("the journal could not be synced"))

        return Gate(link, joined.recorder, self._metrics, on_change=changed, on_failure=failed)

    def start(self, leftover: bytes, early: bytes = b"") -> None:
        """Take over both links. `leftover`: what the client sent behind its login; `early`: what
        the target sent behind its own."""
        self._client.owner = self
        self._target.owner = self
        if early:
            self.received(self._target, early)
        if leftover:
            self.received(self._client, leftover)
        if self._client.gone:
            self._client_left()

    # --- what links tell -------------------------------------------------------------------------

    def received(self, link: Link, data: bytes) -> None:
        if self.over:
            return
        if link is self._client:
            if self._left:
                return
            self.counters.bytes_from_client += len(data)
            self._totals.bytes_from_client += len(data)
            self._take(self.dialog.from_client, data, data)
        else:
            self._take(self.dialog.from_target, data, b"")

    def ended(self, link: Link) -> None:
        if self.over:
            return
        if link is self._client:
            self._client_left()
        elif self._left:
            self.end("client")
        else:
            self._target_left("it closed the link")

    def lost(self, link: Link, cause: str) -> None:
        self._links -= 1
        if self.over:
            if not self._links and self._timer is not None:
                self._timer.cancel()
            return
        if link is self._client:
            self._client_left()
        elif self._left:
            self.end("client")
        else:
            self._target_left(cause)

    def room(self, link: Link, free: bool) -> None:
        self._press(self._target if link is self._client else self._client, PEER_FULL, not free)

    def tls_started(self, link: Link) -> None:
        """Both links are past their handshakes."""

    # --- a turn ----------------------------------------------------------------------------------

    def _take(self, call: Callable[[bytes], list[Effect]], data: bytes, from_client: bytes) -> None:
        turn = Turn()
        if self._raised:
            turn.level = Level.DISK
        try:
            self._collect(call(data), turn)
        except Exception as exc:
            self._broken(exc, turn, from_client)
            return
        self._perform(turn, from_client)

    def _collect(self, effects: list[Effect], turn: Turn) -> None:
        """Sort effects into what is recorded and what is sent; ask what is to be asked."""
        decided: list[Effect] = []
        for effect in effects:
            kind = type(effect)
            if kind is ToClient:
                data = effect.data  # type: ignore[union-attr]
                turn.to_client.append(data)
                turn.pieces.append(("answer", "own" if effect.own else "target", data))  # type: ignore[union-attr]
            elif kind is ToTarget:
                turn.to_target.append(effect.data)  # type: ignore[union-attr]
                if effect.own:  # type: ignore[union-attr]
                    turn.pieces.append(("sent", "own", effect.data))  # type: ignore[union-attr]
            elif isinstance(effect, Done):
                self._done(effect, turn)
            elif isinstance(effect, Settled):
                turn.events.append(settled_event(effect.state))
            elif isinstance(effect, Ask):
                decided += self._ask(effect, turn)
            elif isinstance(effect, Keep):
                turn.pieces.append(("kept", "target", effect.data))
            elif isinstance(effect, Close):
                turn.close = (effect.reason, effect.detail)
            else:
                raise TypeError(f"a dialog returned {kind.__name__}")
        if decided:
            self._collect(decided, turn)

    def _done(self, done: Done, turn: Turn) -> None:
        self.counters.rows += done.outcome.rows
        turn.events.append(done_event(done))
        turn.first_done = turn.first_done or done.operation
        self._raised.discard(done.operation)

    def _ask(self, ask: Ask, turn: Turn) -> list[Effect]:
        operation = ask.operation
        try:
            decision = self.policy.decide_now(operation)
        except Exception as exc:
            decision = self._undecided(exc)
        if decision is None:
            task = asyncio.get_running_loop().create_task(self._decide(ask))
            self._deciding[operation.id] = (operation, task)
            return []
        return self._decided(ask, decision, turn)

    def _decided(self, ask: Ask, decision: Decision, turn: Turn) -> list[Effect]:
        operation, passes = ask.operation, decision.verdict.passes
        if not ask.again:
            self.counters.operations += 1
            self._totals.verdicts[decision.verdict.value] += 1
        if not passes:
            self.counters.denied += 1
        if not (ask.again and passes):
            turn.asks.append(ask_event(operation, decision.record))
            turn.first_ask = turn.first_ask or operation.id
        if decision.level > self._level:
            self._raised.add(operation.id)
            turn.level = decision.level
        return self.dialog.decided(operation.id, decision)

    def _perform(self, turn: Turn, received: bytes) -> None:
        """Record all of the turn, then send all of it."""
        try:
            position = turn.append(self._streams, received)
        except RecordFailed as exc:
            self._record_failed(exc)
            return
        except Exception as exc:
            log.exception("the record refused a frame", extra={"session": self._id})
            self._record_failed(RecordFailed(type(exc).__name__))
            return
        self._border = self.dialog.at_border
        level = turn.level if turn.level > self._level else self._level
        if turn.to_target:
            parts = turn.to_target
            data = parts[0] if len(parts) == 1 else b"".join(parts)
            self._to_target.send(data, position, level)
        if turn.to_client:
            parts = turn.to_client
            data = parts[0] if len(parts) == 1 else b"".join(parts)
            self.counters.bytes_to_client += len(data)
            self._totals.bytes_to_client += len(data)
            self._to_client.send(data, position, level)
        if turn.close is not None:
            self.end(*turn.close)
            return
        self._after()

    def _after(self) -> None:
        """What a finished turn may have changed."""
        if self.over:
            return
        held, most = self.dialog.buffered, self._limits.held_bytes
        if held > most:
            self._press(self._client, ASKING, True)
        elif self._client.paused & ASKING and held <= most // 2:
            self._press(self._client, ASKING, False)
        if self._left and self._unwanted():
            self.end("client", "left while an operation ran")
        elif self._draining:
            self._end_if_quiet()

    def _unwanted(self) -> bool:
        over = self.counters.bytes_to_client - self._seen_when_left
        return not self.dialog.busy or (self._client.gone and over > self._limits.linger_bytes)

    # --- decisions that take time ----------------------------------------------------------------

    async def _decide(self, ask: Ask) -> None:
        started = time.monotonic()
        operation = ask.operation
        try:
            async with asyncio.timeout(self._limits.decision_seconds):
                decision = await self.policy.decide(operation, self.dialog.fact)
        except Exception as exc:
            decision = self._undecided(exc)
        self._metrics.decision_seconds.observe(time.monotonic() - started)
        self._deciding.pop(operation.id, None)
        if not self.over and not self._left:
            self._decided_late(ask, decision)

    def _decided_late(self, ask: Ask, decision: Decision) -> None:
        turn = Turn()
        if self._raised:
            turn.level = Level.DISK
        try:
            self._collect(self._decided(ask, decision, turn), turn)
        except Exception as exc:
            self._broken(exc, turn, b"")
            return
        self._perform(turn, b"")

    def _undecided(self, exc: Exception) -> Decision:
        """Any exception on the way is a denial."""
        cause = "no decision in time" if isinstance(exc, TimeoutError) else type(exc).__name__
        log.error(
            "policy could not decide", exc_info=exc, extra={"session": self._id, "cause": cause}
        )
        decision = Decision(Verdict.DENY, reason=f"policy could not decide ({cause})")
        return Decision(decision.verdict, reason=decision.reason, record=denied_record(decision))

    # --- pressure --------------------------------------------------------------------------------

    def _press(self, link: Link, why: int, full: bool) -> None:
        if not full:
            link.resume(why)
            return
        link.pause(why)
        if link is self._client and self._watch is None:
            loop = asyncio.get_running_loop()
            self._watch = loop.call_later(_WATCH_SECONDS, self._look)

    def _look(self) -> None:
        """No loop reports a hang-up while reading is paused: ask the kernel."""
        self._watch = None
        if self.over or not self._client.paused:
            return
        if self._client.hung_up(half=bool(self._client.paused & ASKING)):
            self._client_left()
            return
        self._watch = asyncio.get_running_loop().call_later(_WATCH_SECONDS, self._look)

    # --- ends ------------------------------------------------------------------------------------

    def _client_left(self) -> None:
        """What was not decided does not run; the outcome of what runs is still recorded."""
        if self._left or self.over:
            return
        self._left = True
        self._seen_when_left = self.counters.bytes_to_client
        turn = Turn()
        for operation, task in self._deciding.values():
            task.cancel()
            turn.asks.append(ask_event(operation, _NOT_DECIDED))
            turn.first_ask = turn.first_ask or operation.id
        self._deciding.clear()
        try:
            self._collect(self.dialog.client_gone(), turn)
        except Exception as exc:
            self._broken(exc, turn, b"")
            return
        self._perform(turn, b"")
        if self.over or self._timer is not None:
            return
        self._to_target.finish()
        self._timer = asyncio.get_running_loop().call_later(
            self._limits.linger_seconds, self.end, "client", "left while an operation ran"
        )

    def _target_left(self, cause: str) -> None:
        self.refuse(
            Refusal("unavailable", "target", "the target ended the session"), "target", cause
        )

    def _broken(self, exc: Exception, turn: Turn, received: bytes) -> None:
        """The dialog raised: what was received is recorded, nothing of the turn is sent."""
        turn.pieces.clear()
        turn.events.clear()
        try:
            turn.append(self._streams, received)
        except RecordFailed as failed:
            self._record_failed(failed)
            return
        if isinstance(exc, WireError):
            self.refuse(Refusal("unavailable", "protocol", str(exc)), "protocol", str(exc))
            return
        log.error("a dialog failed", exc_info=exc, extra={"session": self._id})
        detail = f"internal error ({type(exc).__name__})"
        self.refuse(Refusal("unavailable", "internal", detail), "protocol", detail)

    def _record_failed(self, exc: RecordFailed) -> None:
        if self.over:
            return
        self._metrics.record_failures.inc()
        if self._to_client.held:
            self._border = False
        self._to_client.cut()
        self._to_target.cut()
        refusal = Refusal("unavailable", "record", "the record cannot be written")
        for data in self._last_words(refusal):
            self._client.write(data)
        self.end("record", str(exc))

    def refuse(self, refusal: Refusal, reason: str, detail: str = "") -> None:
        """End the session with the protocol's own error, where one may be sent."""
        if self.over:
            return
        words = self._last_words(refusal)
        position = 0
        for data in words:
            try:
                position = self._streams.append("answer", "own", data, [], 0)
            except RecordFailed:
                break  # these words still go out: they say why the session ends
        for data in words:
            self.counters.bytes_to_client += len(data)
            self._to_client.send(data, position, Level.PROCESS)
        self.end(reason, detail or refusal.reason)

    def _last_words(self, refusal: Refusal) -> list[bytes]:
        if not self._border or self._left and self._client.gone:
            return []  # inside a message an error would be read as part of it
        said = Refusal(refusal.kind, refusal.code, refusal.reason, session=self._id)
        try:
            effects = self.dialog.refused(said)
        except Exception:
            log.exception("a dialog could not refuse", extra={"session": self._id})
            return []
        return [effect.data for effect in effects if isinstance(effect, ToClient)]

    def end(self, reason: str, detail: str = "") -> None:
        """End the session: both links close once what passed the gates is sent."""
        if self.over:
            return
        self.over = True
        for _, task in self._deciding.values():
            task.cancel()
        self._deciding.clear()
        for handle in (self._timer, self._watch):
            if handle is not None:
                handle.cancel()
        seconds = self._limits.flush_seconds
        self._to_client.close(seconds)
        self._to_target.close(seconds)
        if self._links:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._cut)
        self._on_end(reason, detail)

    def _cut(self) -> None:
        self._client.abort()
        self._target.abort()

    # --- what session.py asks --------------------------------------------------------------------

    def note(self, event: bytes, operation: int = 0) -> bool:
        """Record an event without bytes; False (and the session ends) when that fails."""
        try:
            self._streams.event([event], operation)
        except RecordFailed as exc:
            self._record_failed(exc)
            return False
        return True

    def hold(self) -> None:
        """Let nothing of the client pass to the target until `release`."""
        self._to_target.hold()

    def release(self) -> None:
        self._to_target.release()

    def drain(self) -> None:
        """End at the next quiet point."""
        self._draining = True
        self._end_if_quiet()

    def _end_if_quiet(self) -> None:
        dialog = self.dialog
        if dialog.busy or dialog.state != "I" or dialog.buffered or self._deciding:
            return
        if self._border:
            self.refuse(Refusal("unavailable", "drain", "the gateway is shutting down"), "drain")


_NOT_DECIDED = (
    b'{"verdict":"hold","policy":"","version":"","rule":"","reason":"the client left before a '
    b'decision","masks":[],"level":"process","clear":{"text":"","shape":"","statements":[]}}'
)
