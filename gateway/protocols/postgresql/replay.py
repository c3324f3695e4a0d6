# SPDX-License-Identifier: GPL-3.0-or-later
"""From the frames of one recorded session to the operations that `audit replay` prints.

One pass, front to back. What a Parse prepared is told with the executes that used it; a Parse that
was denied, failed or never ran is an operation of its own, the last kind at the place where its
name was given up or the session ended.
"""

from __future__ import annotations

import datetime
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.model import RecordedFrame
from gateway.protocols.postgresql.recorded_answers import AnswerReader
from gateway.protocols.postgresql.recorded_requests import Message, RequestReader
from gateway.protocols.postgresql.values import Value

_KNOWN_LIMIT = 64 * 1024 * 1024
"""Bytes of requests kept because a later operation may run them again."""
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)  # noqa: UP017
_DECISION = ("verdict", "policy", "version", "rule", "reason")


@dataclass(slots=True, eq=False)
class _Told:
    """One operation while it is gathered."""

    id: int
    kind: str
    ask: Mapping[str, Any]
    frame: int
    leaf: int | None
    started: int
    message: Message | None = None
    done: Mapping[str, Any] | None = None
    ended: int | None = None
    results: list[dict[str, Any]] = field(default_factory=list)
    error: dict[str, str | None] | None = None
    sequence: int = 0
    part: int = 0

    @property
    def status(self) -> str:
        return str(self.done.get("status", "unknown")) if self.done else ""


class _Replay:
    """The state between frames. `ready` holds what can be printed."""

    def __init__(self, rows_per_piece: int | None) -> None:
        self.ready: deque[dict[str, Any]] = deque()
        self._rows = rows_per_piece
        self._requests = RequestReader()
        self._answers = AnswerReader(self._requests)
        self._open: OrderedDict[int, _Told] = OrderedDict()
        """Asked and not printed, in the order of asking."""
        self._last: _Told | None = None
        """The last that ended; a failure at Sync or COMMIT may still change its outcome."""
        self._dones: deque[tuple[Mapping[str, Any], int]] = deque()
        """Ends whose answer bytes have not come."""
        self._prepared: OrderedDict[int, _Told] = OrderedDict()
        self._known: OrderedDict[int, Message] = OrderedDict()
        self._known_bytes = 0
        self._printed = 0

    # --- frames -----------------------------------------------------------------------------------

    def frame(self, frame: RecordedFrame) -> None:
        events = frame.meta.get("events", ())
        if frame.kind == "request":
            self._requests.feed(int(frame.meta.get("at", 0)), frame.payload)
            self._find_messages()
        for event in events:
            if event.get("ev") == "ask":
                self._asked(event, frame)
        if frame.kind == "answer":
            self._answers.feed(int(frame.meta.get("at", 0)), frame.payload)
        elif frame.kind == "kept" and frame.payload:
            self._answers.kept(frame.payload)
        self._dones += [(event, frame.wall_ns) for event in events if event.get("ev") == "done"]
        self._settle_dones()
        if any(event.get("ev") == "settled" for event in events) and not self._dones:
            self._last = None
        self._print_ended()
        self._cut_pieces()

    def finish(self) -> None:
        """The session's frames are over: what has no end has none in the record."""
        while self._dones:
            self._ended(*self._dones.popleft())
        rest = next((told for told in self._open.values() if told.done is None), None)
        if rest is not None:
            results, rest.error = self._answers.take(self._answers.at)
            rest.results += results
        self._last = None
        for told in list(self._open.values()):
            self._close(told)
        for told in self._prepared.values():
            self._print(told)
        self._prepared.clear()

    # --- asks -------------------------------------------------------------------------------------

    def _asked(self, event: Mapping[str, Any], frame: RecordedFrame) -> None:
        number = int(event["op"])
        told = self._open.get(number)
        if told is not None and told.done is None:
            # Asked again: it was held, or policy changed before it ran. The last answer counts.
            told.ask = {**told.ask, "decision": event.get("decision", {})}
            return
        if told is not None:
            self._close(told)
        told = _Told(
            number, str(event.get("kind", "")), event, frame.sequence, frame.leaf, frame.wall_ns
        )
        self._open[number] = told
        if told.kind != "prepare":
            self._prepared.pop(int(event.get("prepared_by") or 0), None)
        self._find(told)

    def _find_messages(self) -> None:
        for told in self._open.values():
            if told.message is None and told.done is None:
                self._find(told)

    def _find(self, told: _Told) -> None:
        """The bytes of the request; they may come in a later frame than the question."""
        message = self._known.get(told.id)
        if message is None:
            message = self._requests.message(int(told.ask["start"]), int(told.ask["end"]))
        if message is None:
            return
        told.message = message
        self._remember(told.id, message)

    def _remember(self, number: int, message: Message) -> None:
        if number in self._known:
            self._known.move_to_end(number)
            return
        self._known[number] = message
        self._known_bytes += message.end - message.start
        while self._known_bytes > _KNOWN_LIMIT and len(self._known) > 1:
            _, oldest = self._known.popitem(last=False)
            self._known_bytes -= oldest.end - oldest.start

    # --- answers and ends -------------------------------------------------------------------------

    def _settle_dones(self) -> None:
        """End what ended, once the bytes that say so are there (or will never be)."""
        lost = self._answers.lost
        while self._dones and (lost or int(self._dones[0][0]["end"]) <= self._answers.at):
            self._ended(*self._dones.popleft())

    def _ended(self, done: Mapping[str, Any], wall_ns: int) -> None:
        told = self._open.get(int(done["op"]))
        if told is None:
            return
        if told.done is not None and int(told.done["start"]) != int(done["start"]):
            told = self._run_again(told)
        told.done, told.ended = done, wall_ns
        ok = told.status == "ok"
        if int(done["end"]) > int(done["start"]) and not (told.kind == "prepare" and ok):
            results, error = self._answers.take(int(done["end"]))
            told.results += results
            told.error = error or told.error
        if ok:
            self._last = told
        elif told is self._last:
            self._last = None

    def _run_again(self, told: _Told) -> _Told:
        """A portal that was suspended went on, without a question of its own."""
        again = _Told(told.id, told.kind, told.ask, told.frame, told.leaf, told.started)
        again.message = told.message
        self._close(told)
        self._open[told.id] = again
        return again

    # --- printing ---------------------------------------------------------------------------------

    def _print_ended(self) -> None:
        """Print in the order of asking what ended for good."""
        while self._open:
            first = next(iter(self._open.values()))
            if first.done is None or first is self._last:
                return
            self._close(first)

    def _close(self, told: _Told) -> None:
        if told is self._last:
            self._last = None
        if self._open.get(told.id) is told:
            del self._open[told.id]
        if told.kind == "prepare" and told.status == "ok":
            self._keep_prepared(told)
        else:
            self._print(told)

    def _keep_prepared(self, told: _Told) -> None:
        if any(other.ask.get("prepared_by") == told.id for other in self._open.values()):
            return
        name = told.ask.get("name")
        replaced = [old for old in self._prepared.values() if old.ask.get("name") == name]
        for old in replaced:
            del self._prepared[old.id]
            self._print(old)
        self._prepared[told.id] = told

    def _print(self, told: _Told) -> None:
        while self._rows is not None and (piece := self._piece(told)):
            self._put(told, piece, last=False)
        self._put(told, told.results, last=True)

    def _piece(self, told: _Told) -> list[dict[str, Any]]:
        """The first rows of an ended operation that has more than one piece holds."""
        assert self._rows is not None
        for result in told.results:
            rows = result.get("rows", ())
            if len(rows) > self._rows:
                result["rows"] = rows[self._rows :]
                return [{**result, "rows": rows[: self._rows]}]
        return []

    def _cut_pieces(self) -> None:
        """Print what a long answer has so far, so that it need not be kept."""
        if self._rows is None or not self._open:
            return
        first = next(iter(self._open.values()))
        if first.done is not None or first.kind == "prepare":
            return
        while piece := self._answers.cut(self._rows):
            self._put(first, piece, last=False)

    def _put(self, told: _Told, results: list[dict[str, Any]], *, last: bool) -> None:
        if not told.sequence:
            self._printed += 1
            told.sequence = self._printed
        printed: dict[str, Any] = {
            "seq": told.sequence,
            "kind": told.kind,
            "started": _time(told.started),
            "ended": _time(told.ended) if last else None,
            "frame": told.frame,
            "leaf": told.leaf,
            "request": self._request(told),
            "decision": _decision(told.ask.get("decision", {})),
            "outcome": _outcome(told if last else None),
            "results": results,
        }
        if told.part or not last:
            told.part += 1
            printed["part"] = told.part
        self.ready.append(printed)

    def _request(self, told: _Told) -> dict[str, Any]:
        message, encoding = told.message, self._requests.encoding
        by = self._known.get(int(told.ask.get("prepared_by") or 0))
        text: Value = by.text(encoding) if by is not None else None
        if text is None and message is not None:
            text = message.text(encoding)
        clear = told.ask.get("decision", {}).get("clear") or {}
        if text is None and not self._requests.lost:
            text = clear.get("text")
        asked: dict[str, Any] = {
            "text": text,
            "parameters": message.parameters(encoding) if message is not None else None,
        }
        if text is None and clear.get("text"):
            # Sealed, or damaged: the statement without its values is all there is to show.
            asked["clear"] = clear["text"]
        return asked


