# SPDX-License-Identifier: GPL-3.0-or-later
"""The record as activities: a row an operation, a login or a logoff, from the clear part alone.

The rows have the columns of the lake's table `activity`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from typing import Protocol as Interface

from gateway.model import RecordedFrame
from gateway.protocols.postgresql.recorded_texts import RecordedTexts
from gateway.record.reader import Listed
from gateway.ship.exports.ocsf import AUTHENTICATION, DATASTORE, LOGOFF, LOGON, activity_of

Activity = dict[str, Any]
_REMEMBERED = 4096
"""Operations of a session whose question is kept for an end that may still come."""
_CONCERNS = ("deny", "hold", "would_deny")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Texts(Interface):
    """Full texts by operation, out of the frames of a session."""

    def frame(self, frame: RecordedFrame) -> None: ...

    def of(self, operation: int) -> str | None: ...


_TEXTS: Mapping[str, Callable[[], Texts]] = {"postgresql": RecordedTexts}


def texts_of(protocol: str | None) -> Texts | None:
    """What tells the full texts of a session of this protocol."""
    made = _TEXTS.get(protocol or "")
    return made() if made is not None else None


def activities_of(
    listed: Listed, frames: Iterator[RecordedFrame], texts: Texts | None = None
) -> Iterator[Activity]:
    """The rows of one session; memory holds the questions that wait for their answers."""
    common = _common(listed)
    opened = moment(listed.document["opened"])
    if opened is not None:
        yield {**common, **_login(LOGON), "time": opened}
    yield from _Operations(common, texts).rows(frames)
    closed = moment(listed.document["closed"])
    if closed is not None:
        reason = listed.document["reason"]
        yield {**common, **_login(LOGOFF), "time": closed, "reason": reason}


def moment(text: str | None) -> datetime | None:
    """A time of the record; None where it is none."""
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError:
        return None


def _common(listed: Listed) -> Activity:
    one = listed.document
    grants = [grant for _, grant, _ in listed.hops if grant]
    return {
        "session": one["id"],
        "node": one["gateway"],
        **{name: one[name] for name in ("target", "protocol", "user", "client")},
        **{name: one[name] for name in ("origin", "groups", "chain", "grant")},
        "ancestors": [grant for grant in grants if grant != one["grant"]],
        "root_grant": grants[0] if grants else None,
    }


def _login(activity: int) -> Activity:
    return {
        **_classified(AUTHENTICATION, 3, activity),
        "status_id": 1,
        "action_id": 1,
        "kind": "open" if activity == LOGON else "close",
    }


def _classified(class_uid: int, category: int, activity: int, severity: int = 1) -> Activity:
    """OCSF 1.8: a type is the class and the activity."""
    return {
        "class_uid": class_uid,
        "category_uid": category,
        "activity_id": activity,
        "type_uid": class_uid * 100 + activity,
        "severity_id": severity,
    }


@dataclass(slots=True)
class _Asked:
    event: Mapping[str, Any]
    frame: RecordedFrame
    ended: bool = False


class _Operations:
    def __init__(self, common: Activity, texts: Texts | None) -> None:
        self._common = common
        self._texts = texts
        self._asked: OrderedDict[int, _Asked] = OrderedDict()

    def rows(self, frames: Iterator[RecordedFrame]) -> Iterator[Activity]:
        for frame in frames:
            if self._texts is not None:
                self._texts.frame(frame)
            for event in frame.meta.get("events", ()):
                if event.get("ev") == "ask":
                    yield from self._ask(event, frame)
                elif event.get("ev") == "done":
                    yield from self._done(event)
        for asked in self._asked.values():
            if not asked.ended:
                yield self._row(asked, {})

    def _ask(self, event: Mapping[str, Any], frame: RecordedFrame) -> Iterator[Activity]:
        # Asked again: it was held, or policy changed before it ran. The last answer counts.
        before = self._asked.get(event["op"])
        if before is not None and not before.ended:
            before.event = event
            return
        self._asked[event["op"]] = _Asked(event, frame)
        if len(self._asked) > _REMEMBERED:
            _, oldest = self._asked.popitem(last=False)
            if not oldest.ended:
                yield self._row(oldest, {})

    def _done(self, event: Mapping[str, Any]) -> Iterator[Activity]:
        asked = self._asked.get(event["op"])
        if asked is not None:
            # A portal that went on after it was suspended ends more than once: a row each time.
            asked.ended = True
            yield self._row(asked, event)

    def _row(self, asked: _Asked, done: Mapping[str, Any]) -> Activity:
        decision = asked.event.get("decision") or {}
        clear = decision.get("clear") or {}
        objects = touched(clear)
        denied = decision.get("verdict") in ("deny", "hold")
        activity = activity_of(statement_kinds(clear))
        severity = 3 if decision.get("verdict") in _CONCERNS else 1
        size = done["end"] - done["start"] if done else None
        failed = denied or done.get("status") == "error"
        return {
            **self._common,
            **_classified(DATASTORE, 6, activity, severity),
            "status_id": 2 if failed else 1 if done else 0,
            "action_id": 2 if denied else 1,
            "time": _EPOCH + timedelta(microseconds=asked.frame.wall_ns // 1000),
            "operation": asked.event["op"],
            "frame": asked.frame.sequence,
            "leaf": asked.frame.leaf,
            "kind": _text(asked.event.get("kind")),
            "objects": objects,
            "statement": _text(clear.get("text")),
            "text": self._texts.of(asked.event["op"]) if self._texts else None,
            "shape": _text(clear.get("shape")),
            **{name: _text(decision.get(name)) for name in ("verdict", "policy", "rule", "reason")},
            "policy_version": _text(decision.get("version")),
            **{name: _text(done.get(name)) for name in ("status", "tag", "sqlstate")},
            "rows": done.get("rows") if type(done.get("rows")) is int else None,
            "bytes": size,
        }


def statement_kinds(clear: Mapping[str, Any]) -> list[str]:
    """The kinds of a text's statements, as policy has them."""
    statements = clear.get("statements")
    found = statements if isinstance(statements, list) else []
    return [str(one.get("kind")) for one in found if isinstance(one, Mapping)]


def touched(clear: Mapping[str, Any]) -> list[dict[str, str]]:
    """What a statement names: relations read and written, functions called, each once."""
    found: dict[tuple[str, str], None] = {}
    statements = clear.get("statements")
    for one in statements if isinstance(statements, Sequence) else ():
        for key, access in (("writes", "write"), ("reads", "read"), ("functions", "call")):
            names = one.get(key) if isinstance(one, Mapping) else None
            for name in names if isinstance(names, list) else ():
                if isinstance(name, str):
                    found[name, access] = None
    return [{"name": name, "access": access} for name, access in found]


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
