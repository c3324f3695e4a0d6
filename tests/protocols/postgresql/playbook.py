# SPDX-License-Identifier: GPL-3.0-or-later
"""A dialog driven by hand: each step returns what left it, and decisions are given at once."""

from __future__ import annotations

from gateway.model import Decision, Operation, Outcome, Session
from gateway.protocols import (
    Ask,
    Close,
    Done,
    Effect,
    Keep,
    Ready,
    Settled,
    ToClient,
    ToTarget,
)
from gateway.protocols.postgresql import wire
from gateway.protocols.postgresql.dialog import PostgresDialog
from tests.protocols.postgresql.pump import a_session, deny_marked

PARAMETERS = (
    ("client_encoding", "UTF8"),
    ("standard_conforming_strings", "on"),
    ("application_name", "sessionid psql"),
)


def query(text: str) -> bytes:
    return wire.message(wire.QUERY, text.encode() + b"\0")


def parse(text: str, name: str = "") -> bytes:
    return wire.message(wire.PARSE, wire.cstring(name) + text.encode() + b"\0\0\0")


def bind(statement: str = "", portal: str = "", *values: bytes) -> bytes:
    body = wire.cstring(portal) + wire.cstring(statement) + b"\0\0"
    body += len(values).to_bytes(2, "big")
    for value in values:
        body += len(value).to_bytes(4, "big") + value
    return wire.message(wire.BIND, body + b"\0\0")


def execute(portal: str = "", rows: int = 0) -> bytes:
    return wire.execute(portal.encode(), rows)


SYNC = wire.SYNC_MESSAGE
FLUSH = wire.FLUSH_MESSAGE
PARSED = wire.message(wire.PARSE_COMPLETE)
BOUND = wire.message(wire.BIND_COMPLETE)
NO_DATA = wire.message(wire.NO_DATA)
"""Also what the target says to a Describe of ours, where the client sent none."""
SUSPENDED = wire.message(wire.PORTAL_SUSPENDED)
COPY_IN = wire.message(wire.COPY_IN_RESPONSE, b"\0\0\0")
COPY_OUT = wire.message(wire.COPY_OUT_RESPONSE, b"\0\0\0")
COPY_DONE = wire.message(wire.COPY_DONE)
READY = wire.ready_for_query("I")
IN_BLOCK = wire.ready_for_query("T")


def row(value: bytes = b"1") -> bytes:
    return wire.message(wire.DATA_ROW, b"\0\1" + len(value).to_bytes(4, "big") + value)


def copy_data(data: bytes) -> bytes:
    return wire.message(wire.COPY_DATA, data)


def complete(tag: str) -> bytes:
    return wire.message(wire.COMMAND_COMPLETE, tag.encode() + b"\0")


def error(sqlstate: str = "42601", severity: str = "ERROR") -> bytes:
    return wire.error_response(sqlstate, "no", severity=severity)


class Play:
    """One session. `hold=True` leaves decisions to `decide`."""

    def __init__(
        self, *, hold: bool = False, session: Session | None = None, state: str = "I"
    ) -> None:
        ready = Ready(7, b"\1\2\3\4", PARAMETERS)
        self.dialog = PostgresDialog(session or a_session(application_name="psql"), ready)
        self.rule = deny_marked
        self.hold = hold
        self.target = b""
        self.own = b""
        self.client = b""
        self.kept = b""
        self.asked: list[Operation] = []
        self.again: list[int] = []
        self.done: list[Done] = []
        self.settled: list[str] = []
        self.close: Close | None = None
        if state == "T":
            self.say(query("begin"))
            self.answer(complete("BEGIN") + IN_BLOCK)
            self.forget()

    def forget(self) -> None:
        self.target = self.own = self.client = self.kept = b""
        self.asked, self.done, self.settled = [], [], []

    def say(self, data: bytes) -> Play:
        return self.perform(self.dialog.from_client(data))

    def answer(self, data: bytes) -> Play:
        return self.perform(self.dialog.from_target(data))

    def decide(self, decision: Decision) -> Play:
        return self.perform(self.dialog.decided(self.asked[-1].id, decision))

    def perform(self, effects: list[Effect]) -> Play:
        pending = list(effects)
        while pending:
            effect = pending.pop(0)
            if isinstance(effect, ToClient):
                self.client += effect.data
            elif isinstance(effect, ToTarget):
                if effect.own:
                    self.own += effect.data
                else:
                    self.target += effect.data
            elif isinstance(effect, Ask):
                self.asked.append(effect.operation)
                if effect.again:
                    self.again.append(effect.operation.id)
                if not self.hold:
                    decision = self.rule(effect.operation)
                    pending += self.dialog.decided(effect.operation.id, decision)
            elif isinstance(effect, Done):
                self.done.append(effect)
            elif isinstance(effect, Settled):
                self.settled.append(effect.state)
            elif isinstance(effect, Close):
                self.close = effect
            else:
                assert isinstance(effect, Keep)
                self.kept += effect.data
        return self

    @property
    def outcomes(self) -> list[tuple[int, str]]:
        return [(done.operation, done.outcome.status) for done in self.done]

    def outcome(self, operation: int) -> Outcome:
        return [done.outcome for done in self.done if done.operation == operation][-1]