def _decision(decision: Mapping[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {name: decision.get(name) for name in _DECISION}
    told["masks"] = decision.get("masks", [])
    told["approval"] = decision.get("approval")
    return told


def _outcome(told: _Told | None) -> dict[str, Any]:
    if told is None or told.done is None or told.status == "unknown":
        return {"tag": None, "rows": None, "bytes": None, "error": None}
    done, error = told.done, told.error
    if error is None and done.get("sqlstate"):
        error = {"sqlstate": str(done["sqlstate"]), "message": None, "severity": None}
        error |= {"detail": None, "hint": None}
    return {
        "tag": done.get("tag") or None,
        "rows": None if told.status == "not_run" else done.get("rows"),
        "bytes": int(done["end"]) - int(done["start"]),
        "error": None if told.status in ("ok", "suspended") else error,
    }


def _time(wall_ns: int | None) -> str | None:
    """RFC 3339 in UTC, microseconds."""
    if wall_ns is None:
        return None
    moment = _EPOCH + datetime.timedelta(microseconds=wall_ns // 1000)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def replay(
    frames: Iterable[RecordedFrame], rows_per_piece: int | None = None
) -> Iterator[dict[str, Any]]:
    """Operations of one session in the order of asking, as `audit replay` prints them.

    With `rows_per_piece`, an operation with more rows (or with a large COPY) comes in several
    dicts with the same `seq` and a `part` that counts from 1; the last one has `ended` and the
    outcome. So memory is bounded by a frame and a piece; without it, by the largest operation.
    """
    state = _Replay(rows_per_piece)
    for frame in frames:
        state.frame(frame)
        while state.ready:
            yield state.ready.popleft()
    state.finish()
    yield from state.ready
