# SPDX-License-Identifier: GPL-3.0-or-later
"""Client messages as operations: what each would run, by which text, under which name."""

from __future__ import annotations

from gateway.model import Operation
from gateway.protocols import WireError
from gateway.protocols.postgresql import wire
from gateway.protocols.postgresql.pipeline import Pipeline, Request
from gateway.protocols.postgresql.statements import Portal, Statement

LANGUAGE = "sql"
_STATEMENT = ord("S")
_PORTAL = ord("P")


class Asking:
    """Numbers the operations of a session and keeps what their messages do to names."""

    __slots__ = ("_count", "_pipeline", "_target")

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._count = 0
        self._target: tuple[bytes, bytes, Statement | Portal | None] = (b"", b"", None)

    def operation(self, data: bytes, start: int, end: int, base: int) -> Operation:
        """The operation that the message at `start` asks for; `base` is the offset of `data`."""
        kind = data[start]
        self._count += 1
        if kind == wire.QUERY:
            raw = data[start + 5 : end - 1]
            if data[end - 1] or b"\0" in raw or end - start < 6:
                raise WireError("the text of a Query ends before its message does, or never")
            settings = self._pipeline.settings
            text, doubt = settings.decode(raw)
            return Operation(
                self._count,
                "query",
                LANGUAGE,
                text,
                base + start,
                base + end,
                settings.key,
                undecodable=doubt,
            )
        if kind == wire.PARSE:
            return self._prepare(data, start, end, base)
        if kind == wire.BIND:
            return self._bind(data, start, end, base)
        if kind == wire.EXECUTE:
            return self._run(data, start, end, base)
        return self._call(data, start, end, base)

    def _make(
        self, kind: str, statement: Statement, name: bytes, span: tuple[int, int], count: int = 0
    ) -> Operation:
        settings = self._pipeline.settings
        return Operation(
            self._count,
            kind,
            LANGUAGE,
            statement.text,
            span[0],
            span[1],
            settings.key,
            self._shown(name),
            statement.operation,
            count,
            statement.doubt,
        )

    def _shown(self, name: bytes) -> str:
        return name.decode(self._pipeline.settings.codec or "utf-8", "replace") if name else ""

    def _prepare(self, data: bytes, start: int, end: int, base: int) -> Operation:
        name, at = wire.read_cstring(data, start + 5, end)
        raw, at = wire.read_cstring(data, at, end)
        count = wire.read_int16(data, at, end) & 0xFFFF
        if at + 2 + 4 * count != end:
            raise WireError("a Parse does not end with the types of its parameters")
        text, doubt = self._pipeline.settings.decode(raw)
        self._target = (name, b"", None)
        return self._make("prepare", Statement(text, 0, doubt), name, (base + start, base + end))

    def _bind(self, data: bytes, start: int, end: int, base: int) -> Operation:
        limit = min(end, len(data))
        portal, at = wire.read_cstring(data, start + 5, limit)
        name, at = wire.read_cstring(data, at, limit)
        at += 2 + 2 * (wire.read_int16(data, at, limit) & 0xFFFF)
        count = wire.read_int16(data, at, limit) & 0xFFFF
        if end <= len(data):
            _check_values(data, at + 2, end, count)
        statement = self._pipeline.names.statements.get(name)
        if statement is None:
            doubt = f"no statement is known under the name {self._shown(name)!r}"
            statement = Statement(None, 0, doubt)
        self._target = (portal, name, statement)
        return self._make("execute", statement, name, (base + start, base + end), count)

    def _run(self, data: bytes, start: int, end: int, base: int) -> Operation:
        """A second Execute of a portal, or one of an SQL cursor."""
        name, at = wire.read_cstring(data, start + 5, end)
        portal = self._pipeline.names.portals.get(name)
        if portal is None:
            doubt = f"no portal is known under the name {self._shown(name)!r}"
            portal = Portal(Statement(None, 0, doubt), None)
        self._target = (name, b"", portal)
        return self._make("execute", portal.statement, name, (base + start, base + end))

    def _call(self, data: bytes, start: int, end: int, base: int) -> Operation:
        oid = wire.read_int32(data, start + 5, end) & 0xFFFFFFFF
        at = start + 9 + 2 + 2 * (wire.read_int16(data, start + 9, end) & 0xFFFF)
        count = wire.read_int16(data, at, end) & 0xFFFF
        _check_values(data, at + 2, end, count)
        span = (base + start, base + end)
        return self._make("function_call", Statement(None), str(oid).encode(), span, count)

    def forwarded(
        self, request: Request, operation: Operation, data: bytes, start: int, end: int, chunk: int
    ) -> int:
        """The message was allowed: keep what it does to names. Returns the operation of a portal
        that it replaces unused (0: none)."""
        names = self._pipeline.names
        kind = request.kind
        if kind == wire.QUERY:
            if names.statements:
                request.change = names.set_statement(b"", None)
        elif kind == wire.PARSE:
            statement = Statement(operation.text, operation.id, operation.undecodable)
            request.change = names.set_statement(self._target[0], statement)
        elif kind == wire.BIND and isinstance(self._target[2], Statement):
            portal = Portal(self._target[2], operation, chunk, request.number)
            request.portal = portal
            request.change = names.set_portal(self._target[0], portal)
            return _unused(request.change.old if request.change else None)
        elif kind == wire.EXECUTE:
            request.portal = self.portal(data, start, end)
            if request.portal is not None:
                request.portal.ran = True
        return 0

    def portal(self, data: bytes, start: int, end: int) -> Portal | None:
        name, at = wire.read_cstring(data, start + 5, end)
        if at + 4 != end:
            raise WireError("an Execute does not end with its row limit")
        return self._pipeline.names.portals.get(name)

    def named(self, data: bytes, start: int, end: int) -> tuple[int, bytes]:
        """What a Describe or Close names: S or P, and the name."""
        if end - start < 7 or data[start + 5] not in (_STATEMENT, _PORTAL):
            raise WireError("a Describe or Close names neither a statement nor a portal")
        return data[start + 5], wire.only_cstring(data, start + 6, end)

    def describes(self, which: int, name: bytes) -> Statement | None:
        """The statement whose columns a Describe will tell."""
        names = self._pipeline.names
        portal = names.portals.get(name) if which == _PORTAL else None
        statement = names.statements.get(name) if which == _STATEMENT else None
        if portal is not None and portal.operation is not None:
            statement = portal.statement
        if statement is not None:
            statement.described = True
        return statement

    def close(self, request: Request, which: int, name: bytes) -> int:
        """Forget a closed name; returns the operation of a portal that never ran (0: none)."""
        names = self._pipeline.names
        if which == _STATEMENT:
            request.change = names.set_statement(name, None)
            return 0
        request.change = names.set_portal(name, None)
        return _unused(request.change.old if request.change else None)


def _unused(old: Statement | Portal | None) -> int:
    if isinstance(old, Portal) and not old.ran and old.operation is not None:
        return old.operation.id
    return 0


def _check_values(data: bytes, at: int, end: int, count: int) -> None:
    """`count` values and the formats of results stand between `at` and `end`, nothing else.

    So that a length that lies cannot make us and the target see different messages
    (CVE-2024-27304).
    """
    for _ in range(count):
        length = wire.read_int32(data, at, end)
        if length < -1:
            raise WireError("a value has a negative length")
        at += 4 + max(length, 0)
    if not _formats_end(data, at, end):
        raise WireError("a message does not end behind its values")


def _formats_end(data: bytes, at: int, end: int) -> bool:
    """A Bind ends with a list of formats, a FunctionCall with one format."""
    rest = end - at
    if rest < 2:
        return False
    count = wire.read_int16(data, at, end) & 0xFFFF
    return rest == 2 or rest == 2 + 2 * count
