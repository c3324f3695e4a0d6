# SPDX-License-Identifier: GPL-3.0-or-later
"""The conversation of one PostgreSQL session after both logins: the contract's Dialog.

Joins the two directions: requests.py (client to target) and answers.py (target to client).
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.model import Decision, Refusal, Session
from gateway.protocols import Close, Effect, Ready, ToTarget, WireError
from gateway.protocols.postgresql import wire
from gateway.protocols.postgresql.answers import Answers
from gateway.protocols.postgresql.denial import Saboteur
from gateway.protocols.postgresql.options import PostgresOptions
from gateway.protocols.postgresql.pipeline import Pipeline
from gateway.protocols.postgresql.requests import Requests
from gateway.protocols.postgresql.scan import CLIENT, TEXT_CAP, client_table
from gateway.protocols.postgresql.settings import Settings

_REASONS = {"target": "target_unreachable", "too_large": "protocol"}


class PostgresDialog:
    """Bytes in, effects out. Every Ask stops the client's direction, never the target's."""

    def __init__(self, session: Session, ready: Ready) -> None:
        parameters = dict(ready.parameters)
        shown = (
            parameters.get("application_name", ""),
            session.labels.get("application_name", ""),
        )
        self._session = session
        self._pipeline = Pipeline(Settings(ready.parameters))
        self._answers = Answers(self._pipeline, shown)
        saboteur = Saboteur(session.id, ready.process, ready.key)
        self._requests = Requests(
            self._pipeline, self._answers, saboteur, session.id, _holds(session.target.options)
        )
        self._closed = False

    @property
    def buffered(self) -> int:
        return self._requests.buffered

    @property
    def at_border(self) -> bool:
        return self._answers.at_border

    @property
    def busy(self) -> bool:
        return bool(self._pipeline.queue)

    @property
    def state(self) -> str:
        return self._pipeline.state

    def from_client(self, data: bytes) -> list[Effect]:
        if self._requests.closed:
            return []
        try:
            effects = self._requests.receive(data)
        except WireError as fault:
            return self._broken(self._requests.take_effects(), fault)
        self._closed = self._requests.closed and not self._pipeline.queue
        return effects

    def from_target(self, data: bytes) -> list[Effect]:
        if self._closed:
            return []
        try:
            effects = self._answers.receive(data)
        except WireError as fault:
            return self._broken(self._answers.take_effects(), fault)
        if self._answers.ended:
            return self._target_ended(effects)
        try:
            if self._requests.waiting:
                effects += self._requests.resume()
        except WireError as fault:
            return self._broken(effects + self._requests.take_effects(), fault)
        if self._requests.closed and not self._pipeline.queue:
            self._closed = True
            effects.append(Close("client"))
        return effects

    def decided(self, operation: int, decision: Decision) -> list[Effect]:
        if self._requests.closed:
            return []
        try:
            effects = self._requests.decided(operation, decision)
        except WireError as fault:
            return self._broken(self._requests.take_effects(), fault)
        self._closed = self._requests.closed and not self._pipeline.queue
        return effects

    def fact(self, name: str) -> str | None:
        """`prepared:NAME`, `cursor:NAME` and `portal:NAME` give texts; `transaction` the state;
        any other name, with or without `setting:`, the value of a tracked or reported setting."""
        sort, _, rest = name.partition(":")
        find = _FACTS.get(sort)
        if find is not None:
            raw = rest.encode(self._pipeline.settings.codec or "utf-8", "replace")
            return find(self._pipeline, raw)
        if name == "transaction":
            return self._pipeline.state
        return self._pipeline.settings.get(rest if sort == "setting" else name)

    def client_gone(self) -> list[Effect]:
        """Nothing new runs. While the target still owes an outcome that it will surely tell, the
        dialog goes on without the client (`busy`), and closes after it."""
        if self._requests.closed:
            return []
        lingers = self._requests.lingers
        effects = self._requests.leave(abandon=not lingers)
        self._closed = not lingers
        return effects if lingers else [*effects, Close("client")]

    def refused(self, refusal: Refusal) -> list[Effect]:
        """Last words if the client stands at a border (else the link is cut, and it sees that)."""
        if self._closed:
            return []
        self._closed = True
        effects: list[Effect] = []
        if self._answers.at_border:
            effects.append(self._answers.say(wire.refusal_error(refusal, "FATAL")))
        effects += self._requests.leave()
        reason = _REASONS.get(refusal.code, refusal.code)
        return [*effects, Close(reason, refusal.reason)]

    def running(self) -> int:
        head = self._pipeline.running()
        if head is None or head.own:
            return 0
        if head.operation or head.kind != wire.SYNC or self._pipeline.last is None:
            return head.operation
        return self._pipeline.last[0]

    def _broken(self, before: list[Effect], fault: WireError) -> list[Effect]:
        """Someone broke the protocol: what was good goes on, then the session ends."""
        code = "too_large" if isinstance(fault, wire.TooLarge) else "protocol"
        refusal = Refusal("unavailable", code, str(fault), session=self._session.id)
        return before + self.refused(refusal)

    def _target_ended(self, effects: list[Effect]) -> list[Effect]:
        """The target's own FATAL has been passed on; it reads nothing any more."""
        self._closed = True
        close = effects.pop()
        rest = [effect for effect in self._requests.leave() if not isinstance(effect, ToTarget)]
        return [*effects, *rest, close]


def _holds(options: object) -> tuple[int, ...]:
    limit = options.text_limit if isinstance(options, PostgresOptions) else TEXT_CAP
    return CLIENT if limit == TEXT_CAP else client_table(limit)


def _prepared(pipeline: Pipeline, name: bytes) -> str | None:
    statement = pipeline.names.statements.get(name)
    return statement.text if statement else None


def _portal(pipeline: Pipeline, name: bytes) -> str | None:
    portal = pipeline.names.portals.get(name)
    return portal.statement.text if portal else None


_FACTS: dict[str, Callable[[Pipeline, bytes], str | None]] = {
    "prepared": _prepared,
    "cursor": _portal,
    "portal": _portal,
}
