# SPDX-License-Identifier: GPL-3.0-or-later
"""Client to target: what is asked, forwarded, skipped, denied or kept back, in the client's order.

Whole messages of meaning are read here; values of a Bind and CopyData only pass through.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.model import Decision, Operation, Outcome
from gateway.protocols import Ask, Close, Done, Effect, ToTarget, WireError
from gateway.protocols.postgresql import wire
from gateway.protocols.postgresql.answers import Answers
from gateway.protocols.postgresql.asking import Asking
from gateway.protocols.postgresql.client_stream import ClientStream
from gateway.protocols.postgresql.denial import Saboteur, denied
from gateway.protocols.postgresql.pipeline import Pipeline, Request
from gateway.protocols.postgresql.scan import frame, skip_run, whole
from gateway.protocols.postgresql.statements import Portal

_COPYING = (wire.COPY_DATA, wire.COPY_DONE, wire.COPY_FAIL, wire.FLUSH, wire.SYNC, wire.TERMINATE)
_COPY_STREAM = (wire.COPY_DATA, wire.COPY_DONE, wire.COPY_FAIL)
_BATCHES = (wire.QUERY, wire.FUNCTION_CALL)


class Requests(ClientStream):
    """The stream of one client; every offset is one of the client's stream."""

    def __init__(
        self,
        pipeline: Pipeline,
        answers: Answers,
        saboteur: Saboteur,
        session: str,
        holds: tuple[int, ...],
    ) -> None:
        """`holds`: scan.py's table of what a client may send."""
        super().__init__()
        self._pipeline = pipeline
        self._answers = answers
        self._saboteur = saboteur
        self._holds = holds
        self._session = session
        self.asking = Asking(pipeline)
        self.closed = False
        self._chunk = 0
        self._stray = False
        """Copy messages belong to a COPY that was denied."""
        self._asked: tuple[Operation, int, int, int] | None = None
        self._barrier: Request | None = None
        self._barrier_all = False
        self.waiting = False

    @property
    def blocked(self) -> bool:
        return self._asked is not None or self.waiting

    @property
    def buffered(self) -> int:
        return len(self._data) - self._at + self._inbox_bytes if self.blocked else 0

    def receive(self, data: bytes) -> list[Effect]:
        self._effects = []
        if self._asked is not None or self.waiting:
            self._inbox.append(data)
            self._inbox_bytes += len(data)
            if self._asked is not None and self._leaves(data):
                self._effects = self.leave(abandon=not self.lingers)
                if not self._pipeline.queue:
                    self._effects.append(Close("client"))
            return self._effects
        self._chunk += 1
        if self._take(data):
            self._advance()
        return self._effects

    def _advance(self) -> None:
        data, size, holds = self._data, len(self._data), self._holds
        pipeline = self._pipeline
        missing, at = 0, self._at
        while at < size:
            kind, end, missing = whole(data, at, size)
            if end == 0 or not holds[kind]:
                kind, end, missing = frame(data, at, holds)
                if missing:
                    break
            if pipeline.copying and kind not in _COPYING:
                raise WireError(f"message {chr(kind)!r} may not come during COPY FROM STDIN")
            if self._stray and kind not in _COPY_STREAM:
                self._stray = False
            if not _HANDLERS[kind](self, at, end):
                return
            at = self._at
        self._end_of_chunk(missing)

    # --- asking ----------------------------------------------------------------------------------

    def _ask(self, start: int, end: int) -> bool:
        """A message that needs a decision: stop here until it is there."""
        if self._pipeline.skip:
            return self._drop(end)
        if self._held_by_barrier():
            return False
        operation = self.asking.operation(self._data, start, end, self._base)
        return self._put(operation, start, end)

    def _put(self, operation: Operation, start: int, end: int, again: bool = False) -> bool:
        self._flush_out(start)
        self._asked = (operation, start, end, self._data[start])
        self._effects.append(Ask(operation, again))
        return False

    def _held_by_barrier(self) -> bool:
        """What was forwarded may change what the next text means: wait until its end is known."""
        barrier = self._barrier
        if barrier is None:
            return False
        if barrier.ended:
            self._barrier = None
            self._barrier_all = False
            return False
        self.waiting = True
        if self._pipeline.unsynced:
            self._send_own(wire.FLUSH_MESSAGE)
        else:
            self._flush_out(self._at)
        return True

    def resume(self) -> list[Effect]:
        """After answers of the target: go on if they were what the client's messages wait for."""
        if not self.waiting or self._barrier is None or not self._barrier.ended:
            return []
        self._effects = []
        self.waiting = False
        self._barrier = None
        self._barrier_all = False
        self._go_on()
        return self._effects

    def _go_on(self) -> None:
        """Use what was kept back, and all that came behind it."""
        if self._inbox:
            self._chunk += 1
            self._join_inbox()
            if self._at > len(self._data):
                self._end_of_chunk(0)
                return
        self._advance()

    def decided(self, operation: int, decision: Decision) -> list[Effect]:
        self._effects = []
        asked = self._asked
        if asked is None or asked[0].id != operation:
            return []
        self._asked = None
        if self._pipeline.skip:
            # The target failed while this was being decided, and skips to Sync.
            self._not_run(operation)
            self._drop(asked[2])
        elif decision.verdict.passes:
            self._forward(asked, decision)
        else:
            self._deny(asked, decision)
        if self._barrier_all:
            self._held_by_barrier()
        if not self.waiting:
            self._go_on()
        return self._effects

    def _not_run(self, operation: int) -> None:
        at = self._answers.sent
        self._effects.append(Done(operation, Outcome("not_run"), at, at))

    # --- allowed ---------------------------------------------------------------------------------

    def _forward(self, asked: tuple[Operation, int, int, int], decision: Decision) -> None:
        operation, start, end, kind = asked
        if kind == wire.EXECUTE:
            self._describe_first(self.asking.portal(self._data, start, end), start, end)
        request = self._pipeline.push(kind, operation.id)
        self._pipeline.unsynced = kind not in _BATCHES
        replaced = self.asking.forwarded(request, operation, self._data, start, end, self._chunk)
        if replaced:
            self._not_run(replaced)
        if decision.declares:
            self._declares(request, kind, decision)
        self._pass(end)

    def _declares(self, request: Request, kind: int, decision: Decision) -> None:
        """Parse and Bind run nothing that could be declared; their Execute does."""
        if kind == wire.BIND and request.portal is not None:
            request.portal.declares = decision.declares
        elif kind in (wire.QUERY, wire.EXECUTE):
            request.declares = decision.declares
            self._barrier = request

    def _execute(self, start: int, end: int) -> bool:
        """Of a portal asked for in this very chunk, nothing more is asked; later, ask again."""
        pipeline = self._pipeline
        if pipeline.skip:
            return self._drop(end)
        portal = self.asking.portal(self._data, start, end)
        if portal is None or portal.ran or portal.operation is None:
            if self._held_by_barrier():
                return False
            operation = self.asking.operation(self._data, start, end, self._base)
            return self._put(operation, start, end)
        if portal.chunk != self._chunk or self._barrier is not None:
            if self._held_by_barrier():
                return False
            return self._put(portal.operation, start, end, again=True)
        self._describe_first(portal, start, end)
        request = pipeline.push(wire.EXECUTE, portal.operation.id)
        request.portal = portal
        portal.ran = True
        pipeline.unsynced = True
        if portal.declares:
            request.declares = portal.declares
            self._barrier = request
        return self._pass(end)

    def _describe_first(self, portal: Portal | None, start: int, end: int) -> None:
        """The record must name the columns of an answer, also where no client asked for them."""
        if portal is None or portal.ran or portal.operation is None or portal.statement.described:
            return
        name = wire.read_cstring(self._data, start + 5, end)[0]
        self._send_own(wire.describe_portal(name))
        portal.statement.described = True
        self._pipeline.push_own(wire.DESCRIBE).describes = portal.statement

    # --- denied ----------------------------------------------------------------------------------

    def _deny(self, asked: tuple[Operation, int, int, int], decision: Decision) -> None:
        operation, start, end, kind = asked
        pipeline = self._pipeline
        if kind == wire.EXECUTE:
            portal = self.asking.portal(self._data, start, end)
            if portal is not None:
                portal.ran = True  # so that its operation does not end twice
        error = wire.refusal_error(denied(decision, self._session, operation.id))
        simple = kind in _BATCHES
        self._stray = simple
        if pipeline.quiet and pipeline.state != "T":
            self._deny_at_once(operation.id, error, simple)
        else:
            self._deny_in_batch(operation.id, error, simple)
        self._drop(end)

    def _deny_at_once(self, operation: int, error: bytes, simple: bool) -> None:
        """Nothing is under way that a bare error could belie."""
        pipeline = self._pipeline
        words = error + wire.ready_for_query(pipeline.state) if simple else error
        begin = self._answers.sent
        said = self._answers.say(words)
        end = begin + len(words)
        self._effects += (said, Done(operation, Outcome("denied", sqlstate="42501"), begin, end))
        pipeline.skip = not simple

    def _deny_in_batch(self, operation: int, error: bytes, simple: bool) -> None:
        """Make the target fail what this stands in (denial.py); our error replaces its own."""
        pipeline = self._pipeline
        mixed = simple and pipeline.unsynced
        sabotage = self._saboteur.message()
        self._send_own(sabotage + wire.SYNC_MESSAGE if simple else sabotage)
        pipeline.push_own(wire.EXECUTE, operation, error)
        pipeline.unsynced = not simple
        pipeline.skip = not simple
        if simple:
            sync = pipeline.push_own(wire.SYNC)
            if mixed:
                # Should an earlier message have failed, the client has yet to send its own Sync.
                self._barrier, self._barrier_all = sync, True

    # --- what needs no decision ------------------------------------------------------------------

    def _sync(self, start: int, end: int) -> bool:
        pipeline = self._pipeline
        if pipeline.skip and not pipeline.unsynced:
            pipeline.skip = False
            self._drop(end)
            self._effects.append(self._answers.say(wire.ready_for_query(pipeline.state)))
            return True
        pipeline.skip = False
        self._empty(start, end)
        if pipeline.copying:
            pipeline.absorbed += 1
            return self._pass(end)
        pipeline.push(wire.SYNC)
        pipeline.unsynced = False
        return self._pass(end)

    def _flush(self, start: int, end: int) -> bool:
        self._empty(start, end)
        idle = self._pipeline.skip or self._pipeline.quiet
        return self._drop(end) if idle else self._pass(end)

    def _describe(self, start: int, end: int) -> bool:
        which, name = self.asking.named(self._data, start, end)
        if self._pipeline.skip:
            return self._drop(end)
        self._pipeline.push(wire.DESCRIBE).describes = self.asking.describes(which, name)
        self._pipeline.unsynced = True
        return self._pass(end)

    def _close(self, start: int, end: int) -> bool:
        which, name = self.asking.named(self._data, start, end)
        if self._pipeline.skip:
            return self._drop(end)
        request = self._pipeline.push(wire.CLOSE)
        self._pipeline.unsynced = True
        unused = self.asking.close(request, which, name)
        if unused:
            self._not_run(unused)
        return self._pass(end)

    def _empty(self, start: int, end: int) -> None:
        if end - start != 5:
            raise WireError(f"message {chr(self._data[start])!r} must be empty")

    def _copy_data(self, start: int, end: int) -> bool:
        end, _ = skip_run(self._data, start, wire.COPY_DATA, wire.COPY_DATA)
        return self._drop(end) if self._copies_nothing() else self._pass(end)

    def _copy_end(self, start: int, end: int) -> bool:
        if self._copies_nothing():
            return self._drop(end)
        pipeline = self._pipeline
        if pipeline.copying:
            pipeline.copying = False
        else:
            pipeline.push(self._data[start])
        return self._pass(end)

    def _copies_nothing(self) -> bool:
        """After a failed copy the target ignores what still comes (55.2.6); so it needs not go."""
        return self._stray or self._pipeline.skip or self._pipeline.quiet

    # --- the client leaves -----------------------------------------------------------------------

    def _terminate(self, start: int, end: int) -> bool:
        self._empty(start, end)
        self._pass(end)
        self._flush_out(end)
        self.closed = True
        if not self.lingers:
            self._effects += self._answers.abandoned("unknown")
            self._effects.append(Close("client"))
        return False

    @property
    def lingers(self) -> bool:
        """The target will surely answer what it still owes, though nobody reads the answer: the
        outcome of what runs is worth waiting for."""
        pipeline = self._pipeline
        owed = bool(pipeline.queue) and not pipeline.unsynced and not pipeline.copying
        return owed and self.at_border

    def leave(self, *, abandon: bool = True) -> list[Effect]:
        """The client is gone: an undecided operation does not run, and the target is told.

        `abandon`: of what the target still owes, nothing more will be known.
        """
        self._effects = []
        told = self.closed
        if self._asked is not None:
            self._not_run(self._asked[0].id)
        self._asked = None
        self.waiting = False
        self.closed = True
        self._inbox.clear()
        self._inbox_bytes = 0
        self._data, self._at, self._from = b"", 0, 0
        if self.at_border and not told:
            self._effects.append(ToTarget(wire.TERMINATE_MESSAGE, True))
        if abandon:
            self._effects += self._answers.abandoned("unknown")
        return self._effects


# One table for all sessions: bound methods in each would cost an idle one 2 KiB.
_HANDLERS: dict[int, Callable[[Requests, int, int], bool]] = {
    wire.QUERY: Requests._ask,
    wire.PARSE: Requests._ask,
    wire.BIND: Requests._ask,
    wire.FUNCTION_CALL: Requests._ask,
    wire.EXECUTE: Requests._execute,
    wire.SYNC: Requests._sync,
    wire.DESCRIBE: Requests._describe,
    wire.CLOSE: Requests._close,
    wire.FLUSH: Requests._flush,
    wire.COPY_DATA: Requests._copy_data,
    wire.COPY_DONE: Requests._copy_end,
    wire.COPY_FAIL: Requests._copy_end,
    wire.TERMINATE: Requests._terminate,
}
