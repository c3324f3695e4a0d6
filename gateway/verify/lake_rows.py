# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lake must say, made anew from the frames: docs/lake.md, without the gateway's code."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

Row = dict[str, Any]
OPEN, CLOSE = 1, 7
_REMEMBERED = 4096
_VERBS = {
    "select": 4, "declare": 4, "fetch": 4, "insert": 5, "merge": 5, "copy": 5, "update": 2,
    "alter": 2, "delete": 7, "truncate": 7, "drop": 7, "create": 6,
}  # fmt: skip


class SessionRows:
    """The rows of one session, by its frames in their order."""

    def __init__(self, session: str) -> None:
        self.session = session
        self.closed = False
        self._common: Row = {}
        self._asked: OrderedDict[int, list[Any]] = OrderedDict()
        self._leaf = 0

    def frame(self, sequence: int, kind: int, wall_ns: int, meta: bytes) -> Iterator[Row]:
        """Rows that are whole with this frame."""
        try:
            fields = json.loads(meta)
        except (ValueError, RecursionError):
            fields = {}
        fields = fields if isinstance(fields, dict) else {}
        whole = self._leaf == sequence
        self._leaf += whole
        if kind == OPEN:
            self._common = _common(self.session, fields)
            yield from self.login("open", _text(fields.get("opened")), None)
        for event in _events(fields):
            if event["ev"] == "ask":
                yield from self._ask(event, sequence, whole, wall_ns)
            else:
                yield from self._done(event)
        if kind == CLOSE:
            self.closed = True
            yield from self.rest()
            yield from self.login("close", _text(fields.get("closed")), fields.get("reason"))

    def rest(self) -> Iterator[Row]:
        """What was asked and has no end in the record."""
        for asked in self._asked.values():
            if not asked[-1]:
                yield self._operation(asked, {})
        self._asked.clear()

    def known_by_its_log(self, meta: Row) -> Iterator[Row]:
        """Of a session without frames, what the log's leaf says."""
        self._common = _common(self.session, meta)
        yield from self.login("open", _text(meta.get("opened")), None)

    def login(self, kind: str, at: str | None, reason: Any) -> Iterator[Row]:
        """The begin or the end of the session, where its time is known."""
        if at:
            yield {**self._common, "class_uid": 3002, "activity_id": 1 if kind == "open" else 2,
                   "status_id": 1, "action_id": 1, "severity_id": 1, "time": at, "kind": kind,
                   "reason": _text(reason)}  # fmt: skip

    def _ask(self, event: Row, sequence: int, whole: bool, wall_ns: int) -> Iterator[Row]:
        before = self._asked.get(event["op"])
        if before is not None and not before[-1]:
            before[0] = event
            return
        self._asked[event["op"]] = [event, sequence, sequence if whole else None, wall_ns, False]
        if len(self._asked) > _REMEMBERED:
            _, oldest = self._asked.popitem(last=False)
            if not oldest[-1]:
                yield self._operation(oldest, {})

    def _done(self, event: Row) -> Iterator[Row]:
        asked = self._asked.get(event["op"])
        if asked is not None:
            asked[-1] = True
            yield self._operation(asked, event)

    def _operation(self, asked: list[Any], done: Row) -> Row:
        event, sequence, leaf, wall_ns, _ = asked
        decision = event.get("decision") or {}
        clear = decision.get("clear") or {}
        verdict = decision.get("verdict")
        denied = verdict in ("deny", "hold")
        failed = denied or done.get("status") == "error"
        rows = done.get("rows")
        return {
            **self._common,
            "class_uid": 6005,
            "activity_id": _activity(clear),
            "severity_id": 3 if denied or verdict == "would_deny" else 1,
            "status_id": 2 if failed else 1 if done else 0,
            "action_id": 2 if denied else 1,
            "time": wall_ns // 1000,
            "operation": event["op"],
            "frame": sequence,
            "leaf": leaf,
            "kind": _name(event.get("kind")),
            "objects": _objects(clear),
            "statement": _name(clear.get("text")),
            "shape": _name(clear.get("shape")),
            **{name: _name(decision.get(name)) for name in ("verdict", "policy", "rule", "reason")},
            "policy_version": _name(decision.get("version")),
            **{name: _name(done.get(name)) for name in ("status", "tag", "sqlstate")},
            "rows": rows if type(rows) is int else None,
            "bytes": done["end"] - done["start"] if done else None,
        }


def _common(session: str, meta: Row) -> Row:
    origin = meta.get("origin")
    told = origin if isinstance(origin, dict) else {}
    chain = [hop for hop in _list(meta.get("chain")) if isinstance(hop, dict)]
    grants = [_text(meta.get("root_grant")), *(_text(hop.get("grant")) for hop in chain)]
    named = [grant for grant in grants if grant] if isinstance(origin, dict) else []
    grant = _text(meta.get("grant"))
    name = _name(told.get("name")) or _name(told.get("subject")) or ""
    return {
        "session": session,
        "node": _text(meta.get("gateway")),
        **{one: _text(meta.get(one)) for one in ("target", "protocol", "user", "client")},
        "origin": name if isinstance(origin, dict) else None,
        "groups": [one for one in _list(meta.get("groups")) if isinstance(one, str)],
        "chain": [one for one in _list(meta.get("labels_chain")) if isinstance(one, str)],
        "grant": grant,
        "ancestors": [one for one in named if one != grant],
        "root_grant": named[0] if named else None,
    }


def _events(meta: Row) -> Iterator[Row]:
    for event in _list(meta.get("events")):
        if not isinstance(event, dict) or event.get("ev") not in ("ask", "done"):
            continue
        if any(type(event.get(name)) is not int for name in ("op", "start", "end")):
            continue
        decision = event.get("decision", {})
        if isinstance(decision, dict) and isinstance(decision.get("clear") or {}, dict):
            yield event


def _activity(clear: Row) -> int:
    """OCSF's activity: of the first statement that changes something, else that reads."""
    found = []
    for one in _list(clear.get("statements")):
        if isinstance(one, dict):
            kind = str(one.get("kind"))
            found.append(_VERBS.get(kind, _VERBS.get(kind.partition("_")[0], 99)))
    return next((one for one in found if one not in (4, 99)), 4 if 4 in found else 99)


def _objects(clear: Row) -> list[list[str]]:
    found: dict[tuple[str, str], None] = {}
    for one in _list(clear.get("statements")):
        for key, access in (("writes", "write"), ("reads", "read"), ("functions", "call")):
            for name in _list(one.get(key)) if isinstance(one, dict) else ():
                if isinstance(name, str):
                    found[name, access] = None
    return [[name, access] for name, access in found]


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _name(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
