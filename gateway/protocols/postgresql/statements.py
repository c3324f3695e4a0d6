# SPDX-License-Identifier: GPL-3.0-or-later
"""The one namespace of prepared statements, portals and cursors, wire and SQL alike.

Names change when a message is forwarded, before its answer; a failed message's change is undone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from gateway.model import Declared, Operation


@dataclass(slots=True, eq=False)
class Statement:
    """A text that runs under a name; `text` is None where it is not known, and `doubt` says why."""

    text: str | None
    operation: int = 0
    """The operation that prepared it."""
    doubt: str = ""
    described: bool = False
    """A Describe of it, or of a portal of it, went out: the record has its columns."""


@dataclass(slots=True, eq=False)
class Portal:
    """A statement bound to values (Bind), or an SQL cursor (then without an operation)."""

    statement: Statement
    operation: Operation | None
    chunk: int = -1
    """The client's chunk in which it was asked for: there, Execute asks nothing more."""
    number: int = 0
    """The request that made it."""
    ran: bool = False
    """An Execute of it went out."""
    begin: int = -1
    """Where its answers began in the answer stream; -1 when not known."""
    declares: tuple[Declared, ...] = ()


@dataclass(slots=True, eq=False)
class Change:
    """What one request did to one name: put `new` where `old` was (None: no such name)."""

    table: dict[bytes, Statement] | dict[bytes, Portal]
    name: bytes
    new: Statement | Portal | None
    old: Statement | Portal | None


class Names:
    """Statements and portals of one session as they will be once all that was forwarded ran."""

    __slots__ = ("portals", "statements")

    def __init__(self) -> None:
        self.statements: dict[bytes, Statement] = {}
        self.portals: dict[bytes, Portal] = {}

    def set_statement(self, name: bytes, statement: Statement | None) -> Change | None:
        old = self.statements.get(name)
        if old is None and statement is None:
            return None
        _put(self.statements, name, statement)
        return Change(self.statements, name, statement, old)

    def set_portal(self, name: bytes, portal: Portal | None) -> Change | None:
        old = self.portals.get(name)
        if old is None and portal is None:
            return None
        _put(self.portals, name, portal)
        return Change(self.portals, name, portal, old)

    def undo(self, change: Change, later: Iterable[Change]) -> None:
        """Take one change back; a later change of the name that stands keeps what it put."""
        for other in later:
            if other.table is change.table and other.name == change.name:
                if other.old is change.new:
                    other.old = change.old
                return
        _put(change.table, change.name, change.old)

    def prepared(self, name: bytes, text: str, operation: int, *, surely: bool) -> None:
        """SQL PREPARE ran. Not `surely`: it may have failed before or after it took effect."""
        old = self.statements.get(name)
        if not surely and old is not None and old.text != text:
            doubt = "two texts may stand under this name after a failed statement"
            self.statements[name] = Statement(None, operation, doubt)
        elif surely or old is None:
            self.statements[name] = Statement(text, operation)

    def deallocate(self, name: bytes) -> None:
        """SQL DEALLOCATE of one name, or of all but the unnamed one."""
        if name:
            self.statements.pop(name, None)
        else:
            unnamed = self.statements.get(b"")
            self.statements.clear()
            if unnamed is not None:
                self.statements[b""] = unnamed

    def close_cursor(self, name: bytes) -> None:
        """SQL CLOSE of one portal or cursor, or of all (b'')."""
        if name:
            self.portals.pop(name, None)
        else:
            self.portals.clear()

    def end_transaction(self, number: int) -> list[Portal]:
        """Drop and return the portals made before request `number`; SQL cursors may be WITH HOLD,
        so their text stays known."""
        gone = [
            (name, portal)
            for name, portal in self.portals.items()
            if portal.number < number and portal.operation is not None
        ]
        for name, _ in gone:
            del self.portals[name]
        return [portal for _, portal in gone]


def _put(table: dict[bytes, Any], name: bytes, value: Statement | Portal | None) -> None:
    if value is None:
        table.pop(name, None)
    else:
        table[name] = value
