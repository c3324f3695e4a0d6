# SPDX-License-Identifier: GPL-3.0-or-later
"""A protocol of lines, to drive the relay without any real protocol in the way.

A request is a line, an answer any number of lines before a line that is a single dot.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gateway.model import Credential, Decision, Operation, Outcome, Refusal, Session, Target
from gateway.protocols import (
    Ask,
    Cancel,
    ClientTls,
    Close,
    Done,
    Effect,
    Failed,
    LoginEffect,
    Present,
    Ready,
    Settled,
    SigninEffect,
    StartTls,
    ToClient,
    ToTarget,
    WireError,
)


class LineGreeter:
    """`tls`, then `login TOKEN USER DATABASE` or `cancel PROCESS KEY`."""

    def __init__(self, broken: str = "") -> None:
        self._broken = broken
        self._data = b""
        self._first = True

    def receive(self, data: bytes) -> list[LoginEffect]:
        if self._first and data[0] == 0x16:
            self._first = False
            return [StartTls(data, "line")]
        self._first = False
        self._data += data
        if b"\n" not in self._data:
            return []
        line, _, self._data = self._data.partition(b"\n")
        words = line.decode().split(" ")
        if words[0] == "tls":
            if self._data:
                raise WireError("bytes before TLS")
            return [ToClient(b"yes\n", True), StartTls()]
        if words[0] == "login":
            return [Present(words[1], words[2], words[3])]
        if words[0] == "cancel":
            return [Cancel(int(words[1]), bytes.fromhex(words[2]))]
        raise WireError("no such word")

    def tls_started(self, alpn: str | None) -> list[LoginEffect]:
        return []

    def refused(self, refusal: Refusal) -> list[LoginEffect]:
        return [ToClient(b"refused %b\n" % refusal.code.encode(), True), Close("refused")]

    def welcome(self, session: Session, ready: Ready, key: bytes) -> bytes:
        if self._broken == "welcome":
            raise RuntimeError("a fault of the greeter")
        return b"welcome %d %b %b\n" % (ready.process, key.hex().encode(), session.id.encode())

    def leftover(self) -> bytes:
        return self._data


class LineSignin:
    def __init__(self, target: Target, credential: Credential) -> None:
        self._tls = target.tls.mode != "disable"
        self._login = b"login %b %b\n" % (credential.user.encode(), credential.secret.encode())
        self._data = b""

    def begin(self) -> list[SigninEffect]:
        return [ToTarget(b"tls\n" if self._tls else self._login, True)]

    def receive(self, data: bytes) -> list[SigninEffect]:
        self._data += data
        if not self._data.endswith(b"\n"):
            return []
        words, self._data = self._data.decode().split(), b""
        if words[0] == "yes":
            return [ClientTls()]
        if words[0] == "welcome":
            return [Ready(int(words[1]), bytes.fromhex(words[2]), (("mood", "good"),))]
        return [Failed(Refusal("unavailable", "target", "no"), "it said " + words[0])]

    def tls_started(self, channel_binding: bytes | None) -> list[SigninEffect]:
        return [ToTarget(self._login, True)]

    def derived(self, salted: bytes) -> list[SigninEffect]:
        return []


class LineDialog:
    """Pipelines: each line is an operation, asked at once and forwarded in order."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._data = b""
        self._seen = 0
        self._sent = 0
        self._began = 0
        self._count = 0
        self._waiting: list[tuple[int, bytes, Decision | None]] = []
        self._running: list[int] = []
        self._tail = b"\n"
        self.state = "I"

    @property
    def buffered(self) -> int:
        return len(self._data) + sum(len(line) for _, line, _ in self._waiting)

    @property
    def at_border(self) -> bool:
        return self._tail.endswith(b"\n")

    @property
    def busy(self) -> bool:
        return bool(self._running)

    def from_client(self, data: bytes) -> list[Effect]:
        effects: list[Effect] = []
        self._data += data
        while b"\n" in self._data:
            line, _, self._data = self._data.partition(b"\n")
            start, self._seen = self._seen, self._seen + len(line) + 1
            if line == b"quit":
                return [*effects, Close("client")]
            if line == b"explode":
                raise RuntimeError("a fault of the dialog")
            if line == b"gibberish":
                raise WireError("not a word")
            self._count += 1
            self._waiting.append((self._count, line + b"\n", None))
            text = line.decode()
            effects.append(Ask(Operation(self._count, "line", "lines", text, start, self._seen)))
        return effects

    def decided(self, operation: int, decision: Decision) -> list[Effect]:
        self._waiting = [
            (number, line, decision if number == operation else known)
            for number, line, known in self._waiting
        ]
        effects: list[Effect] = []
        while self._waiting and self._waiting[0][2] is not None:
            number, line, known = self._waiting.pop(0)
            assert known is not None
            if known.verdict.passes:
                self._running.append(number)
                effects.append(ToTarget(line))
            else:
                effects += self._say(b"denied %b\n.\n" % known.reason.encode())
                effects.append(Done(number, Outcome("denied"), self._began, self._sent))
        return effects

    def _say(self, data: bytes) -> list[Effect]:
        self._began, self._sent = self._sent, self._sent + len(data)
        return [ToClient(data, True)]

    def from_target(self, data: bytes) -> list[Effect]:
        before, self._sent = self._sent, self._sent + len(data)
        effects: list[Effect] = [ToClient(data)]
        window = self._tail + data
        for _ in range(window.count(b"\n.\n") if self._running else 0):
            number = self._running.pop(0)
            effects.append(Done(number, Outcome("ok", "LINES", 1), before, self._sent))
            effects.append(Settled("I"))
        self._tail = window[-2:] if not window.endswith(b"\n.\n") else b"\n"
        return effects

    def fact(self, name: str) -> str | None:
        return {"session": self._session.id}.get(name)

    def client_gone(self) -> list[Effect]:
        undecided, self._waiting = self._waiting, []
        return [Done(n, Outcome("not_run"), self._sent, self._sent) for n, _, _ in undecided]

    def refused(self, refusal: Refusal) -> list[Effect]:
        words = self._say(b"fatal %b\n" % refusal.code.encode()) if self.at_border else []
        return [*words, Close(refusal.code)]

    def running(self) -> int:
        return self._running[0] if self._running else 0


class LineProtocol:
    name = "lines"
    default_port = 1
    listener_port = 1
    language = "lines"
    options = type(None)
    broken = ""
    """What fails at the next session: `welcome` or `dialog`."""

    def greeter(self, *, plain: bool, loopback: bool) -> LineGreeter:
        return LineGreeter(self.broken)

    def signin(
        self,
        target: Target,
        credential: Credential,
        session: Session,
        settings: Iterable[tuple[str, str]],
        nonce: bytes,
    ) -> LineSignin:
        return LineSignin(target, credential)

    def dialog(self, session: Session, ready: Ready) -> LineDialog:
        if self.broken == "dialog":
            raise RuntimeError("a fault of the dialog")
        return LineDialog(session)

    def cancel_request(self, ready: Ready) -> bytes:
        return b"cancel %d %b\n" % (ready.process, ready.key.hex().encode())

    def replay(self, frames: Iterable[Any]) -> Iterable[dict[str, Any]]:
        return []
