# SPDX-License-Identifier: GPL-3.0-or-later
"""The queue of requests that the target has not answered, and the state that both directions share.

A request is forwarded, or our own; what is skipped or faked never enters the queue.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from gateway.model import Declared
from gateway.protocols import WireError
from gateway.protocols.postgresql import wire
from gateway.protocols.postgresql.settings import Settings
from gateway.protocols.postgresql.statements import Change, Names, Portal, Statement

COPY_ENDS = (wire.COPY_DONE, wire.COPY_FAIL)
_ROLLBACK = b"ROLLBACK"
_UNWINDS = (b"COMMIT", _ROLLBACK, b"PREPARE TRANSACTION")
_ENDS_BATCH = (wire.SYNC, wire.QUERY, wire.FUNCTION_CALL)


class Request:
    """One message whose answer the target owes."""

    # Defaults on the class: most requests never set them, and are made four a transaction.
    own = False
    """Sent by the gateway, not by the client."""
    hidden = False
    """Its ReadyForQuery is not the client's."""
    instead = b""
    """What the client sees instead of the error that this request of ours provokes."""
    ended = False
    portal: Portal | None = None
    change: Change | None = None
    describes: Statement | None = None
    declares: tuple[Declared, ...] = ()
    rows = 0
    tag = b""
    sqlstate = ""
    unwound = False
    """A transaction ended, or was rolled back to a savepoint, inside it."""

    def __init__(self, kind: int, operation: int, number: int) -> None:
        self.kind = kind
        self.operation = operation
        self.number = number


class Pipeline:
    """What is under way between one client and one target."""

    __slots__ = (
        "absorbed",
        "batch_commands",
        "batch_failed",
        "batch_tag",
        "batch_unwound",
        "copying",
        "last",
        "names",
        "numbers",
        "queue",
        "settings",
        "skip",
        "state",
        "unsynced",
    )

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.names = Names()
        self.queue: deque[Request] = deque()
        self.numbers = 0
        self.state = "I"
        """Transaction state at the last ReadyForQuery."""
        self.unsynced = False
        """Extended messages went out that no Sync has ended yet."""
        self.skip = False
        """All but Sync and Terminate of the client is dropped: an error was seen or made."""
        self.copying = False
        """The target reads CopyData now, and ignores Sync and Flush."""
        self.absorbed = 0
        """Syncs that the target most likely ignored because it was copying."""
        self.last: tuple[int, int, int] | None = None
        """The operation that last ended well in this batch: id, start and end of its answers."""
        self.batch_failed = False
        self.batch_unwound = False
        self.batch_commands = 0
        self.batch_tag = b""

    @property
    def quiet(self) -> bool:
        """Nothing is under way, so that the transaction state is known."""
        return not self.queue and not self.unsynced

    def push(self, kind: int, operation: int = 0) -> Request:
        self.numbers += 1
        request = Request(kind, operation, self.numbers)
        self.queue.append(request)
        return request

    def push_own(self, kind: int, operation: int = 0, instead: bytes = b"") -> Request:
        request = self.push(kind, operation)
        request.own = True
        request.instead = instead
        return request

    def head(self) -> Request | None:
        """The request that the target answers now. The ends of a copy have no answer."""
        queue = self.queue
        while queue:
            request = queue[0]
            if request.kind not in COPY_ENDS:
                return request
            queue.popleft()
        return None

    def running(self) -> Request | None:
        """The request of the client's that the target works on."""
        head = self.head()
        if head is not None and head.own and head.kind == wire.DESCRIBE:
            return self.queue[1]
        return head

    def expect(self, *kinds: int) -> Request:
        """The head, which must be of one of `kinds` for the answer at hand to make sense."""
        queue = self.queue
        if queue and queue[0].kind in kinds:
            return queue[0]
        request = self.head()
        if request is None or request.kind not in kinds:
            raise WireError("the target answers what nobody asked")
        return request

    def drop_until_sync(self) -> Iterator[Request]:
        """The requests that the target skips after an error, in order; then the head ends the skip.

        A Query is skipped too (it does not end the skip, PostgreSQL documentation 55.2.3); our own
        Sync behind it does.
        """
        while self.queue and self.queue[0].kind != wire.SYNC:
            yield self.queue.popleft()

    def begin_copy(self) -> None:
        """CopyInResponse: a Sync that is already under way is ignored, up to the copy's end."""
        head, rest = self.queue[0], list(self.queue)[1:]
        self.queue = deque([head])
        self.copying = True
        for request in rest:
            if self.copying and request.kind == wire.SYNC:
                self.absorbed += 1
                continue
            if request.kind in COPY_ENDS:
                self.copying = False
            self.queue.append(request)
        if self.copying and not any(r.kind in _ENDS_BATCH for r in self.queue):
            self.unsynced = True

    def command_completed(self, tag: bytes) -> bool:
        """Note one command of this batch; True where it ended or rewound a transaction."""
        unwinds = tag in _UNWINDS
        self.batch_commands += 1
        self.batch_unwound |= unwinds
        self.batch_tag = tag
        return unwinds

    def settled(self, state: str, number: int) -> list[Portal]:
        """ReadyForQuery: the batch that request `number` ends is over. Returns the portals that
        are gone."""
        commands = self.batch_commands
        certain = commands == 0 if self.batch_failed else commands == 1
        restored = state == "I" and certain and (self.batch_failed or self.batch_tag == _ROLLBACK)
        block = self.state != "I" or state != "I"
        self.settings.settled(
            state,
            restored=restored,
            doubtful=self.batch_unwound or (state == "I" and (block or self.batch_failed)),
        )
        self.state = state
        self.last = None
        self.batch_failed = self.batch_unwound = False
        self.batch_commands = 0
        if state == "I" and self.names.portals:
            return self.names.end_transaction(number)
        return []

    def undo(self, requests: list[Request]) -> None:
        """Take back what requests that failed, or never ran, did to names and knew of them."""
        for index in range(len(requests) - 1, -1, -1):
            described, change = requests[index].describes, requests[index].change
            if described is not None:
                described.described = False
            if change is not None:
                later = (r.change for r in self.queue if r.change is not None)
                self.names.undo(change, later)
