# SPDX-License-Identifier: GPL-3.0-or-later
"""Target to client: which answer belongs to which request, and what the client gets to see.

One scan and one ToClient a chunk; rows never become objects.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.model import Outcome
from gateway.protocols import Close, Done, Effect, Keep, Settled, ToClient, WireError
from gateway.protocols.postgresql import wire
from gateway.protocols.postgresql.declarations import declare
from gateway.protocols.postgresql.pipeline import COPY_ENDS, Pipeline, Request
from gateway.protocols.postgresql.scan import scan_target

_SETTLED = {state: Settled(state) for state in "ITE"}
_STATES = {ord(state): state for state in "ITE"}
_EXTENDED = (wire.PARSE, wire.BIND, wire.DESCRIBE, wire.EXECUTE, wire.CLOSE)


class Answers:
    """The stream of one target; every offset is one of the answer stream."""

    def __init__(self, pipeline: Pipeline, shown_names: tuple[str, str]) -> None:
        """`shown_names`: the application name that the target has, and the client's own."""
        self._pipeline = pipeline
        self._target_name, self._client_name = shown_names
        self.sent = 0
        """Bytes sent to the client since the session opened."""
        self._left = 0
        self._parts: list[bytes] = []
        self._missing = 0
        self._data = b""
        self._from = 0
        self._good = 0
        self._base = 0
        self._mark = 0
        self.ended = False
        """The target said goodbye (FATAL)."""
        self._effects: list[Effect] = []
        self._facts: list[Effect] = []

    @property
    def at_border(self) -> bool:
        return self._left == 0

    def say(self, data: bytes) -> ToClient:
        """Words of our own, between two messages of the target."""
        self.sent += len(data)
        return ToClient(data, True)

    def take_effects(self) -> list[Effect]:
        """What was made of a chunk before a WireError was raised in it."""
        if self._data:
            self._end_of_chunk(max(self._good, self._from), 0)
        effects = self._effects + self._facts
        self._effects, self._facts = [], []
        return effects

    def receive(self, data: bytes) -> list[Effect]:
        """One chunk of the target. After a WireError, `take_effects` has what came before it."""
        if self._parts:
            self._parts.append(data)
            self._missing -= len(data)
            if self._missing > 0:
                return []
            data = b"".join(self._parts)
            self._parts = []
        left = self._left
        if left >= len(data):
            self._left = left - len(data)
            self.sent += len(data)
            return [ToClient(data)] if data else []
        self._left = 0
        self._effects, self._facts = [], []
        self._data, self._from, self._base = data, 0, self.sent
        self._good = left
        events, stop, rows, missing = scan_target(data, left)
        for kind, start, end, before in events:
            if before:
                self._rows(before)
            handler = _HANDLERS.get(kind)
            if handler is None:
                raise WireError(f"the target may not send message {chr(kind)!r} here")
            handler(self, start, end)
            self._good = end
        if rows:
            self._rows(rows)
        self._end_of_chunk(stop, missing)
        self._effects.extend(self._facts)
        return self._effects

    def _end_of_chunk(self, stop: int, missing: int) -> None:
        data, size = self._data, len(self._data)
        if missing:
            self._parts = [data[stop:]]
            self._missing = missing
        elif stop > size:
            self._left = stop - size
            stop = size
        if stop > self._from:
            self._effects.append(ToClient(data[self._from : stop]))
        self.sent = self._base + stop
        self._data = b""

    def _cut(self, start: int, end: int, instead: bytes, *, keep: bool) -> None:
        """Leave one message out of what the client gets, and put our own words there."""
        data = self._data
        if start > self._from:
            self._effects.append(ToClient(data[self._from : start]))
        if keep:
            self._effects.append(Keep(data[start:end]))
        if instead:
            self._effects.append(ToClient(instead, True))
        self._from = end
        self._base += len(instead) - (end - start)

    # --- the ends of operations ------------------------------------------------------------------

    def _pop(self, end: int) -> None:
        queue = self._pipeline.queue
        queue.popleft().ended = True
        if queue and queue[0].kind in COPY_ENDS:
            self._pipeline.head()
        self._mark = self._base + end

    def _finish(self, request: Request, status: str, end: int) -> None:
        """Its operation ended with the answer that ends at `end` of this chunk."""
        if not request.operation:
            return
        begin, portal = self._mark, request.portal
        if portal is not None and portal.begin >= 0:
            begin, portal.begin = portal.begin, -1
        stop = self._base + end
        tag = request.tag.decode("utf-8", "replace") if request.tag else ""
        outcome = Outcome(status, tag, request.rows, request.sqlstate)
        self._facts.append(Done(request.operation, outcome, begin, stop))
        if status == "ok":
            self._pipeline.last = (request.operation, begin, stop)

    def _ended_unseen(self, operation: int, status: str, sqlstate: str = "") -> None:
        at = self._mark
        self._facts.append(Done(operation, Outcome(status, sqlstate=sqlstate), at, at))

    def abandoned(self, status: str) -> list[Effect]:
        """The session ends: what the target still owed ends as `status`."""
        seen: set[int] = set()
        effects: list[Effect] = []
        for request in self._pipeline.queue:
            if request.operation and request.operation not in seen:
                seen.add(request.operation)
                ended = "denied" if request.own else status
                effects.append(Done(request.operation, Outcome(ended), self._mark, self.sent))
        self._pipeline.queue.clear()
        return effects

    def _rows(self, count: int) -> None:
        head = self._pipeline.expect(wire.QUERY, wire.EXECUTE)
        if head.own:
            raise WireError("the target sends rows for what cannot have any")
        head.rows += count

    # --- answers that end a request --------------------------------------------------------------

    def _completed(self, start: int, end: int) -> None:
        pipeline = self._pipeline
        head = pipeline.expect(wire.QUERY, wire.EXECUTE)
        if head.own:
            raise WireError("a portal that cannot exist was executed")
        head.tag = self._data[start + 5 : end - 1]
        head.unwound |= pipeline.command_completed(head.tag)
        pipeline.copying = False
        if head.kind == wire.EXECUTE:
            self._finish(head, "ok", end)
            if head.declares:
                declare(self._pipeline, head, True)
            self._pop(end)

    def _empty(self, start: int, end: int) -> None:
        head = self._pipeline.expect(wire.QUERY, wire.EXECUTE)
        if head.kind == wire.EXECUTE:
            self._finish(head, "ok", end)
            self._pop(end)

    def _suspended(self, start: int, end: int) -> None:
        head = self._pipeline.expect(wire.EXECUTE)
        self._finish(head, "suspended", end)
        self._pop(end)

    def _parsed(self, start: int, end: int) -> None:
        self._finish(self._pipeline.expect(wire.PARSE), "ok", end)
        self._pop(end)

    def _bound(self, start: int, end: int) -> None:
        portal = self._pipeline.expect(wire.BIND).portal
        if portal is not None:
            portal.begin = self._mark
        self._pop(end)

    def _closed(self, start: int, end: int) -> None:
        self._pipeline.expect(wire.CLOSE)
        self._pop(end)

    def _described(self, start: int, end: int) -> None:
        head = self._pipeline.expect(wire.QUERY, wire.DESCRIBE)
        if head.kind == wire.DESCRIBE:
            if head.own:
                self._cut(start, end, b"", keep=True)
            self._pop(end)

    def _parameters(self, start: int, end: int) -> None:
        self._pipeline.expect(wire.DESCRIBE)

    def _called(self, start: int, end: int) -> None:
        self._pipeline.expect(wire.FUNCTION_CALL)

    def _ready(self, start: int, end: int) -> None:
        pipeline = self._pipeline
        state = _STATES.get(self._data[start + 5]) if end - start == 6 else None
        if state is None:
            raise WireError("the target names a transaction state that does not exist")
        head = pipeline.head()
        if head is None or head.kind in _EXTENDED:
            self._late_ready(state)
            return
        if head.kind != wire.SYNC:
            self._finish(head, "error" if head.sqlstate else "ok", end)
            if head.declares:
                declare(self._pipeline, head, not head.sqlstate)
        pipeline.copying = False
        pipeline.absorbed = 0
        self._settle(head, state)
        self._pop(end)
        if head.hidden:
            self._cut(start, end, b"", keep=True)
            self._mark = self._base + end

    def _settle(self, head: Request, state: str) -> None:
        for portal in self._pipeline.settled(state, head.number):
            if not portal.ran and portal.operation is not None:
                self._ended_unseen(portal.operation.id, "not_run")
        self._facts.append(_SETTLED[state])

    def _late_ready(self, state: str) -> None:
        """A Sync that we took as ignored during a copy was not: the copy had failed before it."""
        if not self._pipeline.absorbed:
            raise WireError("the target is ready although nobody asked")
        self._pipeline.absorbed -= 1
        self._pipeline.state = state
        self._facts.append(_SETTLED[state])

    # --- errors ----------------------------------------------------------------------------------

    def _error(self, start: int, end: int) -> None:
        pipeline = self._pipeline
        fields = wire.read_fields(self._data, start + 5, end)
        sqlstate = fields.get("C", "") or "XX000"
        head = pipeline.running()
        if head is not pipeline.head():
            pipeline.undo([pipeline.queue.popleft()])  # our Describe failed as the Execute would
        if wire.is_fatal(fields):
            self._fatal(head, sqlstate, fields, end)
            return
        if head is None:
            raise WireError(f"the target sends an error that answers nothing ({sqlstate})")
        pipeline.batch_failed = True
        pipeline.copying = False
        if head.kind == wire.SYNC:
            self._failed_at_commit(sqlstate, end)
        elif head.kind in (wire.QUERY, wire.FUNCTION_CALL):
            head.sqlstate = sqlstate
        elif head.own:
            self._sabotaged(head, start, end)
        else:
            head.sqlstate = sqlstate
            self._finish(head, "error", end)
            self._pop(end)
            self._skipped([head])

    def _sabotaged(self, head: Request, start: int, end: int) -> None:
        """The error that we provoked: the client sees the denial in its place."""
        begin = self._base + start
        self._cut(start, end, head.instead, keep=True)
        self._facts.append(
            Done(
                head.operation,
                Outcome("denied", sqlstate="42501"),
                begin,
                begin + len(head.instead),
            )
        )
        self._pop(end)
        self._skipped([head])

    def _skipped(self, failed: list[Request]) -> None:
        """Behind an error the target skips to the next Sync, and so do we."""
        pipeline = self._pipeline
        seen = {request.operation for request in failed}
        for request in pipeline.drop_until_sync():
            request.ended = True
            failed.append(request)
            if request.operation and request.operation not in seen:
                seen.add(request.operation)
                self._ended_unseen(request.operation, "denied" if request.own else "not_run")
        pipeline.undo(failed)
        sync = pipeline.head()
        if sync is None:
            pipeline.skip = pipeline.unsynced = True
        elif sync.own and not failed[0].own:
            # Our Sync was meant for our own error; the client's own Sync is still to come.
            sync.hidden = True
            pipeline.skip = True
        if failed[0].kind == wire.PARSE and failed[0].change is not None:
            self._drop_failed_unnamed(failed[0])

    def _drop_failed_unnamed(self, request: Request) -> None:
        """The old unnamed statement is gone before a new one is parsed (exec_parse_message)."""
        change = request.change
        if change is not None and change.name == b"" and change.old is not None:
            names = self._pipeline.names
            if names.statements.get(b"") is change.old:
                names.set_statement(b"", None)

    def _failed_at_commit(self, sqlstate: str, end: int) -> None:
        """A deferred constraint, say: the batch's last operation did not succeed after all."""
        last = self._pipeline.last
        if last is not None:
            operation, begin, _ = last
            outcome = Outcome("error", sqlstate=sqlstate)
            self._facts.append(Done(operation, outcome, begin, self._base + end))

    def _fatal(self, head: Request | None, sqlstate: str, fields: dict[str, str], end: int) -> None:
        if head is not None and not head.own:
            head.sqlstate = sqlstate
            self._finish(head, "error", end)
            seen = {head.operation}
            self._pipeline.queue.popleft()
            for request in self._pipeline.queue:
                if request.operation and request.operation not in seen:
                    seen.add(request.operation)
                    self._ended_unseen(request.operation, "denied" if request.own else "not_run")
            self._pipeline.queue.clear()
        self.ended = True
        self._facts.append(Close("target", f"{sqlstate}: {fields.get('M', '')}"))

    # --- what belongs to no request, and copying -------------------------------------------------

    def _aside(self, start: int, end: int) -> None:
        """Notices and notifications may come at any time."""

    def _parameter(self, start: int, end: int) -> None:
        name, value = wire.read_parameter(self._data, start + 5, end)
        self._pipeline.settings.report(name, value)
        if name == "application_name" and value == self._target_name and value:
            self._cut(start, end, wire.parameter_status(name, self._client_name), keep=True)

    def _copy_in(self, start: int, end: int) -> None:
        self._copying_out(start, end)
        self._pipeline.begin_copy()

    def _copying_out(self, start: int, end: int) -> None:
        if self._pipeline.expect(wire.QUERY, wire.EXECUTE).own:
            raise WireError("a portal that cannot exist was executed")


