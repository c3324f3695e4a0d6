# SPDX-License-Identifier: GPL-3.0-or-later
"""The one relay: performs the effects of a dialog, for every protocol.

Each chunk is one turn: decide, record, then send. What a session is (its grant, its place in the
registry, its cancel key) is left to session.py.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from gateway.model import Decision, Level, Refusal
from gateway.protocols import (
    Ask,
    Close,
    Done,
    Effect,
    Keep,
    Settled,
    ToClient,
    ToTarget,
    WireError,
)
from gateway.proxy.faults import traced
from gateway.proxy.gate import Gate
from gateway.proxy.joined import Counters, Joined
from gateway.proxy.link import Link
from gateway.proxy.ports import Recorder, RecordFailed
from gateway.proxy.pressure import ASKING, GATE_FULL, PEER_FULL, Pressure
from gateway.proxy.questions import Questions
from gateway.proxy.turn import (
    NOT_DECIDED,
    Streams,
    Turn,
    ask_event,
    done_event,
    joined_bytes,
    settled_event,
)

log = logging.getLogger("trailgate.proxy")


class Relay:
    """One session between two links that are both logged in."""

    def __init__(self, joined: Joined) -> None:
        self.dialog = joined.dialog
        self.questions = Questions(joined.policy, joined.limits, joined.metrics, joined.record.id)
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
        self._raised: set[int] = set()  # operations under way whose rule asks for a higher level
        self._left = False
        self._sent_when_left = 0
        self._draining = False
        self._border = True
        """The client stands at a message border, by what was really sent to it."""
        self._links = 2
        self._timer: asyncio.TimerHandle | None = None
        self._pressure = Pressure(joined.client, joined.target, self._client_left)
        self._to_client = self._gate(joined.recorder, joined.client)
        self._to_target = self._gate(joined.recorder, joined.target)

    def _gate(self, recorder: Recorder, link: Link) -> Gate:
        def changed(held: int) -> None:
            self._pressure.takes(link, GATE_FULL, held <= self._limits.buffer_bytes)

        def failed() -> None:
            self._record_failed(RecordFailed("the journal could not be synced"))

        return Gate(link, recorder, self._metrics, on_change=changed, on_failure=failed)

    def start(self, leftover: bytes, early: bytes) -> None:
        """Take over both links, and what client (`leftover`) and target (`early`) sent behind their
        logins."""
        self._client.owner = self
        self._target.owner = self
        if early:
            self.received(self._target, early)
        if leftover:
            self.received(self._client, leftover)
        if self._client.gone:
            self._client_left()
        elif self._target.gone:
            self._target_left("it closed the link")

    # --- what links tell -------------------------------------------------------------------------

    def received(self, link: Link, data: bytes) -> None:
        if self.over:
            return
        if link is not self._client:
            self._take(self.dialog.from_target, data, b"")
        elif not self._left:
            self.counters.bytes_from_client += len(data)
            self._totals.bytes_from_client += len(data)
            self._take(self.dialog.from_client, data, data)

    def ended(self, link: Link) -> None:
        self.lost(link, "it closed the link", half=True)

    def lost(self, link: Link, cause: str, half: bool = False) -> None:
        if not half:
            self._links -= 1
        if self.over:
            if not self._links and self._timer is not None:
                self._timer.cancel()
        elif link is self._client:
            self._client_left()
        elif self._left:
            self.end("client")
        else:
            self._target_left(cause)

    def room(self, link: Link, free: bool) -> None:
        self._pressure.takes(link, PEER_FULL, free)

    def tls_started(self, link: Link) -> None:
        """Both links are past their handshakes."""

    def _take(self, call: Callable[[bytes], list[Effect]], data: bytes, from_client: bytes) -> None:
        turn = Turn(Level.DISK if self._raised else self._level)
        try:
            self._collect(call(data), turn)
        except Exception as exc:
            self._broken(exc, turn, from_client)
            return
        self._perform(turn, from_client)

    def _collect(self, effects: list[Effect], turn: Turn) -> None:
        """Sort effects into what is recorded and what is sent; ask what is to be asked.

        What a decision brings about comes behind the rest of the list: the dialog had returned.
        """
        while effects:
            # Not by recursion: in a batch every decision may bring about the next question.
            effects = self._collect_once(effects, turn)

    def _collect_once(self, effects: list[Effect], turn: Turn) -> list[Effect]:
        decided: list[Effect] = []
        for effect in effects:
            if isinstance(effect, ToClient):
                turn.to_client.append(effect.data)
                turn.pieces.append(("answer", "own" if effect.own else "target", effect.data))
            elif isinstance(effect, ToTarget):
                turn.to_target.append(effect.data)
                if effect.own:
                    turn.pieces.append(("sent", "own", effect.data))
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
                raise TypeError(f"a dialog returned {type(effect).__name__}")
        return decided

    def _done(self, done: Done, turn: Turn) -> None:
        self.counters.rows += done.outcome.rows
        turn.events.append(done_event(done))
        turn.first_done = turn.first_done or done.operation
        if self._raised:
            self._raised.discard(done.operation)

    def _ask(self, ask: Ask, turn: Turn) -> list[Effect]:
        decision = self.questions.at_once(ask.operation)
        if decision is None:
            self.questions.later(ask, self.dialog.fact, self._decided_late)
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

    def _decided_late(self, ask: Ask, decision: Decision) -> None:
        if self.over:
            return
        turn = Turn(Level.DISK if self._raised else self._level)
        try:
            self._collect(self._decided(ask, decision, turn), turn)
        except Exception as exc:
            self._broken(exc, turn, b"")
            return
        self._perform(turn, b"")

    def _perform(self, turn: Turn, received: bytes) -> None:
        """Record all of the turn, then send all of it."""
        try:
            position = turn.append(self._streams, received)
        except Exception as exc:
            self._record_failed(exc)
            return
        self._border = self.dialog.at_border
        self._send(turn, position)
        if turn.close is not None:
            self.end(*turn.close)
        elif not self.over:
            self._after()

    def _send(self, turn: Turn, position: int) -> None:
        if turn.to_target:
            self._to_target.send(joined_bytes(turn.to_target), position, turn.level)
        if turn.to_client:
            data = joined_bytes(turn.to_client)
            self.counters.bytes_to_client += len(data)
            self._totals.bytes_to_client += len(data)
            self._to_client.send(data, position, turn.level)

    def _after(self) -> None:
        """What a finished turn may have changed."""
        held, most = self.dialog.buffered, self._limits.held_bytes
        if held > most:
            self._pressure.press(self._client, ASKING, True)
        elif self._client.paused & ASKING and held <= most // 2:
            self._pressure.press(self._client, ASKING, False)
        if self._left and self._unwanted():
            self.end("client", "left while an operation ran")
        elif self._draining:
            self._end_if_quiet()

    # --- ends ------------------------------------------------------------------------------------

    def _client_left(self) -> None:
        """What was not decided does not run; the outcome of what runs is still recorded, as far
        as the dialog waits for it."""
        if self._left or self.over:
            return
        self._left = True
        self._sent_when_left = self.counters.bytes_to_client
        turn = self._undecided()
        try:
            self._collect(self.dialog.client_gone(), turn)
        except Exception as exc:
            self._broken(exc, turn, b"")
            return
        self._perform(turn, b"")
        if not self.over:
            self._to_target.finish()
            self._timer = asyncio.get_running_loop().call_later(
                self._limits.linger_seconds, self.end, "client", "left while an operation ran"
            )

    def _undecided(self) -> Turn:
        """The turn that ends what was asked and not decided."""
        turn = Turn(self._level)
        for operation in self.questions.drop():
            turn.asks.append(ask_event(operation, NOT_DECIDED))
            turn.first_ask = turn.first_ask or operation.id
        return turn

    def _unwanted(self) -> bool:
        """Nothing more is to be learned for a client that has left."""
        sent = self.counters.bytes_to_client - self._sent_when_left
        return not self.dialog.busy or (self._client.gone and sent > self._limits.linger_bytes)

    def _target_left(self, cause: str) -> None:
        refusal = Refusal("unavailable", "target", "the target ended the session")
        self.refuse(refusal, "target", cause)

    def _broken(self, exc: Exception, turn: Turn, received: bytes) -> None:
        """The dialog raised: what was received is recorded, nothing of the turn is sent."""
        turn.pieces.clear()
        turn.events.clear()
        try:
            turn.append(self._streams, received)
        except Exception as failed:
            self._record_failed(failed)
            return
        if isinstance(exc, WireError):
            self.refuse(Refusal("unavailable", "protocol", str(exc)), "protocol")
            return
        log.error("a dialog failed", extra={"session": self._id, **traced(exc)})
        detail = f"internal error ({type(exc).__name__})"
        self.refuse(Refusal("unavailable", "internal", detail), "protocol")

    def _record_failed(self, exc: Exception) -> None:
        """Nothing moves on but the protocol's own word for it."""
        if self.over:
            return
        log.error("the record failed", extra={"session": self._id, "cause": str(exc)})
        self._metrics.record_failures.inc()
        if self._to_client.held:
            self._border = False
        self._to_client.cut()
        self._to_target.cut()
        refusal = Refusal("unavailable", "record", "the record cannot be written")
        for data in self._last_words(refusal).to_client:
            self._client.write(data)
        self.end("record", str(exc) or type(exc).__name__)

    def refuse(self, refusal: Refusal, reason: str, detail: str = "") -> None:
        """End the session with the protocol's own error, where one may be sent."""
        if self.over:
            return
        turn = self._last_words(refusal)
        if self._to_target.held:
            # What waits for the disk, or behind a cancel, was not sent: it does not run any more.
            self._to_target.cut()
        position = 0
        try:
            position = turn.append(self._streams, b"")
        except Exception as exc:
            log.error(
                "last words are not in the record", extra={"session": self._id, **traced(exc)}
            )
            turn.to_target.clear()
        self._send(turn, position)
        self.end(reason, detail or refusal.reason)

    def _last_words(self, refusal: Refusal) -> Turn:
        """What the dialog says to `refusal`; nothing for a client inside a message, which would
        read an error as part of it."""
        turn = self._undecided()
        said = Refusal(refusal.kind, refusal.code, refusal.reason, session=self._id)
        try:
            self._collect(self.dialog.refused(said), turn)
        except Exception as exc:
            log.error("a dialog could not refuse", extra={"session": self._id, **traced(exc)})
        if not self._border or (self._left and self._client.gone):
            turn.to_client.clear()
            turn.pieces = [piece for piece in turn.pieces if piece[0] != "answer"]
        return turn

    def end(self, reason: str, detail: str = "") -> None:
        """Both links close once what passed the gates is sent."""
        if self.over:
            return
        self.over, self._client.lingers = True, reason == "protocol"
        self.questions.drop()
        self._pressure.stop()
        if self._timer is not None:
            self._timer.cancel()
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
        except Exception as exc:
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
        quiet = not (dialog.busy or dialog.buffered or self.questions) and dialog.state == "I"
        if quiet and self._border:
            self.refuse(Refusal("unavailable", "drain", "the gateway is shutting down"), "drain")