# One table for all sessions: bound methods in each would cost an idle one 2 KiB.
_HANDLERS: dict[int, Callable[[Answers, int, int], None]] = {
    wire.ROW_DESCRIPTION: Answers._described,
    wire.COMMAND_COMPLETE: Answers._completed,
    wire.READY_FOR_QUERY: Answers._ready,
    wire.PARSE_COMPLETE: Answers._parsed,
    wire.BIND_COMPLETE: Answers._bound,
    wire.CLOSE_COMPLETE: Answers._closed,
    wire.NO_DATA: Answers._described,
    wire.PARAMETER_DESCRIPTION: Answers._parameters,
    wire.EMPTY_QUERY_RESPONSE: Answers._empty,
    wire.PORTAL_SUSPENDED: Answers._suspended,
    wire.ERROR_RESPONSE: Answers._error,
    wire.NOTICE_RESPONSE: Answers._aside,
    wire.NOTIFICATION_RESPONSE: Answers._aside,
    wire.PARAMETER_STATUS: Answers._parameter,
    wire.COPY_IN_RESPONSE: Answers._copy_in,
    wire.COPY_OUT_RESPONSE: Answers._copying_out,
    wire.COPY_DONE: Answers._copying_out,
    wire.FUNCTION_CALL_RESPONSE: Answers._called,
}
